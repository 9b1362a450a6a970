"""`bench check`."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import options
from harness.cli.console import Rows, err, print_json, show_rows
from harness.cli.options import command, notice
from harness.errors import ResultError

if TYPE_CHECKING:
    from harness.reports.gate import Gate


@command
def check(
    results: Annotated[Path, typer.Argument(help="Folder of the results that are checked.")],
    baseline: Annotated[Path, typer.Option("--baseline", help="Folder of the results they are held against.")],
    max_drop: Annotated[float, typer.Option("--max-drop", min=0, help="Points that a score may fall.")] = 0.3,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Check that no score has fallen, as a gate for continuous integration.

    Every encoder and task of the baseline is compared with itself, on the same items and seeds. The exit code is 0
    where all intervals (95 %) lie above the allowed drop, 1 where one lies below it, and 2 where nothing is decided: an
    interval contains it, a result is missing, nothing can be compared, or an option is wrong. Stderr says which.

    For example: bench check results --baseline main-results --max-drop 0.3
    """
    from harness.reports.gate import EXIT_CODES
    from harness.reports.gate import check as compared
    from harness.results.store import read_all

    for folder in (results, baseline):
        if not folder.is_dir():
            raise ResultError(f"{folder}: no such folder, expected one of results; `bench run` makes one")
    (before, unread), (after, problems) = read_all(baseline), read_all(results)
    problems = [*unread, *problems]
    found = compared(before, after, max_drop)
    if json:
        print_json({"outcome": found.outcome, **asdict(found), "problems": problems})
    else:
        _show(found, problems, max_drop, quiet=quiet)
    if found.outcome == "undecided":
        wide = sum(one.outcome == "undecided" for one in found.changes)
        notice(
            f"not decided: of {len(found.changes)} intervals {wide} contain the allowed drop of {max_drop:g} points, "
            f"and {len(found.missing)} results of the baseline have no counterpart"
        )
    if code := EXIT_CODES[found.outcome]:
        raise typer.Exit(code)


def _show(found: "Gate", problems: Sequence[str], max_drop: float, *, quiet: bool) -> None:
    for sentence in (*problems, *found.missing):
        notice(f"left out: {sentence}")
    rows: Rows = [
        {
            "encoder": one.encoder,
            "task": one.task,
            "before": f"{one.before:.2f}",
            "after": f"{one.after:.2f}",
            "95 %": f"{one.low:+.2f}..{one.high:+.2f}",
            "outcome": one.outcome,
        }
        for one in found.changes
        if one.outcome != "passes"
    ]
    show_rows(rows, empty="no score has fallen")
    if quiet:
        return
    if found.without_items:
        notice(f"not judged, as their main scores have no items: {', '.join(found.without_items)}")
    err.print(f"{found.outcome}: {len(found.changes)} comparisons, a drop of {max_drop:g} points is allowed")
