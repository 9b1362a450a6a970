"""Encoders with several runs on the same items: means, differences, and their noise of items and of seeds.

Items and seeds are crossed: every run of an encoder is scored on the same items. The variance of a difference is that
of the items (of the means over runs) plus, for each trained encoder, the variance between its runs divided by their
number. Source: two-way crossed random effects, for instance Searle, Casella and McCulloch 1992, chapter 4.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, variance

import numpy as np

from harness.names import ScoreKey
from harness.reports.prediction import Spread
from harness.reports.uncertainty import Estimate, Interval, Sharing
from harness.results.record import Result

_NORMAL_95 = 1.959964  # half-width of a 95 % normal interval in standard errors


@dataclass(frozen=True, slots=True)
class Side:
    """One encoder on one score.

    Attributes:
        mean: the mean over its runs, with the contributions of the items.
        runs: the score of each run, by the encoder's identity.
        borrowed: the spread of one run among the same method's other recipes, for an encoder that was trained once;
            None for an encoder that no seed decides.
    """

    mean: Estimate
    runs: Mapping[str, float]
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
    """A difference of two means, or of a mean and a number, in the score's own unit.

    Attributes:
        difference: a minus b.
        interval: 95 %; items and seeds.
        p: two-sided p-value of "no difference".
    """

    difference: float
    interval: Interval
    p: float


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
        items = a.mean.variance if b is None else _item_variance(a.mean, b.mean)
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


def _item_variance(a: Estimate, b: Estimate) -> float:
    paired = len(a.influence) > 1 or len(b.influence) > 1
    return a.minus(b).variance if paired else a.variance + b.variance


def pool_spreads(groups: Sequence[Sequence[float]]) -> Spread | None:
    """The spread of one run, pooled over recipes that have several; None where none has."""
    several = [group for group in groups if len(group) > 1]
    freedom = sum(len(group) - 1 for group in several)
    squares = sum((len(group) - 1) * variance(group) for group in several)
    return Spread(math.sqrt(squares / freedom), freedom) if freedom and squares else None
