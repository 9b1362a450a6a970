"""Two encoders on the same items: differences with the noise of items and of seeds, from result files alone.

Items and seeds are crossed: every run of an encoder is scored on the same items. The variance of a difference is that
of the items (of the means over runs) plus, for each trained encoder, the variance between its runs divided by their
number.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import fmean
from typing import TYPE_CHECKING, Literal

from harness.errors import ResultError
from harness.names import ScoreKey, short_task
from harness.reports.contrasts import LEVEL, Contrast, contrast, holm, side_of, stored_estimate
from harness.reports.layouts import LAYOUTS, Layout
from harness.reports.match import recipe_of, without_seed
from harness.reports.runs import score_key
from harness.reports.uncertainty import (
    FEW_CHAINS,
    Estimate,
    average,
    effective_chains,
    estimate,
    few_chains_sentence,
)
from harness.results.record import Result

if TYPE_CHECKING:
    import pandas as pd

Higher = Literal["a", "b", "not told apart"]

AVERAGE = "average"
WEIGHTS_ONLY = "was trained with one seed here, so the comparison is about these weights and not about the method"
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
    a, b = map(_by_place, own)
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


_Places = Mapping[tuple[str, str], Sequence[Result]]


def _by_place(results: Sequence[Result]) -> _Places:
    found: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        found.setdefault((result.task, result.protocol), []).append(result)
    return found


def _cells_of(layout: Layout, protocol: str, a: _Places, b: _Places, left_out: list[str]) -> list[_Cell]:
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


def _geometry(a: _Places, b: _Places) -> list[_Cell]:
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
            together = _average(cells)
            lacking = sum(max(len(cell.runs[i]) for cell in cells) - len(together.runs[i]) for i in (0, 1))
            if lacking:
                left_out.append(f"{AVERAGE}: is without {lacking} run{'' if lacking == 1 else 's'} that lack a task")
            if all(together.runs):
                rows.append(_difference(together, together.test, together.test.p))
    return rows


def _average(cells: Sequence[_Cell]) -> _Cell:
    """The mean over tasks of each run that has them all: items jointly, because tasks share sentences."""
    a, b = (
        {
            name: average([cell.runs[i][name] for cell in cells])
            for name in cells[0].runs[i]
            if all(name in cell.runs[i] for cell in cells)
        }
        for i in (0, 1)
    )
    return replace(cells[0], task=AVERAGE, runs=(a, b))


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
        higher="not told apart" if p_holm >= LEVEL else "a" if a > b else "b",
    )
