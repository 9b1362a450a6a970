"""The bootstrap over a task's items: how much a score owes to the choice of pairs or rows.

A resample is a vector of weights, how often each item was drawn, and a score of a resample is that score with weights.
For Spearman this takes the mid-ranks of the weighted values, which are those of the resample written out: no resample
is ever sorted, since the items were sorted once.

Pairs are drawn within their subset, and not one by one but in clusters: all pairs of a subset that hang together by
shared sentences, directly or through other pairs. Pairs with a sentence in common are not independent, and drawing them
one by one would give intervals that are too short. Clusters differ in size, so the weights of a subset are then scaled
to its number of pairs: each resample has the benchmark's mixture of subsets, which was not left to chance.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]  # (n,) or (b,)
Weights = NDArray[np.float64]  # (b, n): how often each of n items is in each of b resamples
Statistic = Callable[[Weights], Vector]  # (b, n) -> (b,), nan where a resample leaves it undefined

_BYTES_AT_ONCE = 2**17  # of weights: blocks that stay in the cache, and that the allocator keeps
_SINGLE = "all"


@dataclass(frozen=True, slots=True)
class Design:
    """What is drawn.

    Attributes:
        strata: consecutive items that are drawn separately, together all items.
        clusters: for each stratum the cluster of each of its items, numbered 0..k-1; k clusters are drawn from k.
    """

    strata: "tuple[slice[int, int, None], ...]"
    clusters: tuple[NDArray[np.intp], ...]

    @property
    def items(self) -> int:
        return self.strata[-1].stop


def pairs_design(subsets: Sequence[str], left: Sequence[str], right: Sequence[str]) -> Design:
    """Pairs within subsets (consecutive, as in result files), clustered by the sentences that they share."""
    strata, clusters, start = [], [], 0
    for _, group in groupby(subsets):
        stop = start + sum(1 for _ in group)
        strata.append(slice(start, stop))
        clusters.append(connected(left[start:stop], right[start:stop]))
        start = stop
    return Design(tuple(strata), tuple(clusters))


def rows_design(n: int) -> Design:
    """Rows 0..n-1, each drawn by itself."""
    return Design((slice(0, n),), (np.arange(n),))


def connected(left: Sequence[str], right: Sequence[str]) -> NDArray[np.intp]:
    """For each of n pairs the number of its cluster: two pairs that share a sentence are in one, and so on."""
    parent: dict[str, str] = {}

    def root(sentence: str) -> str:
        parent.setdefault(sentence, sentence)
        while parent[sentence] != sentence:
            parent[sentence] = sentence = parent[parent[sentence]]
        return sentence

    for one, other in zip(left, right, strict=True):
        parent[root(one)] = root(other)
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(root(one), len(numbers)) for one in left], dtype=np.intp)


def draw(design: Design, statistics: Sequence[Statistic], resamples: int, seed: int | Sequence[int]) -> Vector:
    """Statistics of the same resamples, so that differences between them are paired.

    Args:
        design: what is drawn.
        statistics: see `correlation` and `accuracy`; m of them.
        resamples: how many.
        seed: equal seeds and designs give equal resamples, whatever is computed from them.

    Returns:
        (m, resamples).
    """
    out = np.empty((len(statistics), resamples))
    done = 0
    for weights in blocks(design, resamples, np.random.default_rng(seed)):
        for row, statistic in zip(out, statistics, strict=True):
            row[done : done + len(weights)] = statistic(weights)
        done += len(weights)
    return out


def blocks(design: Design, resamples: int, rng: np.random.Generator) -> Iterator[Weights]:
    size = max(1, _BYTES_AT_ONCE // (8 * design.items))
    for start in range(0, resamples, size):
        count = min(size, resamples - start)
        weights = np.empty((count, design.items))
        for stratum, clusters in zip(design.strata, design.clusters, strict=True):
            k = int(clusters.max()) + 1
            drawn = rng.integers(0, k, size=(count, k), dtype=np.int32)
            times = np.stack([np.bincount(row, minlength=k) for row in drawn])
            sizes = np.bincount(clusters)
            scale = len(clusters) / (times @ sizes)  # 1 where clusters are single pairs
            weights[:, stratum] = np.take(times * scale[:, None], clusters, axis=1)
        yield weights


def correlation(design: Design, gold: Vector, predicted: Vector, *, metric: str, aggregation: str) -> Statistic:
    """Correlation of gold and predicted scores, as tasks aggregate it, of weighted items.

    Args:
        design: whose strata are the subsets.
        gold: (n,).
        predicted: (n,).
        metric: `spearman` or `pearson`.
        aggregation: `all`, over all items at once; `mean` of the subsets' correlations; `wmean`, that mean weighted
            by the subsets' sizes.
    """
    parts = (slice(0, design.items),) if aggregation == _SINGLE else design.strata
    each = [KERNELS[metric](gold[part], predicted[part]) for part in parts]

    def statistic(weights: Weights) -> Vector:
        values = np.stack([kernel(weights[:, part]) for kernel, part in zip(each, parts, strict=True)])  # (s, b)
        if aggregation == "wmean":
            sizes = np.stack([weights[:, part].sum(axis=1) for part in parts])
            return np.asarray((values * sizes).sum(axis=0) / sizes.sum(axis=0))
        return np.asarray(values.mean(axis=0))

    return statistic


def accuracy(correct: NDArray[np.bool_]) -> Statistic:
    """Share of correct items, 0..1; `correct` is (n,)."""
    hits = correct.astype(np.float64)
    return lambda weights: np.asarray(weights @ hits / weights.sum(axis=1))


def _pearson(x: Vector, y: Vector) -> Statistic:
    a, b = x - x.mean(), y - y.mean()  # the mean of the weighted values is near: nothing cancels
    products = np.stack([a, b, a * a, b * b, a * b], axis=1)  # (n, 5)

    def statistic(weights: Weights) -> Vector:
        total = weights.sum(axis=1)
        mean_a, mean_b, aa, bb, ab = (weights @ products).T / total
        return _ratio(ab - mean_a * mean_b, aa - mean_a**2, bb - mean_b**2)

    return statistic


def _spearman(x: Vector, y: Vector) -> Statistic:
    ranks_x, ranks_y = Ranks(x), Ranks(y)

    def statistic(weights: Weights) -> Vector:
        a, spread_a = ranks_x.of(weights)
        b, spread_b = ranks_y.of(weights)
        return _ratio(np.vecdot(weights * a, b), spread_a, spread_b)

    return statistic


KERNELS: Mapping[str, Callable[[Vector, Vector], Statistic]] = {"spearman": _spearman, "pearson": _pearson}


def _ratio(together: Vector, one: Vector, other: Vector) -> Vector:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(together / np.sqrt(np.maximum(one, 0) * np.maximum(other, 0)))


class Ranks:
    """Values sorted once, whose ranks can be had under any weights."""

    def __init__(self, values: Vector) -> None:
        self._order = np.argsort(values, kind="stable")
        ordered = values[self._order]
        first = np.concatenate([[True], ordered[1:] != ordered[:-1]])
        self._starts = np.flatnonzero(first)  # of each group of equal values
        self._group = np.empty(len(values), dtype=np.intp)  # of each item
        self._group[self._order] = np.cumsum(first) - 1

    def of(self, weights: Weights) -> tuple[Weights, Vector]:
        """Centred mid-ranks (b, n) of the items in their own order, and the weighted sum of their squares (b,).

        A group that is drawn w times, the last of them at place c, shares the rank c - (w - 1) / 2. The ranks 1..N
        have the mean (N + 1) / 2, and sharing takes (w^3 - w) / 12 from the squares, which were (N^3 - N) / 12. The
        results, c - w / 2 - N / 2 and (N^3 - sum w^3) / 12, hold for fractional weights as well.
        """
        drawn = np.take(weights, self._order, axis=1)
        if len(self._starts) < drawn.shape[1]:
            drawn = np.add.reduceat(drawn, self._starts, axis=1)
        places = np.cumsum(drawn, axis=1)
        total = places[:, -1]
        squares = (total**3 - np.vecdot(drawn * drawn, drawn)) / 12
        places -= drawn / 2 + total[:, None] / 2
        return np.take(places, self._group, axis=1), squares
