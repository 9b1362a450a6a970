"""SentEval's trained relatedness regressor: a softmax over the scores 1 to 5, whose mean is the prediction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.errors import DataError
from harness.results.correlation import METRICS
from harness.tasks.cores import one_core_each
from harness.tasks.probes.heads import Adam, initial_weights, with_constant
from harness.tasks.probes.settings import Features, Progress, check_rows

_CLASSES = 5
_BATCH = 64
_PASSES_PER_CHECK = 50
_MAX_PASSES = 1000  # of upstream's loop, which ends after the check that follows
MOST_PASSES = _MAX_PASSES + _PASSES_PER_CHECK
_TENACITY = 3

Scores = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Scored:
    """The rows of one split, checked.

    Attributes:
        where: task and split, for messages.
        x: (n, d) finite features.
        y: (n,) gold scores from 0 to 5.

    Raises:
        DataError: for unequal lengths, no rows, features that are not finite, or a score outside 0 to 5.
    """

    where: str
    x: Features
    y: Scores

    def __post_init__(self) -> None:
        check_rows(self.where, self.x, len(self.y))
        bad = np.flatnonzero(~((self.y >= 0) & (self.y <= _CLASSES)))
        if bad.size:
            raise DataError(
                f"{self.where}: gold score of row {bad[0]} is {self.y[bad[0]]:g}, expected a number from 0 to 5; "
                "check the gold file"
            )


@dataclass(frozen=True, eq=False)
class RelatednessScore:
    """The regressor's answer, in full precision.

    Attributes:
        dev: best dev correlation of the kind that stopped it, -1..1.
        pearson: test, -1..1; 0 where it is undefined, as upstream has it.
        spearman: test, -1..1; 0 where it is undefined.
        mse: test mean squared error on the 0..5 scale.
        epochs: passes over the training rows.
        predictions: (n,) predicted test scores from 1 to 5.
    """

    dev: float
    pearson: float
    spearman: float
    mse: float
    epochs: int
    predictions: Scores


def relatedness(
    splits: tuple[Scored, Scored, Scored],
    *,
    stop_on: Literal["spearman", "pearson"] = "spearman",
    seed: int = 1111,
    device: str = "cpu",
    progress: Progress | None = None,
) -> RelatednessScore:
    """Train on (train, dev, test), stopping on the dev correlation.

    Args:
        splits: in the task's sort order.
        stop_on: SimCSE's copy of SentEval stops on Spearman, upstream on Pearson.
        seed: of the initial weights and the shuffles.
        device: `cpu` or `cuda`.
        progress: called at every check.

    Source: `RelatednessPytorch` in SentEval's tools/relatedness.py, https://github.com/facebookresearch/SentEval.
    """
    train, dev, test = splits
    x = [with_constant([split.x], device) for split in splits]
    target = torch.from_numpy(score_distribution(train.y)).to(device)
    weights = initial_weights(train.x.shape[1], _CLASSES, seed).to(device)
    optimizer, stream = Adam(weights), np.random.RandomState(seed)
    best, kept, misses, epoch = -1.0, weights, 0, 0
    with one_core_each(device):
        while epoch <= _MAX_PASSES and misses <= _TENACITY:
            for _ in range(_PASSES_PER_CHECK):
                order = torch.from_numpy(stream.permutation(len(target))).to(device)
                for rows in torch.split(order, _BATCH):
                    optimizer.step(weights, _gradient(x[0][rows], target[rows], weights))
            epoch += _PASSES_PER_CHECK
            found = _correlation(stop_on, _expected(x[1], weights), dev.y)
            if found > best:
                best, kept = found, weights.clone()
            else:
                misses += 1
            if progress is not None:
                progress(0, 1, epoch)
    predictions = _expected(x[2], kept)
    pearson, spearman = (_correlation(kind, predictions, test.y) for kind in ("pearson", "spearman"))
    return RelatednessScore(best, pearson, spearman, float(np.mean((predictions - test.y) ** 2)), epoch, predictions)


def score_distribution(y: Scores) -> NDArray[np.float32]:
    """(n, 5) mass on the classes 1 to 5: y - floor(y) on the one above y, the rest on the one below.

    A score below 1 has no class below it, so that its row sums to the score: upstream's, kept.

    Source: `encode_labels` in SentEval's sick.py; Tai et al. 2015, https://arxiv.org/abs/1503.00075, equation 15.
    """
    low = np.floor(y)[:, None]
    score = np.arange(1, _CLASSES + 1)
    above = np.where(score == low + 1, y[:, None] - low, 0.0)
    return (above + np.where(score == low, 1 - (y[:, None] - low), 0.0)).astype(np.float32)


def _gradient(x: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Of the mean squared difference between softmax(x W') and the target, by the weights (5, d + 1)."""
    p = torch.softmax(x @ weights.T, dim=1)
    slope = (p - target).mul_(2 / target.numel())
    return p.mul_(slope - (p * slope).sum(dim=1, keepdim=True)).T @ x


def _expected(x: Tensor, weights: Tensor) -> Scores:
    p = torch.softmax(x @ weights.T, dim=1).cpu().numpy()
    return np.asarray(p @ np.arange(1.0, _CLASSES + 1))


def _correlation(kind: str, predicted: Scores, gold: Scores) -> float:
    """Upstream's correlation, which takes an undefined one for 0 so that a constant regressor trains on."""
    found = METRICS[kind](predicted, gold)
    return 0.0 if np.isnan(found) else found
