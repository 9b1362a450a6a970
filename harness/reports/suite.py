"""The tables of a suite, built from results: measured encoders, the best first, with what was published for them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import fmean

from harness.names import EncoderCard
from harness.reports import published, verdicts
from harness.reports.contrasts import ON_LETTERS, find_differences, letters, pool_spreads
from harness.reports.layouts import LAYOUTS, Layout
from harness.reports.match import label_of_seeds, short_names
from harness.reports.published import AVERAGE, PublishedRow
from harness.reports.runs import Estimates, Line, lines_of, score_key
from harness.reports.table import Cell, Column, Row, Table, spread_text
from harness.reports.uncertainty import few_chains_sentence
from harness.results.record import Result

_INTERVALS = "Behind the average stands its 95 % interval over items; of several seeds, their sd."
_NO_LETTER = "other data"
_NOT_COMPARED = f"“{_NO_LETTER}” stands where an encoder was scored on other files than most, so that it has no letter."
_LEFT_OUT = "Names leave out {}: so it is wherever a name that has the parameter says nothing else."
_MARKS = "A published number marked = is reproduced, ≠ is not, and with ? the seeds do not tell."


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What a reader wants to see."""

    each_seed: bool = False  # whether every seed has a row of its own above the mean
    # papers, and tables of the user's own by their paths, whose rows are shown whatever was measured
    published: tuple[str, ...] = ()
    only: bool = False  # whether measured encoders are held against no other paper than those
    margin: float | None = None  # see `verdicts.judge`


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
        inside = [r for r in results if r.task in layout.heads and score_key(r, layout.key)]
        for protocol in sorted({r.protocol for r in inside}, key=lambda p: (p != layout.protocol, p)):
            own = [r for r in inside if r.protocol == protocol]
            tables.append(_table(layout, protocol, own, left_out, estimates, shown or Shown()))
    return tables


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
    one_number = layout.average or len(layout.heads) == 1  # that stands for the whole row
    tied = _letters(lines) if estimates and one_number else []
    best = [_best(lines, position) for position in range(len(lines[0].row.cells))]
    rows: list[tuple[Row, str]] = []  # each with its letters
    for i, line in enumerate(lines):
        cells = tuple(replace(cell, best=best[j] == i) for j, cell in enumerate(line.row.cells))
        rows.append((replace(line.row, cells=cells), tied[i] if tied else ""))
        rows += [(row, "") for row in _rows_below(line, layout, labels, shown, usual=usual)]
    if usual:
        rows += [(row, "") for row in _published_rows(layout, [run.card for run in runs], shown)]
    spread = one_number and any(row.kind == "measured" and spread_text(row.cells[-1]) for row, _ in rows)
    judged = any(cell.verdict is not None for row, _ in rows for cell in row.cells)
    columns = [Column(head=head, task=task, key=str(layout.key)) for task, head in layout.heads.items()]
    columns += [Column(head="Avg.", task=AVERAGE, key=str(layout.key))] if layout.average else []
    columns += [Column(head="95 %", kind="spread")] if spread else []
    columns += [Column(head="Ties", kind="words")] if tied else []
    few = _few_chains(layout, results, estimates)
    average_noted = layout.note and any(line.row.cells[-1].value is not None for line in lines)
    sentences = (
        f"{layout.measure}; protocol {protocol}; {len(runs)} encoder{'s' if len(runs) > 1 else ''} measured.",
        _LEFT_OUT.format(", ".join(f"`{one}`" for one in common)) if common else "",
        _INTERVALS if spread else "",
        ON_LETTERS if tied else "",
        _NOT_COMPARED if _NO_LETTER in tied else "",
        _MARKS if judged else "",
    )
    notes = (verdicts.RULE if judged else "", layout.note if average_noted else "", few, _damaged(left_out))
    return Table(
        name=layout.name if usual else f"{layout.name}@{_plain(protocol)}",
        title=layout.title if usual else f"{layout.title} ({protocol})",
        caption=" ".join(filter(None, sentences)),
        columns=tuple(columns),
        rows=tuple(_with_columns(row, words, spread=spread, ties=bool(tied)) for row, words in rows),
        protocol=protocol,
        notes=tuple(filter(None, notes)),
        left_out=common,
        main=layout.main and usual,
    )


def _with_columns(row: Row, tied: str, *, spread: bool, ties: bool) -> Row:
    """The row with the columns of the spread and of the letters, where the table has them."""
    if not row.cells:
        return row
    last = row.cells[-1] if row.kind == "measured" else Cell()
    added = [Cell(interval=last.interval, deviation=last.deviation, seeds=last.seeds)] if spread else []
    added += [Cell(words=tied)] if ties else []
    return replace(row, cells=(*row.cells, *added))


def _average(row: Row) -> float:
    """What rows are ordered by: the last score, else the mean of those that are there."""
    values = [cell.value for cell in row.cells if cell.value is not None]
    last = row.cells[-1].value
    return last if last is not None else fmean(values) - 1000 if values else -2000.0


def _letters(lines: Sequence[Line]) -> list[str]:
    """The letters of each line, of the encoders that were scored on the data of most; none where none compare.

    Three seeds of one setting tell little of their spread, so it is pooled over a method's settings.
    """
    known = {i: (side, _data(line)) for i, line in enumerate(lines) if (side := line.side(-1)) is not None}
    kinds = [data for _, data in known.values()]
    usual = max(kinds, key=kinds.count, default=None)
    same = {i: side for i, (side, data) in known.items() if data == usual}
    if len(same) < 2:
        return []
    groups: dict[str, list[list[float]]] = {}
    for i, side in same.items():
        groups.setdefault(lines[i].runs[0].card.method, []).append(list(side.runs.values()))
    sides = {
        str(i): replace(side, borrowed=pool_spreads(groups[lines[i].runs[0].card.method]))
        if len(side.runs) > 1
        else side
        for i, side in same.items()
    }
    found = letters(list(sides), find_differences(sides))
    return [found.get(str(i), _NO_LETTER if i in known else "") for i in range(len(lines))]


def _data(line: Line) -> dict[str, Mapping[str, str]]:
    return {result.task: result.data for result in line.runs[0].results}


def _best(lines: Sequence[Line], position: int) -> int | None:
    """Which line is the best of a column, where the second best is told apart from it."""
    known = [(value, i) for i, line in enumerate(lines) if (value := line.row.cells[position].value) is not None]
    ranked = [i for _, i in sorted(known, key=lambda pair: -pair[0])[:2]]
    if len(ranked) < 2 or _data(lines[ranked[0]]) != _data(lines[ranked[1]]):
        return None
    sides = {str(i): side for i in ranked if (side := lines[i].side(position)) is not None}
    return ranked[0] if len(sides) == 2 and find_differences(sides) else None


def _rows_below(line: Line, layout: Layout, labels: Mapping[str, str], shown: Shown, *, usual: bool) -> list[Row]:
    """Under the row of an encoder its seeds, if they are wanted, and what was published for it."""
    seeds = line.runs if shown.each_seed and len(line.runs) > 1 else []
    rows = [
        Row(kind="measured", label=labels[run.card.name], name=run.card.name, cells=run.cells, below=True)
        for run in seeds
    ]
    return rows + (_counterpart(line, layout, shown) if usual else [])


def _counterpart(line: Line, layout: Layout, shown: Shown) -> list[Row]:
    """The published row that the encoder repeats, each number with its verdict."""
    card = line.runs[0].card
    candidates = published.candidates(layout.key, shown.published, only=shown.only)
    known = [row for row in candidates if layout.heads.keys() & row.values.keys()]
    match = published.counterpart(card, known)
    if match is None:
        return []
    rows = {
        row.table: _judged_row(row, line, layout, shown.margin)
        for row in known
        if row.paper == match.paper and row.match.fits(card)
    }
    table = max(rows, key=lambda name: _reproduced(rows[name]))  # of equals the first, which is the one to be shown
    others = [
        f"printed otherwise in Table {name}, of which {_reproduced(row)} cells are reproduced"
        for name, row in rows.items()
        if [cell.value for cell in row.cells] != [cell.value for cell in rows[table].cells]
    ]
    return [replace(rows[table], marks=(*rows[table].marks, *others))]


def _judged_row(match: PublishedRow, line: Line, layout: Layout, margin: float | None) -> Row:
    row = _published_row(match, layout, published.source(match), below=True)
    cells = []
    for position, (task, cell) in enumerate(zip(_tasks(layout), row.cells, strict=True)):
        values = [value for run in line.runs if (value := run.cells[position].value) is not None]
        if cell.value is not None and len(values) == len(line.runs):  # a mean has a verdict where it is there
            score = verdicts.JudgedScore(task=task, key=layout.key, rows=_count(line.runs[0].results, task))
            verdict = verdicts.judge(values, [run.card for run in line.runs], match, score, margin)
            cell = replace(cell, verdict=verdict)
        cells.append(cell)
    return replace(row, cells=tuple(cells), marks=(*row.marks, *_more_seeds(cells)))


def _reproduced(row: Row) -> int:
    return sum(cell.verdict is not None and cell.verdict.outcome == "reproduced" for cell in row.cells)


def _more_seeds(cells: Sequence[Cell]) -> tuple[str, ...]:
    """How many more seeds would decide what is undecided."""
    needed = [cell.verdict.more_seeds for cell in cells if cell.verdict and cell.verdict.outcome == "undecided"]
    if None in needed:
        return ("undecided (?): no number of seeds would tell, as the runs themselves differ by too much",)
    most = max((more for more in needed if more is not None), default=None)
    return () if most is None else (f"undecided (?): about {most} more seed{'' if most == 1 else 's'} would tell",)


def _count(results: Sequence[Result], task: str) -> int | None:
    """How many rows an accuracy is a share of: those of the test part, or all where folds are tested in turn."""
    counts = next((result.counts for result in results if result.task == task), {})
    return counts.get("rows/test") or counts.get("rows/all")


def _published_rows(layout: Layout, cards: Sequence[EncoderCard], shown: Shown) -> list[Row]:
    """Rows of the papers asked for, and those of the layout's own paper on a backbone that was measured."""
    backbones = {published.backbone_of(card) for card in cards}
    found: list[PublishedRow] = []
    for paper, table in layout.published:
        rows = published.rows(paper, table, layout.key)
        found += [row for row in rows if row.backbone in backbones and paper not in shown.published]
    for paper in shown.published:
        rows = published.rows(paper, None, layout.key)
        found += [row for row in rows if row.preferred]
    found = _once([row for row in found if layout.heads.keys() & row.values.keys()], layout)
    if not found:
        return []
    lines = []
    for supervision in dict.fromkeys(row.supervision for row in found):
        lines.append(Row(kind="section", label=", ".join(filter(None, ("Published", supervision)))))
        for row in found:
            if row.supervision == supervision:
                title = f" ({row.title})" if shown.published else ""
                lines.append(_published_row(row, layout, published.label(row) + title))
    return lines


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
    return [*layout.heads, *([AVERAGE] if layout.average else [])]


def _few_chains(layout: Layout, results: Sequence[Result], estimates: Estimates | None) -> str:
    if estimates is None or layout.key.metric == "accuracy":
        return ""
    found = {
        f"{layout.heads[result.task]} {name}".strip(): number
        for result in results
        for name, number in estimates.few_chains(result, layout.key.aggregation).items()
    }
    return few_chains_sentence(found) if found else ""


def _damaged(count: int) -> str:
    if not count:
        return ""
    what = "1 result file was" if count == 1 else f"{count} result files were"
    return f"{what} left out as unreadable, edited or repeated; the report names each under “Left out”."


def _plain(protocol: str) -> str:
    return "".join(c if c.isalnum() or c in "=.-_" else "-" for c in protocol).strip("-")
