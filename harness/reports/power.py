"""Computes how many seeds a claim needs, from the gain that two methods with n seeds each would show.

The difference of two means of n runs has the variance I + V / n + 2 s^2 / n: I of the items, where the other method is
known; V of the items between two seeds of one method; s the spread of one run. A gain g is noticed with the wanted
power where g >= (t_0.975 + t_power) sqrt(I + V / n + 2 s^2 / n), with Student's t of the degrees of freedom of Welch
and Satterthwaite, in which items count as very many. Source: Cohen 1988, Statistical power analysis, section 2.2, with
the quantiles of t in the place of the normal ones.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean

from harness.errors import ResultError
from harness.names import STS, ScoreKey
from harness.reports.contrasts import Spread, pool_spreads, side_of
from harness.reports.match import recipe_of, without_seed
from harness.reports.published import AVERAGE
from harness.reports.uncertainty import Estimate, average, estimate
from harness.reports.verdicts import JudgedScore, reference_spread
from harness.results.record import Result

_MOST_SEEDS = 1000
_SHOWN = (2, 3, 5, 10, 20, 50)


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """What makes two methods of this kind differ by chance, in points."""

    spread: Spread  # of one run
    # variance of the items in the difference of the two methods; 0 where the other one is not known
    between: float = 0.0
    within: float = 0.0  # variance of the items in the difference of two runs of one method

    def smallest(self, n: int, power: float) -> float:
        """The smallest gain, in points, that n seeds of each method notice with this probability."""
        from scipy.special import stdtrit  # reports without tests do not wait for scipy

        of_seeds = 2 * self.spread.deviation**2 / n
        total = self.between + self.within / n + of_seeds
        freedom = min(2 * (n - 1) * (total / of_seeds) ** 2 if of_seeds else math.inf, 1e6)
        return float((stdtrit(freedom, 0.975) + stdtrit(freedom, power)) * math.sqrt(total))

    def seeds_for(self, gain: float, power: float) -> int | None:
        """How many seeds of each method notice the gain; None where no number does, because of the items."""
        return next((n for n in range(2, _MOST_SEEDS + 1) if self.smallest(n, power) <= gain), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Power:
    """The answer."""

    recipe: str  # whose runs told the noise
    measured: int  # how many of them are there
    published: int  # how many runs that others published were added
    noise: Noise  # see `Noise`
    seeds: int | None  # of each method that the claim needs; None where no number is enough
    smallest: Mapping[int, float]  # by number of seeds, the smallest gain that is noticed, in points


def plan_power(gain: float, power: float, runs: "Runs", against: "Runs | None" = None) -> Power:
    """Seeds of each method that show a gain in the mean over some tasks.

    Args:
        gain: points.
        power: probability of noticing the gain, 0.5..1.
        runs: of the method.
        against: of the other method, if they are there.

    Raises:
        ResultError: if the spread of a run is not known from the runs or from published ones.
    """
    spread = pool_spreads([[100 * one.value for one in runs.estimates.values()]], runs.reference)
    if spread is None:
        raise ResultError(
            f"{runs.recipe}: {len(runs.estimates)} runs with results of {', '.join(runs.tasks)} and no published ones, "
            "expected two seeds at the least; measure more seeds with `bench run`"
        )
    own, other = side_of(runs.estimates), side_of(against.estimates) if against else None
    between = 1e4 * own.mean.minus(other.mean).variance if own and other else 0.0
    pairs = [] if other else list(combinations(runs.estimates.values(), 2))
    within = 1e4 * fmean(one.minus(two).variance for one, two in pairs) if pairs else 0.0
    noise = Noise(spread=spread, between=between, within=within)
    return Power(
        recipe=runs.recipe,
        measured=len(runs.estimates),
        published=runs.reference.freedom + 1 if runs.reference else 0,
        noise=noise,
        seeds=noise.seeds_for(gain, power),
        smallest={n: noise.smallest(n, power) for n in _SHOWN},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """What is known of a method's runs."""

    recipe: str  # the method without its seed
    tasks: tuple[str, ...]  # whose main scores are averaged
    estimates: Mapping[str, Estimate]  # by run, that average, -1..1
    reference: Spread | None  # spread of runs of this recipe that others published, in points


def runs_of(encoder: str, backbone: str, results: Sequence[Result], tasks: Sequence[str]) -> Runs:
    """The runs of the recipe of that name, or of the recipe of that method with the most runs.

    Args:
        encoder: a name in the results, with or without its seed, or a method.
        backbone: of a method; any, if it is empty.
        results: where to look; without any of the encoder there is the reference alone.
        tasks: whose main scores are averaged; runs that lack one are left out.
    """
    named = [one for one in results if encoder in (one.encoder.name, without_seed(one.encoder.name))]
    found = named or [one for one in results if one.encoder.method == encoder]
    recipes: dict[str, dict[str, dict[str, Result]]] = {}
    for one in found:
        if one.task in tasks and backbone in ("", one.encoder.backbone):
            recipes.setdefault(recipe_of(one.encoder), {}).setdefault(one.encoder.identity, {})[one.task] = one
    runs = max(recipes.values(), key=len, default={})
    cards = [next(iter(own.values())).encoder for own in runs.values()]
    method, of = (cards[0].method, cards[0].backbone or "") if cards else (encoder, backbone or "bert-base-uncased")
    estimates = {}
    for name, own in runs.items():
        parts = [part for task in tasks if task in own and (part := estimate(own[task], own[task].metric)) is not None]
        if len(parts) == len(tasks):
            estimates[name] = average(parts)
    return Runs(
        recipe=without_seed(cards[0].name) if cards else f"{method}[backbone={of}]",
        tasks=tuple(tasks),
        estimates=estimates,
        reference=_reference(method, of, tasks),
    )


def _reference(method: str, backbone: str, tasks: Sequence[str]) -> Spread | None:
    if len(tasks) > 1 and tuple(tasks) != STS:
        return None
    task = tasks[0] if len(tasks) == 1 else AVERAGE
    split = "dev" if task.endswith("-dev") else "test"
    return reference_spread(method, backbone, JudgedScore(task=task, key=ScoreKey("spearman", "all", split)))
