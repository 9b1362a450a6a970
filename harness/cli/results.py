"""`bench results`."""

from pathlib import Path
from typing import Annotated

import typer

from harness.cli import options
from harness.cli.completion import one_of
from harness.cli.console import err, print_json, show_rows
from harness.cli.options import command, context_of, notice

results_app = typer.Typer(no_args_is_help=True, help="Check a results folder, list it, or convert an old one.")


@results_app.command()
@command
def check(
    results_dir: options.ResultsDir = Path("results"), json: options.Json = False, quiet: options.Quiet = False
) -> None:
    """Name every problem of a results folder: damaged, edited, repeated, misplaced and orphaned files.

    Every score is computed again from its per-item scores. Exit code 1 if anything is wrong.
    """
    from harness.results.store import find_problems

    problems = find_problems(results_dir)
    if json:
        print_json(problems)
    else:
        for problem in problems:
            notice(problem)
        if not problems and not quiet:
            err.print(f"{results_dir}: nothing is wrong", soft_wrap=True)
    if problems:
        raise typer.Exit(1)


@results_app.command("list")
@command
def list_(results_dir: options.ResultsDir = Path("results"), json: options.Json = False) -> None:
    """List the encoders that were measured, with the number of their results."""
    from harness.results.collection import load_results

    found = load_results(results_dir)
    for problem in found.problems:
        notice(f"left out: {problem}")
    rows: list[dict[str, object]] = []
    for name in found.encoders:
        own = [result for result in found if result.encoder.name == name]
        rows.append({"encoder": name, "results": len(own), "measured": max(one.run.started for one in own)[:10]})
    show_rows(rows, json=json, empty=f"{results_dir}: no results")


@results_app.command()
@command
def migrate(
    old: Annotated[Path, typer.Argument(help="Results folder of an earlier version.")],
    new: Annotated[Path, typer.Argument(help="Folder for the converted results.")],
    cache_dir: options.CacheDir = None,
    data_dir: options.DataDir = None,
    json: options.Json = False,
) -> None:
    """Convert results of an earlier version to today's layout. Scores and provenance stay bit for bit as they are."""
    from harness.identify import identifier
    from harness.results.migration import migrate as convert

    with context_of(cache_dir=cache_dir, data_dir=data_dir, device="cpu", offline=True, quiet=True) as context:
        found = convert(old, new, identifier(context, {}))
    for problem in found.problems:
        notice(f"left out: {problem}")
    rows: list[dict[str, object]] = [{"old name": before, "new name": after} for before, after in found.names]
    show_rows(rows, json=json, empty=f"{old}: no results of an earlier version")
    if found.problems:
        raise typer.Exit(1)


@command
def schema(
    kind: Annotated[
        str, typer.Argument(help="result, or encoder.", autocompletion=one_of(("result", "encoder")))
    ] = "result",
) -> None:
    """Print the JSON schema of a result's file, or of an encoder's card beside it."""
    from harness.names import pick
    from harness.results.documents import schemas

    print_json(pick("schema", schemas(), kind))
