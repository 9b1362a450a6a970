"""The scores that per-item scores decide: tasks compute them here, and reading a result computes them again.

What could have been edited in a file is thereby found.
"""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import ResultError
from harness.names import ScoreKey
from harness.results.items import Items, PairItems, RowItems
from harness.results.record import Result

Vector = NDArray[Any]  # (n,)
Ranks = NDArray[np.float64]

_CORRELATION = 1e-9  # sums in another order differ by 1e-15
_ROUNDED = 1e-4  # SentEval rounds accuracies, those of folds too, to two digits of a percent


def mean_ranks(x: Vector) -> Ranks:
    """Ranks of n finite values from 1, (n,); equal values share the mean of theirs."""
    _, place, counts = np.unique(x, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray(((2 * last - counts + 1) / 2)[place])


def pearson(x: Vector, y: Vector) -> float:
    """Pearson's correlation, -1..1; nan if either is constant or there are fewer than two values.

    Args:
        x: (n,), finite; computed in float64.
        y: (n,), finite.
    """
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    a, b = a - a.mean(), b - b.mean()
    return float(np.clip(a @ b / np.sqrt((a @ a) * (b @ b)), -1, 1))


def spearman(x: Vector, y: Vector) -> float:
    """Spearman's rank correlation, -1..1: Pearson's of the ranks, ties sharing their mean rank; nan as in `pearson`."""
    return pearson(mean_ranks(x), mean_ranks(y))


METRICS = {"spearman": spearman, "pearson": pearson}


def correlations(subsets: Mapping[str, slice], gold: Vector, predicted: Vector) -> dict[str, float]:
    """Correlations by `<metric>/<aggregation>`.

    `all` is the correlation over the pairs of all subsets at once, `mean` the plain mean of the subsets' correlations,
    `wmean` their mean weighted by pairs, and `subset:<name>` one subset's own.

    Args:
        subsets: the pairs of each subset.
        gold: (n,) scores that people gave.
        predicted: (n,) similarities.
    """
    scores = {}
    for name, metric in METRICS.items():
        each = {subset: metric(gold[pairs], predicted[pairs]) for subset, pairs in subsets.items()}
        weights = [len(gold[pairs]) for pairs in subsets.values()]
        scores[f"{name}/all"] = metric(gold, predicted)
        scores[f"{name}/mean"] = float(np.mean(list(each.values())))
        scores[f"{name}/wmean"] = float(np.average(list(each.values()), weights=weights))
        scores |= {f"{name}/subset:{subset}": value for subset, value in each.items()}
    return scores


def subset_slices(subset: Sequence[str]) -> Mapping[str, slice]:
    """The places of each subset's pairs, which follow one another."""
    found, start = {}, 0
    for name, pairs in groupby(subset):
        stop = start + sum(1 for _ in pairs)
        found[name] = slice(start, stop)
        start = stop
    return found


def check_scores(result: Result, items: Items | None) -> None:
    """Refuse a result whose scores are not those of its items; what items do not decide is not checked.

    Raises:
        ResultError: if a score differs from what the items give.
    """
    if items is None:
        return
    tolerance = _tolerance(result, items)
    for key, expected in scores_of(items, ScoreKey.parse(result.metric).split).items():
        found = result.scores.get(key, expected)
        if not abs(found - expected) <= tolerance:
            raise ResultError(
                f"{result.file or result.encoder.name}: score {key} is {found}, but the per-item scores give "
                f"{expected}; run {result.task} again with --force"
            )


def _tolerance(result: Result, items: Items) -> float:
    if not isinstance(items, RowItems) or not np.issubdtype(items.gold.dtype, np.integer):
        return _CORRELATION
    folded = "rows/all" in result.counts  # the mean over folds, whose sizes differ by one row
    return _ROUNDED + (2 / len(items.gold) if folded else 0)


def scores_of(items: Items, split: str) -> dict[str, float]:
    """The scores that items decide, by key: correlations of pairs, and accuracy or correlation of a probe's rows."""
    if isinstance(items, PairItems):
        found = correlations(subset_slices(items.subset), items.gold, items.cosine)
        return {f"{key}/{split}": value for key, value in found.items()}
    if not isinstance(items, RowItems):
        return {}
    if np.issubdtype(items.gold.dtype, np.integer):
        return {"accuracy/test": float(np.mean(items.gold == items.predicted))}
    return {f"{name}/all/test": metric(items.gold, items.predicted) for name, metric in METRICS.items()}
