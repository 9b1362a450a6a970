"""Compares two folders of results of the same encoders, and says by each interval whether a score has become worse.

Runs of one name are paired: the same encoder, the same seed, the same items. The interval is that of the mean
difference, with the noise of the items and, where there are several seeds, of the seeds.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from harness.errors import ResultError
from harness.reports.contrasts import contrast, side_of
from harness.reports.layouts import LAYOUTS
from harness.reports.match import recipe_of, without_seed
from harness.reports.uncertainty import Estimate, average, estimate
from harness.results.record import Result

Outcome = Literal["passes", "drops", "undecided"]

AVERAGE = "average"
EXIT_CODES: Mapping[Outcome, int] = {"passes": 0, "drops": 1, "undecided": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """An encoder on one task, or on the average of a table's tasks, now and before."""

    encoder: str  # its name, without the seed where there are several
    task: str  # as in results, or `average`
    protocol: str  # of both results
    runs: int  # how many pairs of runs
    before: float  # percent, the mean of the runs
    after: float  # likewise
    low: float  # lower end of the 95 % interval of after minus before, in points
    high: float  # its upper end
    # `passes` where the interval is above the allowed drop, `drops` where it is below, else `undecided`
    outcome: Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """What a check found.

    Attributes:
        changes: every difference, by encoder.
        missing: one sentence for each result of the baseline that has no counterpart.
        without_items: the tasks that cannot be judged, because their main scores have no items.
        outcome: the worst of all; a missing result makes it `undecided` at the least.
    """

    changes: tuple[Change, ...]
    missing: tuple[str, ...]
    without_items: tuple[str, ...]

    @property
    def outcome(self) -> Outcome:
        found = {change.outcome for change in self.changes}
        if "drops" in found:
            return "drops"
        return "undecided" if "undecided" in found or self.missing else "passes"


_Pair = tuple[Result, Result]  # before, after
_Place = tuple[str, str]  # protocol, task


def check(before: Iterable[Result], after: Iterable[Result], max_drop: float) -> Gate:
    """Hold every result of a baseline against the one of the same encoder and task.

    Args:
        before: the baseline.
        after: what is checked; encoders and tasks that the baseline has not do not matter.
        max_drop: points that a score may fall.

    Raises:
        ResultError: if nothing can be compared.
    """
    now = {(one.encoder.name, one.protocol, one.task): one for one in after}
    recipes: dict[str, dict[_Place, list[_Pair]]] = {}
    missing = []
    for old in before:
        new = now.get((old.encoder.name, old.protocol, old.task))
        if new is None:
            missing.append(f"{old.encoder.name}: {old.task} ({old.protocol}) is in the baseline alone")
        elif new.data != old.data:
            missing.append(f"{old.encoder.name}: {old.task} ({old.protocol}) was scored on other data files before")
        else:
            pairs = recipes.setdefault(recipe_of(old.encoder), {})
            pairs.setdefault((old.protocol, old.task), []).append((old, new))
    changes: list[Change] = []
    without_items: list[str] = []
    for places in recipes.values():
        changes += _changes(places, max_drop, missing, without_items)
    if not changes:
        why = next(iter([*missing, *without_items]), "the baseline has no results")
        raise ResultError(f"there is nothing to compare: {why}; run the same encoders and tasks for both folders")
    return Gate(changes=tuple(changes), missing=tuple(missing), without_items=tuple(dict.fromkeys(without_items)))


def _changes(
    places: Mapping[_Place, Sequence[_Pair]], max_drop: float, missing: list[str], without_items: list[str]
) -> list[Change]:
    """The changes of one recipe: its tasks, and the averages of the tables whose tasks are all there."""
    differences: dict[_Place, dict[str, Estimate]] = {}
    for (protocol, task), pairs in places.items():
        try:
            found = {old.encoder.name: _difference(old, new) for old, new in pairs}
        except ResultError as error:
            missing.append(f"{pairs[0][0].encoder.name}: {task} ({protocol}): {error}")
            continue
        known = {name: one for name, one in found.items() if one is not None}
        if known:
            differences[protocol, task] = known
        else:
            without_items.append(f"{task} ({protocol})")
    changes = [_change(place, own, places[place], max_drop) for place, own in differences.items()]
    for protocol, tasks in _averaged(differences):
        own = [differences[protocol, task] for task in tasks]
        together = {name: average([one[name] for one in own]) for name in own[0] if all(name in one for one in own)}
        if together:
            pairs = [pair for task in tasks for pair in places[protocol, task] if pair[0].encoder.name in together]
            changes.append(_change((protocol, AVERAGE), together, pairs, max_drop))
    return changes


def _difference(old: Result, new: Result) -> Estimate | None:
    one, other = estimate(new, new.metric), estimate(old, old.metric)
    return None if one is None or other is None else one.minus(other)


def _averaged(known: Mapping[_Place, object]) -> list[tuple[str, tuple[str, ...]]]:
    """The tables with an average whose tasks are all there, by protocol."""
    protocols = dict.fromkeys(protocol for protocol, _ in known)
    tables = [tuple(layout.heads) for layout in LAYOUTS if layout.average and layout.key.aggregation in ("all", "")]
    return [(p, tasks) for tasks in tables for p in protocols if all((p, task) in known for task in tasks)]


def _change(place: _Place, differences: Mapping[str, Estimate], pairs: Sequence[_Pair], max_drop: float) -> Change:
    side = side_of(differences)
    assert side is not None
    found = contrast(side, None)
    low, high = 100 * found.interval.low, 100 * found.interval.high
    name = next(iter(differences))
    outcome: Outcome = "passes" if low >= -max_drop else "drops" if high < -max_drop else "undecided"
    return Change(
        encoder=name if len(differences) == 1 else without_seed(name),
        task=place[1],
        protocol=place[0],
        runs=len(differences),
        before=100 * fmean(old.scores[old.metric] for old, _ in pairs),
        after=100 * fmean(new.scores[new.metric] for _, new in pairs),
        low=low,
        high=high,
        outcome=outcome,
    )
