"""The correlations that similarity tasks report, as functions of gold scores and predictions.

Tasks compute their scores with them, and reading a result computes them again from its items.
"""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[Any]  # (n,)
Ranks = NDArray[np.float64]


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
