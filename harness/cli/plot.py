"""`bench plot`."""

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import completion, options
from harness.cli.completion import one_of, some_of
from harness.cli.console import err, print_json
from harness.cli.options import command, notice, report_error, shared, told_results
from harness.errors import BenchError, ResultError, UsageError
from harness.names import Spec, pick, split_specs

if TYPE_CHECKING:
    from harness.reports.figures.canvas import Drawing
    from harness.reports.figures.measured import Definition, Measured
    from harness.reports.figures.trajectory import Trajectory
    from harness.reports.table import Table

Models = Annotated[
    str,
    shared(
        *("--models", "-m"),
        help="Encoders, separated by commas; else all with a result.",
        autocompletion=some_of(completion.MODELS),
    ),
]
Output = Annotated[Path, shared("--output", "-o", help="Folder for .pdf, .svg, .png and .csv.", group="plot")]
Width = Annotated[
    str,
    shared(
        "--width",
        help="Width of the figure: column (3.3 in) or page (6.8 in).",
        group="plot",
        autocompletion=one_of("harness.reports.figures.canvas:WIDTHS"),
    ),
]
TaskName = Annotated[
    str,
    shared(
        "--task",
        help="geometry-stsb or mini-geometry.",
        group="plot",
        autocompletion=one_of("harness.reports.figures.measured:DATA"),
    ),
]
Split = Annotated[
    str,
    shared(
        "--split",
        help="test; with geometry-stsb also dev, train or all.",
        group="plot",
        autocompletion=one_of("harness.reports.figures.measured:SPLITS"),
    ),
]
TableName = Annotated[
    str,
    shared(
        "--table",
        help="A table of `bench report`, such as sts-all.",
        group="plot",
        autocompletion=one_of(completion.report_tables),
    ),
]

_FOLDER = Path("reports/figures")

plot_app = typer.Typer(no_args_is_help=True, help="Draw the paper's figures from result files.")


@plot_app.command("alignment-uniformity")
@command
def alignment_uniformity(
    models: Models = "",
    output: Output = _FOLDER,
    width: Width = "column",
    task: TaskName = "geometry-stsb",
    split: Split = "test",
    positives: Annotated[
        str,
        typer.Option(
            help="Gold score of positive pairs: gt4, ge4 or eq5.",
            autocompletion=one_of("harness.reports.figures.measured:POSITIVES"),
        ),
    ] = "gt4",
    sentences: Annotated[
        str,
        typer.Option(
            help="Sentences of uniformity: unique or occurrences.",
            autocompletion=one_of("harness.reports.figures.measured:SENTENCES"),
        ),
    ] = "unique",
    results_dir: options.ResultsDir = Path("results"),
    computation: options.Computation = options.COMPUTATION,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Draw alignment against uniformity, coloured by average STS score (Figure 3).

    What a named encoder lacks is evaluated first, as `bench run` does.
    """
    from harness.reports.figures.geometry import alignment_uniformity as draw

    definition = _definition(width, task, split, positives, sentences)
    measured, missing = _measured(models, definition, results_dir, computation, quiet=quiet, colour=True)
    drawing = draw(measured, definition, width=width)
    _finish(drawing, output, f"alignment-uniformity{definition.suffix}", missing, json=json, quiet=quiet)


@plot_app.command("spectrum")
@command
def spectrum(
    models: Models = "",
    output: Output = _FOLDER,
    width: Width = "column",
    task: TaskName = "geometry-stsb",
    split: Split = "test",
    centred: Annotated[bool, typer.Option("--centred", help="Subtract the mean vector first.")] = False,
    results_dir: options.ResultsDir = Path("results"),
    computation: options.Computation = options.COMPUTATION,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Draw the singular values of the sentence vectors, divided by the largest (Figure F.1)."""
    from harness.reports.figures.geometry import spectrum as draw

    definition = _definition(width, task, split)
    measured, missing = _measured(models, definition, results_dir, computation, quiet=quiet, colour=False)
    drawing = draw(measured, definition, centred=centred, width=width)
    name = f"spectrum{'-centred' if centred else ''}{definition.suffix}"
    _finish(drawing, output, name, missing, json=json, quiet=quiet)


@plot_app.command("similarity-density")
@command
def similarity_density(
    models: Models = "",
    output: Output = _FOLDER,
    width: Width = "column",
    task: TaskName = "geometry-stsb",
    split: Split = "test",
    results_dir: options.ResultsDir = Path("results"),
    computation: options.Computation = options.COMPUTATION,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Draw how cosines spread within each band of human ratings (Figure G.1)."""
    from harness.reports.figures.geometry import similarity_density as draw

    definition = _definition(width, task, split)
    measured, missing = _measured(models, definition, results_dir, computation, quiet=quiet, colour=False)
    drawing = draw(measured, definition, width=width)
    _finish(drawing, output, f"similarity-density{definition.suffix}", missing, json=json, quiet=quiet)


@plot_app.command("scores")
@command
def scores(
    table: TableName = "sts-all",
    output: Output = _FOLDER,
    width: Width = "column",
    results_dir: options.ResultsDir = Path("results"),
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Draw the average of each encoder with its interval."""
    from harness.reports.figures.scores import scores as draw

    _finish(draw(_table(table, width, results_dir), width=width), output, f"scores-{table}", (), json=json, quiet=quiet)


@plot_app.command("heat-map")
@command
def heat_map(
    table: TableName = "sts-all",
    output: Output = _FOLDER,
    width: Width = "column",
    results_dir: options.ResultsDir = Path("results"),
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Draw the scores of all encoders on all tasks of a table."""
    from harness.reports.figures.scores import heat_map as draw

    drawing = draw(_table(table, width, results_dir), width=width)
    _finish(drawing, output, f"heat-map-{table}", (), json=json, quiet=quiet)


@plot_app.command("trajectory")
@command
def trajectory(
    runs: Annotated[
        str,
        typer.Option(
            "--runs",
            help="Trained models such as simcse-unsup[seed=0], or NAME=FOLDER, by commas; else all in the cache.",
        ),
    ] = "",
    cache_dir: options.CacheDir = None,
    output: Output = _FOLDER,
    width: Width = "column",
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Draw alignment and uniformity along training, an arrow between evaluations (Figure 2)."""
    from harness.reports.figures.canvas import WIDTHS
    from harness.reports.figures.trajectory import trajectory as draw

    pick("width", WIDTHS, width)
    trained = (cache_dir or options.default_cache_dir()) / "trained"
    parts = [part.strip() for part in re.split(r",(?![^\[]*\])", runs) if part.strip()]
    logs = [log for part in parts or [str(trained)] for log in _logs(part, trained)]
    _finish(draw(logs, width=width), output, "trajectory", (), json=json, quiet=quiet)


def _logs(part: str, trained: Path) -> "list[Trajectory]":
    """The logs that one part of --runs names: a log, the folder of a run or of several, or models trained here.

    Raises:
        UsageError: if it names nothing.
        ResultError: if a log that it names cannot be drawn.
    """
    from harness.reports.figures.trajectory import read_log, runs_in, titles

    label, _, place = part.rpartition("=")
    path = Path(place)
    folders = runs_in(path)
    if path.exists() and not folders and path != trained:
        return [read_log(path, label)]
    chosen = folders or [run for run in runs_in(trained) if run.fits(Spec.parse(part))]
    if not chosen:
        raise UsageError(
            f"{part}: nothing to draw, found no training log there, and no run of that name in {trained}; "
            "`bench train simcse-unsup --backbone tiny --data mini-wiki` makes one"
        )
    return [read_log(run.folder, title) for run, title in zip(chosen, titles(chosen), strict=True)]


def _table(name: str, width: str, results_dir: Path) -> "Table":
    from harness.reports.figures.canvas import WIDTHS
    from harness.reports.runs import Estimates
    from harness.reports.suite import build

    pick("width", WIDTHS, width)
    results = told_results(results_dir)
    return pick("table", {table.name: table for table in build(results, estimates=Estimates())}, name)


def _definition(width: str, task: str, split: str, positives: str = "gt4", sentences: str = "unique") -> "Definition":
    from harness.reports.figures import measured
    from harness.reports.figures.canvas import WIDTHS

    pick("width", WIDTHS, width)
    pick("task", measured.DATA, task)
    pick("split", dict.fromkeys(measured.SPLITS), split)
    pick("kind of positives", measured.POSITIVES, positives)
    pick("kind of sentences", measured.SENTENCES, sentences)
    return measured.Definition(task=task, split=split, positives=positives, sentences=sentences)


def _measured(
    models: str,
    definition: "Definition",
    results_dir: Path,
    computation: options.Computation,
    *,
    quiet: bool,
    colour: bool,
) -> "tuple[tuple[Measured, ...], tuple[str, ...]]":
    """The encoders to draw, and those that were named and have no result; both kinds of gap are told on stderr."""
    from harness.reports.figures.measured import COLOUR_TASKS, find, gaps

    task = definition.task
    names = split_specs(models) if models else []
    found = find(results_dir, task, names)
    if names and (computation.backbone or found.missing or (colour and any(m.sts is None for m in found.measured))):
        names = _evaluate(
            names, (task, *COLOUR_TASKS[task]) if colour else (task,), results_dir, computation, quiet=quiet
        )
        found = find(results_dir, task, names)
    for gap in gaps(found, definition, results_dir, colour=colour):
        notice(gap)
    if not found.measured:
        raise ResultError(
            f"{results_dir}: nothing to draw, found no result of {task}; "
            f"run `bench run -t {task} -m {quote(','.join(names) or 'MODEL,MODEL')}` first"
        )
    return found.measured, found.missing


def _evaluate(
    models: Sequence[str], tasks: Sequence[str], results_dir: Path, computation: options.Computation, *, quiet: bool
) -> list[str]:
    """Evaluate what is not on disk yet, as `bench run` does; returns the full names of the encoders."""
    from harness.cli.run import tell_cell
    from harness.encoders.registry import resolve
    from harness.run import Plan, run
    from harness.tasks.suites import select

    tell = partial(tell_cell, quiet=quiet)
    with computation.context(quiet=quiet) as context:
        asked = [resolve(model, context) for model in models]
        plan = Plan(
            models=asked,
            tasks=select((), tasks),
            results_dir=results_dir,
            context=context,
            on_cell=lambda cell: None if cell.skipped else tell(cell),
        )
        try:
            run(plan)
        except BenchError as error:  # no data, for instance: what is measured already can be drawn all the same
            report_error(error)
    return [str(one.spec) for one in asked]


def _finish(drawing: "Drawing", output: Path, name: str, missing: Sequence[str], *, json: bool, quiet: bool) -> None:
    from harness.reports.figures.canvas import save

    paths = save(drawing, output, name)
    if json:
        print_json({"files": [str(path) for path in paths], "missing": list(missing)})
    elif not quiet:
        err.print(f"{', '.join(path.name for path in paths)} in {output}", markup=False, soft_wrap=True)
    if missing:
        raise typer.Exit(1)
