"""What a table is written as: Markdown, LaTeX, CSV, JSON, and lines for a terminal; the page has its template.

All of them start from the cells of a `Table`, and none reads what another wrote. Names and sentences of others are made
harmless by `visible`, `code`, `markdown_text`, `latex_text` and `field`, each for where it is printed.
"""

import csv
import io
import json
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from textwrap import wrap

from harness.reports.table import Cell, Column, Row, Table, mark_of, note_of, notes_below, number_text, numbered, texts

_LATEX_LINE = 75  # characters of a tabular in small type that fit the text of an article
_NEEDS = "% Needs \\usepackage{booktabs,graphicx,siunitx}."
_UNICODE = "% Names in this table need XeLaTeX or LuaLaTeX (unicode), pdflatex cannot set them."
HEADER = (
    *("encoder", "source", "task", "protocol", "score", "value"),
    *("low", "high", "sd", "seeds", "verdict", "reason", "remarks"),
)
Line = tuple[str | float | int | None, ...]
_GAPS = (2, 1)  # characters between columns: as many as there is room for
_TIGHT = re.compile(r" ([=≠?])(?=[⁰¹²³⁴⁵⁶⁷⁸⁹]*$)")
_STYLES = {"section": "italic", "published": "dim", "difference": "dim"}
_DIGITS = "⁰¹²³⁴⁵⁶⁷⁸⁹"
_LABELS = 12  # characters that labels get even where columns then need a second block
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_FORMULA = ("=", "+", "-", "@")
_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "[": "{[}",  # after \\ a bare bracket would be read as its argument
    "]": "{]}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "`": r"\textasciigrave{}",
    "×": r"$\times$",
    "±": r"$\pm$",
    "≠": r"$\neq$",
    "=": "=",
    "–": "--",
    "α": r"$\alpha$",
    "λ": r"$\lambda$",
    "“": "``",
    "”": "''",
    "’": "'",
    "…": r"\ldots{}",
    "·": r"$\cdot$",
} | {sign: rf"\textsuperscript{{{digit}}}" for digit, sign in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")}


def visible(text: str) -> str:
    """Without characters that act: ANSI codes, line ends and marks of direction are shown by their code."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def code(name: str) -> str:
    """A name as code in Markdown, by as many backticks as it needs; a bar would end a table's cell."""
    name = visible(name).replace("|", r"\|")
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", name)), default=0))
    inside = f" {name} " if name.startswith("`") or name.endswith("`") else name
    return f"{fence}{inside}{fence}"


def markdown_text(text: str) -> str:
    """A sentence in Markdown that is no HTML and no emphasis."""
    acting = r"[\\*|`\[\]]|(?<!\w)_|_(?!\w)"  # inside a word an underscore is one
    return re.sub(acting, lambda found: f"\\{found[0]}", visible(text)).replace("<", "&lt;")


def latex_text(text: str) -> str:
    """A text as LaTeX that prints it."""
    return "".join(_LATEX.get(character, character) for character in visible(text))


def field(text: str) -> str:
    """A text in a CSV file that a spreadsheet shows and does not compute."""
    text = visible(text)
    return f"'{text}" if text.startswith(_FORMULA) else text


def width(text: str) -> int:
    """How many columns of a terminal a text takes."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def markdown(table: Table) -> str:
    """Heading, caption, the table with aligned columns, and its notes; names of encoders are set as code."""
    numbers = numbered(table)
    body = []
    for row in table.rows:
        _, *shown = texts(row, table, numbers)
        for i, cell in enumerate(row.cells):
            shown[i] = f"**{shown[i]}**" if cell.best else shown[i]
        body.append([_markdown_label(row, table.head) + mark_of(row.marks, numbers), *shown])
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
        [_pad(cell, widths[i], i in left) for i, cell in enumerate(line)] for line in (lines[0], rule, *lines[1:])
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in padded)


def _pad(text: str, to: int, left: bool) -> str:
    space = " " * (to - width(text))
    return text + space if left else space + text


def _markdown_label(row: Row, head: str) -> str:
    if row.kind == "section":
        return f"**{markdown_text(row.label)}**"
    label = code(row.label) if row.kind == "measured" and head == "Encoder" else markdown_text(row.label)
    return f"↳ {label}" if row.below else label


def latex(table: Table) -> str:
    r"""A `table` environment to `\input`. One that is wider than a page's text is shrunk to it."""
    numbers = numbered(table)
    heads = " & ".join([latex_text(table.head), *(f"{{{latex_text(column.head)}}}" for column in table.columns)])
    body = "\n".join(_latex_row(row, table, numbers) for row in table.rows)
    columns = "l" + "".join(_specifier(i, table) for i in range(len(table.columns)))
    tabular = (
        f"\\begin{{tabular}}{{{columns}}}\n\\toprule\n{heads} \\\\\n\\midrule\n{body}\n\\bottomrule\n\\end{{tabular}}\n"
    )
    if _latex_width(table) > _LATEX_LINE:
        tabular = f"\\resizebox{{\\linewidth}}{{!}}{{%\n{tabular}}}\n"
    notes = "".join(
        f"\\par\\smallskip{{\\raggedright\\footnotesize {latex_text(mark)} {latex_text(note)}\\par}}\n"
        for mark, note in notes_below(table)
    )
    page = (
        "\\begin{table}[t]\n\\centering\\small\\setlength{\\belowcaptionskip}{6pt}\n"
        "\\sisetup{detect-weight=true,detect-inline-weight=math}\n"
        f"\\caption{{{latex_text(table.caption.replace('`', ''))}}}\n\\label{{tab:{table.name}}}\n"
        f"{tabular}{notes}\\end{{table}}\n"
    )
    return "\n".join([_NEEDS, *([] if page.isascii() else [_UNICODE]), page])


def _specifier(position: int, table: Table) -> str:
    """Numbers at their point; a column with deviations, or of words, as text."""
    column = table.columns[position]
    cells = [row.cells[position] for row in table.rows if row.cells]
    if column.kind == "words":
        return "l"
    if column.kind == "spread" or any(cell.deviation is not None and column.spread == "inside" for cell in cells):
        return "r"
    whole = max((len(f"{abs(cell.value):.0f}") for cell in cells if cell.value is not None), default=1)
    signed = any(row.kind == "difference" for row in table.rows if row.cells)
    after = any(cell.verdict or cell.marks for cell in cells)
    room = ",table-space-text-post={ $\\neq$}" if after else ""
    return f"S[table-format={'-' if signed else ''}{whole}.{column.digits}{room}]"


def _latex_row(row: Row, table: Table, numbers: Mapping[str, int]) -> str:
    if row.kind == "section":
        return f"\\midrule\n\\multicolumn{{{len(table.columns) + 1}}}{{l}}{{\\textit{{{latex_text(row.label)}}}}} \\\\"
    indent = "\\quad " if row.below else ""
    label = indent + latex_text(row.label + mark_of(row.marks, numbers))
    cells = [
        _latex_cell(cell, table.columns[i], row, mark_of(cell.marks, numbers), _specifier(i, table))
        for i, cell in enumerate(row.cells)
    ]
    return " & ".join([label, *cells]) + r" \\"


def _latex_cell(cell: Cell, column: Column, row: Row, mark: str, specifier: str) -> str:
    shown = number_text(cell, column, row.kind)
    if column.kind != "score" or specifier == "r":
        minus = "$-$" if shown[:1] == "-" and cell.value is not None else ""
        text = (
            minus
            + latex_text(shown.removeprefix("-") if minus else shown.replace("-", "–", shown == "-"))
            + latex_text(mark)
        )
        return f"\\textbf{{{text}}}" if cell.best else text
    number, _, verdict = shown.partition(" ")
    if cell.value is None:
        return "{--}" if number else ""
    after = latex_text(mark) + (f" {latex_text(verdict)}" if verdict else "")
    return ("\\bfseries " if cell.best else "") + number + (f"{{{after}}}" if after else "")


def _latex_width(table: Table) -> int:
    """In characters; a column's gap counts as two."""
    rows = [row for row in table.rows if row.kind != "section"]
    labels = max([len(table.head), *(len(row.label) for row in rows)])
    cells = [
        max([len(column.head), *(len(number_text(row.cells[i], column, row.kind)) for row in rows)])
        for i, column in enumerate(table.columns)
    ]
    return labels + sum(2 + cell for cell in cells)


def tidy_csv(table: Table) -> str:
    """One line per number with a header, nothing where there is no value; texts are no formulas to a spreadsheet."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(HEADER)
    writer.writerows([field(one) if isinstance(one, str) else one for one in line] for line in tidy_lines(table))
    return buffer.getvalue()


def tidy_json(table: Table) -> str:
    """The lines of `tidy_csv` as a list of objects, with `null` where there is no value."""
    found = [dict(zip(HEADER, line, strict=True)) for line in tidy_lines(table)]
    return json.dumps(found, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def tidy_lines(table: Table) -> Iterator[Line]:
    """The numbers of measured and published rows; differences are left to the reader."""
    encoder = ""
    for row in table.rows:
        if row.kind in ("section", "difference"):
            continue
        encoder = encoder if row.below else row.name or row.label
        for cell, column in zip(row.cells, table.columns, strict=True):
            if cell.value is None and not cell.words:
                continue
            own = row.kind == "measured" and not row.below
            yield (
                encoder,
                "measured" if own else " ".join(cell.source) or row.label,
                column.task or column.head,
                table.protocol,
                column.key,
                cell.words if cell.value is None else cell.value,
                *(cell.interval or (None, None)),
                cell.deviation,
                cell.seeds if row.kind == "measured" else None,
                *((cell.verdict.outcome, cell.verdict.reason) if cell.verdict else (None, None)),
                note_of((*row.marks, *cell.marks)) or None,
            )


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
    columns = [_align([line[i + 1] for line in lines], kind) for i, kind in enumerate(kinds)]
    labels = [line[0] for line in lines]
    gap, kept = _fitting(kinds, columns, room - _LABELS)
    yield visible(table.title), "italic"
    most = max(room - sum(gap + width(columns[i][0]) for i in kept), _LABELS)
    beside = max((width(label) for label in labels if width(label) <= most), default=0)
    for block in blocks([columns[i] for i in kept], room - beside, gap):
        for number, (label, *cells) in enumerate(zip(labels, *block, strict=True)):
            text = "".join(" " * gap + cell for cell in cells)
            if width(label) > beside:
                yield label, styles[number]
                label = ""
            yield f"{label}{' ' * (beside - width(label))}{text}".rstrip(), styles[number]
            if number == 0:
                yield rule * min(room, beside + width(text)), ""
    for mark, note in notes_below(table):
        yield from ((line, "") for line in wrap(f"{mark} {visible(note)}".lstrip(), room, break_long_words=False))


def _fitting(kinds: Sequence[str], columns: Sequence[list[str]], room: int) -> tuple[int, list[int]]:
    """The gap, and which columns to print: all where they fit, else without spreads, and then closer together."""
    everything = list(range(len(columns)))
    fewer = [i for i in everything if kinds[i] != "spread"]
    for gap, kept in ((_GAPS[0], everything), (_GAPS[0], fewer), (_GAPS[1], fewer)):
        if sum(gap + width(columns[i][0]) for i in kept) <= room:
            return gap, kept
    return _GAPS[1], fewer


def _align(cells: Sequence[str], kind: str) -> list[str]:
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


def blocks(columns: Sequence[list[str]], room: int, gap: int) -> list[list[list[str]]]:
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
