"""`bench report`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from harness.cli.console import err, out, print_json
from harness.cli.options import Settings, command
from harness.registry import split_specs

if TYPE_CHECKING:
    from harness.reports.tables import TextTable


@command
def report(
    settings: Settings,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the tables.")] = Path("reports"),
    formats: Annotated[str, typer.Option("--format", "-f", help="md, latex, csv, comma-separated.")] = "md,latex,csv",
) -> None:
    """Render comparison tables, measured beside published, from the result files.

    Needs no torch, no data and no weights. Result files that are damaged are named and left out.
    """
    from harness.reports.report import report as render
    from harness.reports.tables import text

    summary = render(settings.results_dir, output, split_specs(formats))
    if settings.json:
        print_json(
            {"files": [str(p) for p in summary.paths], "results": summary.n_results, "problems": list(summary.problems)}
        )
        return
    for problem in summary.problems:
        err.print(f"bench: left out: {problem}", markup=False, soft_wrap=True)
    for table in map(text, summary.tables):
        _show(table)
    if not settings.quiet:
        err.print(f"{summary.n_results} results; {len(summary.paths)} files in {output}, start with {summary.paths[0]}")


def _show(table: "TextTable") -> None:
    """The measured rows and what they are compared with; the published rows are in the files."""
    shown = [(kind, cells) for kind, cells in table.rows if kind in ("measured", "counterpart", "difference")]
    grid = Table(title=escape(table.title), title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for head in table.header:
        if head != "Source":  # every row says it, by its style and its arrow
            grid.add_column(head, justify="left" if head == "Encoder" else "right", no_wrap=head != "Encoder")
    source = table.header.index("Source")
    for kind, cells in shown:
        texts = [escape(cell) for position, cell in enumerate(cells) if position != source]
        grid.add_row(*texts, style=None if kind == "measured" else "dim")
    if not shown:
        return
    out.print(grid)
    printed = "".join(cells[0] for _, cells in shown)
    for footnote in table.footnotes:
        if footnote.split()[0] in printed:
            out.print(f" {footnote}", markup=False, highlight=False)
