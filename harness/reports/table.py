"""The one model of a table: cells with numbers and what must be known of them; every renderer starts from it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from harness.reports.uncertainty import Interval
from harness.reports.verdicts import Verdict

Kind = Literal["section", "measured", "published", "difference"]

MOST_NOTES = 10
_REST = "further remarks are in the .csv file of this table"
_VERDICTS = {"reproduced": "=", "not reproduced": "≠", "undecided": "?"}
_SUPERSCRIPT = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One number at full precision, or nothing, and what a reader must know of it."""

    value: float | None = None  # in the column's unit, the mean where there are several seeds
    interval: Interval | None = None  # its 95 % interval in the same unit
    deviation: float | None = None  # standard deviation of the seeds
    seeds: int = 1  # how many runs the value is the mean of
    verdict: Verdict | None = None  # of a published number, whether it is reproduced
    source: tuple[str, ...] = ()  # full names of the encoders that were measured, or where a published number is from
    best: bool = False  # whether it is the highest of its column and told apart from the second
    words: str = ""  # what is printed in a column of words
    marks: tuple[str, ...] = ()  # remarks on this cell; they are printed as one note


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """What stands below one head: scores of a task, the spread of the score before it, or words."""

    head: str  # as it is printed
    kind: Literal["score", "spread", "words"] = "score"  # of its cells
    # whether deviations stand beside the scores, or in a column of their own
    spread: Literal["inside", "apart"] = "apart"
    digits: int = 2  # behind the point
    task: str = ""  # as in results, or `Avg`
    key: str = ""  # of the score in results


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line: a heading without cells, an encoder, a published row, or a difference measured minus published."""

    kind: Kind
    label: str  # short, for print
    name: str = ""  # the full name of the encoder, or of the published row
    cells: tuple[Cell, ...] = ()
    marks: tuple[str, ...] = ()  # remarks on the row as a whole
    below: bool = False  # whether it belongs to the row above it


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table at full precision."""

    name: str  # unique among the tables of a report, and safe as a file name
    title: str
    caption: str  # one sentence after another
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    head: str = "Encoder"  # above the labels
    protocol: str = ""  # of all measured numbers, or "" where the columns say it
    notes: tuple[str, ...] = ()  # on the table as a whole
    left_out: tuple[str, ...] = ()  # parameters that the labels leave out, such as `backbone=tiny`; the caption says so
    main: bool = True  # whether a report shows it in full on its first page


def note_of(marks: Sequence[str]) -> str:
    """Several remarks as one note: a cell has one mark at most."""
    return "; ".join(dict.fromkeys(marks))


def numbered(table: Table) -> Mapping[str, int]:
    """The notes of rows and cells with their numbers, at most ten; all that follow share the last."""
    found: dict[str, None] = {}
    for row in table.rows:
        found |= {note_of(marks): None for marks in (row.marks, *(cell.marks for cell in row.cells)) if marks}
    last = MOST_NOTES if len(found) > MOST_NOTES else len(found)
    return {note: min(number, last) for number, note in enumerate(found, start=1)}


def notes_below(table: Table) -> Iterator[tuple[str, str]]:
    """Mark and text of each line under the table; remarks on the table as a whole have no mark."""
    numbers = numbered(table)
    for note, number in numbers.items():
        if number < MOST_NOTES or len(numbers) == MOST_NOTES:
            yield superscript(number), note
    if len(numbers) > MOST_NOTES:
        yield superscript(MOST_NOTES), _REST
    for note in table.notes:
        yield "", note


def superscript(number: int) -> str:
    """`12` -> `¹²`."""
    return str(number).translate(_SUPERSCRIPT)


def mark_of(marks: Sequence[str], numbers: Mapping[str, int]) -> str:
    """The mark of a cell or row, or "" where there is nothing to remark."""
    return superscript(numbers[note_of(marks)]) if marks else ""


def number_text(cell: Cell, column: Column, kind: Kind) -> str:
    """A cell without its mark: rounded, a dash for what is missing, and whether a published number is reproduced."""
    if column.kind == "words":
        return cell.words
    if column.kind == "spread":
        return spread_text(cell, column.digits)
    if cell.value is None:
        return cell.words.strip() if cell.words else "-"
    if kind == "difference":
        signed = f"{cell.value:+.{column.digits}f}"
        return signed[1:] if float(signed) == 0 else signed
    number = f"{cell.value:.{column.digits}f}"
    if column.spread == "inside" and cell.deviation is not None:
        number += f" ± {cell.deviation:.{column.digits}f}"
    return number + ("" if cell.verdict is None else f" {_VERDICTS[cell.verdict.outcome]}")


def spread_text(cell: Cell, digits: int = 2) -> str:
    """`52.1–53.9`, an interval; `sd 0.21`, of seeds; or nothing."""
    if cell.deviation is not None:
        return f"sd {cell.deviation:.{digits}f}"
    return "" if cell.interval is None else f"{cell.interval.low:.1f}–{cell.interval.high:.1f}"


def texts(row: Row, table: Table, numbers: Mapping[str, int]) -> list[str]:
    """The label and the cells of a row as they are printed, with their marks."""
    label = f"{'  ' if row.below else ''}{row.label}{mark_of(row.marks, numbers)}"
    if not row.cells:
        return [label, *[""] * len(table.columns)]
    cells = zip(row.cells, table.columns, strict=True)
    return [label, *(number_text(one, column, row.kind) + mark_of(one.marks, numbers) for one, column in cells)]
