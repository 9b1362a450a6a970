"""What a killed run goes on from: one safetensors file, replaced atomically, nothing pickled.

The data position and all random numbers follow from the seed and the step, so the step stands for them.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from harness.errors import ResultError

_MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(slots=True)
class State:
    """Where a run is: steps done, and the best evaluation so far."""

    step: int = 0
    best_step: int = 0
    best_score: float | None = None


def save_checkpoint(path: Path, module: nn.Module, optimizer: torch.optim.Optimizer, state: State) -> None:
    """Write weights, the optimiser's moments and the state; a kill leaves the old file or the new one.

    Raises:
        ResultError: if the disk refuses.
    """
    tensors = {f"weights/{name}": p.detach() for name, p in module.named_parameters()}
    for name, parameter in module.named_parameters():
        for moment in _MOMENTS:
            if parameter in optimizer.state:
                tensors[f"{moment}/{name}"] = optimizer.state[parameter][moment]
    tensors = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    metadata = {"state": json.dumps(asdict(state)), "sha256": _sha256(tensors)}
    draft = path.with_suffix(".tmp")
    try:
        save_file(tensors, draft, metadata)
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        draft.replace(path)
    except (OSError, SafetensorError) as error:
        raise ResultError(
            f"{path}: the checkpoint cannot be written ({error}); free space or choose another folder"
        ) from (error)


def restore(path: Path, module: nn.Module, optimizer: torch.optim.Optimizer) -> State:
    """Fill module and optimiser from the checkpoint and return its state; a fresh State where there is none.

    Raises:
        ResultError: if the file is damaged.
    """
    if not path.is_file():
        return State()
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = State(**json.loads(metadata["state"]))
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        if metadata["sha256"] != _sha256(tensors):
            raise ValueError("its bytes have changed")
        _fill(tensors, module, optimizer, state.step)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise ResultError(f"{path}: the checkpoint is damaged ({error}); delete it and train again") from error
    return state


def _sha256(tensors: Mapping[str, Tensor]) -> str:
    """Of names and bytes, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _fill(tensors: Mapping[str, Tensor], module: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(tensors[f"weights/{name}"])
            if f"{_MOMENTS[0]}/{name}" in tensors:
                moments = {m: tensors[f"{m}/{name}"].to(parameter.device) for m in _MOMENTS}
                count = torch.tensor(float(step), device=parameter.device)
                optimizer.state[parameter] = {"step": count, **moments}
