"""Tables as Markdown, LaTeX (booktabs), CSV and JSON. Equal results give equal bytes."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass

from harness.reports.published import AVERAGE
from harness.reports.rows import Row
from harness.reports.tables import SYMBOLS, Table, TextTable, text

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
    "↳": r"\quad",
    "†": r"\textdagger{}",
    "‡": r"\textdaggerdbl{}",
    "§": r"\textsection{}",
    "¶": r"\textparagraph{}",
    "‖": r"\textbardbl{}",
    "×": r"$\times$",
    "±": r"$\pm$",
    "α": r"$\alpha$",
    "λ": r"$\lambda$",
    "“": "``",
    "”": "''",
}
_LINE = 75  # characters of a tabular in small type that fit the text of an article


@dataclass(frozen=True, slots=True)
class Records:
    """A table's numbers at full precision, one a line: names of the fields, and the lines."""

    header: tuple[str, ...]
    lines: Sequence[Sequence[object]]

    def csv(self) -> str:
        """With a header; nothing where there is no value."""
        buffer = io.StringIO()
        csv.writer(buffer, lineterminator="\n").writerows([self.header, *self.lines])
        return buffer.getvalue()

    def json(self) -> str:
        """A list of objects, with `null` where there is no value."""
        found = [dict(zip(self.header, line, strict=True)) for line in self.lines]
        return json.dumps(found, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def markdown(table: Table) -> str:
    """Heading, caption, the table with aligned columns, and its footnotes; encoder names are set as code."""
    return markdown_text(text(table))


def markdown_text(shown: TextTable) -> str:
    """As `markdown`, of a table that is text already."""
    body = [_emphasised(kind, texts) for kind, texts in shown.rows]
    parts = [f"## {shown.title}", shown.caption, grid(shown.header, body, left=_left(shown))]
    return "\n\n".join([*parts, "\n".join(f"- {line}" for line in shown.footnotes)]).rstrip() + "\n"


def grid(header: Sequence[str], body: Sequence[Sequence[str]], left: int) -> str:
    """A Markdown table padded to read well as plain text; the first `left` columns are aligned left."""
    lines = [[cell.replace("|", r"\|") for cell in line] for line in (header, *body)]
    widths = [max(3, *(len(line[i]) for line in lines)) for i in range(len(header))]
    rule = [f":{'-' * (w - 1)}" if i < left else f"{'-' * (w - 1)}:" for i, w in enumerate(widths)]
    padded = [
        [cell.ljust(w) if i < left else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True))]
        for line in (lines[0], rule, *lines[1:])
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in padded)


def latex(table: Table) -> str:
    r"""A `table` environment to `\input`; needs booktabs, graphicx, and before TeX Live 2020 textcomp."""
    return latex_text(text(table), table.name)


def latex_text(shown: TextTable, name: str) -> str:
    """As `latex`, of a table that is text already. One that is wider than a page's text is shrunk to it."""
    columns = "l" * _left(shown) + "r" * (len(shown.header) - _left(shown))
    body = "\n".join(_latex_row(kind, texts, len(shown.header)) for kind, texts in shown.rows)
    notes = "".join(f"\\par\\smallskip{{\\footnotesize {escape(line)}}}\n" for line in shown.footnotes)
    tabular = (
        f"\\begin{{tabular}}{{{columns}}}\n\\toprule\n"
        f"{' & '.join(map(escape, shown.header))} \\\\\n"
        f"{body}\n\\bottomrule\n\\end{{tabular}}\n"
    )
    if _width(shown) > _LINE:
        tabular = f"\\resizebox{{\\linewidth}}{{!}}{{%\n{tabular}}}\n"
    return (
        "\\begin{table}[t]\n\\centering\\small\\setlength{\\belowcaptionskip}{6pt}\n"
        f"\\caption{{{escape(shown.caption)}}}\n\\label{{tab:{name}}}\n"
        f"{tabular}{notes}\\end{{table}}\n"
    )


def _left(shown: TextTable) -> int:
    """How many columns are words: the label and the source, or all of them where there is no source."""
    return 2 if "Source" in shown.header else len(shown.header)


def _width(shown: TextTable) -> int:
    """In characters; a column's gap counts as two."""
    lines = [shown.header, *(texts for kind, texts in shown.rows if kind != "section")]
    return sum(2 + max(len(line[i]) for line in lines) for i in range(len(shown.header)))


def escape(plain: str) -> str:
    """Plain text as LaTeX that prints it."""
    return "".join(_LATEX.get(character, character) for character in plain)


def tidy_csv(table: Table) -> str:
    """One line per number, percent at full precision; differences are left to the reader.

    The half width is that of the 95% bootstrap interval; the row of a mean has the seeds' standard deviation (sd).
    """
    return _records(table).csv()


def tidy_json(table: Table) -> str:
    """The lines of `tidy_csv` as objects."""
    return _records(table).json()


def _records(table: Table) -> Records:
    lines: list[tuple[object, ...]] = []
    encoder = ""
    for row in table.rows:
        if row.kind in ("section", "difference", "verdict"):
            continue
        encoder = encoder if row.kind == "counterpart" else row.label
        lines += [(encoder, row.source, *rest) for rest in _numbers(row, table)]
    return Records(("model", "source", "task", "protocol", "score", "value", "half_width", "sd"), lines)


def _numbers(row: Row, table: Table) -> list[tuple[object, ...]]:
    layout = table.layout
    places = [(column.task, layout.key(column)) for column in layout.columns]
    if layout.average:
        places.append((AVERAGE, layout.key(layout.columns[0])))
    return [
        (task, table.protocol, key, cell.value, cell.half_width, cell.deviation)
        for (task, key), cell in zip(places, row.cells, strict=True)
        if cell.value is not None
    ]


def _emphasised(kind: str, texts: Sequence[str]) -> Sequence[str]:
    if kind == "section":
        return (f"**{texts[0]}**", *texts[1:])
    if kind == "measured":
        name = texts[0].rstrip(f"{SYMBOLS}, ")
        return (f"`{name}`{texts[0][len(name) :]}", *texts[1:])
    return texts


def _latex_row(kind: str, texts: Sequence[str], width: int) -> str:
    if kind == "section":
        return f"\\midrule\n\\multicolumn{{{width}}}{{l}}{{\\textit{{{escape(texts[0])}}}}} \\\\"
    label, source, *numbers = map(escape, texts)
    signed = [f"$-${number[1:]}" if number.startswith("-") and len(number) > 1 else number for number in numbers]
    return f"{' & '.join([label, source, *signed])} \\\\"
