"""Encoders told apart on the same items: means over runs, differences with their noise, and letters for a table.

Items and seeds are crossed: every run of an encoder is scored on the same items. The variance of a difference is that
of the items (of the means over runs) plus, for each trained encoder, the variance between its runs divided by their
number. Source: two-way crossed random effects, for instance Searle, Casella and McCulloch 1992, chapter 4.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, variance
from string import ascii_letters

import numpy as np

from harness.names import ScoreKey
from harness.reports.uncertainty import Estimate, Interval, Sharing, average, difference_variances
from harness.results.record import Result

TEST_LEVEL = 0.05  # two-sided
ON_LETTERS = (
    "Encoders that share a letter are not told apart on the average (5 %, Holm's correction over all pairs of "
    "encoders; items, and seeds where an encoder was trained with several, their spread pooled over a method's "
    "settings; of one trained once, items only)."
)
_NORMAL_95 = 1.959964  # half-width of a 95 % normal interval in standard errors


@dataclass(frozen=True, slots=True)
class Spread:
    """Standard deviation of one run, its degrees of freedom, and the mean of the runs where they are of one recipe."""

    deviation: float
    freedom: int
    mean: float | None = None


def pool_spreads(groups: Sequence[Sequence[float]], reference: Spread | None = None) -> Spread | None:
    """The spread of one run, from several runs of each of some recipes and from others' runs; None if none says it.

    Args:
        groups: by recipe, the values of distinct runs.
        reference: the spread of others' runs, in the same unit.
    """
    several = [group for group in groups if len(group) > 1]
    freedom = sum(len(group) - 1 for group in several)
    squares = sum((len(group) - 1) * variance(group) for group in several)
    if reference is not None:
        freedom += reference.freedom
        squares += reference.freedom * reference.deviation**2
    return Spread(math.sqrt(squares / freedom), freedom) if freedom and squares else None


@dataclass(frozen=True, slots=True)
class Side:
    """One encoder on one score."""

    mean: Estimate  # the mean over its runs, with the contributions of the items
    runs: Mapping[str, float]  # the score of each run, by the encoder's identity
    # the spread of one run among the same method's other recipes, for an encoder that was trained once; None for an
    # encoder that no seed decides
    borrowed: Spread | None = None

    @property
    def freedom(self) -> int:
        """Degrees of freedom of the seeds' variance; 0 where it is not known or there is none."""
        return self.borrowed.freedom if self.borrowed else len(self.runs) - 1

    @property
    def seed_variance(self) -> float:
        """Of the mean over runs, in the score's unit squared; 0 where nothing is known of it."""
        if self.borrowed:
            return self.borrowed.deviation**2 / len(self.runs)
        return variance(self.runs.values()) / len(self.runs) if len(self.runs) > 1 else 0.0


def side_of(runs: Mapping[str, Estimate | None]) -> Side | None:
    """The side that these runs make; None if one of them has no contributions of items."""
    known = {name: run for name, run in runs.items() if run is not None}
    if len(known) < len(runs) or not known:
        return None
    first, *others = known.values()
    influence = sum((run.influence for run in others), first.influence) / len(known)
    values = {name: run.value for name, run in known.items()}
    return Side(replace(first, value=fmean(values.values()), influence=influence), values)


def average_runs(tasks: Sequence[Mapping[str, Estimate]]) -> dict[str, Estimate]:
    """The mean over tasks of each run that has them all: items jointly, because tasks share sentences."""
    return {run: average([task[run] for task in tasks]) for run in tasks[0] if all(run in task for task in tasks)}


def stored_estimate(result: Result, key: str) -> Estimate | None:
    """A score with a stored interval, such as uniformity, as the estimate of one item; None where there is no interval.

    Its contributions are not known, so a difference of two such scores takes them for independent, which makes its
    interval too wide rather than too narrow.
    """
    ends = [str(ScoreKey.parse(key)._replace(bound=bound)) for bound in ("low", "high")]
    if any(one not in result.scores for one in (key, *ends)):
        return None
    error = (result.scores[ends[1]] - result.scores[ends[0]]) / (2 * _NORMAL_95)
    ids = np.array([f"{result.encoder.identity} {key}"])
    return Estimate(value=result.scores[key], influence=np.array([error]), sharing=Sharing(ids, ids), bounded=False)


@dataclass(frozen=True, slots=True)
class Contrast:
    """A difference of two means, or of a mean and a number, in the score's own unit."""

    difference: float  # a minus b
    interval: Interval  # 95 %; items and seeds
    p: float  # two-sided p-value of "no difference"


def contrast(a: Side, b: Side | None, value: float = 0.0, *, items: float | None = None) -> Contrast:
    """Side a minus side b, or minus a number where b is None.

    Student's t with the degrees of freedom of Welch and Satterthwaite, in which the items count as very many.

    Args:
        a: the first side.
        b: the second, or None.
        value: the number.
        items: the variance of the difference over items, where it is known already.

    Raises:
        ResultError: if the two were scored on other items.
    """
    from scipy.special import stdtr, stdtrit  # reports without tests do not wait for scipy

    sides = [a] if b is None else [a, b]
    if items is None:
        if b is None:
            items = a.mean.variance
        elif len(a.mean.influence) > 1 or len(b.mean.influence) > 1:
            items = a.mean.minus(b.mean).variance
        else:  # stored intervals, which are not paired
            items = a.mean.variance + b.mean.variance
    total = items + sum(side.seed_variance for side in sides)
    difference = a.mean.value - (value if b is None else b.mean.value)
    if total == 0:
        return Contrast(difference, Interval(difference, difference), 1.0 if difference == 0 else 0.0)
    share = sum(side.seed_variance**2 / side.freedom for side in sides if side.freedom > 0)
    freedom = min(total**2 / share if share else math.inf, 1e6)
    error = math.sqrt(total)
    half = float(stdtrit(freedom, 0.975)) * error
    p = float(2 * stdtr(freedom, -abs(difference) / error))
    return Contrast(difference, Interval(difference - half, difference + half), p)


def find_differences(sides: Mapping[str, Side]) -> list[tuple[str, str]]:
    """The pairs of encoders whose scores differ at 5 %, Holm's correction over all pairs.

    Args:
        sides: by a name of its own, each encoder's score over the same items.
    """
    if not sides:
        return []
    names, known = list(sides), list(sides.values())
    items = difference_variances([side.mean for side in known])
    pairs = [(i, j) for i in range(len(names)) for j in range(i)]
    adjusted = holm([contrast(known[i], known[j], items=float(items[i, j])).p for i, j in pairs])
    return [(names[i], names[j]) for (i, j), p in zip(pairs, adjusted, strict=True) if p < TEST_LEVEL]


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for their number, in the order given, 0..1: the family's error stays below the level.

    Source: Holm 1979, A simple sequentially rejective multiple test procedure.
    """
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(np.argsort(p_values, kind="stable")):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = highest
    return adjusted


def letters(names: Sequence[str], apart: Sequence[tuple[str, str]]) -> dict[str, str]:
    """A text of letters for each name: two names share a letter if, and only if, they are not told apart.

    Args:
        names: best first, so that the best has the letter `a`.
        apart: the pairs that are told apart.

    Returns:
        name -> letters, in the order of the names; every name has at least one.

    Source: Piepho 2004, An algorithm for a letter-based representation of all-pairwise comparisons (insert and absorb).
    """
    columns = [frozenset(names)]
    for one, other in apart:
        kept = [column for column in columns if one not in column or other not in column]
        parts = {column - {name} for column in columns if one in column and other in column for name in (one, other)}
        new = [part for part in parts if part and not any(part <= column for column in kept)]
        columns = kept + [part for part in new if not any(part < more for more in new)]
    rank = {name: i for i, name in enumerate(names)}
    columns.sort(key=lambda column: sorted(rank[name] for name in column))
    signs = [*ascii_letters, *(f"({number})" for number in range(len(ascii_letters), len(columns)))]
    return {name: "".join(signs[i] for i, column in enumerate(columns) if name in column) for name in names}
