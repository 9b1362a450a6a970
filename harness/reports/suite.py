"""The tables of a suite, built from results: measured encoders, the best first, with what was published for them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import fmean

from harness.names import EncoderCard
from harness.reports import published, verdicts
from harness.reports.layouts import LAYOUTS, Layout
from harness.reports.letters import SENTENCE, letters, told_apart
from harness.reports.match import label_of_seeds, short_names
from harness.reports.numbers import AVERAGE
from harness.reports.published import PublishedRow
from harness.reports.runs import Estimates, Line, lines_of, score_key
from harness.reports.table import Cell, Column, Row, Table
from harness.results.record import Result

_INTERVALS = "Behind the average stands its 95 % interval over items; of several seeds, their sd."
_MARKS = "A published number marked = is reproduced, ≠ is not, and with ? the seeds do not tell."


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What a reader wants to see.

    Attributes:
        each_seed: whether every seed has a row of its own above the mean.
        published: papers, and tables of the user's own by their paths, whose rows are shown whatever was measured.
        only: whether measured encoders are held against no other paper than those.
        margin: see `verdicts.judge`.
    """

    each_seed: bool = False
    published: tuple[str, ...] = ()
    only: bool = False
    margin: float | None = None


def build(
    results: Sequence[Result], left_out: int = 0, estimates: Estimates | None = None, shown: Shown | None = None
) -> list[Table]:
    """Every table that has a measured row: per layout, one for each protocol.

    Args:
        results: at most one per encoder, task and protocol, as `read_all` gives them.
        left_out: how many result files could not be used; each table says so.
        estimates: of scores, for intervals, ties and bold numbers; None for tables without.
        shown: what the reader wants to see.
    """
    tables = []
    for layout in LAYOUTS:
        inside = [r for r in results if any(score_key(r, layout, column) for column in layout.columns)]
        for protocol in sorted({r.protocol for r in inside}, key=lambda p: (p != layout.protocol, p)):
            own = [r for r in inside if r.protocol == protocol]
            tables.append(_table(layout, protocol, own, left_out, estimates, shown or Shown()))
    return tables


def without_table(results: Iterable[Result], tables: Iterable[Table]) -> list[str]:
    """Tasks (with protocol) of results that no table shows."""
    shown = {(column.task, table.protocol) for table in tables for column in table.columns}
    rest = {(r.task, r.protocol) for r in results} - shown
    return [f"{task} ({protocol})" for task, protocol in sorted(rest)]


def verdicts_of(tables: Iterable[Table]) -> list[dict[str, object]]:
    """Every verdict of the tables with its numbers, ready for JSON."""
    found: list[dict[str, object]] = []
    for table in tables:
        encoder = ""
        for row in table.rows:
            encoder = row.name if row.kind == "measured" else encoder
            for cell, column in zip(row.cells, table.columns, strict=False):
                if cell.verdict is not None:
                    found.append({"table": table.name, "model": encoder, "task": column.task, **asdict(cell.verdict)})
    return found


def _table(
    layout: Layout, protocol: str, results: Sequence[Result], left_out: int, estimates: Estimates | None, shown: Shown
) -> Table:
    usual = protocol == layout.protocol
    found = lines_of(layout, results, estimates)
    runs = [run for line in found for run in line.runs]
    labels, common = short_names([run.card for run in runs])
    found = [
        replace(line, row=replace(line.row, label=label_of_seeds(labels[line.runs[0].card.name], len(line.runs))))
        for line in found
    ]
    lines = sorted(found, key=lambda line: (-_average(line.row), line.row.label))
    one_number = layout.average or len(layout.columns) == 1  # that stands for the whole row
    tied = _letters(lines) if estimates and one_number else {}
    best = _best(lines)
    rows: list[Row] = []
    for line in lines:
        rows += _rows(line, layout, labels, shown, usual=usual)
    rows = [_finished(row, tied, best) for row in rows]
    if usual:
        rows += _published_rows(layout, [run.card for run in runs], shown)
    spread = one_number and _has_spread(rows)
    return Table(
        name=layout.name if usual else f"{layout.name}@{_plain(protocol)}",
        title=layout.title if usual else f"{layout.title} ({protocol})",
        caption=_caption(layout, protocol, lines, rows, common),
        columns=_columns(layout, spread=spread, letters=bool(tied)),
        rows=tuple(_cut(row, spread=spread, letters=bool(tied)) for row in rows),
        protocol=protocol,
        notes=(*((verdicts.RULE,) if _judged(rows) else ()), *_left_out(left_out)),
        left_out=common,
        main=layout.main and usual,
    )


def _columns(layout: Layout, *, spread: bool, letters: bool) -> tuple[Column, ...]:
    columns = [Column(head=place.head, task=place.task, key=layout.key(place)) for place in layout.columns]
    if layout.average:
        columns.append(Column(head="Avg.", task=AVERAGE, key=layout.key(layout.columns[0])))
    columns += [Column(head="95 %", kind="spread")] if spread else []
    columns += [Column(head="Ties", kind="words")] if letters else []
    return tuple(columns)


def _label(line: Line, labels: Mapping[str, str]) -> str:
    return label_of_seeds(labels[line.runs[0].card.name], len(line.runs))


def _average(row: Row) -> float:
    """What rows are ordered by: the last score, else the mean of those that are there."""
    values = [cell.value for cell in row.cells if cell.value is not None]
    last = row.cells[-1].value
    return last if last is not None else fmean(values) - 1000 if values else -2000.0


def _letters(lines: Sequence[Line]) -> dict[str, str]:
    """Full name -> letters, of encoders that were scored on the data of the best; none where it is alone."""
    known = [line for line in lines if line.estimate(-1) is not None]
    same = [line for line in known if _data(line) == _data(known[0])]
    if len(same) < 2:
        return {}
    scores = {line.row.name: found for line in same if (found := line.estimate(-1)) is not None}
    apart = told_apart(scores, {line.row.name: line.seed_variance(-1) for line in same})
    return letters([line.row.name for line in same], apart)


def _data(line: Line) -> dict[str, Mapping[str, str]]:
    return {result.task: result.data for result in line.runs[0].results}


def _best(lines: Sequence[Line]) -> list[str | None]:
    """By column the full name of the best encoder, where the second best is told apart from it."""
    return [_best_of(lines, position) for position in range(len(lines[0].row.cells) if lines else 0)]


def _best_of(lines: Sequence[Line], position: int) -> str | None:
    known = [(line.row.cells[position].value, line) for line in lines]
    ranked = sorted(((v, line) for v, line in known if v is not None), key=lambda pair: -pair[0])[:2]
    if len(ranked) < 2 or _data(ranked[0][1]) != _data(ranked[1][1]):
        return None
    estimates = {line.row.name: found for _, line in ranked if (found := line.estimate(position)) is not None}
    variances = {line.row.name: line.seed_variance(position) for _, line in ranked}
    return ranked[0][1].row.name if len(estimates) == 2 and told_apart(estimates, variances) else None


def _finished(row: Row, tied: Mapping[str, str], best: Sequence[str | None]) -> Row:
    """With bold numbers, and the columns of the spread and of the letters."""
    named = row.kind == "measured" and not row.below
    cells = [replace(cell, best=named and best[i] == row.name) for i, cell in enumerate(row.cells)]
    last = cells[-1] if row.kind == "measured" else Cell()
    spread = Cell(interval=last.interval, deviation=last.deviation, seeds=last.seeds)
    return replace(row, cells=(*cells, spread, Cell(words=tied.get(row.name, "") if named else "")))


def _cut(row: Row, *, spread: bool, letters: bool) -> Row:
    if not row.cells:
        return row
    *scores, width, ties = row.cells
    return replace(row, cells=(*scores, *((width,) if spread else ()), *((ties,) if letters else ())))


def _has_spread(rows: Sequence[Row]) -> bool:
    return any(row.cells and (row.cells[-2].interval or row.cells[-2].deviation is not None) for row in rows)


def _rows(line: Line, layout: Layout, labels: Mapping[str, str], shown: Shown, *, usual: bool) -> list[Row]:
    """The row of an encoder, its seeds if they are wanted, and what was published for it."""
    rows = [line.row]
    if shown.each_seed and len(line.runs) > 1:
        rows += [
            Row(kind="measured", label=labels[run.card.name], name=run.card.name, cells=run.cells, below=True)
            for run in line.runs
        ]
    if usual:
        rows += _counterpart(line, layout, shown)
    return rows


def _counterpart(line: Line, layout: Layout, shown: Shown) -> list[Row]:
    """The published row that the encoder repeats, each number with its verdict."""
    card = line.runs[0].card
    candidates = published.candidates(
        layout.metric, layout.aggregation, layout.columns[0].split, shown.published, only=shown.only
    )
    known = [row for row in candidates if any(place.task in row.values for place in layout.columns)]
    match = published.counterpart(card, known)
    if match is None:
        return []
    row = _published_row(match, layout, published.source(match), below=True)
    cells = []
    for cell, (position, task) in zip(row.cells, enumerate(_tasks(layout)), strict=True):
        values = [value for run in line.runs if (value := run.cells[position].value) is not None]
        judged = cell.value is not None and len(values) == len(line.runs)  # a mean has a verdict where it is there
        place = verdicts.Place(
            task=task,
            metric=layout.metric,
            aggregation=layout.aggregation,
            split=layout.columns[0].split,
            rows=_count(line.runs[0].results, task),
        )
        verdict = (
            verdicts.judge(values, [run.card for run in line.runs], match, place, shown.margin) if judged else None
        )
        cells.append(replace(cell, verdict=verdict))
    return [replace(row, cells=tuple(cells), marks=(*row.marks, *_more_seeds(cells)))]


def _more_seeds(cells: Sequence[Cell]) -> tuple[str, ...]:
    """How many more seeds would decide what is undecided."""
    open_ = [cell.verdict.more_seeds for cell in cells if cell.verdict and cell.verdict.outcome == "undecided"]
    if not open_:
        return ()
    known = [more for more in open_ if more is not None]
    return (f"undecided (?): about {max(known) if len(known) == len(open_) else 'very many'} more seeds would tell",)


def _count(results: Sequence[Result], task: str) -> int | None:
    """How many rows an accuracy is a share of: those of the test part, or all where folds are tested in turn."""
    counts = next((result.counts for result in results if result.task == task), {})
    return counts.get("rows/test") or counts.get("rows/all")


def _published_rows(layout: Layout, cards: Sequence[EncoderCard], shown: Shown) -> list[Row]:
    """Rows of the papers asked for, and those of the layout's own paper on a backbone that was measured."""
    backbones = {published.backbone_of(card) for card in cards}
    split = layout.columns[0].split
    found: list[PublishedRow] = []
    for paper, table in layout.published:
        rows = published.rows(paper, table, layout.metric, layout.aggregation, split)
        found += [row for row in rows if row.backbone in backbones and paper not in shown.published]
    for paper in shown.published:
        rows = published.rows(paper, None, layout.metric, layout.aggregation, split)
        found += [row for row in rows if row.preferred]
    found = _once([row for row in found if any(place.task in row.values for place in layout.columns)], layout)
    if not found:
        return []
    lines = []
    for supervision in dict.fromkeys(row.supervision for row in found):
        lines.append(Row(kind="section", label=", ".join(filter(None, ("Published", supervision)))))
        for row in found:
            if row.supervision == supervision:
                title = f" ({row.title})" if shown.published else ""
                lines.append(_published_row(row, layout, published.label(row) + title))
    return [replace(row, cells=(*row.cells, Cell(), Cell())) if row.cells else row for row in lines]


def _once(rows: Sequence[PublishedRow], layout: Layout) -> list[PublishedRow]:
    """Without the rows that a paper prints in several tables."""
    seen: dict[object, PublishedRow] = {}
    for row in rows:
        shown = tuple(row.values.get(task) for task in _tasks(layout))
        seen.setdefault((row.paper, row.supervision, published.label(row), shown), row)
    return list(seen.values())


def _published_row(row: PublishedRow, layout: Layout, label: str, *, below: bool = False) -> Row:
    other = () if row.origin.startswith("this paper") or row.paper == "mteb" else (f"number from {row.origin}",)
    variant = (row.variant,) if "(" in row.variant else ()
    source = (published.source(row),)
    cells = tuple(Cell(value=row.values.get(task), source=source) for task in _tasks(layout))
    name = f"{published.source(row)}: {published.label(row)}"
    return Row(
        kind="published",
        label=label,
        name=name,
        cells=cells,
        marks=(*other, *variant, *filter(None, (row.note,))),
        below=below,
    )


def _tasks(layout: Layout) -> list[str]:
    return [place.task for place in layout.columns] + ([AVERAGE] if layout.average else [])


def _caption(layout: Layout, protocol: str, lines: Sequence[Line], rows: Sequence[Row], common: Sequence[str]) -> str:
    number = sum(len(line.runs) for line in lines)
    parts = [f"{layout.measure}; protocol {protocol}; {number} encoder{'s' if number > 1 else ''} measured."]
    if common:
        names = ", ".join(f"`{one}`" for one in common)
        parts.append(f"Names leave out {names}: so it is wherever a name that has the parameter says nothing else.")
    parts += [_INTERVALS] if _has_spread(rows) and (layout.average or len(layout.columns) == 1) else []
    parts += [SENTENCE] if any(row.cells and row.cells[-1].words for row in rows) else []
    parts += [_MARKS] if _judged(rows) else []
    return " ".join(parts)


def _judged(rows: Sequence[Row]) -> bool:
    return any(cell.verdict is not None for row in rows for cell in row.cells)


def _left_out(count: int) -> tuple[str, ...]:
    if not count:
        return ()
    what = "1 result file was" if count == 1 else f"{count} result files were"
    return (f"{what} left out as unreadable, edited or repeated; the report names each under “Left out”.",)


def _plain(protocol: str) -> str:
    return "".join(c if c.isalnum() or c in "=.-_" else "-" for c in protocol).strip("-")
