"""From results to tables: measured rows, what was published for the same encoders, and footnotes."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from harness.reports import published
from harness.reports.layouts import LAYOUTS, Column, Layout
from harness.reports.published import PublishedRow
from harness.results.record import Result

Kind = Literal["section", "published", "measured", "counterpart", "difference"]

_OTHER_DATA = "scored on data files that differ from those of the other rows in this column"
_OTHER_CARD = "the cells of this row were made by encoders that differ in {}, so it has no average"
SYMBOLS = "†‡§¶‖"


@dataclass(frozen=True, slots=True)
class Cell:
    """One number in percent at full precision, or None where there is none, and what a reader must know of it."""

    value: float | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of a table.

    Attributes:
        kind: a `section` is a heading without cells; a `counterpart` holds the published values for the measured row
            above it, and a `difference` measured minus published.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One suite under one protocol, metric and aggregation, at full precision.

    Attributes:
        name: unique among the tables of a report, and safe as a file name.
        notes: on the table as a whole.
    """

    name: str
    title: str
    caption: str
    layout: Layout
    protocol: str
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TextTable:
    """A table as it is printed, two decimals and a dash for what is missing, whatever it is printed with.

    Attributes:
        rows: each row's kind and its texts, as many as the header has; a section has its title and empty texts.
        footnotes: whole lines, the symbol first.
    """

    title: str
    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[Kind, tuple[str, ...]], ...]
    footnotes: tuple[str, ...]


def build(results: Sequence[Result], left_out: int = 0) -> list[Table]:
    """Every table that has a measured row: per layout, one for each protocol.

    Args:
        results: at most one per encoder, task and protocol, as `read_all` gives them.
        left_out: how many result files could not be used; each table says so.
    """
    tables = []
    for layout in LAYOUTS:
        shown = [r for r in results if any(_score(r, layout, column) is not None for column in layout.columns)]
        for protocol in sorted({r.protocol for r in shown}, key=lambda p: (p != layout.protocol, p)):
            tables.append(_table(layout, protocol, [r for r in shown if r.protocol == protocol], left_out))
    return tables


def without_table(results: Iterable[Result], tables: Iterable[Table]) -> list[str]:
    """Tasks (with protocol) of results that no table shows."""
    shown = {(column.task, table.protocol) for table in tables for column in table.layout.columns}
    rest = {(r.task, r.protocol) for r in results} - shown
    return [f"{task} ({protocol})" for task, protocol in sorted(rest)]


def text(table: Table) -> TextTable:
    """The table as it is printed."""
    header = ("Encoder", "Source", *(column.head for column in table.layout.columns))
    header += ("Avg.",) if table.layout.average else ()
    symbols = _symbols(table.rows)
    lines = tuple((row.kind, _texts(row, len(header), symbols)) for row in table.rows)
    footnotes = tuple(f"{symbol} {note}" for note, symbol in symbols.items())
    return TextTable(
        title=table.title, caption=table.caption, header=header, rows=lines, footnotes=footnotes + table.notes
    )


def _table(layout: Layout, protocol: str, results: Sequence[Result], left_out: int) -> Table:
    usual = protocol == layout.protocol
    encoders = sorted({result.encoder.name for result in results})
    strays = _strays(results)
    rows = _published_rows(layout) if usual else []
    rows.append(Row(kind="section", label="Measured"))
    for name in encoders:
        rows.extend(_measured_rows(layout, [r for r in results if r.encoder.name == name], strays, usual))
    number = f"{len(encoders)} encoder{'s' if len(encoders) > 1 else ''} measured"
    caption = f"{layout.measure}; protocol {protocol}; {number}."
    if any(row.kind == "difference" for row in rows):
        caption += " A difference is measured minus published."
    return Table(
        name=layout.name if usual else f"{layout.name}@{_plain(protocol)}",
        title=layout.title if usual else f"{layout.title} ({protocol})",
        caption=caption,
        layout=layout,
        protocol=protocol,
        rows=tuple(rows),
        notes=_left_out(left_out),
    )


def _left_out(count: int) -> tuple[str, ...]:
    if not count:
        return ()
    what = "1 result file was" if count == 1 else f"{count} result files were"
    return (f"{what} left out as unreadable, edited or repeated; the report names each under “Left out”.",)


def _published_rows(layout: Layout) -> list[Row]:
    lines: list[Row] = []
    section = None
    for paper, table in layout.published:
        for row in _candidates(layout, [(paper, table)]):
            if row.supervision != section:
                section = row.supervision
                lines.append(Row(kind="section", label=f"Published, {section}"))
            lines.append(_published_row(row, layout, "published", published.label(row)))
    return lines


def _published_row(row: PublishedRow, layout: Layout, kind: Kind, label: str) -> Row:
    tasks = [column.task for column in layout.columns] + ([published.AVERAGE] if layout.average else [])
    taken = [] if row.origin == "this paper" else [f"number from {row.origin}"]
    notes = (*taken, row.variant) if "(" in row.variant else tuple(taken)
    cells = tuple(Cell(row.values.get(task)) for task in tasks)
    return Row(kind=kind, label=label, source=f"published ({published.source(row)})", cells=cells, notes=notes)


def _candidates(layout: Layout, places: Iterable[tuple[str, str]]) -> list[PublishedRow]:
    split = layout.columns[0].split
    return [
        row for paper, table in places for row in published.rows(paper, table, layout.metric, layout.aggregation, split)
    ]


def _measured_rows(layout: Layout, results: Sequence[Result], strays: set[int], usual: bool) -> list[Row]:
    by_task = {result.task: result for result in results}
    cells = tuple(_measured_cell(by_task.get(c.task), layout, c, strays) for c in layout.columns)
    differing = _differing_fields(results)
    if layout.average:
        cells += (Cell(None if differing else _mean(cells)),)
    common = set.intersection(*(set(result.flags) for result in results))
    notes = tuple(sorted(common)) + ((_OTHER_CARD.format(", ".join(differing)),) if differing else ())
    cells = tuple(Cell(cell.value, tuple(note for note in cell.notes if note not in common)) for cell in cells)
    card = results[0].encoder
    measured = Row(kind="measured", label=card.name, source="measured", cells=cells, notes=notes)
    match = published.counterpart(card, _candidates(layout, layout.counterparts)) if usual else None
    if match is None:
        return [measured]
    other = _published_row(match, layout, "counterpart", "↳ published")
    return [measured, other, _difference(measured, other)]


def _measured_cell(result: Result | None, layout: Layout, column: Column, strays: set[int]) -> Cell:
    value = None if result is None else _score(result, layout, column)
    if result is None or value is None:
        return Cell()
    notes = tuple(sorted(result.flags)) + ((_OTHER_DATA,) if id(result) in strays else ())
    return Cell(100 * value, notes)


def _score(result: Result, layout: Layout, column: Column) -> float | None:
    """A fraction. A task that is one set has the same score under every aggregation."""
    if result.task != column.task:
        return None
    if any("/subset:" in key for key in result.scores) or not layout.aggregation:
        return result.scores.get(layout.key(column))
    return result.scores.get(layout.key(column), result.scores.get(f"{layout.metric}/all/{column.split}"))


def _mean(cells: Sequence[Cell]) -> float | None:
    values = [cell.value for cell in cells if cell.value is not None]
    return sum(values) / len(values) if len(values) == len(cells) else None


def _difference(measured: Row, other: Row) -> Row:
    cells = tuple(
        Cell(None if a.value is None or b.value is None else a.value - b.value)
        for a, b in zip(measured.cells, other.cells, strict=True)
    )
    return Row(kind="difference", label="↳ difference", source="", cells=cells)


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


def _symbols(rows: Iterable[Row]) -> dict[str, str]:
    notes = [note for row in rows for note in (*row.notes, *(n for cell in row.cells for n in cell.notes))]
    return {note: SYMBOLS[i % len(SYMBOLS)] * (1 + i // len(SYMBOLS)) for i, note in enumerate(dict.fromkeys(notes))}


def _texts(row: Row, width: int, symbols: dict[str, str]) -> tuple[str, ...]:
    if row.kind == "section":
        return (row.label, *[""] * (width - 1))
    marks = ",".join(symbols[note] for note in row.notes)
    cells = (_number(cell, row.kind) + ",".join(symbols[note] for note in cell.notes) for cell in row.cells)
    return (f"{row.label} {marks}".strip(), row.source, *cells)


def _number(cell: Cell, kind: Kind) -> str:
    if cell.value is None:
        return "-"
    if kind != "difference":
        return f"{cell.value:.2f}"
    signed = f"{cell.value:+.2f}"
    return "0.00" if float(signed) == 0 else signed


def _plain(protocol: str) -> str:
    return "".join(c if c.isalnum() or c in "=.-_" else "-" for c in protocol).strip("-")
