"""Two encoders, or two folders of results of the same encoders, on the same items: differences with their noise.

Items and seeds are crossed: every run of an encoder is scored on the same items. The variance of a difference is that
of the items (of the means over runs) plus, for each trained encoder, the variance between its runs divided by their
number. For a gate runs of one name are paired: the same encoder, the same seed, the same items.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from statistics import fmean
from typing import TYPE_CHECKING, Literal

from harness.errors import ResultError
from harness.names import ScoreKey, short_task
from harness.reports.contrasts import TEST_LEVEL, Contrast, average_runs, contrast, holm, side_of, stored_estimate
from harness.reports.layouts import LAYOUTS, Layout
from harness.reports.match import recipe_of, without_seed
from harness.reports.runs import Place, Places, by_place, score_key
from harness.reports.uncertainty import (
    FEW_CHAINS,
    Estimate,
    effective_chains,
    estimate,
    few_chains_sentence,
)
from harness.results.record import Result

if TYPE_CHECKING:
    import pandas as pd

Higher = Literal["a", "b", "not told apart"]
Outcome = Literal["passes", "drops", "undecided"]

AVERAGE = "average"
WEIGHTS_ONLY = "was trained with one seed here, so the comparison is about these weights and not about the method"
EXIT_CODES: Mapping[Outcome, int] = {"passes": 0, "drops": 1, "undecided": 2}
_GEOMETRY = ("alignment/gt4/test", "uniformity/unique/test")


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Encoder a against encoder b on one task, or on the average of a table's tasks.

    Attributes:
        table: name of the layout.
        task: as in results, or `average`.
        protocol: of both results.
        score: key of the score, e.g. `spearman/all/test`.
        n: pairs or rows; of all tasks for an average.
        a: the score of a, mean of its runs, in percent; of alignment and uniformity in their own unit.
        b: likewise of b.
        difference: a minus b.
        low: lower end of the 95 % interval of the difference.
        high: its upper end.
        p: two-sided p-value of "no difference".
        p_holm: p adjusted for all tasks of the comparison (an average, which repeats them, is not adjusted).
        higher: which one is higher at 5 % after the adjustment.
    """

    table: str
    task: str
    protocol: str
    score: str
    n: int
    a: float
    b: float
    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    higher: Higher


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Every difference, tables in order, the average after its tasks.

    Attributes:
        a: name of the first encoder, without its seed where several runs of it are compared.
        b: name of the second.
        seeds: how many runs of each.
        rows: the differences.
        notes: what a reader must know, e.g. that one seed says nothing of a method.
        left_out: one sentence per task that could not be compared.
    """

    a: str
    b: str
    seeds: tuple[int, int]
    rows: tuple[Difference, ...]
    notes: tuple[str, ...]
    left_out: tuple[str, ...]

    def frame(self) -> "pd.DataFrame":
        """One row per difference."""
        import pandas as pd

        return pd.DataFrame([asdict(row) for row in self.rows])


_Runs = Mapping[str, Estimate]  # by the encoder's identity


@dataclass(frozen=True, slots=True)
class _Cell:
    """A task that both encoders have, in percent or its own unit; geometry has no layout."""

    layout: Layout | None
    task: str
    protocol: str
    key: str
    runs: tuple[_Runs, _Runs]
    scale: float = 100.0

    @property
    def test(self) -> Contrast:
        """The difference of the means over runs."""
        a, b = (side_of(one) for one in self.runs)
        assert a is not None and b is not None
        return contrast(a, b)


def runs_of(name: str, results: Iterable[Result]) -> list[Result]:
    """The results of an encoder: those of that very name, or of every seed of a recipe that is named without one."""
    everything = list(results)
    exact = [result for result in everything if result.encoder.name == name]
    if exact:
        return exact
    found = [result for result in everything if without_seed(result.encoder.name) == name]
    recipes = dict.fromkeys(recipe_of(result.encoder) for result in found)
    return [result for result in found if recipe_of(result.encoder) == next(iter(recipes))]


def compare(results: Sequence[Result], names: tuple[str, str]) -> Comparison:
    """Compare two encoders on all tasks that both were scored on, from the same data and under the same protocol.

    Args:
        results: of one folder, or of several.
        names: of encoders a and b, as in results; a name without its seed stands for all its seeds.

    Raises:
        ResultError: if there is no task to compare them on.
    """
    own = [runs_of(name, results) for name in names]
    cards = [list({one.encoder.identity: one.encoder for one in runs}.values()) for runs in own]
    a, b = map(by_place, own)
    left_out: list[str] = []
    groups: list[list[_Cell]] = []
    protocols = dict.fromkeys(protocol for _, protocol in a if any(p == protocol for _, p in b))
    for layout in LAYOUTS:
        if layout.key.aggregation in ("all", ""):  # other tables repeat tasks under other aggregations
            groups += [_cells_of(layout, protocol, a, b, left_out) for protocol in protocols]
    groups = [cells for cells in (*groups, _geometry(a, b)) if cells]
    if not groups:
        why = f": {left_out[0]}" if left_out else ""
        raise ResultError(
            f"the results hold no task to compare {names[0]} and {names[1]} on{why}; `bench run` both on one suite"
        )
    rows = _rows(groups, left_out)
    notes = [
        f"{name} {WEIGHTS_ONLY}"
        for name, (card, *others) in zip(names, cards, strict=True)
        if not others and card.seed is not None and (card.trained_on or card.fitted_on)
    ]
    return Comparison(
        a=names[0],
        b=names[1],
        seeds=(len(cards[0]), len(cards[1])),
        rows=tuple(rows),
        notes=(*notes, *_other_recipes(names, results), *_few_chains(groups)),
        left_out=tuple(left_out),
    )


def _other_recipes(names: Sequence[str], results: Sequence[Result]) -> Iterator[str]:
    """One sentence for each name that other runs have too, which are no replicates."""
    for name in names:
        cards = {one.encoder.name: one.encoder for one in results if without_seed(one.encoder.name) == name}
        recipes = Counter(recipe_of(card) for card in cards.values())
        used = recipe_of(runs_of(name, results)[0].encoder) if recipes else ""
        if len(recipes) > 1:
            yield (
                f"{name} stands for {recipes[used]} of the {len(cards)} encoders of that name; the others differ in "
                "who trained them, in text or in dtype, so they are no replicates"
            )


def _few_chains(groups: Sequence[Sequence[_Cell]]) -> Iterator[str]:
    for cell in (cell for cells in groups for cell in cells if cell.layout):
        sharing = next(iter(cell.runs[0].values())).sharing
        chains = effective_chains(sharing.left, sharing.right)
        if chains < FEW_CHAINS:
            yield few_chains_sentence({short_task(cell.task): chains})


def _cells_of(layout: Layout, protocol: str, a: Places, b: Places, left_out: list[str]) -> list[_Cell]:
    cells = []
    for task in layout.heads:
        place = (task, protocol)
        if place not in a or place not in b:
            continue
        key = score_key(a[place][0], layout.key)
        try:
            if key is not None and (runs := _runs(a[place], b[place], key)) is not None:
                cells.append(_Cell(layout, task, protocol, key, runs))
        except ResultError as error:
            left_out.append(f"{task}: {error}")
    return cells


def _runs(a: Sequence[Result], b: Sequence[Result], key: str) -> tuple[_Runs, _Runs] | None:
    if any(result.data != a[0].data for result in (*a, *b)):
        raise ResultError("the two were scored on different data files; run one of them again")
    one, other = (_known({run.encoder.identity: estimate(run, key) for run in runs}) for runs in (a, b))
    if not one or not other:
        return None
    next(iter(one.values())).minus(next(iter(other.values())))  # refuses other items
    return one, other


def _known(runs: Mapping[str, Estimate | None]) -> _Runs:
    """The runs if all of them have contributions of items, else nothing."""
    known = {name: run for name, run in runs.items() if run is not None}
    return known if len(known) == len(runs) else {}


def _geometry(a: Places, b: Places) -> list[_Cell]:
    """Alignment and uniformity, whose stored intervals are not paired: the interval of the difference is a wide one."""
    cells = []
    for task, protocol in (place for place in a if place in b and "geometry" in place[0]):
        for key in _GEOMETRY:
            one, other = (
                _known({run.encoder.identity: stored_estimate(run, key) for run in runs[task, protocol]})
                for runs in (a, b)
            )
            if one and other:
                cells.append(_Cell(None, task, protocol, key, (one, other), 1.0))
    return cells


def _rows(groups: Sequence[Sequence[_Cell]], left_out: list[str]) -> list[Difference]:
    tests = [[cell.test for cell in cells] for cells in groups]
    adjusted = iter(holm([found.p for group in tests for found in group]))
    rows = []
    for cells, found in zip(groups, tests, strict=True):
        rows += [_difference(cell, test, next(adjusted)) for cell, test in zip(cells, found, strict=True)]
        layout = cells[0].layout
        if layout and layout.average and len(cells) > 1:
            a, b = (average_runs([cell.runs[i] for cell in cells]) for i in (0, 1))
            together = replace(cells[0], task=AVERAGE, runs=(a, b))
            lacking = sum(max(len(cell.runs[i]) for cell in cells) - len(together.runs[i]) for i in (0, 1))
            if lacking:
                left_out.append(f"{AVERAGE}: is without {lacking} run{'' if lacking == 1 else 's'} that lack a task")
            if all(together.runs):
                rows.append(_difference(together, together.test, together.test.p))
    return rows


def _difference(cell: _Cell, found: Contrast, p_holm: float) -> Difference:
    a, b = (cell.scale * fmean(run.value for run in runs.values()) for runs in cell.runs)
    return Difference(
        table=cell.layout.name if cell.layout else "geometry",
        task=cell.task if cell.layout else f"{cell.task} {ScoreKey.parse(cell.key).metric}",
        protocol=cell.protocol,
        score=cell.key,
        n=len(next(iter(cell.runs[0].values())).influence),
        a=a,
        b=b,
        difference=a - b,
        low=cell.scale * found.interval.low,
        high=cell.scale * found.interval.high,
        p=found.p,
        p_holm=p_holm,
        higher="not told apart" if p_holm >= TEST_LEVEL else "a" if a > b else "b",
    )


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
    recipes: dict[str, dict[Place, list[_Pair]]] = {}
    missing = []
    for old in before:
        new = now.get((old.encoder.name, old.protocol, old.task))
        if new is None:
            missing.append(f"{old.encoder.name}: {old.task} ({old.protocol}) is in the baseline alone")
        elif new.data != old.data:
            missing.append(f"{old.encoder.name}: {old.task} ({old.protocol}) was scored on other data files before")
        else:
            pairs = recipes.setdefault(recipe_of(old.encoder), {})
            pairs.setdefault((old.task, old.protocol), []).append((old, new))
    changes: list[Change] = []
    without_items: list[str] = []
    for places in recipes.values():
        changes += _changes(places, max_drop, missing, without_items)
    if not changes:
        why = next(iter([*missing, *without_items]), "the baseline has no results")
        raise ResultError(f"there is nothing to compare: {why}; run the same encoders and tasks for both folders")
    return Gate(changes=tuple(changes), missing=tuple(missing), without_items=tuple(dict.fromkeys(without_items)))


def _changes(
    places: Mapping[Place, Sequence[_Pair]], max_drop: float, missing: list[str], without_items: list[str]
) -> list[Change]:
    """The changes of one recipe: its tasks, and the averages of the tables whose tasks are all there."""
    differences: dict[Place, dict[str, Estimate]] = {}
    for (task, protocol), pairs in places.items():
        try:
            found = {old.encoder.name: _pair_difference(old, new) for old, new in pairs}
        except ResultError as error:
            missing.append(f"{pairs[0][0].encoder.name}: {task} ({protocol}): {error}")
            continue
        known = {name: one for name, one in found.items() if one is not None}
        if known:
            differences[task, protocol] = known
        else:
            without_items.append(f"{task} ({protocol})")
    changes = [_change(place, own, places[place], max_drop) for place, own in differences.items()]
    layouts = [layout for layout in LAYOUTS if layout.average and layout.key.aggregation in ("all", "")]
    for layout, protocol in product(layouts, dict.fromkeys(protocol for _, protocol in differences)):
        own = [(task, protocol) for task in layout.heads]
        if all(place in differences for place in own):
            together = average_runs([differences[place] for place in own])
            pairs = [pair for place in own for pair in places[place] if pair[0].encoder.name in together]
            changes += [_change((AVERAGE, protocol), together, pairs, max_drop)] if together else []
    return changes


def _pair_difference(old: Result, new: Result) -> Estimate | None:
    one, other = estimate(new, new.metric), estimate(old, old.metric)
    return None if one is None or other is None else one.minus(other)


def _change(place: Place, differences: Mapping[str, Estimate], pairs: Sequence[_Pair], max_drop: float) -> Change:
    side = side_of(differences)
    assert side is not None
    found = contrast(side, None)
    low, high = 100 * found.interval.low, 100 * found.interval.high
    name = next(iter(differences))
    outcome: Outcome = "passes" if low >= -max_drop else "drops" if high < -max_drop else "undecided"
    return Change(
        encoder=name if len(differences) == 1 else without_seed(name),
        task=place[0],
        protocol=place[1],
        runs=len(differences),
        before=100 * fmean(old.scores[old.metric] for old, _ in pairs),
        after=100 * fmean(new.scores[new.metric] for _, new in pairs),
        low=low,
        high=high,
        outcome=outcome,
    )
