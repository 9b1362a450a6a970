"""Tables for a terminal of any width: no name is broken, no number cropped."""

import re
from collections.abc import Iterator, Sequence

from harness.reports.plain import visible, width
from harness.reports.table import Table, notes_below, numbered, texts

_GAPS = (2, 1)  # characters between columns: as many as there is room for
_TIGHT = re.compile(r" ([=≠?])(?=[⁰¹²³⁴⁵⁶⁷⁸⁹]*$)")
_STYLES = {"section": "italic", "published": "dim", "difference": "dim"}
_DIGITS = "⁰¹²³⁴⁵⁶⁷⁸⁹"
_LABELS = 12  # characters that labels get even where columns then need a second block


def terminal(table: Table, room: int, rule: str = "─") -> Iterator[tuple[str, str]]:
    """The lines of a table, each with a style of rich.

    Columns of spreads and of words are left out where they do not fit; other columns that do not fit go into further
    blocks below. A label that does not fit beside its cells has a line of its own above them.

    Args:
        table: what to print.
        room: the width of the terminal.
        rule: the character under the heads.
    """
    numbers = numbered(table)
    lines = [
        [table.head, *(column.head for column in table.columns)],
        *(texts(row, table, numbers) for row in table.rows),
    ]
    lines = [[_TIGHT.sub(r"\1", visible(text)) for text in line] for line in lines]
    styles = ["bold", *("" if row.kind == "measured" else _STYLES.get(row.kind, "") for row in table.rows)]
    kinds = [column.kind for column in table.columns]
    columns = [_aligned([line[i + 1] for line in lines], kind) for i, kind in enumerate(kinds)]
    labels = [line[0] for line in lines]
    gap, kept = _fitting(kinds, columns, room - _LABELS)
    yield visible(table.title), "italic"
    most = max(room - sum(gap + width(columns[i][0]) for i in kept), _LABELS)
    beside = max((width(label) for label in labels if width(label) <= most), default=0)
    for block in _blocks([columns[i] for i in kept], room - beside, gap):
        for number, (label, *cells) in enumerate(zip(labels, *block, strict=True)):
            text = "".join(" " * gap + cell for cell in cells)
            if width(label) > beside:
                yield label, styles[number]
                label = ""
            yield f"{label}{' ' * (beside - width(label))}{text}".rstrip(), styles[number]
            if number == 0:
                yield rule * min(room, beside + width(text)), ""
    for mark, note in notes_below(table):
        yield f"{mark} {visible(note)}".lstrip(), ""


def _fitting(kinds: Sequence[str], columns: Sequence[list[str]], room: int) -> tuple[int, list[int]]:
    """The gap, and which columns to print: all where they fit, else without spreads, and then closer together."""
    everything = list(range(len(columns)))
    fewer = [i for i in everything if kinds[i] != "spread"]
    for gap, kept in ((_GAPS[0], everything), (_GAPS[0], fewer), (_GAPS[1], fewer)):
        if sum(gap + width(columns[i][0]) for i in kept) <= room:
            return gap, kept
    return _GAPS[1], fewer


def _aligned(cells: Sequence[str], kind: str) -> list[str]:
    """To one width: words from the left, digits below each other whatever the marks behind them."""
    if kind == "words":
        room = max(map(width, cells))
        return [cell + " " * (room - width(cell)) for cell in cells]
    numbers = [cell.rstrip(_DIGITS + "=≠? ") if cell[:1].isdigit() or cell[:1] in "+-" else cell for cell in cells]
    marks = [cell[len(number) :] for cell, number in zip(cells, numbers, strict=True)]
    most, room = max(map(width, numbers)), max(map(width, marks))
    return [
        f"{' ' * (most - width(number))}{number}{mark}{' ' * (room - width(mark))}"
        for number, mark in zip(numbers, marks, strict=True)
    ]


def _blocks(columns: Sequence[list[str]], room: int, gap: int) -> list[list[list[str]]]:
    """As many columns beside each other as there is room for, and at least one."""
    blocks: list[list[list[str]]] = []
    left = 0
    for column in columns:
        needed = gap + width(column[0])
        if not blocks or needed > left:
            blocks.append([])
            left = room
        blocks[-1].append(column)
        left -= needed
    return blocks
