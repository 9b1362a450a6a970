"""`bench plot`."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import completion, options
from harness.cli.console import notice, print_json, tell
from harness.cli.options import command, default_cache_dir, option, shared, told_results
from harness.errors import BenchError, ResultError, UsageError
from harness.names import Spec, pick, split_specs

if TYPE_CHECKING:
    from harness.reports.figures.canvas import Drawing
    from harness.reports.figures.measured import Definition, Measured
    from harness.reports.figures.trajectory import Trajectory
    from harness.reports.table import Table

_FIGURES = "harness.reports.figures"
_FOLDER = Path("reports/figures")

_shared = partial(shared, group="plot")

Output = Annotated[Path, _shared("--output", "-o", help="Folder for .pdf, .svg, .png and .csv.")]
Width = Annotated[
    str,
    _shared(
        "--width", help="Width of the figure: column (3.3 in) or page (6.8 in).", choices=f"{_FIGURES}.canvas:WIDTHS"
    ),
]
TableName = Annotated[
    str, _shared("--table", help="A table of `bench report`, such as sts-all.", choices=completion.report_tables)
]

plot_app = typer.Typer(no_args_is_help=True, help="Draw the paper's figures from result files.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """The options of the figures that show where encoders put sentences."""

    models: Annotated[
        str,
        shared(
            *("--models", "-m"),
            help="Encoders, separated by commas; else all with a result.",
            choices=completion.MODELS,
            several=True,
        ),
    ] = ""
    output: Output = _FOLDER
    width: Width = "column"
    task: Annotated[
        str, _shared("--task", help="geometry-stsb or mini-geometry.", choices=f"{_FIGURES}.measured:DATA")
    ] = "geometry-stsb"
    split: Annotated[
        str,
        _shared(
            "--split", help="test; with geometry-stsb also dev, train or all.", choices=f"{_FIGURES}.measured:SPLITS"
        ),
    ] = "test"


@plot_app.command("alignment-uniformity")
@command
def alignment_uniformity(
    *,
    geometry: Geometry,
    positives: Annotated[
        str, option(help="Gold score of positive pairs: gt4, ge4 or eq5.", choices=f"{_FIGURES}.measured:POSITIVES")
    ] = "gt4",
    sentences: Annotated[
        str, option(help="Sentences of uniformity: unique or occurrences.", choices=f"{_FIGURES}.measured:SENTENCES")
    ] = "unique",
    results_dir: options.ResultsDir = Path("results"),
    computation: options.Computation,
    json: options.Json = False,
) -> None:
    """Draw alignment against uniformity, coloured by average STS score (Figure 3).

    What a named encoder lacks is evaluated first, as `bench run` does.
    """
    from harness.reports.figures.geometry import alignment_uniformity as draw

    definition = _definition(geometry, positives, sentences)
    measured, missing = _measured(geometry, definition, results_dir, computation, colour=True)
    drawing = draw(measured, definition, width=geometry.width)
    _save(drawing, geometry.output, f"alignment-uniformity{definition.suffix}", missing, json=json)


@plot_app.command("spectrum")
@command
def spectrum(
    *,
    geometry: Geometry,
    centred: Annotated[bool, option("--centred", help="Subtract the mean vector first.")] = False,
    results_dir: options.ResultsDir = Path("results"),
    computation: options.Computation,
    json: options.Json = False,
) -> None:
    """Draw the singular values of the sentence vectors, divided by the largest (Figure F.1)."""
    from harness.reports.figures.geometry import spectrum as draw

    definition = _definition(geometry)
    measured, missing = _measured(geometry, definition, results_dir, computation)
    drawing = draw(measured, definition, centred=centred, width=geometry.width)
    name = f"spectrum{'-centred' if centred else ''}{definition.suffix}"
    _save(drawing, geometry.output, name, missing, json=json)


@plot_app.command("similarity-density")
@command
def similarity_density(
    *,
    geometry: Geometry,
    results_dir: options.ResultsDir = Path("results"),
    computation: options.Computation,
    json: options.Json = False,
) -> None:
    """Draw how cosines spread within each band of human ratings (Figure G.1)."""
    from harness.reports.figures.geometry import similarity_density as draw

    definition = _definition(geometry)
    measured, missing = _measured(geometry, definition, results_dir, computation)
    drawing = draw(measured, definition, width=geometry.width)
    _save(drawing, geometry.output, f"similarity-density{definition.suffix}", missing, json=json)


@plot_app.command("scores")
@command
def scores(
    table: TableName = "sts-all",
    output: Output = _FOLDER,
    width: Width = "column",
    results_dir: options.ResultsDir = Path("results"),
    json: options.Json = False,
) -> None:
    """Draw the average of each encoder with its interval."""
    from harness.reports.figures.scores import scores as draw

    _save(draw(_table(table, width, results_dir), width=width), output, f"scores-{table}", json=json)


@plot_app.command("heat-map")
@command
def heat_map(
    table: TableName = "sts-all",
    output: Output = _FOLDER,
    width: Width = "column",
    results_dir: options.ResultsDir = Path("results"),
    json: options.Json = False,
) -> None:
    """Draw the scores of all encoders on all tasks of a table."""
    from harness.reports.figures.scores import heat_map as draw

    _save(draw(_table(table, width, results_dir), width=width), output, f"heat-map-{table}", json=json)


@plot_app.command("trajectory")
@command
def trajectory(
    runs: Annotated[
        str,
        option(help="Trained models such as simcse-unsup[seed=0], or NAME=FOLDER, by commas; else all in the cache."),
    ] = "",
    cache_dir: options.CacheDir = None,
    output: Output = _FOLDER,
    width: Width = "column",
    json: options.Json = False,
) -> None:
    """Draw alignment and uniformity along training, an arrow between evaluations (Figure 2)."""
    from harness.reports.figures.canvas import WIDTHS
    from harness.reports.figures.trajectory import trajectory as draw

    pick("width", WIDTHS, width)
    trained = (cache_dir or default_cache_dir()) / "trained"
    parts = [part.strip() for part in re.split(r",(?![^\[]*\])", runs) if part.strip()]
    logs = [log for part in parts or [str(trained)] for log in _logs(part, trained)]
    _save(draw(logs, width=width), output, "trajectory", json=json)


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


def _definition(geometry: Geometry, positives: str = "gt4", sentences: str = "unique") -> "Definition":
    from harness.reports.figures import measured
    from harness.reports.figures.canvas import WIDTHS

    pick("width", WIDTHS, geometry.width)
    pick("task", measured.DATA, geometry.task)
    pick("split", dict.fromkeys(measured.SPLITS), geometry.split)
    pick("kind of positives", measured.POSITIVES, positives)
    pick("kind of sentences", measured.SENTENCES, sentences)
    return measured.Definition(task=geometry.task, split=geometry.split, positives=positives, sentences=sentences)


def _measured(
    geometry: Geometry,
    definition: "Definition",
    results_dir: Path,
    computation: options.Computation,
    *,
    colour: bool = False,
) -> "tuple[tuple[Measured, ...], tuple[str, ...]]":
    """The encoders to draw, and those that were named and have no result; both kinds of gap are told on stderr."""
    from harness.reports.figures.measured import COLOUR_TASKS, find, gaps

    task = definition.task
    names = split_specs(geometry.models) if geometry.models else []
    found = find(results_dir, task, names)
    if names and (computation.backbone or found.missing or (colour and any(m.sts is None for m in found.measured))):
        names = _evaluate(names, (task, *COLOUR_TASKS[task]) if colour else (task,), results_dir, computation)
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
    models: Sequence[str], tasks: Sequence[str], results_dir: Path, computation: options.Computation
) -> list[str]:
    """Evaluate what is not on disk yet, as `bench run` does; returns the full names of the encoders."""
    from harness.cli.run import tell_cell
    from harness.encoders.registry import resolve
    from harness.run import Plan, run
    from harness.tasks.suites import select

    with computation.context() as context:
        asked = [resolve(model, context) for model in models]
        plan = Plan(
            models=asked,
            tasks=select((), tasks),
            results_dir=results_dir,
            context=context,
            on_cell=lambda cell: None if cell.skipped else tell_cell(cell),
        )
        try:
            run(plan)
        except BenchError as error:  # no data, for instance: what is measured already can be drawn all the same
            notice(str(error))
    return [str(one.spec) for one in asked]


def _save(drawing: "Drawing", output: Path, name: str, missing: Sequence[str] = (), *, json: bool) -> None:
    from harness.reports.figures.canvas import save

    paths = save(drawing, output, name)
    if json:
        print_json({"files": [str(path) for path in paths], "missing": list(missing)})
    else:
        tell(f"{', '.join(path.name for path in paths)} in {output}")
    if missing:
        raise typer.Exit(1)
