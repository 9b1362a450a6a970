"""`bench compare`."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from harness.cli.console import err, out, print_json
from harness.cli.options import Settings, command
from harness.registry import pick

if TYPE_CHECKING:
    from harness.reports.comparison import Difference


@command
def compare(
    settings: Settings,
    a: Annotated[str, typer.Argument(help="An encoder, by its name in the results.")],
    b: Annotated[str, typer.Argument(help="Another one.")],
    resamples: Annotated[int, typer.Option(min=100, help="Of the paired bootstrap.")] = 10_000,
) -> None:
    """Compare two encoders, task by task, on the same pairs and rows.

    Needs results of both with per-item scores, and nothing else. The interval is that of the difference, 95 %, from a
    bootstrap over the pairs within their subsets, clustered by shared sentences; Holm's correction is over all tasks.

    For example: bench compare minilm bag-of-words
    """
    from harness.reports.comparison import compare as compared
    from harness.results.store import read_all

    results, _ = read_all(settings.results_dir)
    known = {result.encoder.name: result.encoder.name for result in results}
    names = (pick("result's encoder", known, a), pick("result's encoder", known, b))
    found = compared(results, names, settings.results_dir, resamples)
    if settings.json:
        rows = [asdict(row) for row in found.rows]
        print_json({"a": a, "b": b, "resamples": resamples, "rows": rows, "left_out": list(found.left_out)})
        return
    for sentence in found.left_out:
        err.print(f"bench: left out: {sentence}", markup=False, soft_wrap=True)
    out.print(_table(a, b, found.rows))
    if not settings.quiet:
        err.print(f"p: paired bootstrap, {resamples:,} resamples; McNemar for accuracies. An average is not corrected.")


def _table(a: str, b: str, rows: "tuple[Difference, ...]") -> Table:
    table = Table(title=escape(f"A {a}\nB {b}"), title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("task", overflow="fold")
    for head in ("A", "B", "A - B", "95 %", "p", "Holm", "higher"):
        table.add_column(head, justify="right", no_wrap=True)
    for row in rows:
        several = sum(row.task == other.task for other in rows) > 1
        table.add_row(
            escape(f"{row.task} ({row.table})" if several else row.task),
            f"{row.a:.2f}",
            f"{row.b:.2f}",
            f"{row.difference:+.2f}",
            f"{row.low:+.2f}..{row.high:+.2f}",
            f"{row.p:.4f}",
            f"{row.p_holm:.4f}",
            {"a": "A", "b": "B", "tied": "tied"}[row.verdict],
            style="bold" if row.task == "average" else None,
        )
    return table
