"""Tables as lines of numbers at full precision, for CSV and JSON."""

import csv
import io
import json
from collections.abc import Iterator

from harness.reports.plain import field
from harness.reports.table import Cell, Column, Row, Table, note_of

HEADER = (
    *("encoder", "source", "task", "protocol", "score", "value"),
    *("low", "high", "sd", "seeds", "verdict", "reason", "remarks"),
)
Line = tuple[str | float | int | None, ...]


def tidy_csv(table: Table) -> str:
    """One line per number with a header, nothing where there is no value; texts are no formulas to a spreadsheet."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(HEADER)
    writer.writerows([field(one) if isinstance(one, str) else one for one in line] for line in lines(table))
    return buffer.getvalue()


def tidy_json(table: Table) -> str:
    """The lines of `tidy_csv` as a list of objects, with `null` where there is no value."""
    found = [dict(zip(HEADER, line, strict=True)) for line in lines(table)]
    return json.dumps(found, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def lines(table: Table) -> Iterator[Line]:
    """The numbers of measured and published rows; differences are left to the reader."""
    encoder = ""
    for row in table.rows:
        if row.kind in ("section", "difference"):
            continue
        encoder = encoder if row.below else row.name or row.label
        for cell, column in zip(row.cells, table.columns, strict=True):
            if cell.value is not None or cell.words:
                yield _line(encoder, row, cell, column, table.protocol)


def _line(encoder: str, row: Row, cell: Cell, column: Column, protocol: str) -> Line:
    low, high = cell.interval or (None, None)
    source = "measured" if row.kind == "measured" and not row.below else " ".join(cell.source) or row.label
    verdict = cell.verdict
    return (
        encoder,
        source,
        column.task or column.head,
        protocol,
        column.key,
        cell.words if cell.value is None else cell.value,
        low,
        high,
        cell.deviation,
        cell.seeds if row.kind == "measured" else None,
        None if verdict is None else verdict.outcome,
        None if verdict is None else verdict.reason,
        note_of((*row.marks, *cell.marks)) or None,
    )
