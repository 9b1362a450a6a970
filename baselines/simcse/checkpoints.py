"""What a killed run goes on from: one safetensors file, replaced atomically, nothing pickled.

The data position and all random numbers follow from the seed and the step, so the step stands for them.
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from harness.errors import ResultError, UsageError

_MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(slots=True)
class State:
    """Where a run is: steps done, and the best evaluation so far."""

    step: int = 0
    best_step: int = 0
    best_score: float | None = None


def save_checkpoint(
    path: Path, identity: str, module: nn.Module, optimizer: torch.optim.Optimizer, state: State
) -> None:
    """Write weights, the optimiser's moments and the state; a kill leaves the old file or the new one.

    Raises:
        ResultError: if the disk refuses.
    """
    tensors = {f"weights/{name}": p.detach() for name, p in module.named_parameters()}
    for name, parameter in module.named_parameters():
        for moment in _MOMENTS:
            if parameter in optimizer.state:
                tensors[f"{moment}/{name}"] = optimizer.state[parameter][moment]
    metadata = {"identity": identity, "state": json.dumps(asdict(state))}
    draft = path.with_suffix(".tmp")
    try:
        save_file({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, draft, metadata)
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        draft.replace(path)
    except (OSError, SafetensorError) as error:
        raise ResultError(
            f"{path}: the checkpoint cannot be written ({error}); free space or choose another folder"
        ) from (error)


def restore(path: Path, identity: str, module: nn.Module, optimizer: torch.optim.Optimizer) -> State:
    """Fill module and optimiser from the checkpoint and return its state; a fresh State where there is none.

    Raises:
        UsageError: if the checkpoint is of a run with other settings, data or backbone.
        ResultError: if the file is damaged.
    """
    if not path.is_file():
        return State()
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("identity") == identity:
                state = State(**json.loads(metadata["state"]))
                _fill(file, module, optimizer, state.step)
                return state
    except (OSError, SafetensorError) as error:
        raise ResultError(f"{path}: the checkpoint is damaged ({error}); delete it and train again") from error
    raise UsageError(
        f"{path}: a checkpoint of another backbone, data or settings, expected one of this run; name another folder, "
        "or delete it"
    )


def _fill(file: Any, module: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(file.get_tensor(f"weights/{name}"))
            if f"{_MOMENTS[0]}/{name}" in file.keys():
                moments = {m: file.get_tensor(f"{m}/{name}").to(parameter.device) for m in _MOMENTS}
                count = torch.tensor(float(step), device=parameter.device)
                optimizer.state[parameter] = {"step": count, **moments}
