"""One encoder's row of a suite table, and which runs are replicates of one another."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import fmean, stdev

from harness.errors import ResultError
from harness.names import EncoderCard, ScoreKey
from harness.reports.contrasts import Side, side_of
from harness.reports.layouts import Layout
from harness.reports.match import recipe_of, without_seed
from harness.reports.table import Cell, Row
from harness.reports.uncertainty import Estimate, average, estimate, few_chains
from harness.results.items import PairItems
from harness.results.record import Result

Place = tuple[str, str]  # task, protocol
Places = Mapping[Place, Sequence[Result]]

_OTHER_DATA = "scored on data files that differ from those of most rows of this column"
_OTHER_CARD = "the cells of this row were made by encoders that differ in {}, so it has no average"
_OTHER_PACKAGES = "the cells of this row were made with different versions of {}"
_SAME_WEIGHTS = "has the weights of another seed, so it is no replicate of it"
_OTHER_RECIPE = "is no replicate of the other row of this name, which differs in {}"


class Estimates:
    """Scores with the contributions of their items, each read and computed once.

    Attributes:
        problems: one sentence for each per-item file that could not be used; its score is in the tables.
    """

    def __init__(self) -> None:
        self.problems: list[str] = []
        self._made: dict[tuple[str, str, str], Estimate | None] = {}
        self._chains: dict[tuple[str, str | None, str], Mapping[str, float]] = {}

    def __call__(self, result: Result, key: str) -> Estimate | None:
        """The score of that key; None where it has no items."""
        if result.items_sha256 is None:
            return None
        name = (result.items_sha256, result.task, key)
        if name not in self._made:
            try:
                self._made[name] = estimate(result, key)
            except ResultError as error:
                self.problems.append(str(error))
                self._made[name] = None
        return self._made[name]

    def few_chains(self, result: Result, aggregation: str) -> Mapping[str, float]:
        """The sets of a task with few chains of shared sentences; see `uncertainty.few_chains`."""
        name = (result.task, result.shared_sha256, aggregation)
        if name not in self._chains:
            items = result.items() if self(result, result.metric) is not None else None
            self._chains[name] = few_chains(items, aggregation) if isinstance(items, PairItems) else {}
        return self._chains[name]


@dataclass(frozen=True, slots=True)
class Run:
    """One encoder's cells, its results, and by column the estimates behind them (None where there are no items)."""

    card: EncoderCard
    results: Sequence[Result]
    cells: tuple[Cell, ...]
    estimates: tuple[Estimate | None, ...]
    marks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Line:
    """A row to be: its runs, and the row with their means."""

    runs: Sequence[Run]
    row: Row

    def side(self, position: int) -> Side | None:
        """Of a column, the runs' scores with the noise of items and of seeds; None if any run has none."""
        return side_of({run.card.name: run.estimates[position] for run in self.runs})


def by_place(results: Sequence[Result]) -> Places:
    """The results of each task under each protocol."""
    places: dict[Place, list[Result]] = {}
    for result in results:
        places.setdefault((result.task, result.protocol), []).append(result)
    return places


def score_key(result: Result, key: ScoreKey) -> str | None:
    """Where the score is in the result. A task that is one set has the same score under every aggregation."""
    keys = [str(key)]
    if key.aggregation and not any("/subset:" in name for name in result.scores):
        keys.append(str(key._replace(aggregation="all")))
    return next((name for name in keys if name in result.scores), None)


def lines_of(layout: Layout, results: Sequence[Result], estimates: Estimates | None) -> list[Line]:
    """A line for each recipe: of an encoder, or of its seeds together.

    Args:
        layout: of the table.
        results: of one protocol.
        estimates: of the scores, or None for cells without intervals.
    """
    by_name: dict[str, list[Result]] = {}
    files: dict[str, Counter[frozenset[tuple[str, str]]]] = {}
    for result in sorted(results, key=lambda r: r.encoder.name):
        by_name.setdefault(result.encoder.name, []).append(result)
        files.setdefault(result.task, Counter())[frozenset(result.data.items())] += 1
    usual = {task: dict(counts.most_common(1)[0][0]) for task, counts in files.items()}
    groups = _replicates([_run(layout, own, usual, estimates) for own in by_name.values()])
    return [_line(group, _differences(group, groups)) for group in groups]


def _run(
    layout: Layout, results: Sequence[Result], usual: Mapping[str, Mapping[str, str]], estimates: Estimates | None
) -> Run:
    """The cells of one encoder; an average of cells that other encoders of its name made would mean nothing.

    Args:
        layout: of the table.
        results: of the encoder.
        usual: task -> the data files that most encoders were scored on, with their digests.
        estimates: of the scores, or None.
    """
    name = results[0].encoder.name
    by_task = {result.task: result for result in results}
    common = set.intersection(*(set(result.flags) for result in results))
    cells: list[Cell] = []
    found: list[Estimate | None] = []
    for task in layout.heads:
        result = by_task.get(task)
        key = score_key(result, layout.key) if result else None
        if result is None or key is None:
            cells.append(Cell())
            found.append(None)
            continue
        estimated = estimates(result, key) if estimates else None
        found.append(estimated)
        remarks = sorted(set(result.flags) - common) + ([_OTHER_DATA] if result.data != usual[task] else [])
        cells.append(
            Cell(
                value=100 * result.scores[key],
                interval=estimated.interval().scaled(100) if estimated else None,
                source=(name,),
                marks=tuple(remarks),
            )
        )
    differing = _differing_fields(results)
    if layout.average:
        whole = [one for one in found if one is not None]
        together = average(whole) if len(whole) == len(found) and not differing else None
        values = [cell.value for cell in cells if cell.value is not None]
        mean = sum(values) / len(values) if len(values) == len(cells) and not differing else None
        interval = together.interval().scaled(100) if together else None
        cells.append(Cell(value=mean, interval=interval, source=(name,)))
        found.append(together)
    marks = (*sorted(common), *_row_marks(results, differing))
    return Run(results[0].encoder, results, tuple(cells), tuple(found), marks)


def _replicates(runs: Sequence[Run]) -> list[list[Run]]:
    """Runs of one recipe on the same data files together; one whose weights are there already is apart."""
    groups: dict[object, list[Run]] = {}
    for run in runs:
        data = tuple(sorted((result.task, *sorted(result.data.items())) for result in run.results))
        key: object = (recipe_of(run.card), data)
        own = groups.get(key, [])
        if run.card.trained_on and any(other.card.weights_sha256 == run.card.weights_sha256 for other in own):
            groups[run.card.name] = [replace(run, marks=(*run.marks, _SAME_WEIGHTS))]
        else:
            groups.setdefault(key, []).append(run)
    return list(groups.values())


def _differences(group: Sequence[Run], groups: Sequence[Sequence[Run]]) -> tuple[str, ...]:
    """One remark on what sets a row apart from the others that have its name but for the seed."""
    name, mine = without_seed(group[0].card.name), _recipe(group[0])
    others = [_recipe(other[0]) for other in groups if other is not group and without_seed(other[0].card.name) == name]
    words = [what for what in mine if any(other[what] != mine[what] for other in others)]
    return (_OTHER_RECIPE.format(", ".join(words)),) if words else ()


def _recipe(run: Run) -> dict[str, object]:
    """What replicates have in common, in words."""
    card, tasks = run.card, sorted(result.task for result in run.results)
    return {
        "who trained it": bool(card.trained_on or card.fitted_on),
        "its training text": card.trained_on,
        "the text that it is fitted on": card.fitted_on,
        "its dtype": card.dtype,
        "its tasks": tasks,
        "its data files": sorted({digest for result in run.results for digest in result.data.values()}),
    }


def _line(runs: Sequence[Run], apart: tuple[str, ...]) -> Line:
    first = runs[0]
    name = first.card.name if len(runs) == 1 else without_seed(first.card.name)
    marks = (*dict.fromkeys(mark for run in runs for mark in run.marks), *apart)
    cells = tuple(_together(column) for column in zip(*(run.cells for run in runs), strict=True))
    return Line(runs, Row(kind="measured", label=name, name=name, cells=cells, marks=marks))


def _together(cells: Sequence[Cell]) -> Cell:
    """The mean over seeds, which says nothing where a seed has no value."""
    if len(cells) == 1:
        return cells[0]
    values = [cell.value for cell in cells if cell.value is not None]
    if len(values) < len(cells):
        return Cell()
    marks = tuple(dict.fromkeys(mark for cell in cells for mark in cell.marks))
    source = tuple(dict.fromkeys(name for cell in cells for name in cell.source))
    return Cell(value=fmean(values), deviation=stdev(values), seeds=len(values), source=source, marks=marks)


def _row_marks(results: Sequence[Result], differing: Sequence[str]) -> tuple[str, ...]:
    marks = [_OTHER_CARD.format(", ".join(differing))] if differing else []
    versions: dict[str, set[str]] = {}
    for result in results:
        for package, version in result.run.packages.items():
            versions.setdefault(package, set()).add(version)
    several = sorted(package for package, found in versions.items() if len(found) > 1)
    return (*marks, *([_OTHER_PACKAGES.format(", ".join(several))] if several else []))


def _differing_fields(results: Sequence[Result]) -> list[str]:
    first, *others = (asdict(result.encoder) for result in results)
    return [key for key in first if any(card[key] != first[key] for card in others)]
