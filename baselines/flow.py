"""BERT-flow: fits a Glow to a frozen encoder's sentence vectors and uses the latent vectors in their place.

Source: Li et al. 2020, https://arxiv.org/abs/2011.05864; the fit follows the authors' code, bohanli/BERT-flow at
7fa8f6d, but each pass takes the sentences in a new random order; theirs is one order through a shuffle buffer.
"""

import json
import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from baselines.flow_model import FlowShape, Glow, bits_per_dimension
from harness.derived import Derived, load, store
from harness.errors import EncoderError, WriteError

_log = logging.getLogger(__name__)

_ROWS = 4096  # vectors that go through the flow at once in `transform`
_STEPS_PER_CHECKPOINT = 100  # a checkpoint is 2 MB at 768 dimensions: milliseconds


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowSettings:
    """How a flow is fitted; the defaults are what the authors' published code does.

    Attributes:
        shape: the architecture.
        ddi: data-dependent initialisation on the first batch. The authors' code defines it and never runs it;
            UKPLab/pytorch-bertflow always does. It makes the first gradients nothing but rounding, which Adam enlarges:
            vectors that differ by 1e-7 then give flows that differ as between seeds, so results repeat on one machine.
        pairs: the vectors are 2P rows, rows i and P + i the two sentences of pair i. A batch then holds whole pairs,
            and the loss is the mean over the first sentences plus the mean over the second ones, as in the authors'
            code: twice the mean of the batch, which the gradient clip sees. Otherwise it is the mean of the batch.
        batch: sentences per step, even for pairs.
        epochs: passes over the vectors; the fit has int(vectors / batch * epochs) steps, and a batch may straddle two
            passes.
        learning_rate: constant.
        weight_decay: of every parameter, biases and log-scales too.
        clip: largest norm of the gradient of all parameters together.
        seed: of the initial weights, the order of the sentences, and the dropout of an encoder that computes them.
    """

    shape: FlowShape = field(default_factory=FlowShape)
    ddi: bool = False
    pairs: bool = False
    batch: int = 64
    epochs: float = 1.0
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    clip: float = 1.0
    seed: int = 1234

    def steps(self, vectors: int) -> int:
        """Optimiser steps of a fit on so many vectors.

        Raises:
            EncoderError: if it is none.
        """
        steps = int(vectors / self.batch * self.epochs)
        if steps < 1:
            raise EncoderError(
                f"flow: {vectors} vectors make no step of {self.batch} in {self.epochs:g} epochs, expected at least "
                "one; fit on more sentences or for more epochs"
            )
        return steps


class Vectors(Protocol):
    """Sentence vectors to fit on: an (N, d) float32 array, or anything that gives rows when asked.

    An encoder with dropout on computes them anew each time: `shape` is (N, d), and indexing with n row numbers returns
    (n, d), an array or a tensor. It may draw from torch's global generator, which is seeded per step.
    """

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, rows: NDArray[np.int64], /) -> NDArray[np.float32] | Tensor: ...


@dataclass(frozen=True, slots=True)
class Flow:
    """A fitted flow."""

    model: Glow

    def transform(self, x: NDArray[np.floating]) -> NDArray[np.float32]:
        """Latent vectors of n vectors: (n, d) to (n, d) float32, not normalised."""
        out = np.empty((len(x), self.model.dim), dtype=np.float32)
        dtype = next(self.model.parameters()).dtype
        with torch.inference_mode():
            for start in range(0, len(x), _ROWS):
                part = slice(start, start + _ROWS)
                out[part] = self.model(torch.tensor(x[part], dtype=dtype))[0].numpy()
        return out

    def arrays(self) -> dict[str, NDArray[np.floating]]:
        """The weights by name."""
        return {name: weight.numpy() for name, weight in self.model.state_dict().items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.floating]], dim: int, shape: FlowShape) -> Self:
        """The flow of vectors of `dim` numbers that has these weights."""
        model = Glow(dim, shape, torch.Generator())
        tensors = {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
        model.to(next(iter(tensors.values())).dtype).load_state_dict(tensors)
        return cls(model)


def fit_flow(
    vectors: Vectors,
    settings: FlowSettings,
    progress: Callable[[int, float], None] | None = None,
    *,
    checkpoint: Path | None = None,
) -> Flow:
    """Fit a flow by maximum likelihood. The same vectors, settings and machine give the same flow, resumed or not.

    Args:
        vectors: (N, d), d divisible by two once per level.
        settings: how to fit.
        progress: called after each step with the steps done and the mean bits per dimension of the batch before it.
        checkpoint: file to save the state to every 100 steps and to go on from if it holds this fit. It knows the
            settings and the shape of the vectors, not the vectors: name it after them. It stays after the last step.

    Raises:
        UsageError: if d is not divisible as needed.
        EncoderError: if there are too few vectors for one step, or the loss or its gradient stops being finite.
    """
    count, dim = vectors.shape
    if settings.pairs and (count % 2 or settings.batch % 2):
        raise ValueError(f"{count} vectors in batches of {settings.batch} are no pairs")
    steps = settings.steps(count)
    model = Glow(dim, settings.shape, torch.Generator().manual_seed(settings.seed))
    optimizer = BertAdam(model, settings)
    key = json.dumps(["flow", asdict(settings), count, dim])
    first = _resume(checkpoint, key, optimizer) if checkpoint else 0
    for step in range(first, steps):
        x = _draw(vectors, settings, step)
        if step == 0 and settings.ddi:
            model.initialise(x)
        loss = bits_per_dimension(*model(x)).mean()
        norm = optimizer.step(loss * 2 if settings.pairs else loss)
        bits = loss.item()
        if not math.isfinite(bits + norm):
            raise EncoderError(
                f"flow: the loss is {bits:g} bits/dim with gradient norm {norm:g} at step {step + 1} of {steps}, "
                "expected finite numbers; lower the learning rate, or look for vectors that are not finite"
            )
        if progress:
            progress(step + 1, bits)
        if checkpoint and ((step + 1) % _STEPS_PER_CHECKPOINT == 0 or step + 1 == steps):
            _keep(checkpoint, key, optimizer, step + 1)
    return Flow(model)


class BertAdam:
    """Adam as BERT's authors wrote it: decoupled weight decay, no bias correction, global gradient clip.

        m <- 0.9 m + 0.1 g      v <- 0.999 v + 0.001 g^2      w <- w - rate * (m / (sqrt(v) + 1e-6) + decay * w)

    The first step is thus 0.1 / sqrt(0.001) = 3.16 times the learning rate. The gradient g of all parameters is divided
    by max(1, |g| / clip) first.

    Source: `optimization.py` of google-research/bert; here no parameter is exempt from the decay, since none of the
    flow's has one of the names that the exemption looks for.

    Attributes:
        state: what a fit goes on from: the weights of all parameters in one vector, m (`first`) and v (`second`).
    """

    def __init__(self, model: nn.Module, settings: FlowSettings) -> None:
        """Take over the model's parameters: they become views of one vector, so that a step is a few operations."""
        self._settings = settings
        self._parameters = list(model.parameters())
        weights = torch.cat([parameter.detach().flatten() for parameter in self._parameters])
        parts = torch.split(weights, [parameter.numel() for parameter in self._parameters])
        for parameter, part in zip(self._parameters, parts, strict=True):
            parameter.data = part.view_as(parameter)
        self.state = {"weights": weights, "first": torch.zeros_like(weights), "second": torch.zeros_like(weights)}

    def step(self, loss: Tensor) -> float:
        """Change the parameters to lower the loss, or nothing if the gradient is not finite.

        Returns:
            The norm of the gradient before it was clipped.
        """
        gradient = torch.cat([part.flatten() for part in torch.autograd.grad(loss, self._parameters)])
        norm = float(gradient.norm())
        if math.isfinite(norm):
            weights, first, second = self.state["weights"], self.state["first"], self.state["second"]
            gradient /= max(1.0, norm / self._settings.clip)
            first.mul_(0.9).add_(gradient, alpha=0.1)
            second.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
            change = first / second.sqrt().add_(1e-6) + self._settings.weight_decay * weights
            weights.sub_(change, alpha=self._settings.learning_rate)
        return norm


def _draw(vectors: Vectors, settings: FlowSettings, step: int) -> Tensor:
    """The batch of a step (n, d). It depends on the seed and the step alone, so a resumed fit misses nothing."""
    sides = 2 if settings.pairs else 1
    units, size = vectors.shape[0] // sides, settings.batch // sides
    start, end = step * size, (step + 1) * size
    chosen = np.concatenate(
        [
            _order(settings.seed, epoch, units)[max(start - epoch * units, 0) : end - epoch * units]
            for epoch in range(start // units, (end - 1) // units + 1)
        ]
    )
    rows = np.concatenate([chosen + side * units for side in range(sides)])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(np.random.default_rng([settings.seed, step]).integers(2**63)))
        return torch.as_tensor(vectors[rows], dtype=torch.float32, device="cpu")


@lru_cache(maxsize=2)  # a batch may straddle two epochs
def _order(seed: int, epoch: int, units: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, epoch]).permutation(units)


def _resume(path: Path, key: str, optimizer: BertAdam) -> int:
    """Set the optimizer, and with it its model, to the checkpoint's state; returns the steps done."""
    found = load(path, key)
    if found is None:
        return 0
    for name, tensor in optimizer.state.items():
        tensor.copy_(torch.from_numpy(found.arrays[name].copy()))
    return int(found.facts["step"])


def _keep(path: Path, key: str, optimizer: BertAdam, step: int) -> None:
    """Write the checkpoint; a disk that refuses costs the steps since the last one when the fit is interrupted."""
    arrays = {name: tensor.numpy() for name, tensor in optimizer.state.items()}
    try:
        store(path, key, Derived(arrays, {"step": str(step)}))
    except WriteError as error:
        _log.warning("%s; the fit goes on without a checkpoint", error)
