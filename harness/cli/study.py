"""`bench study`, and `bench pack` and `bench unpack`, which take a study to another machine."""

import time
from dataclasses import asdict, replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import completion, options
from harness.cli.console import Rows, notes, notice, print_json, print_line, show_rows, tell
from harness.cli.options import argument, command, option
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
    file: Annotated[Path, argument(help="A study file: see docs/studies.md.")],
    plan: Annotated[bool, option("--plan", help="Show cells, costs and what is missing, and do nothing.")] = False,
    status: Annotated[bool, option("--status", help="Show what is done and running, and do nothing.")] = False,
    report: Annotated[
        bool, option("--report", help="Write its tables and figures from the results, and do nothing.")
    ] = False,
    engine: Annotated[str, option(help="local, ray or slurm.", choices=completion.ENGINES)] = "local",
    workers: Annotated[
        int, option("--workers", "-n", min=1, help="How many; 1 of the local engine works in this process.")
    ] = 1,
    data_dir: options.DataDir = None,
    results_dir: Annotated[Path | None, option(help="Folder of result files, instead of the study's.")] = None,
    cache_dir: options.CacheDir = None,
    device: Annotated[str, option(help="Instead of the study's: cpu, cuda, auto.", choices=completion.DEVICES)] = "",
    offline: options.Offline = False,
    json: options.Json = False,
) -> None:
    """Measure what a study file says: train, fit, encode and score whatever is not there yet.

    The same command goes on after an interruption. Several machines that share the results and the cache folder may run
    it at once. Exit code 1 or 2 if a cell failed.

    For example: bench study simcse.toml --plan
    """
    from harness.studies.cells import Board, cells_of

    if plan + status + report > 1:
        raise UsageError("--plan, --status and --report: give one of them")
    asked = _load(file, data_dir, cache_dir, offline=offline)
    asked = replace(asked, results_dir=results_dir or asked.results_dir, device=device or asked.device)
    board = Board(asked, cells_of(asked))
    if plan:
        _show_plan(board, workers, json=json)
    elif status:
        _show_status(board, json=json)
    elif report:
        _report(asked, json=json)
    else:
        _run(board, engine, workers, json=json)


def _load(file: Path, data_dir: Path | None, cache_dir: Path | None, *, offline: bool) -> "Study":
    """The study of a file, with the folders that options name instead of its own."""
    from harness.studies.study import load_study

    asked = load_study(file, cache_dir or options.default_cache_dir())
    return replace(asked, data_dir=data_dir or asked.data_dir, cache_dir=cache_dir or asked.cache_dir, offline=offline)


def _run(board: "Board", engine: str, workers: int, *, json: bool) -> None:
    """Work on the cells until all have ended; errors are told then, each once."""
    from harness.cli.run import tell_cell
    from harness.studies.engines import ENGINES, work_here
    from harness.studies.plan import begin

    def on_cell(cell: "RunCell") -> None:
        if cell.error is None and not json:
            tell_cell(cell)

    chosen = pick("engine", ENGINES, engine)
    with bars(quiet=notes.quiet) as progress:
        begin(board, progress)
        if engine == "local" and workers == 1:
            work_here(board, progress, on_cell)
        else:
            with chosen(board.study, workers) as alive:
                _watch(board, alive, progress)
    _end(board, json=json)


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
        print_line(f"{what:<10} {said}")
    found.check_disk(board.study.cache_dir)


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


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


def _end(board: "Board", *, json: bool) -> None:
    """What became of the cells; the exit code that failures ask for."""
    records = [(cell, board.record(cell)) for cell in board.cells]
    states = board.states()
    failed = [record for cell, record in records if states[cell.key] == "failed"]
    for sentence in dict.fromkeys(record.error for record in failed):
        notice(sentence)
    undone = sum(state in ("waiting", "running") for state in states.values())
    if json:
        _show_status(board, json=True)
    else:
        counts = {"done": len(records) - len(failed) - undone, "failed": len(failed), "not done": undone}
        summary = ", ".join(f"{number} {what}" for what, number in counts.items() if number)
        tell(f"cells: {summary}; results in {board.study.results_dir}")
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


def _report(asked: "Study", *, json: bool) -> None:
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
        tell(f"{summary.n_results} results; {len(paths)} files in {wanted.output}")
    if not whole:
        raise typer.Exit(1)


@command
def pack(
    file: Annotated[Path, argument(help="A study file.")],
    output: Annotated[Path, option("--output", "-o", help="The tar file to write.")] = Path("study.tar"),
    data_dir: options.DataDir = None,
    cache_dir: options.CacheDir = None,
    offline: options.Offline = False,
    json: options.Json = False,
) -> None:
    """Pack all that a study reads into one file: data, weights, tokenizers, texts, trained models, and their digests.

    What is missing here is downloaded first. The licences of data and weights are yours to keep.

    For example: bench pack study.toml --output study.tar
    """
    from harness.studies import bundle

    asked = replace(_load(file, data_dir, cache_dir, offline=offline), device="cpu")
    names = bundle.pack(file, asked, output)
    if json:
        print_json({"file": str(output), "members": names})
    else:
        tell(f"{output}: {len(names)} files, {output.stat().st_size / 2**20:,.1f} MiB")


@command
def unpack(
    archive: Annotated[Path, argument(help="A file of `bench pack`.")],
    output: Annotated[Path, option("--output", "-o", help="New folder.")] = Path("study"),
    json: options.Json = False,
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
    else:
        tell(f"{folder}: every file is as it was packed; run it with\n    {run}")
