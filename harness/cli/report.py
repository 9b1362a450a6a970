"""`bench report`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from harness.cli.console import err, out, print_json
from harness.cli.options import Settings, command
from harness.registry import split_specs


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
        shown = [(kind, cells) for kind, cells in table.rows if kind in ("measured", "counterpart", "difference")]
        grid = Table(title=table.title, title_justify="left")
        for position, head in enumerate(table.header):
            grid.add_column(head, justify="left" if position < 2 else "right", overflow="fold")
        for kind, cells in shown:
            grid.add_row(*(escape(cell) for cell in cells), style=None if kind == "measured" else "dim")
        if shown:
            out.print(grid)
    if not settings.quiet:
        err.print(f"{summary.n_results} results; {len(summary.paths)} files in {output}, start with {summary.paths[0]}")
