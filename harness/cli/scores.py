"""Tables of scores for a terminal of any width: no column is dropped, no number cropped, no name cut short."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from rich.text import Text

from harness.cli.console import out
from harness.reports.renderers import blocks

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
