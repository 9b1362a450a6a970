"""How much a score owes to the choice of items: every score as a sum of contributions, one per item.

A correlation or an accuracy is, to first order, a mean of one number per item, its influence. The variance of a score,
of a difference between two encoders, and of an average over tasks is then the variance of one sum, in which items that
share a sentence depend on each other and all others do not (the dyadic, or two-way clustered, variance).

Sources: Hampel 1974, The influence curve and its role in robust estimation; Fafchamps and Gubert 2007, The formation of
risk sharing networks; Aronow, Samii and Assenova 2015, Cluster-robust variance estimation for dyadic data; Cameron and
Miller 2014, Robust inference for dyadic data.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from statistics import NormalDist
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from harness.errors import ResultError
from harness.names import ScoreKey
from harness.results.items import PairItems, RowItems
from harness.results.record import Result

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]
Ids = NDArray[np.str_]

LEVEL = 0.95
# With fewer effective chains of shared sentences an interval is too narrow, if whole chains vary together.
FEW_CHAINS = 30


class Interval(NamedTuple):
    """Two-sided, in the unit of what it is about."""

    low: float
    high: float

    @property
    def half_width(self) -> float:
        return (self.high - self.low) / 2

    def holds(self, value: float) -> bool:
        """Whether the value lies inside, ends included."""
        return self.low <= value <= self.high

    def scaled(self, factor: float) -> "Interval":
        """In another unit, for instance percent."""
        return Interval(self.low * factor, self.high * factor)


class Sharing:
    """Which items share a sentence; worked out once for all the encoders that were scored on them.

    Attributes:
        left: (n,) id of each item's first sentence.
        right: (n,) id of its second sentence; equal to `left` where items are single sentences.
    """

    def __init__(self, left: Ids, right: Ids) -> None:
        self.left, self.right = left, right

    def fits(self, other: "Sharing") -> bool:
        """Whether the other's items are these, in this order."""
        return self is other or (np.array_equal(self.left, other.left) and np.array_equal(self.right, other.right))

    def sums(self, influence: Vector) -> tuple[Vector, Vector]:
        """Of contributions (n,), the sums over the items of each sentence, and of each pair of distinct sentences."""
        one, other, apart, pair, sentences, pairs = self._codes
        by_sentence = np.bincount(one, influence, sentences) + np.bincount(other, influence[apart], sentences)
        by_pair = np.bincount(pair, influence[apart], pairs)
        return np.asarray(by_sentence, np.float64), np.asarray(by_pair, np.float64)

    @cached_property
    def _codes(self):  # type: ignore[no-untyped-def]  # numbers of sentences and pairs, and how many there are
        ids, codes = np.unique(np.concatenate([self.left, self.right]), return_inverse=True)
        one, other = codes[: len(self.left)], codes[len(self.left) :]
        apart = one != other
        low, high = np.minimum(one, other)[apart], np.maximum(one, other)[apart]
        pairs, pair = np.unique(low.astype(np.int64) * len(ids) + high, return_inverse=True)
        return one, other[apart], apart, pair, len(ids), len(pairs)


@lru_cache(maxsize=64)
def sharing_of(left: Sequence[str], right: Sequence[str]) -> Sharing:
    """The sharing of items with these ids; the same object for equal ids, so that it is worked out once."""
    return Sharing(np.array(left), np.array(right))


@lru_cache(maxsize=64)
def _joined(parts: tuple[Sharing, ...]) -> Sharing:
    return Sharing(np.concatenate([one.left for one in parts]), np.concatenate([one.right for one in parts]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A score and its first-order contributions."""

    value: float  # the score in its own unit: correlations -1..1, accuracies 0..1
    influence: Vector  # (n,); the score's error is nearly their sum over another draw of items. They sum to 0.
    sharing: Sharing  # of the n items
    bounded: bool = True  # whether the score lies in -1..1, so that its interval is computed on Fisher's scale

    @property
    def variance(self) -> float:
        """Of the score, in its unit squared; the dyadic variance."""
        return float(_variance(*_products([self]))[0, 0])

    def minus(self, other: Self) -> "Estimate":
        """The difference of two encoders on the same items.

        Raises:
            ResultError: if the items differ.
        """
        if not self.sharing.fits(other.sharing):
            raise ResultError("the two have other items or another order; run one of them again")
        return replace(self, value=self.value - other.value, influence=self.influence - other.influence, bounded=False)

    def interval(self) -> Interval:
        """In which the score of the encoder over other items of this kind lies; asymmetric near the ends of -1..1."""
        return normal_interval(self.value, math.sqrt(self.variance), bounded=self.bounded)


def average(estimates: Sequence[Estimate]) -> Estimate:
    """The mean of scores on several tasks; a sentence that is in two of them ties their errors together."""
    count = len(estimates)
    return Estimate(
        value=sum(one.value for one in estimates) / count,
        influence=np.concatenate([one.influence / count for one in estimates]),
        sharing=_joined(tuple(one.sharing for one in estimates)),
        bounded=all(one.bounded for one in estimates),
    )


def normal_interval(value: float, error: float, *, bounded: bool = True) -> Interval:
    """Value +- z error; for a score in -1..1 on Fisher's scale, atanh, which keeps the interval inside."""
    z = NormalDist().inv_cdf((1 + LEVEL) / 2)
    if not bounded or abs(value) >= 1:
        return Interval(value - z * error, value + z * error)
    centre, half = math.atanh(value), z * error / (1 - value**2)
    return Interval(math.tanh(centre - half), math.tanh(centre + half))


def difference_variances(estimates: Sequence[Estimate]) -> Matrix:
    """The variances (k, k) of the differences between k scores on the same items, in the scores' unit squared.

    Raises:
        ResultError: if the items differ.
    """
    first, *others = estimates
    for other in others:
        first.minus(other)
    together, alone = (np.add.outer(m.diagonal(), m.diagonal()) - 2 * m for m in _products(estimates))
    return _variance(together, alone)


def _products(estimates: Sequence[Estimate]) -> tuple[Matrix, Matrix]:
    """Of k scores on the same items, two matrices (k, k): the dyadic covariances, and those of independent items.

    A dyadic covariance is the sum of influence_i influence_j over all items i, j that share a sentence, each item with
    itself included. With S_s the sum over the items that hold the sentence s, the sum of S_s^2 counts items that share
    two sentences twice, and each item of two distinct sentences twice; sums over equal pairs of sentences take
    that back.
    """
    influences = np.array([one.influence for one in estimates])
    by_sentence, by_pair = map(np.array, zip(*(one.sharing.sums(one.influence) for one in estimates), strict=True))
    return by_sentence @ by_sentence.T - by_pair @ by_pair.T, influences @ influences.T


def _variance(together: Matrix, alone: Matrix) -> Matrix:
    """A dyadic variance that falls below a tenth of that of independent items, which chance can do, is that tenth."""
    return np.maximum(together, np.maximum(alone, 0) / 10)  # equal scores may differ by rounding


def spearman_influence(x: Vector, y: Vector) -> Vector:
    """First-order contributions (n,) of each pair to Spearman's correlation of x and y, ties by mid-ranks.

    With u and v the centred mid-ranks divided by n, and K(a, b) = 1 if a < b, 1/2 if a = b, the contribution of item i
    to the covariance A of u and v is u_i v_i + mean_j K(x_i, x_j) v_j + mean_j K(y_i, y_j) u_j - 3 A, to the variance B
    of u it is u_i^2 + 2 mean_j K(x_i, x_j) u_j - 3 B, and the delta method joins them to that of A / sqrt(B C).

    Raises:
        ZeroDivisionError: if all values of x or of y are equal, for which there is no correlation.
    """
    n = len(x)
    (u, above_x), (v, above_y) = _ranked(x), _ranked(y)
    covariance, spread_u, spread_v = float(np.mean(u * v)), float(np.mean(u * u)), float(np.mean(v * v))
    if spread_u == 0 or spread_v == 0:
        raise ZeroDivisionError("all values are equal, so there is no correlation")
    scale = math.sqrt(spread_u * spread_v)
    rho = covariance / scale
    of_covariance = u * v + above_x(v) + above_y(u) - 3 * covariance
    of_u = u * u + 2 * above_x(u) - 3 * spread_u
    of_v = v * v + 2 * above_y(v) - 3 * spread_v
    influence: Vector = (of_covariance / scale - rho / 2 * (of_u / spread_u + of_v / spread_v)) / n
    centred: Vector = influence - influence.mean()
    return centred


def _ranked(x: Vector):  # type: ignore[no-untyped-def]  # the mid-ranks, and the function that sums over what is above
    n = len(x)
    values, group, counts = np.unique(x, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    u = ((last - (counts - 1) / 2)[group] - (n + 1) / 2) / n

    def above(weights: Vector) -> Vector:
        """Mean over j of K(x_i, x_j) weights_j, for each i."""
        sums = np.bincount(group, weights, len(values))
        greater = sums.sum() - np.cumsum(sums)
        result: Vector = (greater + sums / 2)[group] / n
        return result

    return u, above


def pearson_influence(x: Vector, y: Vector) -> Vector:
    """First-order contributions (n,) of each pair to Pearson's correlation. Source: Devlin et al. 1975, (2.5)."""
    a, b = (x - x.mean()) / x.std(), (y - y.mean()) / y.std()
    r = float(np.mean(a * b))
    influence: Vector = (a * b - r * (a * a + b * b) / 2) / len(x)
    return influence


_INFLUENCE = {"spearman": spearman_influence, "pearson": pearson_influence}


def estimate(result: Result, key: str) -> Estimate | None:
    """A stored score with its contributions; None for a score that has no items, such as uniformity.

    Args:
        result: of a similarity, classification or regression task.
        key: of one of its scores: correlations over `all`, `mean` and `wmean`, and accuracies on the test split.

    Raises:
        ResultError: if the per-item file is missing or damaged.
    """
    parsed = ScoreKey.parse(key)
    if key not in result.scores or parsed.bound:
        return None
    items = result.items()
    if isinstance(items, PairItems) and parsed.metric in _INFLUENCE and parsed.aggregation in ("all", "mean", "wmean"):
        return _of_pairs(items, parsed, result.scores[key])
    if isinstance(items, RowItems) and parsed.metric == "accuracy" and parsed.split == "test":
        return _of_rows(items, result.scores[key])
    return None


def _of_pairs(items: PairItems, key: ScoreKey, value: float) -> Estimate:
    gold, cosine = items.gold.astype(np.float64), items.cosine.astype(np.float64)
    influence_of = _INFLUENCE[key.metric]
    if key.aggregation == "all":
        influence = influence_of(gold, cosine)
    else:
        parts = subset_slices(items.subset)
        sizes = np.array([part.stop - part.start for part in parts])
        weights = sizes / sizes.sum() if key.aggregation == "wmean" else np.full(len(parts), 1 / len(parts))
        influence = np.concatenate([w * influence_of(gold[p], cosine[p]) for w, p in zip(weights, parts, strict=True)])
    return Estimate(value=value, influence=influence, sharing=sharing_of(items.left, items.right))


def _of_rows(items: RowItems, value: float) -> Estimate:
    correct = (np.asarray(items.gold) == np.asarray(items.predicted)).astype(np.float64)
    sharing = sharing_of(items.first, items.first if items.second is None else items.second)
    influence = (correct - correct.mean()) / len(correct)
    return Estimate(value=value, influence=influence, sharing=sharing, bounded=False)


def subset_slices(subsets: Sequence[str]) -> list[slice]:
    """Where each subset's pairs are; a subset's pairs follow one another."""
    starts = [i for i, name in enumerate(subsets) if i == 0 or name != subsets[i - 1]]
    return [slice(start, stop) for start, stop in zip(starts, [*starts[1:], len(subsets)], strict=True)]


def effective_chains(left: Sequence[str] | Ids, right: Sequence[str] | Ids) -> float:
    """How many independent chains of shared sentences the pairs amount to: 1 / sum of squared shares, 1..n.

    A chain is a connected component of the graph whose nodes are sentences and whose edges are pairs.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    _, codes = np.unique(np.concatenate([np.array(left), np.array(right)]), return_inverse=True)
    one, other = codes[: len(left)], codes[len(left) :]
    size = int(codes.max()) + 1
    _, component = connected_components(coo_array((np.ones(len(one)), (one, other)), (size, size)), directed=False)
    shares = np.bincount(component[one]) / len(one)
    return float(1 / (shares**2).sum())


def few_chains(items: PairItems, aggregation: str) -> Mapping[str, float]:
    """The sets with fewer than `FEW_CHAINS` effective chains, and their number of them.

    Args:
        items: of one task.
        aggregation: over `all` pairs, which are one set named "", or over subsets, each of which is a set.
    """
    parts = (
        {"": slice(None)} if aggregation == "all" else {items.subset[p.start]: p for p in subset_slices(items.subset)}
    )
    chains = {name: effective_chains(items.left[part], items.right[part]) for name, part in parts.items()}
    return {name: number for name, number in chains.items() if number < FEW_CHAINS}


def few_chains_sentence(chains: Mapping[str, float]) -> str:
    """What a reader must know of intervals over sets with so many effective chains each."""
    sets = ", ".join(f"{name} ({number:.0f})" for name, number in chains.items())
    return (
        f"Pairs that share sentences form chains, of which there are so few in {sets} that intervals are too narrow if "
        "whole chains are easy or hard together."
    )
