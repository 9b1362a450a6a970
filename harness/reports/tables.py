"""From results to tables: measured rows, what was published for the same encoders, and footnotes."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass

from harness.reports.draws import Draws
from harness.reports.layouts import LAYOUTS, Layout
from harness.reports.published import AVERAGE
from harness.reports.rows import Cell, Kind, Row, measured_rows, published_rows, score_key
from harness.reports.verdicts import RULE
from harness.results.record import Result

SYMBOLS = "†‡§¶‖"
_OUTCOMES = {"reproduced": "yes", "not reproduced": "no", "undecided": "?"}
_DEVIATIONS = (
    "A mean of seeds has their standard deviation (sd) instead: what training leaves to chance, not the items."
)
_INTERVALS = "± is half of the 95 % bootstrap interval over the pairs or rows of a task."


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


def build(results: Sequence[Result], left_out: int = 0, draws: Draws | None = None) -> list[Table]:
    """Every table that has a measured row: per layout, one for each protocol.

    Args:
        results: at most one per encoder, task and protocol, as `read_all` gives them.
        left_out: how many result files could not be used; each table says so.
        draws: bootstrap draws of scores, for intervals and ties; None for tables without.
    """
    tables = []
    for layout in LAYOUTS:
        shown = [r for r in results if any(score_key(r, layout, column) for column in layout.columns)]
        for protocol in sorted({r.protocol for r in shown}, key=lambda p: (p != layout.protocol, p)):
            tables.append(_table(layout, protocol, [r for r in shown if r.protocol == protocol], left_out, draws))
    return tables


def wanted(results: Sequence[Result]) -> Iterator[tuple[Result, str]]:
    """Every result and key of a score that the tables show."""
    for layout in LAYOUTS:
        for column in layout.columns:
            for result in results:
                key = score_key(result, layout, column)
                if key is not None:
                    yield result, key


def without_table(results: Iterable[Result], tables: Iterable[Table]) -> list[str]:
    """Tasks (with protocol) of results that no table shows."""
    shown = {(column.task, table.protocol) for table in tables for column in table.layout.columns}
    rest = {(r.task, r.protocol) for r in results} - shown
    return [f"{task} ({protocol})" for task, protocol in sorted(rest)]


def verdicts_of(tables: Iterable[Table]) -> list[dict[str, str | int | float | None]]:
    """Every verdict of the tables with its numbers, ready for JSON."""
    found = []
    for table in tables:
        encoder = ""
        for row in table.rows:
            encoder = row.label if row.kind in ("measured", "mean") else encoder
            places = [*(column.task for column in table.layout.columns), AVERAGE]
            for task, cell in zip(places, row.cells, strict=False):
                if cell.verdict is not None:
                    found.append({"table": table.name, "model": encoder, "task": task, **asdict(cell.verdict)})
    return found


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


def _table(layout: Layout, protocol: str, results: Sequence[Result], left_out: int, draws: Draws | None) -> Table:
    usual = protocol == layout.protocol
    encoders = len({result.encoder.name for result in results})
    rows = published_rows(layout) if usual else []
    rows.append(Row(kind="section", label="Measured"))
    rows += measured_rows(layout, results, draws, usual)
    number = f"{encoders} encoder{'s' if encoders > 1 else ''} measured"
    caption = f"{layout.measure}; protocol {protocol}; {number}."
    if any(row.kind == "difference" for row in rows):
        caption += " A difference is measured minus published."
    if any(row.kind == "measured" and any(cell.half_width is not None for cell in row.cells) for row in rows):
        caption += f" {_INTERVALS}"
    if any(row.kind == "mean" for row in rows):
        caption += f" {_DEVIATIONS}"
    return Table(
        name=layout.name if usual else f"{layout.name}@{_plain(protocol)}",
        title=layout.title if usual else f"{layout.title} ({protocol})",
        caption=caption,
        layout=layout,
        protocol=protocol,
        rows=tuple(rows),
        notes=((RULE,) if any(row.kind == "verdict" for row in rows) else ()) + _left_out(left_out),
    )


def _left_out(count: int) -> tuple[str, ...]:
    if not count:
        return ()
    what = "1 result file was" if count == 1 else f"{count} result files were"
    return (f"{what} left out as unreadable, edited or repeated; the report names each under “Left out”.",)


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
    if cell.verdict is not None:
        return _OUTCOMES[cell.verdict.outcome]
    if cell.value is None:
        return "-"
    if kind == "difference":
        signed = f"{cell.value:+.2f}"
        return "0.00" if float(signed) == 0 else signed
    if cell.deviation is not None:
        return f"{cell.value:.2f} (sd {cell.deviation:.2f})"
    return f"{cell.value:.2f}" + ("" if cell.half_width is None else f" ± {cell.half_width:.2f}")


def _plain(protocol: str) -> str:
    return "".join(c if c.isalnum() or c in "=.-_" else "-" for c in protocol).strip("-")
