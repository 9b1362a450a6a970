"""Tables as Markdown that reads well as plain text too."""

from collections.abc import Sequence

from harness.reports.plain import code, markdown_text, width
from harness.reports.table import Row, Table, mark_of, notes_below, numbered, texts


def markdown(table: Table) -> str:
    """Heading, caption, the table with aligned columns, and its notes; names of encoders are set as code."""
    numbers = numbered(table)
    body = []
    for row in table.rows:
        _, *shown = texts(row, table, numbers)
        for i, cell in enumerate(row.cells):
            shown[i] = f"**{shown[i]}**" if cell.best else shown[i]
        body.append([_label(row, table.head) + mark_of(row.marks, numbers), *shown])
    left = {0, *(i for i, column in enumerate(table.columns, start=1) if column.kind == "words")}
    header = [table.head, *(column.head for column in table.columns)]
    notes = "\n".join(f"- {f'{mark} ' if mark else ''}{markdown_text(note)}" for mark, note in notes_below(table))
    parts = [f"## {markdown_text(table.title)}", caption_text(table.caption), grid(header, body, left), notes]
    return "\n\n".join(part for part in parts if part) + "\n"


def caption_text(caption: str) -> str:
    """A caption, whose own backticks stand around names."""
    pieces = caption.split("`")
    return "".join(code(piece) if i % 2 else piece.replace("<", "&lt;") for i, piece in enumerate(pieces))


def grid(header: Sequence[str], body: Sequence[Sequence[str]], left: set[int]) -> str:
    """A Markdown table; the columns numbered in `left` are aligned left, the others right."""
    lines = [list(line) for line in (header, *body)]
    widths = [max(3, *(width(line[i]) for line in lines)) for i in range(len(header))]
    rule = [f":{'-' * (w - 1)}" if i in left else f"{'-' * (w - 1)}:" for i, w in enumerate(widths)]
    padded = [
        [_padded(cell, widths[i], i in left) for i, cell in enumerate(line)] for line in (lines[0], rule, *lines[1:])
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in padded)


def _padded(text: str, to: int, left: bool) -> str:
    space = " " * (to - width(text))
    return text + space if left else space + text


def _label(row: Row, head: str) -> str:
    if row.kind == "section":
        return f"**{markdown_text(row.label)}**"
    label = code(row.label) if row.kind == "measured" and head == "Encoder" else markdown_text(row.label)
    return f"↳ {label}" if row.below else label
