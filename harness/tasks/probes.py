"""What SentEval's probes are asked to do, and what they answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from harness.errors import DataError

Features = NDArray[np.float32]  # (n, d)
Integers = NDArray[np.int64]  # labels, predictions or row numbers
Progress = Callable[[int, int, int], None]  # heads done, heads in all, passes so far of the heads in training


@dataclass(frozen=True, slots=True)
class ProbeSettings:
    """The knobs of SentEval's probes; the defaults are those no mode changes."""

    kfold: int  # folds of the outer and of the inner split
    optimizer: Literal["adam", "rmsprop"]  # with torch's defaults: Adam at 1e-3, RMSprop at 1e-2
    batch_size: int  # rows of a minibatch; the last one of a pass may be smaller
    tenacity: int  # non-improving checks that are forgiven, counted over the whole fit
    epoch_size: int  # passes over the training rows between two checks
    max_epoch: int = 200  # a fit goes on while its passes are at most this many
    seed: int = 1111  # of the initial weights, the shuffles and the k-fold scheme's split
    # Upstream's PyTorch classifier, or its logistic regression, which ignores everything above but `kfold` and `seed`.
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

    Raises:
        DataError: for unequal lengths, no rows, features that are not finite, or labels that are not integers from 0.
    """

    where: str  # task and split, for messages
    x: Features  # (n, d), finite
    y: Integers  # (n,) labels from 0

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
class Fold:
    """Row numbers of a training set, in training order, and of the set that stops and scores it."""

    train: Integers
    dev: Integers


@dataclass(frozen=True, eq=False)
class Problem:
    """Classifiers to be trained on the same rows, one for each value of the grid; dev rows stop and score them.

    Without dev rows SentEval's classifier holds out 5 % of the training rows.
    """

    train: Integers
    dev: Integers | None
    grid: tuple[float, ...]  # l2 for `senteval`, C for `senteval-sklearn`


@dataclass(frozen=True, slots=True)
class Selection:
    """One choice of the regulariser."""

    regularisation: float  # the chosen value
    grid: tuple[float, ...]  # mean dev accuracy of every value in percent, rounded to 2 places as the choice saw it
    test: float  # test accuracy of the chosen one in percent, rounded to 2 places
    epochs: int  # passes until the classifier that was tested stopped


@dataclass(frozen=True, eq=False)
class ProbeScore:
    """A probe's answer, in percent and rounded to 2 places, as the reference rounds."""

    dev: float
    test: float
    f1: float | None  # of class 1 on the test rows; None but for two classes with a test set of their own
    selections: tuple[Selection, ...]  # one for each outer fold, or a single one
    predictions: Integers  # (n,) class of each test row; of nested folds by the classifier that did not see it


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
