"""Tables as Markdown, LaTeX (booktabs) and CSV. Equal results give equal bytes."""

import csv
import io
from collections.abc import Sequence

from harness.reports.published import AVERAGE
from harness.reports.tables import SYMBOLS, Row, Table, text

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
    '"': r"\textquotedbl{}",
    "↳": r"\quad",
    "†": r"\textdagger{}",
    "‡": r"\textdaggerdbl{}",
    "§": r"\textsection{}",
    "¶": r"\textparagraph{}",
    "‖": r"\textbardbl{}",
    "×": r"$\times$",
    "“": "``",
    "”": "''",
}


def markdown(table: Table) -> str:
    """Heading, caption, the table with aligned columns, and its footnotes; encoder names are set as code."""
    shown = text(table)
    body = [_emphasised(kind, texts) for kind, texts in shown.rows]
    parts = [f"## {shown.title}", shown.caption, grid(shown.header, body, left=2)]
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
    r"""A `table` environment to `\input`; needs booktabs and, before TeX Live 2020, textcomp."""
    shown = text(table)
    columns = "ll" + "r" * (len(shown.header) - 2)
    body = "\n".join(_latex_row(kind, texts, len(shown.header)) for kind, texts in shown.rows)
    notes = "".join(f"\\par\\smallskip{{\\footnotesize {escape(line)}}}\n" for line in shown.footnotes)
    return (
        "\\begin{table}[t]\n\\centering\\small\n"
        f"\\caption{{{escape(shown.caption)}}}\n\\label{{tab:{table.name}}}\n"
        f"\\begin{{tabular}}{{{columns}}}\n\\toprule\n"
        f"{' & '.join(map(escape, shown.header))} \\\\\n"
        f"{body}\n\\bottomrule\n\\end{{tabular}}\n{notes}\\end{{table}}\n"
    )


def escape(plain: str) -> str:
    """Plain text as LaTeX that prints it."""
    return "".join(_LATEX.get(character, character) for character in plain)


def tidy_csv(table: Table) -> str:
    """One line per number, percent at full precision; differences are left to the reader."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(("model", "source", "task", "protocol", "score", "value"))
    encoder = ""
    for row in table.rows:
        if row.kind in ("section", "difference"):
            continue
        encoder = encoder if row.kind == "counterpart" else row.label
        writer.writerows((encoder, row.source, *rest) for rest in _numbers(row, table))
    return buffer.getvalue()


def _numbers(row: Row, table: Table) -> list[tuple[str, str, str, str]]:
    layout = table.layout
    places = [(column.task, layout.key(column)) for column in layout.columns]
    if layout.average:
        places.append((AVERAGE, layout.key(layout.columns[0])))
    return [
        (task, table.protocol, key, repr(cell.value))
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
