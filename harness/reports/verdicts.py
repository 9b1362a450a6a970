"""Measured beside published: reproduced, not reproduced, or undecided, by one stated rule for each of two cases.

An encoder that no seed decides must give the published number: within half a unit of its last printed digit and a
tolerance for differences of tokenisation and arithmetic, which for accuracies is a number of rows. One that a seed
decides (training, a fitted flow) is held against the 95 % prediction interval of one more run of its recipe, because a
published number is one run too, with the luck of its seed: mean +- t s sqrt(1 + 1/n). The spread s is pooled from the
user's own seeds and from reference runs of the same recipe, task, split and metric, each with its degrees of freedom,
so that one seed suffices where others have published their runs.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import fmean, stdev
from typing import Literal

from harness.names import EncoderCard, ScoreKey
from harness.reports import published
from harness.reports.contrasts import Spread, pool_spreads
from harness.reports.published import AVERAGE, PublishedRow
from harness.reports.uncertainty import LEVEL, Interval

Outcome = Literal["reproduced", "not reproduced", "undecided"]

MARGIN_AVERAGE, MARGIN_TASK = 2.0, 4.0  # points; half of a prediction interval that is still of use

# Points. MiniLM on STS12 is 0.004 from MTEB's number, because SentEval joins tokens by one space.
TOLERANCE = {"spearman": 0.01, "pearson": 0.01, "accuracy": 0.1}
# In a probe the last bits of a vector move its early stopping, and with that a row or two.
ROWS = 2
REPLICATION = "simple-simcse"
_ENOUGH = 5  # seeds, from which on their mean is held against the mean of the reference
_MOST_SEEDS = 1000

RULE = (
    "Reproduced: without a seed, within half a unit of the last published digit and "
    f"{TOLERANCE['spearman']:g} ({ROWS} rows for accuracies); with seeds, the published number lies where one more run "
    "of the recipe falls (95 % prediction interval; its spread is pooled from the measured seeds and, for unsupervised "
    f"SimCSE, 50 published runs). Undecided: that interval is wider than {MARGIN_AVERAGE:g} points either side for an "
    f"average, {MARGIN_TASK:g} for a task."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedScore:
    """Which score is judged."""

    task: str  # as in results, or `Avg`
    key: ScoreKey  # of the score
    rows: int | None = None  # how many rows an accuracy is a share of, or None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One cell judged."""

    outcome: Outcome  # reproduced, not reproduced, or undecided
    measured: float  # percent, the mean where there are several seeds
    published: float  # percent
    seeds: int  # how many distinct runs were measured; 0 where no seed decides
    low: float | None  # lower end of where the published number may lie, in percent; None where no spread is known
    high: float | None  # its upper end
    reason: str  # one sentence with the numbers that decided it
    # how many more seeds would narrow the interval enough; 0 if it is decided, None if no number does
    more_seeds: int | None = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """A published number held against one more run."""

    # `reproduced` where the number lies inside the interval, `not reproduced` outside, `undecided` where the interval
    # is wider than the margin and the number inside, or no spread is known
    outcome: Outcome
    interval: Interval | None  # of one more run, in points; None where no spread is known
    off: float = 0.0  # points between the number and the nearer end of the interval; 0 inside
    # how many more seeds would make the interval narrow enough; None where no number of seeds does, which is where the
    # runs themselves differ by more than the margin
    more_seeds: int | None = 0


def judge(
    values: Sequence[float],
    cards: Sequence[EncoderCard],
    row: PublishedRow,
    score: JudgedScore,
    margin: float | None = None,
) -> Verdict:
    """The verdict on one cell.

    Args:
        values: percent; one per run, or the one value of an encoder without seeds.
        cards: of the runs, in the same order; runs of one recipe.
        row: what was published for it; has a value for the task.
        score: which one it is.
        margin: half of the widest prediction interval that is of use, in points; None for 2 points for an average and 4
            for a task.
    """
    target = row.values[score.task]
    places = row.decimals
    if cards[0].seed is None:
        return _exact(values[0], row, score)
    runs = distinct_runs(values, cards)
    if len(runs) == 1 and round(runs[0], places) == round(target, places):
        found = Prediction(outcome="reproduced", interval=None)
        reason = f"the one run gives the published digits, {target:.{min(places, 4)}f}"
    else:
        reference = reference_spread(cards[0].method, row.backbone, score)
        limit = (MARGIN_AVERAGE if score.task == AVERAGE else MARGIN_TASK) if margin is None else margin
        found = predict(runs, target, reference, limit)
        reason = f"{_reason(found, len(runs), reference, limit)}{_beside_reference(runs, reference)}"
    low, high = found.interval or (None, None)
    return Verdict(
        outcome=found.outcome,
        measured=fmean(runs),
        published=target,
        seeds=len(runs),
        low=low,
        high=high,
        reason=reason,
        more_seeds=found.more_seeds,
    )


def distinct_runs(values: Sequence[float], cards: Sequence[EncoderCard]) -> list[float]:
    """The values of runs with different weights: the same weights twice are one run."""
    seen: dict[str, float] = {}
    for value, card in zip(values, cards, strict=True):
        seen.setdefault(f"{card.weights_sha256} {card.seed} {card.fitted_on}", value)
    return list(seen.values())


def _exact(value: float, row: PublishedRow, score: JudgedScore) -> Verdict:
    """The verdict on an encoder without seeds."""
    target = row.values[score.task]
    if score.task == AVERAGE:  # the mean of the row where that is nearer: two of the paper's averages are not the mean
        mean = fmean(number for task, number in row.values.items() if task != AVERAGE)
        target = min(target, mean, key=lambda one: abs(one - value))
    in_rows = score.rows if score.key.metric == "accuracy" else None
    tolerance = 100 * ROWS / in_rows if in_rows else TOLERANCE[score.key.metric]
    limit, difference = 0.5 * 10.0**-row.decimals + tolerance, value - target
    same = abs(difference) <= limit + 1e-9
    shown = f"{difference:+.2f}" if abs(difference) >= 0.01 else f"{difference:+.4f}"
    if in_rows:
        shown += f" points, {abs(round(difference * in_rows / 100))} of {in_rows} rows"
    reason = f"differs by {shown}, {'at most' if same else 'more than'} {limit:.3g}"
    outcome: Outcome = "reproduced" if same else "not reproduced"
    return Verdict(
        outcome=outcome,
        measured=value,
        published=target,
        seeds=0,
        low=value - limit,
        high=value + limit,
        reason=reason,
    )


def _reason(found: Prediction, seeds: int, reference: Spread | None, margin: float) -> str:
    runs = f"{seeds} seed{'' if seeds == 1 else 's'}"
    if found.interval is None:
        return f"{runs} and no known spread, so one more seed is needed"
    known = f" and {reference.freedom + 1} published runs" if reference else ""
    where = f"{found.interval.low:.2f} to {found.interval.high:.2f}, where one more run falls ({runs}{known})"
    if found.outcome == "not reproduced":
        return f"{found.off:.2f} points outside {where}"
    if found.outcome == "reproduced":
        return f"inside {where}"
    count = found.more_seeds
    more = "no number of seeds narrows it" if count is None else f"about {count} more seed{'s' * (count > 1)} would do"
    return f"inside {where}, which is wider than {margin:g} points either side; {more}"


def _beside_reference(runs: Sequence[float], reference: Spread | None) -> str:
    """A second statement, of means: with so many seeds theirs is known well enough to be held against the reference."""
    spread = pool_spreads([runs], reference)
    if len(runs) < _ENOUGH or reference is None or reference.mean is None or spread is None:
        return ""
    interval = mean_interval(runs, spread)
    inside = "inside" if interval.holds(reference.mean) else "outside"
    return (
        f"; the mean of the published runs, {reference.mean:.2f}, is {inside} the 95 % interval of our mean, "
        f"{interval.low:.2f} to {interval.high:.2f}"
    )


def reference_spread(method: str, backbone: str, score: JudgedScore) -> Spread | None:
    """The spread of one run among those that others published of the same recipe, task, split and metric."""
    runs = _replication().get((method, backbone, score.task, score.key))
    return None if runs is None else Spread(stdev(runs), len(runs) - 1, fmean(runs))


@cache
def _replication() -> Mapping[tuple[str, str, str, ScoreKey], Sequence[float]]:
    runs: dict[tuple[str, str, str, ScoreKey], list[float]] = {}
    for number in published.load(REPLICATION):
        runs.setdefault((number.model, number.backbone, number.task, number.key), []).append(number.value)
    return runs


def prediction_interval(own: Sequence[float], spread: Spread) -> Interval:
    """In which one more run of the recipe lies, in points.

    Source: Hahn and Meeker 1991, Statistical intervals, section 4.7.
    """
    half = _half_width(len(own), spread)
    return Interval(fmean(own) - half, fmean(own) + half)


def mean_interval(own: Sequence[float], spread: Spread) -> Interval:
    """In which the mean of very many runs of the recipe lies, in points."""
    half = _quantile(spread.freedom) * spread.deviation / math.sqrt(len(own))
    return Interval(fmean(own) - half, fmean(own) + half)


def _half_width(n: int, spread: Spread) -> float:
    return _quantile(spread.freedom) * spread.deviation * math.sqrt(1 + 1 / n)


def _quantile(freedom: int) -> float:
    from scipy.special import stdtrit  # reports without verdicts do not wait for scipy

    return float(stdtrit(freedom, (1 + LEVEL) / 2))


def predict(own: Sequence[float], published: float, reference: Spread | None, margin: float) -> Prediction:
    """Judge a published number.

    Args:
        own: values of distinct runs in points, at least one.
        published: the number in points.
        reference: spread of others' runs of the same recipe, task, split and metric.
        margin: half of the widest interval that still answers the reader's question, in points.
    """
    spread = pool_spreads([own], reference)
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
