"""Which rows train, stop and test a probe."""

from __future__ import annotations

import numpy as np
from sklearn.model_selection import StratifiedKFold

from harness.errors import TaskError
from harness.tasks.probes.settings import Examples, Fold, Integers


def stratified(y: Integers, k: int, seed: int) -> list[Fold]:
    """Upstream's folds: scikit-learn's shuffled StratifiedKFold, whose algorithm is that of version 0.22 and later.

    Args:
        y: (n,) labels in the task's sort order, on which the folds depend; every class has at least k rows.
        k: number of folds.
        seed: restarts with each call, so equal labels give equal folds.

    Source: `InnerKFoldClassifier` and `KFoldClassifier` in SentEval's validation.py.
    """
    splits = StratifiedKFold(n_splits=k, shuffle=True, random_state=seed).split(np.zeros(len(y)), y)
    return [Fold(train, dev) for train, dev in splits]


def count_classes(train: Examples, *others: Examples, per_class: int = 1) -> int:
    """Number of classes C, after checking that the labels are 0..C-1.

    Args:
        train: must hold every class.
        others: may lack a class but have no further one.
        per_class: rows of each class that the scheme needs in `train`.

    Raises:
        TaskError: if a class has too few rows, if there is one class, or if another split has a class more.
    """
    counts = np.bincount(train.y)
    short = np.flatnonzero(counts < per_class)
    if short.size:
        raise TaskError(
            f"{train.where}: class {short[0]} has {counts[short[0]]} of {len(train.y)} rows, expected at least "
            f"{per_class} of every class from 0 to {len(counts) - 1}; give more rows or fewer folds"
        )
    if len(counts) < 2:
        raise TaskError(f"{train.where}: every label is 0, expected two classes or more; check the labels' file")
    for other in others:
        if other.y.max() >= len(counts):
            raise TaskError(
                f"{other.where}: label {other.y.max()}, expected 0 to {len(counts) - 1} as in {train.where}; "
                "map the labels to the task's convention"
            )
    return len(counts)


def hold_out(n: int, stream: np.random.RandomState) -> tuple[Integers, Integers]:
    """The 5 % of n rows that stop a refit: first draw of the stream.

    Returns:
        Positions of the training rows in training order, and of the held-out rows.

    Source: `PyTorchClassifier.prepare_split` in SentEval's tools/classifier.py.
    """
    order = stream.permutation(n)
    size = int(0.05 * n)
    return order[size:], order[:size]
