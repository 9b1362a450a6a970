"""Is a published number what one more run of the recipe could give? The 95 % prediction interval, and what it says.

A published number is one run, with the luck of its seed, so it is held against where one more run of the same recipe
falls: mean +- t s sqrt(1 + 1/n). The spread s is pooled from the user's own seeds and from reference runs of the same
recipe, task, split and metric, each with its degrees of freedom, so that one seed suffices where others have published
their runs.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, variance
from typing import Literal

from harness.reports.uncertainty import Interval

Outcome = Literal["reproduced", "not reproduced", "undecided"]

MARGIN_AVERAGE, MARGIN_TASK = 2.0, 4.0  # points; half of an interval that is still of use
_MOST_SEEDS = 1000


@dataclass(frozen=True, slots=True)
class Spread:
    """Standard deviation of one run, its degrees of freedom, and the mean of the runs where they are of one recipe."""

    deviation: float
    freedom: int
    mean: float | None = None


def pooled_spread(own: Sequence[float], reference: Spread | None) -> Spread | None:
    """The spread of runs, from one's own and from others'; None where neither says anything.

    Args:
        own: values of distinct runs, in points.
        reference: of others' runs of the same recipe.
    """
    freedom = max(len(own) - 1, 0)
    squares = freedom * variance(own) if freedom else 0.0
    if reference is not None:
        freedom += reference.freedom
        squares += reference.freedom * reference.deviation**2
    return Spread(math.sqrt(squares / freedom), freedom) if freedom and squares > 0 else None


def prediction_interval(own: Sequence[float], spread: Spread, level: float = 0.95) -> Interval:
    """In which one more run of the recipe lies, in points.

    Source: Hahn and Meeker 1991, Statistical intervals, section 4.7.
    """
    half = _half_width(len(own), spread, level)
    return Interval(fmean(own) - half, fmean(own) + half)


def mean_interval(own: Sequence[float], spread: Spread, level: float = 0.95) -> Interval:
    """In which the mean of very many runs of the recipe lies, in points."""
    half = _quantile(spread.freedom, level) * spread.deviation / math.sqrt(len(own))
    return Interval(fmean(own) - half, fmean(own) + half)


def _half_width(n: int, spread: Spread, level: float = 0.95) -> float:
    return _quantile(spread.freedom, level) * spread.deviation * math.sqrt(1 + 1 / n)


def _quantile(freedom: int, level: float) -> float:
    from scipy.special import stdtrit  # reports without verdicts do not wait for scipy

    return float(stdtrit(freedom, (1 + level) / 2))


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """A published number held against one more run.

    Attributes:
        outcome: `reproduced` where the number lies inside the interval, `not reproduced` outside, `undecided` where the
            interval is wider than the margin and the number inside, or no spread is known.
        interval: of one more run, in points; None where no spread is known.
        off: points between the number and the nearer end of the interval; 0 inside.
        more_seeds: how many more seeds would make the interval narrow enough; None where no number of seeds does, which
            is where the runs themselves differ by more than the margin.
    """

    outcome: Outcome
    interval: Interval | None
    off: float = 0.0
    more_seeds: int | None = 0


def predict(own: Sequence[float], published: float, reference: Spread | None, margin: float) -> Prediction:
    """Judge a published number.

    Args:
        own: values of distinct runs in points, at least one.
        published: the number in points.
        reference: spread of others' runs of the same recipe, task, split and metric.
        margin: half of the widest interval that still answers the reader's question, in points.
    """
    spread = pooled_spread(own, reference)
    if spread is None:
        return Prediction(outcome="undecided", interval=None, more_seeds=1)
    interval = prediction_interval(own, spread)
    if not interval.holds(published):
        off = max(interval.low - published, published - interval.high)
        return Prediction(outcome="not reproduced", interval=interval, off=off)
    if interval.half_width <= margin:
        return Prediction(outcome="reproduced", interval=interval)
    return Prediction(outcome="undecided", interval=interval, more_seeds=_seeds_needed(own, spread, margin))


def _seeds_needed(own: Sequence[float], spread: Spread, margin: float) -> int | None:
    """More seeds until the interval is narrow enough, if the spread stays what it is."""
    for n in range(len(own) + 1, _MOST_SEEDS):
        if _half_width(n, Spread(spread.deviation, spread.freedom + n - len(own))) <= margin:
            return n - len(own)
    return None
