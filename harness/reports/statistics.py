"""What may be said of scores: intervals, differences, ties."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Interval:
    """Two-sided, in the unit of what it was made from."""

    low: float
    high: float

    @property
    def half_width(self) -> float:
        return (self.high - self.low) / 2


def percentile_interval(draws: NDArray[np.float64], level: float = 0.95) -> Interval:
    """Between the percentiles of bootstrap draws (b,) that leave equal shares outside; undefined draws do not count."""
    rest = (1 - level) / 2
    low, high = np.nanquantile(draws, [rest, 1 - rest])
    return Interval(float(low), float(high))


def bootstrap_p(differences: NDArray[np.float64]) -> float:
    """Two-sided p-value, 0..1, of "no difference" from paired bootstrap differences (b,).

    Twice the share of draws on the rarer side of 0, those at 0 counted on both, one draw added to each: with b draws
    nothing below 2 / (b + 1) can be said.
    """
    drawn = differences[~np.isnan(differences)]
    rarer = min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))
    return min(1.0, 2 * (rarer + 1) / (len(drawn) + 1))


def normal_p(differences: NDArray[np.float64]) -> float:
    """As `bootstrap_p`, but of the normal distribution with the mean and standard error of the differences (b,).

    It has no smallest value, so it can be adjusted for many comparisons; it takes the differences to be normal, which
    means over hundreds of items nearly are.
    """
    mean, error = float(np.nanmean(differences)), float(np.nanstd(differences, ddof=1))
    if error == 0:
        return 1.0 if mean == 0 else 0.0
    return math.erfc(abs(mean) / error / math.sqrt(2))


def williams(r_a: float, r_b: float, r_ab: float, n: int) -> tuple[float, float]:
    """Test of two dependent correlations, those of predictions a and b with the same gold scores.

        t = (r_a - r_b) sqrt((n - 1)(1 + r_ab) / (2 (n - 1)/(n - 3) |R| + ((r_a + r_b)/2)^2 (1 - r_ab)^3))

    Made for Pearson's correlation of normal scores; used on Spearman's as an approximation that knows nothing of
    clusters or subsets.

    Args:
        r_a: correlation of a with gold, -1..1.
        r_b: of b with gold.
        r_ab: of a with b.
        n: pairs, at least 4.

    Returns:
        t with n - 3 degrees of freedom (nan if a and b are equal), and the two-sided p-value.

    Source: Williams 1959; Steiger 1980, Tests for comparing elements of a correlation matrix, equation 7.
    """
    from scipy.special import stdtr  # reports without tests do not wait for scipy

    determinant = 1 - r_a**2 - r_b**2 - r_ab**2 + 2 * r_a * r_b * r_ab
    scale = 2 * (n - 1) / (n - 3) * determinant + ((r_a + r_b) / 2) ** 2 * (1 - r_ab) ** 3
    if scale <= 0:
        return math.nan, 1.0 if r_a == r_b else 0.0
    t = (r_a - r_b) * math.sqrt((n - 1) * (1 + r_ab) / scale)
    return t, float(2 * stdtr(n - 3, -abs(t)))


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for their number, in the order given, 0..1: the family's error stays below the level.

    Source: Holm 1979, A simple sequentially rejective multiple test procedure.
    """
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = highest
    return adjusted


def tied_groups(scores: Sequence[float], separable: NDArray[np.bool_]) -> list[tuple[int, ...]]:
    """The longest runs, in the order of the scores, of which no two members are separable; best first.

    Args:
        scores: m of them, higher is better.
        separable: (m, m), symmetric.

    Returns:
        Indices into `scores`. Groups may overlap: A = B and B = C, but A > C. A member that ties with none is in none.
    """
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    groups: list[tuple[int, ...]] = []
    reached = 0
    for start in range(len(order)):
        stop = start + 1
        while stop < len(order) and not separable[order[stop], order[start:stop]].any():
            stop += 1
        if stop - start > 1 and stop > reached:
            groups.append(tuple(order[start:stop]))
        reached = max(reached, stop)
    return groups


def mcnemar(only_a: int, only_b: int) -> float:
    """Exact two-sided p-value of "equally accurate".

    Args:
        only_a: items that a gets right and b wrong.
        only_b: the reverse.

    Source: McNemar 1947, in its exact binomial form.
    """
    from scipy.special import bdtr

    n = only_a + only_b
    return 1.0 if n == 0 else min(1.0, 2 * float(bdtr(min(only_a, only_b), n, 0.5)))
