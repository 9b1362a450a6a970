"""Which devices compute, and copies to and from them."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from harness.errors import UsageError

if TYPE_CHECKING:
    import torch


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


def to_host(x: "torch.Tensor") -> NDArray[np.float32]:
    """Copy the tensor as float32 into the computer's memory; a GPU first finishes what it was asked to do before."""
    import torch

    if not x.is_cuda:
        return x.to("cpu", torch.float32).numpy()
    host = torch.empty(x.shape, dtype=torch.float32, pin_memory=True)
    host.copy_(x.float(), non_blocking=True)
    torch.cuda.current_stream(x.device).synchronize()
    return host.numpy()
