"""Tables as LaTeX: booktabs, numbers aligned at their point, caption and label, bold where told apart."""

from collections.abc import Mapping

from harness.reports.plain import latex_text
from harness.reports.table import Cell, Column, Row, Table, mark_of, notes_below, number_text, numbered

_LINE = 75  # characters of a tabular in small type that fit the text of an article
_NEEDS = "% Needs \\usepackage{booktabs,graphicx,siunitx}."
_UNICODE = "% Names in this table need XeLaTeX or LuaLaTeX (unicode), pdflatex cannot set them."


def latex(table: Table) -> str:
    r"""A `table` environment to `\input`. One that is wider than a page's text is shrunk to it."""
    numbers = numbered(table)
    heads = " & ".join([latex_text(table.head), *(f"{{{latex_text(column.head)}}}" for column in table.columns)])
    body = "\n".join(_row(row, table, numbers) for row in table.rows)
    columns = "l" + "".join(_specifier(i, table) for i in range(len(table.columns)))
    tabular = (
        f"\\begin{{tabular}}{{{columns}}}\n\\toprule\n{heads} \\\\\n\\midrule\n{body}\n\\bottomrule\n\\end{{tabular}}\n"
    )
    if _width(table) > _LINE:
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


def _row(row: Row, table: Table, numbers: Mapping[str, int]) -> str:
    if row.kind == "section":
        return f"\\midrule\n\\multicolumn{{{len(table.columns) + 1}}}{{l}}{{\\textit{{{latex_text(row.label)}}}}} \\\\"
    indent = "\\quad " if row.below else ""
    label = indent + latex_text(row.label + mark_of(row.marks, numbers))
    cells = [
        _cell(cell, table.columns[i], row, mark_of(cell.marks, numbers), _specifier(i, table))
        for i, cell in enumerate(row.cells)
    ]
    return " & ".join([label, *cells]) + r" \\"


def _cell(cell: Cell, column: Column, row: Row, mark: str, specifier: str) -> str:
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


def _width(table: Table) -> int:
    """In characters; a column's gap counts as two."""
    rows = [row for row in table.rows if row.kind != "section"]
    labels = max([len(table.head), *(len(row.label) for row in rows)])
    cells = [
        max([len(column.head), *(len(number_text(row.cells[i], column, row.kind)) for row in rows)])
        for i, column in enumerate(table.columns)
    ]
    return labels + sum(2 + cell for cell in cells)
