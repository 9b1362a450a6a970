"""What commands print: data on stdout, everything for people's eyes on stderr; and how every command ends."""

import contextlib
import json
import logging
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from harness import files
from harness.errors import BenchError, UsageError, missing_torch

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
        raise files.write_error(Path("standard output"), error) from error


out = _Output(soft_wrap=False)
err = _Notices(stderr=True, highlight=False)  # errors, and what a reader must know
notes = _Notices(stderr=True, highlight=False)  # what is good to know; --quiet silences it

Rows = list[dict[str, object]]


class _Lines(logging.Handler):
    """Writes to what is standard error at the moment, above a bar that is drawn there."""

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError, ValueError):  # a line that cannot be written ends no work
            sys.stderr.write(self.format(record) + "\n")


@contextlib.contextmanager
def talking(level: int, *, quiet: bool) -> Iterator[None]:
    """Say as much as was asked for: notes unless quiet, and what our loggers write from that level on.

    Warnings alone the loggers write as they are, and always do.
    """
    handler = _Lines()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s", "%H:%M:%S"))
    names = () if level == logging.WARNING else ("harness", "baselines")
    before = {logger: logger.level for logger in map(logging.getLogger, names)}
    for logger in before:
        logger.setLevel(level)
        logger.addHandler(handler)
    notes.quiet = quiet
    try:
        yield
    finally:
        notes.quiet = False
        for logger, old in before.items():
            logger.setLevel(old)
            logger.removeHandler(handler)


@contextlib.contextmanager
def endings() -> Iterator[None]:
    """Our errors and the system's become one sentence on stderr and an exit code; a bug keeps its traceback."""
    try:
        _check_working_directory()
        yield
    except (BenchError, ModuleNotFoundError, OSError) as error:
        if (said := _as_ours(error)) is None:
            raise
        notice(str(said))
        raise typer.Exit(said.exit_code) from None
    except MemoryError:
        notice("the memory of this machine is not enough; give it more, or do less at once")
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        notice("interrupted; what is finished is kept, the same command goes on from there")
        raise typer.Exit(130) from None


def _check_working_directory() -> None:
    """Torch ends the process where there is none, and relative paths mean nothing there."""
    try:
        Path.cwd()
    except FileNotFoundError:
        raise UsageError(
            "the working directory is gone, expected a folder that is there; change to another one"
        ) from None


def _as_ours(error: Exception) -> BenchError | None:
    """What a command says of an error; None of a bug, such as a library's own OSError, which has no error number."""
    if isinstance(error, ModuleNotFoundError):
        return missing_torch(error)
    if isinstance(error, OSError):
        return None if error.strerror is None else files.system_error(error)
    return error if isinstance(error, BenchError) else None


def notice(sentence: str) -> None:
    """What a reader must know, an error for instance: one line on stderr, as it is, without wrapping and markup."""
    err.print(f"bench: {sentence}", markup=False, soft_wrap=True)


def tell(sentence: str) -> None:
    """What is good to know: one line on stderr, as it is, unless the command is quiet."""
    notes.print(sentence, markup=False, soft_wrap=True)


def notice_unless_quiet(sentence: str) -> None:
    """A notice that a quiet command leaves out."""
    tell(f"bench: {sentence}")


def print_line(sentence: str) -> None:
    """One line on stdout, as it is: no wrapping, no markup, no colours."""
    out.print(sentence, markup=False, highlight=False, soft_wrap=True)


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
    from harness.reports.renderers import terminal  # loads numpy, which the help does not wait for

    _print_lines(terminal(table, out.width, _rule()))


_GAP = 2  # characters between columns
_LABELS = 12  # characters that labels get even where columns then need a second block
SYMBOLS = "†‡§¶‖"  # of footnotes
_MARKED = re.compile(r"(.*?)([†‡§¶‖,]*)")  # a number, and the symbols of its footnotes


@dataclass(frozen=True, slots=True)
class Line:
    """One row of scores: its label, its cells from left to right, and a style of rich."""

    label: str
    cells: Sequence[str]
    style: str = ""


def print_scores(title: str, head: Line, lines: Sequence[Line]) -> None:
    """Scores on stdout at any width: no column is dropped, no number cropped, no name cut short."""
    _print_lines([(title, "italic"), *lay_out(head, lines, out.width, _rule())])


def _print_lines(lines: Iterable[tuple[str, str]]) -> None:
    """Lines with their styles. The terminal wraps a label that is longer than it is wide; a pipe gets it whole."""
    for text, style in lines:
        out.print(Text(text, style), soft_wrap=True)


def _rule() -> str:
    return "-" if out.options.ascii_only else "─"


def lay_out(head: Line, lines: Sequence[Line], width: int, rule: str = "─") -> Iterator[tuple[str, str]]:
    """The lines of a table of scores with their styles.

    Columns that do not fit beside each other go into further blocks below, each with the labels again. A label that
    does not fit beside its cells has a line of its own above them.
    """
    from harness.reports.renderers import blocks

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
