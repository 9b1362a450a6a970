"""What a probe is asked to do, and what it answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from harness.errors import DataError

Features = NDArray[np.float32]  # (n, d)
Integers = NDArray[np.int64]  # labels, predictions or row numbers
Progress = Callable[[int, int, int], None]  # heads done, heads in all, passes so far of the heads in training


@dataclass(frozen=True, slots=True)
class ProbeSettings:
    """The knobs of SentEval's probes; the defaults are those no mode changes.

    Attributes:
        kfold: folds of the outer and of the inner split.
        optimizer: with torch's defaults: Adam at 1e-3, RMSprop at 1e-2.
        batch_size: rows of a minibatch; the last one of a pass may be smaller.
        tenacity: non-improving checks that are forgiven, counted over the whole fit.
        epoch_size: passes over the training rows between two checks.
        max_epoch: a fit goes on while its passes are at most this many.
        seed: of the initial weights, the shuffles and the k-fold scheme's split.
        protocol: `senteval` is upstream's PyTorch classifier, `senteval-sklearn` its logistic regression, which
            ignores everything above but `kfold` and `seed`.
    """

    kfold: int
    optimizer: Literal["adam", "rmsprop"]
    batch_size: int
    tenacity: int
    epoch_size: int
    max_epoch: int = 200
    seed: int = 1111
    protocol: Literal["senteval", "senteval-sklearn"] = "senteval"


_FAST = ProbeSettings(kfold=5, optimizer="rmsprop", batch_size=128, tenacity=3, epoch_size=2)

# Source: SimCSE's evaluation.py, https://github.com/princeton-nlp/SimCSE; `dev` differs in what is reported alone.
MODES = MappingProxyType(
    {
        "test": ProbeSettings(kfold=10, optimizer="adam", batch_size=64, tenacity=5, epoch_size=4),
        "fasttest": _FAST,
        "dev": _FAST,
    }
)


@dataclass(frozen=True, eq=False)
class Examples:
    """The rows of one split, checked.

    Attributes:
        where: task and split, for messages.
        x: (n, d) finite features.
        y: (n,) labels from 0.

    Raises:
        DataError: for unequal lengths, no rows, features that are not finite, or labels that are not integers from 0.
    """

    where: str
    x: Features
    y: Integers

    def __post_init__(self) -> None:
        check_rows(self.where, self.x, len(self.y))
        if self.y.dtype.kind not in "iu" or self.y.min() < 0:
            raise DataError(
                f"{self.where}: labels are {self.y.dtype} from {self.y.min()}, expected integers from 0; "
                "map the labels to the task's convention"
            )


def check_rows(where: str, x: Features, gold: int) -> None:
    """Raise DataError unless x (n, d) is finite and has one row for each of `gold` >= 1 gold values."""
    if len(x) != gold or not gold:
        raise DataError(
            f"{where}: {len(x)} feature rows for {gold} gold values, expected as many rows as values and at least one; "
            "encode the split again"
        )
    bad = np.flatnonzero(~np.isfinite(x).all(axis=1))
    if bad.size:
        raise DataError(
            f"{where}: {bad.size} of {gold} feature rows are not finite, the first is row {bad[0]}, "
            "expected finite numbers; look at what the encoder returns for that sentence"
        )


@dataclass(frozen=True, eq=False)
class Fitted:
    """One trained classifier.

    Attributes:
        accuracy: best share of the dev rows, 0..1; NaN where a fit has no dev rows (logistic regression's refits).
        epochs: passes over the training rows until it stopped; 0 for logistic regression.
        predict: row numbers to predicted classes.
    """

    accuracy: float
    epochs: int
    predict: Callable[[Integers], Integers]


@dataclass(frozen=True, eq=False)
class Fold:
    """Row numbers of a training set, in training order, and of the set that stops and scores it."""

    train: Integers
    dev: Integers


class Trainer(Protocol):
    """Fits a family of classifiers that share a table of features."""

    def search(self, folds: Sequence[Fold]) -> list[list[Fitted]]:
        """One classifier for each fold and each value of the grid."""

    def refit(self, train: Sequence[Integers], regularisation: Sequence[float]) -> list[Fitted]:
        """One classifier for each training set, which has no dev set of its own."""


@dataclass(frozen=True, slots=True)
class Selection:
    """One choice of the regulariser.

    Attributes:
        regularisation: the chosen value: l2 for `senteval`, C for `senteval-sklearn`.
        grid: mean dev accuracy of every value in percent, rounded to 2 places as the choice saw it.
        test: test accuracy of the chosen one in percent, rounded to 2 places.
        epochs: passes until the classifier that was tested stopped.
    """

    regularisation: float
    grid: tuple[float, ...]
    test: float
    epochs: int


@dataclass(frozen=True, eq=False)
class ProbeScore:
    """A probe's answer, rounded where the reference rounds.

    Attributes:
        dev: percent, 2 places.
        test: percent, 2 places.
        f1: of class 1 on the test rows in percent, 2 places; None but for two classes with a test set of their own.
        selections: one for each outer fold, or a single one.
        predictions: (n,) class of each test row; for nested folds each row by the classifier that did not see it.
    """

    dev: float
    test: float
    f1: float | None
    selections: tuple[Selection, ...]
    predictions: Integers


def probe_device(device: str) -> str:
    """The device of the run if it is a CUDA device, such as `cuda:1`; else the CPU, the only other one they know."""
    return device if device.startswith("cuda") else "cpu"


@contextmanager
def one_core_each(device: str) -> Iterator[int]:
    """Let torch use one core in each Python thread, and give the number of such threads to use.

    The probes' operations are too small to be shared out among cores: where other programs keep a core busy, waiting
    for the slower share at the end of each operation made CR ten times slower than one core did.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield before if device == "cpu" else 1
    finally:
        torch.set_num_threads(before)
