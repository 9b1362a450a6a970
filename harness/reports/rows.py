"""The rows of a table: published ones, and measured ones with what was published, the difference and the verdict."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import stdev
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from harness.reports import published, verdicts
from harness.reports.draws import Draws
from harness.reports.layouts import Column, Layout
from harness.reports.match import without_seed
from harness.reports.published import PublishedRow
from harness.reports.statistics import percentile_interval
from harness.reports.ties import Candidate, tied
from harness.reports.verdicts import Verdict
from harness.results.record import Result

Kind = Literal["section", "published", "measured", "mean", "counterpart", "difference", "verdict"]

_OTHER_DATA = "scored on data files that differ from those of the other rows in this column"
_OTHER_CARD = "the cells of this row were made by encoders that differ in {}, so it has no average"
_OTHER_PACKAGES = "the cells of this row were made with different versions of {}"
_TIED = (
    "tied on the average, {}: the paired bootstrap over items does not tell them apart (its normal approximation, Holm "
    "over all pairs of encoders, 5 %; seeds count with their mean)"
)
_SEEDS = "sd is the standard deviation of the seeds, not of their mean"
_MORE = "undecided (?): about {} more seeds would tell"


@dataclass(frozen=True, slots=True)
class Cell:
    """One number in percent at full precision, or None where there is none, and what a reader must know of it.

    Attributes:
        value: percent.
        notes: footnotes.
        half_width: half of the 95% bootstrap interval in points.
        deviation: in a `mean` row, the standard deviation of the seeds in points.
        verdict: in a `verdict` row.
    """

    value: float | None = None
    notes: tuple[str, ...] = ()
    half_width: float | None = None
    deviation: float | None = None
    verdict: Verdict | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of a table.

    Attributes:
        kind: a `section` is a heading without cells; a `mean` is over the seeds of the measured rows above it; a
            `counterpart` holds the published values for the measured or mean row above it, a `difference` measured
            minus published, and a `verdict` what follows from it.
        label: the encoder.
        source: `measured`, or where the numbers are from.
        cells: one per column, then the average where the layout has one.
        notes: footnotes on the row as a whole.
    """

    kind: Kind
    label: str
    source: str = ""
    cells: tuple[Cell, ...] = ()
    notes: tuple[str, ...] = ()


def published_rows(layout: Layout) -> list[Row]:
    """The published tables that the layout shows whole, by supervision."""
    lines: list[Row] = []
    section = None
    for paper, table in layout.published:
        for row in _candidates(layout, [(paper, table)]):
            if row.supervision != section:
                section = row.supervision
                lines.append(Row(kind="section", label=f"Published, {section}"))
            lines.append(_published_row(row, layout, "published", published.label(row)))
    return lines


def measured_rows(layout: Layout, results: Sequence[Result], draws: Draws | None, usual: bool) -> list[Row]:
    """Measured rows by name, replicates with their mean, and below each what it is compared with.

    Args:
        layout: of the table.
        results: all of one protocol that the table shows.
        draws: for the intervals and ties, if wanted.
        usual: whether the protocol is the one that the layout's published numbers are of.
    """
    strays = _strays(results)
    replicates: dict[str, list[_Measured]] = {}
    for name in sorted({result.encoder.name for result in results}):
        own = [result for result in results if result.encoder.name == name]
        replicates.setdefault(without_seed(name), []).append(_measured(layout, own, strays, draws))
    ties = _ties(replicates)
    rows: list[Row] = []
    for name, group in replicates.items():
        group_rows = [one.row for one in group]
        judged = group_rows[0] if len(group) == 1 else _mean_row(name, group_rows)
        judged = replace(judged, notes=judged.notes + ties.get(judged.label, ()))
        rows += [judged] if len(group) == 1 else [*group_rows, judged]
        rows += _comparison(layout, judged, group) if usual else []
    return rows


@dataclass(frozen=True, slots=True)
class _Measured:
    """One encoder's row, its results, and the draws of its mean over the columns (None if any cell has none)."""

    row: Row
    results: Sequence[Result]
    draws: NDArray[np.float64] | None


def _measured(layout: Layout, results: Sequence[Result], strays: set[int], draws: Draws | None) -> _Measured:
    by_task = {result.task: result for result in results}
    drawn = [_drawn(by_task.get(c.task), layout, c, draws) for c in layout.columns]
    cells = tuple(
        _measured_cell(by_task.get(c.task), layout, c, strays, d) for c, d in zip(layout.columns, drawn, strict=True)
    )
    differing = _differing_fields(results)
    whole = [d for d in drawn if d is not None]
    together = np.mean(whole, axis=0) if len(whole) == len(drawn) and not differing else None
    if layout.average:
        cells += (Cell(None if differing else _mean(cells), half_width=_half_width(together)),)
    common = set.intersection(*(set(result.flags) for result in results))
    notes = tuple(sorted(common)) + _row_notes(results, differing)
    cells = tuple(replace(cell, notes=tuple(note for note in cell.notes if note not in common)) for cell in cells)
    row = Row(kind="measured", label=results[0].encoder.name, source="measured", cells=cells, notes=notes)
    return _Measured(row, results, together)


def _measured_cell(
    result: Result | None, layout: Layout, column: Column, strays: set[int], drawn: NDArray[np.float64] | None
) -> Cell:
    key = None if result is None else score_key(result, layout, column)
    if result is None or key is None:
        return Cell()
    notes = tuple(sorted(result.flags)) + ((_OTHER_DATA,) if id(result) in strays else ())
    return Cell(100 * result.scores[key], notes, _half_width(drawn))


def _drawn(result: Result | None, layout: Layout, column: Column, draws: Draws | None) -> NDArray[np.float64] | None:
    key = None if result is None else score_key(result, layout, column)
    return None if result is None or key is None or draws is None else draws(result, key)


def score_key(result: Result, layout: Layout, column: Column) -> str | None:
    """Where the column's score is in the result. A task that is one set has the same score under every aggregation."""
    if result.task != column.task:
        return None
    keys = [layout.key(column)]
    if layout.aggregation and not any("/subset:" in key for key in result.scores):
        keys.append(f"{layout.metric}/all/{column.split}")
    return next((key for key in keys if key in result.scores), None)


def _half_width(drawn: NDArray[np.float64] | None) -> float | None:
    return None if drawn is None else 100 * percentile_interval(drawn).half_width


def _row_notes(results: Sequence[Result], differing: Sequence[str]) -> tuple[str, ...]:
    notes = [_OTHER_CARD.format(", ".join(differing))] if differing else []
    versions: dict[str, set[str]] = {}
    for result in results:
        for package, version in result.run.packages.items():
            versions.setdefault(package, set()).add(version)
    several = sorted(package for package, found in versions.items() if len(found) > 1)
    return (*notes, *([_OTHER_PACKAGES.format(", ".join(several))] if several else []))


def _ties(replicates: Mapping[str, Sequence[_Measured]]) -> dict[str, tuple[str, ...]]:
    """Notes by the labels of rows; replicates, by their name without a seed, count with their mean."""
    candidates = []
    for name, group in replicates.items():
        draws = [one.draws for one in group if one.draws is not None]
        if len(draws) == len(group):
            label = group[0].row.label if len(group) == 1 else _mean_label(name, len(group))
            data = {result.task: result.data for result in group[0].results}
            candidates.append(Candidate(label, np.mean(draws, axis=0), data))
    notes: dict[str, tuple[str, ...]] = {}
    for names in tied(candidates):
        note = _TIED.format(" = ".join(names))
        notes |= {name: (*notes.get(name, ()), note) for name in names}
    return notes


def _mean_row(name: str, rows: Sequence[Row]) -> Row:
    cells = []
    for column in zip(*(row.cells for row in rows), strict=True):
        values = [cell.value for cell in column if cell.value is not None]
        whole = len(values) == len(rows)
        cells.append(Cell(sum(values) / len(values), deviation=stdev(values)) if whole else Cell())
    return Row(kind="mean", label=_mean_label(name, len(rows)), source="measured", cells=tuple(cells), notes=(_SEEDS,))


def _mean_label(name: str, seeds: int) -> str:
    return f"{name}, mean of {seeds} seeds"


def _comparison(layout: Layout, judged: Row, group: Sequence[_Measured]) -> list[Row]:
    """The published row that the judged one repeats, the difference and the verdict; nothing if there is none."""
    card = group[0].results[0].encoder
    match = published.counterpart(
        card, published.candidates(layout.metric, layout.aggregation, layout.columns[0].split)
    )
    if match is None:
        return []
    other = _published_row(match, layout, "counterpart", "↳ published")
    difference = Row(
        kind="difference",
        label="↳ difference",
        cells=tuple(
            Cell(None if a.value is None or b.value is None else a.value - b.value)
            for a, b in zip(judged.cells, other.cells, strict=True)
        ),
    )
    cells = []
    for i, task in enumerate(_tasks(layout)):
        values = [one.row.cells[i].value for one in group]
        if task not in match.values or None in values:
            cells.append(Cell())  # the verdict of a mean comes only where the row has its mean
            continue
        place = verdicts.Place(
            task=task,
            metric=layout.metric,
            aggregation=layout.aggregation,
            split=layout.columns[0].split,
            rows=_rows(group[0].results, task),
        )
        runs = [value for value in values if value is not None]
        cells.append(Cell(verdict=verdicts.judge(runs, [one.results[0].encoder for one in group], match, place)))
    return [other, difference, _verdict_row(cells)]


def _rows(results: Sequence[Result], task: str) -> int | None:
    """How many rows an accuracy is a share of: those of the test part, or all where folds are tested in turn."""
    counts = next((result.counts for result in results if result.task == task), {})
    return counts.get("rows/test") or counts.get("rows/all")


def _verdict_row(cells: Sequence[Cell]) -> Row:
    judged = [cell.verdict for cell in cells if cell.verdict is not None]
    same = sum(verdict.outcome == "reproduced" for verdict in judged)
    open_ = [verdict.more_seeds for verdict in judged if verdict.outcome == "undecided"]
    known = [more for more in open_ if more is not None]
    notes = (_MORE.format(max(known) if len(known) == len(open_) else "1 or"),) if open_ else ()
    return Row(kind="verdict", label="↳ reproduced", source=f"{same} of {len(judged)}", cells=tuple(cells), notes=notes)


def _tasks(layout: Layout) -> list[str]:
    return [column.task for column in layout.columns] + ([published.AVERAGE] if layout.average else [])


def _published_row(row: PublishedRow, layout: Layout, kind: Kind, label: str) -> Row:
    taken = [] if row.origin == "this paper" else [f"number from {row.origin}"]
    notes = (*taken, row.variant) if "(" in row.variant else tuple(taken)
    cells = tuple(Cell(row.values.get(task)) for task in _tasks(layout))
    return Row(kind=kind, label=label, source=f"published ({published.source(row)})", cells=cells, notes=notes)


def _candidates(layout: Layout, places: Iterable[tuple[str, str]]) -> list[PublishedRow]:
    split = layout.columns[0].split
    return [
        row for paper, table in places for row in published.rows(paper, table, layout.metric, layout.aggregation, split)
    ]


def _mean(cells: Sequence[Cell]) -> float | None:
    values = [cell.value for cell in cells if cell.value is not None]
    return sum(values) / len(values) if len(values) == len(cells) else None


def _differing_fields(results: Sequence[Result]) -> list[str]:
    first, *others = (asdict(result.encoder) for result in results)
    return [key for key in first if any(card[key] != first[key] for card in others)]


def _strays(results: Sequence[Result]) -> set[int]:
    """The identities of results whose data files are not those of most results of their task."""
    seen: dict[str, list[tuple[frozenset[tuple[str, str]], int]]] = {}
    for result in sorted(results, key=lambda r: r.encoder.name):
        seen.setdefault(result.task, []).append((frozenset(result.data.items()), id(result)))
    strays = set()
    for entries in seen.values():
        usual, _ = Counter(data for data, _ in entries).most_common(1)[0]
        strays |= {identity for data, identity in entries if data != usual}
    return strays
