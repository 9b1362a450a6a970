"""The two streams of the command line: data on stdout, and everything for people's eyes on stderr."""

import contextlib
import json
import logging
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from harness.files import write_error
from harness.reports.renderers import blocks

if TYPE_CHECKING:
    from harness.reports import table as tables


class _Notices(Console):
    """The console of notices: one that cannot be written, on a full disk for instance, ends no work."""

    def print(self, *objects: Any, **options: Any) -> None:
        with contextlib.suppress(OSError, ValueError):
            super().print(*objects, **options)


class _Output(Console):
    """The console of data: output that is lost is an error."""

    def print(self, *objects: Any, **options: Any) -> None:
        with _written():
            super().print(*objects, **options)


@contextlib.contextmanager
def _written() -> Iterator[None]:
    """Turn a failed write to standard output into one sentence; a reader that went away needs none."""
    try:
        yield
    except BrokenPipeError:
        raise typer.Exit(1) from None
    except OSError as error:
        raise write_error(Path("standard output"), error) from error


out = _Output(soft_wrap=False)
err = _Notices(stderr=True, highlight=False)

Rows = list[dict[str, object]]


class _Lines(logging.Handler):
    """Writes to what is standard error at the moment, above a bar that is drawn there."""

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError, ValueError):  # a line that cannot be written ends no work
            sys.stderr.write(self.format(record) + "\n")


@contextlib.contextmanager
def log_lines(level: int) -> Iterator[None]:
    """Let our loggers write to stderr from that level on; warnings alone they write as they are, and always do."""
    if level == logging.WARNING:
        yield
        return
    handler = _Lines()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s", "%H:%M:%S"))
    loggers = [logging.getLogger(package) for package in ("harness", "baselines")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(level)
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger, old in zip(loggers, before, strict=True):
            logger.setLevel(old)
            logger.removeHandler(handler)


def print_json(value: object) -> None:
    """One JSON document on stdout."""
    with _written():
        sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
        sys.stdout.flush()


def show_rows(rows: Sequence[dict[str, object]], *, json: bool = False, empty: str = "nothing") -> None:
    """Rows of equal keys as a table on stdout, or as JSON."""
    if json:
        print_json(list(rows))
        return
    if not rows:
        out.print(empty, markup=False, soft_wrap=True)
        return
    table = Table()
    for key in rows[0]:
        table.add_column(key, overflow="fold")
    for row in rows:
        table.add_row(*(escape(str(value)) for value in row.values()))
    out.print(table)


def print_table(table: "tables.Table") -> None:
    """A table of a report on stdout, as wide as that is."""
    from harness.reports.renderers import terminal

    for text, style in terminal(table, out.width, "-" if out.options.ascii_only else "─"):
        out.print(Text(text, style), soft_wrap=True)


_GAP = 2  # characters between columns
_LABELS = 12  # characters that labels get even where columns then need a second block
SYMBOLS = "†‡§¶‖"  # of footnotes
_MARKED = re.compile(r"(.*?)([†‡§¶‖,]*)")  # a number, and the symbols of its footnotes


@dataclass(frozen=True, slots=True)
class Line:
    """One row: its label, its cells from left to right, and a style of rich."""

    label: str
    cells: Sequence[str]
    style: str = ""


def print_scores(title: str, head: Line, lines: Sequence[Line]) -> None:
    """The table on stdout, as wide as that is."""
    rule = "-" if out.options.ascii_only else "─"
    # A label may be longer than the terminal is wide: the terminal wraps it, and a pipe gets it whole.
    out.print(Text(title, "italic"), soft_wrap=True)
    for text, style in lay_out(head, lines, out.width, rule):
        out.print(Text(text, style), soft_wrap=True)


def lay_out(head: Line, lines: Sequence[Line], width: int, rule: str = "─") -> Iterator[tuple[str, str]]:
    """The lines of the table with their styles.

    Columns that do not fit beside each other go into further blocks below, each with the labels again. A label that
    does not fit beside its cells has a line of its own above them.
    """
    columns = [_align(cells) for cells in zip_longest(head.cells, *(line.cells for line in lines), fillvalue="")]
    needed = sum(_GAP + len(column[0]) for column in columns)
    room = max(width - needed, _LABELS)
    labels = [head.label, *(line.label for line in lines)]
    beside = max((len(label) for label in labels if len(label) <= room), default=0)
    styles = ["bold", *(line.style for line in lines)]
    for block in blocks(columns, width - beside, _GAP):
        yield "", ""
        for number, (label, *cells) in enumerate(zip(labels, *block, strict=True)):
            text = "".join(" " * _GAP + cell for cell in cells)
            if len(label) > beside:
                yield label, styles[number]
                label = ""
            yield f"{label:<{beside}}{text}".rstrip(), styles[number]
            if number == 0:
                yield rule * (beside + len(text)), ""


def _align(cells: Sequence[str]) -> list[str]:
    """To one width, the digits below each other whatever the symbols behind them."""
    parts = [match.groups() for match in map(_MARKED.fullmatch, cells) if match]
    marks = max(len(mark) for _, mark in parts)
    numbers = max(len(number) for number, _ in parts)
    return [f"{number:>{numbers}}{mark:<{marks}}" for number, mark in parts]
