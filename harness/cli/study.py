"""`bench study`, and `bench pack` and `bench unpack`, which take a study to another machine."""

import time
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import completion, options
from harness.cli.completion import one_of
from harness.cli.console import Rows, err, out, print_json, show_rows
from harness.cli.options import command, notice
from harness.errors import UsageError
from harness.names import pick
from harness.progress import Progress, bars

if TYPE_CHECKING:
    from harness.run import Cell as RunCell
    from harness.studies.cells import Board
    from harness.studies.engines import Alive
    from harness.studies.study import Study


_PAUSE = 0.5  # seconds between two looks at the records


@command
def study(
    file: Annotated[Path, typer.Argument(help="A study file: see docs/studies.md.")],
    plan: Annotated[
        bool, typer.Option("--plan", help="Show cells, costs and what is missing, and do nothing.")
    ] = False,
    status: Annotated[bool, typer.Option("--status", help="Show what is done and running, and do nothing.")] = False,
    report: Annotated[
        bool, typer.Option("--report", help="Write its tables and figures from the results, and do nothing.")
    ] = False,
    engine: Annotated[
        str,
        typer.Option("--engine", help="local, ray or slurm.", autocompletion=one_of(completion.ENGINES)),
    ] = "local",
    workers: Annotated[
        int, typer.Option("--workers", "-n", min=1, help="How many; 1 of the local engine works in this process.")
    ] = 1,
    data_dir: options.DataDir = None,
    results_dir: Annotated[
        Path | None, typer.Option("--results-dir", help="Folder of result files, instead of the study's.")
    ] = None,
    cache_dir: options.CacheDir = None,
    device: Annotated[
        str,
        typer.Option(
            "--device",
            help="Instead of the study's: cpu, cuda, auto.",
            autocompletion=one_of(completion.DEVICES),
        ),
    ] = "",
    offline: options.Offline = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure what a study file says: train, fit, encode and score whatever is not there yet.

    The same command goes on after an interruption. Several machines that share the results and the cache folder may run
    it at once. Exit code 1 or 2 if a cell failed.

    For example: bench study simcse.toml --plan
    """
    from harness.studies.cells import Board, cells_of
    from harness.studies.study import load_study

    if plan + status + report > 1:
        raise UsageError("--plan, --status and --report: give one of them")
    asked = load_study(file, cache_dir or options.default_cache_dir())
    asked = replace(
        asked,
        results_dir=results_dir or asked.results_dir,
        data_dir=data_dir or asked.data_dir,
        cache_dir=cache_dir or asked.cache_dir,
        device=device or asked.device,
        offline=offline,
    )
    board = Board(asked, cells_of(asked))
    if plan:
        _show_plan(board, workers, json=json)
    elif status:
        _show_status(board, json=json)
    elif report:
        _report(asked, json=json, quiet=quiet)
    else:
        _run(board, engine, workers, json=json, quiet=quiet)


def _run(board: "Board", engine: str, workers: int, *, json: bool, quiet: bool) -> None:
    from harness.studies.engines import ENGINES, work_here
    from harness.studies.plan import begin

    chosen = pick("engine", ENGINES, engine)
    with bars(quiet=quiet) as progress:
        begin(board, progress)
        if engine == "local" and workers == 1:
            work_here(board, progress, partial(_tell_result, quiet=quiet or json))
        else:
            with chosen(board.study, workers) as alive:
                _watch(board, alive, progress)
    _end(board, json=json, quiet=quiet)


def _tell_result(cell: "RunCell", *, quiet: bool) -> None:
    """A line for a score; errors are told at the end, each once."""
    from harness.cli.run import tell_cell

    if cell.error is None:
        tell_cell(cell, quiet=quiet)


def _show_plan(board: "Board", workers: int, *, json: bool) -> None:
    from harness.studies.plan import make_plan

    found = make_plan(board, (workers,))
    if json:
        print_json(asdict(found))
        return
    rows: Rows = [
        {
            "cell": one.label,
            "state": one.state,
            "steps": f"{one.steps:,}",
            "encode": f"{one.sentences:,}",
            "tokens": "?" if one.tokens is None else f"{one.tokens:,}",
            "cached": f"{one.cached:,}",
            "time": "?" if one.seconds is None else _duration(one.seconds),
        }
        for one in found.cells
    ]
    show_rows(rows)
    todo = sum(one.state != "done" for one in found.cells)
    times = " or ".join(f"{_duration(seconds)} on {n}" for n, seconds in found.seconds.items())
    times += " worker" if workers == 1 else " workers"
    if found.unknown:
        unknown = "nothing like them was measured on this machine"
        times = (
            f"{times}, without {found.unknown} cells: {unknown}" if found.unknown < todo else f"not known: {unknown}"
        )
    facts = {
        "cells": f"{todo} of {len(found.cells)} to do; {found.measured} of {found.results} results are there",
        "sentences": f"{found.sentences:,} distinct",
        "time": times,
        "memory": f"{found.memory_bytes / 2**30:.1f} GiB for a worker",
        "disk": f"{found.disk_bytes / 2**30:.2f} GiB of {found.free_bytes / 2**30:.1f} GiB free",
        "missing": "; ".join(found.missing) or "nothing",
    }
    for what, said in facts.items():
        out.print(f"{what:<10} {said}", markup=False, highlight=False, soft_wrap=True)
    found.check_disk(board.study.cache_dir)


def _duration(seconds: float) -> str:
    return (
        f"{seconds:.1f} s"
        if seconds < 100
        else f"{seconds / 60:.0f} min"
        if seconds < 6000
        else f"{seconds / 3600:.1f} h"
    )


def _watch(board: "Board", alive: "Alive", progress: Progress) -> None:
    """Show how many cells have ended until all have or no worker is left."""
    from harness.studies.engines import show_states

    while True:
        at_work = alive()
        states = board.states()
        show_states(states, progress)
        if not board.open_cells(states) or not at_work:
            return
        time.sleep(_PAUSE)


def _end(board: "Board", *, json: bool, quiet: bool) -> None:
    """What became of the cells; the exit code that failures ask for."""
    records = [(cell, board.record(cell)) for cell in board.cells]
    states = board.states()
    failed = [record for cell, record in records if states[cell.key] == "failed"]
    for sentence in dict.fromkeys(record.error for record in failed):
        notice(sentence)
    undone = sum(state in ("waiting", "running") for state in states.values())
    if json:
        _show_status(board, json=True)
    elif not quiet:
        counts = {"done": len(records) - len(failed) - undone, "failed": len(failed), "not done": undone}
        summary = ", ".join(f"{number} {what}" for what, number in counts.items() if number)
        err.print(f"cells: {summary}; results in {board.study.results_dir}", soft_wrap=True, markup=False)
    if failed or undone:
        raise typer.Exit(max((record.exit_code for record in failed), default=1))


def _show_status(board: "Board", *, json: bool) -> None:
    states = board.states()
    waiting = board.open_cells(states)
    rows: Rows = []
    for cell in board.cells:
        record, state = board.record(cell), str(states[cell.key])
        if state == "running" and not board.is_held(cell):
            state = "waiting"  # its worker was killed
        elif state == "waiting" and cell not in waiting:
            state = "blocked"  # by one that failed
        rows.append(
            {
                "cell": cell.label,
                "state": state,
                "worker": record.worker if state == "running" else "",
                "time": f"{record.seconds:.1f} s" if state == "done" else "",
                "error": record.error if state == "failed" else "",
            }
        )
    show_rows(rows, json=json)


def _report(asked: "Study", *, json: bool, quiet: bool) -> None:
    from harness.reports.report import ReportOptions
    from harness.reports.report import report as render
    from harness.reports.suite import Shown
    from harness.studies.report import draw

    wanted = asked.report
    figures, whole = draw(asked, notice) if wanted.figures else ([], True)
    shown = Shown(each_seed=wanted.each_seed, published=wanted.published)
    tables = ReportOptions(formats=wanted.formats, tables=wanted.tables, shown=shown)
    summary = render(asked.results_dir, Path(wanted.output), tables)
    paths = [*summary.paths, *figures]
    if json:
        print_json({"files": [str(path) for path in paths], "problems": list(summary.problems)})
    else:
        for problem in summary.problems:
            notice(f"left out: {problem}")
        if not quiet:
            err.print(f"{summary.n_results} results; {len(paths)} files in {wanted.output}", soft_wrap=True)
    if not whole:
        raise typer.Exit(1)


@command
def pack(
    file: Annotated[Path, typer.Argument(help="A study file.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The tar file to write.")] = Path("study.tar"),
    data_dir: options.DataDir = None,
    cache_dir: options.CacheDir = None,
    offline: options.Offline = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Pack all that a study reads into one file: data, weights, tokenizers, texts, trained models, and their digests.

    What is missing here is downloaded first. The licences of data and weights are yours to keep.

    For example: bench pack study.toml --output study.tar
    """
    from harness.studies.bundle import pack as write
    from harness.studies.study import load_study

    study = load_study(file, cache_dir or options.default_cache_dir())
    study = replace(
        study,
        data_dir=data_dir or study.data_dir,
        cache_dir=cache_dir or study.cache_dir,
        device="cpu",
        offline=offline,
    )
    names = write(file, study, output)
    if json:
        print_json({"file": str(output), "members": names})
    elif not quiet:
        size = output.stat().st_size / 2**20
        err.print(f"{output}: {len(names)} files, {size:,.1f} MiB", markup=False, soft_wrap=True)


@command
def unpack(
    archive: Annotated[Path, typer.Argument(help="A file of `bench pack`.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="New folder.")] = Path("study"),
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Unpack a study's file, verify every digest, and say how the study is run without a network.

    For example: bench unpack study.tar --output study
    """
    from harness.studies.bundle import unpack_bundle

    folder = unpack_bundle(archive, output)
    data = " --data-dir data" if (folder / "data").is_dir() else ""
    run = f"cd {quote(str(folder))} && HF_HUB_CACHE=$PWD/hub bench study study.toml --offline --cache-dir cache{data}"
    if json:
        print_json({"folder": str(folder), "command": run})
    elif not quiet:
        err.print(f"{folder}: every file is as it was packed; run it with\n    {run}", markup=False, soft_wrap=True)
