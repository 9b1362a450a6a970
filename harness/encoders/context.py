"""The settings of a run that every part needs: folders, dtype, progress callback, and the device that computes."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.data.locate import data_root
from harness.errors import UsageError
from harness.progress import Progress, silent

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The settings that are shared by all encoders and tasks of a run.

    Attributes:
        cache_dir: embeddings, downloads and fitted models are kept here.
        data_dir: the user's folder in SentEval's layout, or None.
        device: torch device string.
        dtype: of the forward pass: float32, bfloat16 or float16.
        backbone: used by every encoder that has a `backbone` parameter and was not given one; None: its default.
        offline: never use the network.
        progress: called during long work.
    """

    cache_dir: Path
    data_dir: Path | None = None
    device: str = "cpu"
    dtype: str = "float32"
    backbone: str | None = None
    offline: bool = False
    progress: Progress = silent

    def data_root(self) -> Path:
        """The folder that contains `downstream/`; what is not on this machine is fetched.

        Raises:
            DataError: if `data_dir` is not in SentEval's layout, or nothing can be fetched.
        """
        return data_root(self.data_dir, self.cache_dir, offline=self.offline, progress=self.progress is not silent)


def torch_device(name: str) -> str:
    """A torch device string that works here; `auto` is the GPU if there is one.

    Raises:
        UsageError: if torch cannot use the device.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = (str(error).splitlines() or ["unknown"])[0]
        raise UsageError(f"--device {name}: not usable here ({reason}); use cpu or auto") from error
    return name


def every_device(name: str) -> list[str]:
    """The devices that encode: all GPUs that are visible for `cuda`, else the one that is named."""
    import torch

    count = torch.cuda.device_count() if name == "cuda" else 1
    return [f"cuda:{number}" for number in range(count)] if count > 1 else [name]


def to_device(x: "torch.Tensor", device: "torch.device") -> "torch.Tensor":
    """The tensor on that device; a GPU copies it from pinned memory by itself, and nothing waits."""
    return x.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else x.to(device)


def to_host(x: "torch.Tensor") -> "NDArray[np.float32]":
    """Copy the tensor as float32 into the computer's memory; a GPU first finishes what it was asked to do before."""
    import torch

    if not x.is_cuda:
        return x.to("cpu", torch.float32).numpy()
    host = torch.empty(x.shape, dtype=torch.float32, pin_memory=True)
    host.copy_(x.float(), non_blocking=True)
    torch.cuda.current_stream(x.device).synchronize()
    return host.numpy()
