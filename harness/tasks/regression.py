"""Relatedness with a trained regressor: what upstream SentEval calls STSBenchmark and SICKRelatedness.

Source: SentEval (5d6dc11) senteval/sick.py; SimCSE's copy (49fa580) names these tasks `-finetune` and stops on the dev
Spearman instead of Pearson.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from harness.data.records import Pairs, SimilarityData
from harness.encoders.context import Context
from harness.encoders.protocol import Encoder, embed
from harness.errors import DataError
from harness.results.correlation import METRICS
from harness.results.items import RowItems, text_id
from harness.tasks.classification import pair_features, row_order
from harness.tasks.outcome import Outcome, Prepared
from harness.tasks.probes import Features, Progress, check_rows, one_core_each, probe_device
from harness.tasks.similarity import as_senteval_text

if TYPE_CHECKING:
    from torch import Tensor

_CLASSES = 5
_BATCH = 64
_PASSES_PER_CHECK = 50
_MAX_PASSES = 1000  # of upstream's loop, which ends after the check that follows
MOST_PASSES = _MAX_PASSES + _PASSES_PER_CHECK
_TENACITY = 3

Scores = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class RegressionTask:
    """One relatedness benchmark with train, dev and test pairs; the main score is the test Spearman."""

    name: str  # e.g. `STSBenchmark-finetune`
    title: str  # for people
    load: Callable[[Path], SimilarityData]  # reads the three splits as three subsets, in that order
    bundled: bool = False
    # The dev correlation that stops training: Spearman's in SimCSE's copy of SentEval, Pearson's upstream.
    stop_on: Literal["spearman", "pearson"] = "spearman"
    metric: str = "spearman/all/test"
    seed: int = 1111  # of the regressor

    @property
    def protocol(self) -> str:
        return "senteval-regressor" + ("" if self.stop_on == "spearman" else f"[stop_on={self.stop_on}]")

    def prepare(self, root: Path) -> Prepared:
        """Read the data; see `Prepared`."""
        data = self.load(root)
        splits = tuple(_senteval_order(subset) for subset in data.subsets)
        texts = [text for split in splits for text in [*split.left, *split.right]]
        return Prepared(
            files=data.files,
            other_copies=data.other_copies,
            sentences=texts,
            target=texts,
            score=partial(self._score, splits),
        )

    def _score(self, splits: tuple[Pairs, ...], encoder: Encoder, context: Context) -> Outcome:
        def scored(split: Pairs) -> Scored:
            x = pair_features(embed(encoder, split.left), embed(encoder, split.right))
            return Scored(f"{self.name}, {split.name}", x, np.asarray(split.gold))

        def tell(done: int, total: int, epoch: int) -> None:
            context.progress(f"{self.name} regressor", epoch, MOST_PASSES)

        train, dev, test = splits
        found = relatedness(
            (scored(train), scored(dev), scored(test)),
            stop_on=self.stop_on,
            seed=self.seed,
            device=probe_device(context.device),
            progress=tell,
        )
        return Outcome(
            scores={
                "spearman/all/test": found.spearman,
                "pearson/all/test": found.pearson,
                "mse/all/test": found.mse,
                f"{self.stop_on}/all/dev": found.dev,
            },
            counts={f"pairs/{split.name}": len(split.gold) for split in splits},
            items=RowItems(
                first=[text_id(text) for text in test.left],
                second=[text_id(text) for text in test.right],
                gold=np.array(test.gold),
                predicted=found.predictions,
            ),
        )


def _senteval_order(split: Pairs) -> Pairs:
    order = row_order([split.left, split.right], split.gold)
    left, right = ([as_senteval_text(side[i]) for i in order] for side in (split.left, split.right))
    return Pairs(split.name, left, right, [split.gold[i] for i in order])


@dataclass(frozen=True, eq=False)
class Scored:
    """The rows of one split, checked.

    Raises:
        DataError: for unequal lengths, no rows, features that are not finite, or a score outside 0 to 5.
    """

    where: str  # task and split, for messages
    x: Features  # (n, d), finite
    y: Scores  # (n,) gold scores from 0 to 5

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
    """The regressor's answer, in full precision; an undefined correlation is 0, as upstream has it."""

    dev: float  # best dev correlation of the kind that stopped it, -1..1
    pearson: float  # test, -1..1
    spearman: float  # test, -1..1
    mse: float  # test mean squared error on the 0..5 scale
    epochs: int  # passes over the training rows
    predictions: Scores  # (n,) predicted test scores from 1 to 5


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
    # Here and not above, so that tasks can be listed and their data checked without torch.
    import torch

    from harness.tasks.heads import Adam, initial_weights, with_constant

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
    p = (x @ weights.T).softmax(dim=1)
    slope = (p - target).mul_(2 / target.numel())
    return p.mul_(slope - (p * slope).sum(dim=1, keepdim=True)).T @ x


def _expected(x: Tensor, weights: Tensor) -> Scores:
    p = (x @ weights.T).softmax(dim=1).cpu().numpy()
    return np.asarray(p @ np.arange(1.0, _CLASSES + 1))


def _correlation(kind: str, predicted: Scores, gold: Scores) -> float:
    """Upstream's correlation, which takes an undefined one for 0 so that a constant regressor trains on."""
    found = METRICS[kind](predicted, gold)
    return 0.0 if np.isnan(found) else found
