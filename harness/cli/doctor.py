"""`bench doctor`."""

from dataclasses import asdict
from pathlib import Path

import typer

from harness.cli import options
from harness.cli.console import print_json, show_rows
from harness.cli.options import command


@command
def doctor(
    data_dir: options.DataDir = None,
    results_dir: options.ResultsDir = Path("results"),
    cache_dir: options.CacheDir = None,
    offline: options.Offline = False,
    json: options.Json = False,
) -> None:
    """Show what a run will find here: versions, device, threads, folders, data, and whether the hub can be reached.

    The exit code is 1 if something prevents a run.
    """
    from harness.doctor import examine

    facts = examine(cache_dir or options.default_cache_dir(), data_dir, results_dir, offline=offline)
    if json:
        print_json([asdict(fact) for fact in facts])
    else:
        show_rows([{"what": one.what, "found": f"{'PROBLEM: ' if one.problem else ''}{one.found}"} for one in facts])
    if any(fact.problem for fact in facts):
        raise typer.Exit(1)
