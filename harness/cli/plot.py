"""`bench plot`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.console import err, print_json
from harness.cli.options import Settings, command, report_error
from harness.errors import BenchError, ResultError, UsageError
from harness.names import pick, split_specs

if TYPE_CHECKING:
    from harness.names import EncoderCard
    from harness.reports.figures.canvas import Drawing
    from harness.reports.figures.measured import Definition, Found, Measured
    from harness.reports.figures.trajectory import Trajectory

Models = Annotated[str, typer.Option("--models", "-m", help="Encoders, comma-separated. Else all with a result.")]
Output = Annotated[Path, typer.Option("--output", "-o", help="Folder for .pdf, .svg, .png and .csv.")]
Width = Annotated[str, typer.Option(help="Of the figure: column (3.3 in) or page (6.8 in).")]
TaskName = Annotated[str, typer.Option("--task", help="geometry-stsb or mini-geometry.")]
Split = Annotated[str, typer.Option(help="test; with geometry-stsb also dev, train or all.")]

_FOLDER = Path("reports/figures")

plot_app = typer.Typer(no_args_is_help=True, help="Draw the paper's figures from result files.")


@plot_app.command("alignment-uniformity")
@command
def alignment_uniformity(
    settings: Settings,
    models: Models = "",
    output: Output = _FOLDER,
    width: Width = "column",
    task: TaskName = "geometry-stsb",
    split: Split = "test",
    positives: Annotated[str, typer.Option(help="Gold score of positive pairs: gt4, ge4 or eq5.")] = "gt4",
    sentences: Annotated[str, typer.Option(help="Of uniformity: unique or occurrences.")] = "unique",
) -> None:
    """Alignment against uniformity, coloured by average STS score (Figure 3).

    What a named encoder lacks is evaluated first, as `bench run` does.
    """
    definition = _definition(width, task, split, positives, sentences)
    measured, missing = _measured(settings, models, definition, colour=True)
    drawing = _drawing("alignment-uniformity")(measured, definition, width=width)
    _finish(settings, drawing, output, f"alignment-uniformity{definition.suffix}", missing)


@plot_app.command("spectrum")
@command
def spectrum(
    settings: Settings,
    models: Models = "",
    output: Output = _FOLDER,
    width: Width = "column",
    task: TaskName = "geometry-stsb",
    split: Split = "test",
    centred: Annotated[bool, typer.Option("--centred", help="Subtract the mean vector first.")] = False,
) -> None:
    """Singular values of the sentence vectors, divided by the largest (Figure F.1)."""
    definition = _definition(width, task, split)
    measured, missing = _measured(settings, models, definition, colour=False)
    drawing = _drawing("spectrum")(measured, definition, centred=centred, width=width)
    _finish(settings, drawing, output, f"spectrum{'-centred' if centred else ''}{definition.suffix}", missing)


@plot_app.command("similarity-density")
@command
def similarity_density(
    settings: Settings,
    models: Models = "",
    output: Output = _FOLDER,
    width: Width = "column",
    task: TaskName = "geometry-stsb",
    split: Split = "test",
) -> None:
    """How cosines spread within each band of human ratings (Figure G.1)."""
    definition = _definition(width, task, split)
    measured, missing = _measured(settings, models, definition, colour=False)
    drawing = _drawing("similarity-density")(measured, definition, width=width)
    _finish(settings, drawing, output, f"similarity-density{definition.suffix}", missing)


@plot_app.command("trajectory")
@command
def trajectory(
    settings: Settings,
    runs: Annotated[
        str, typer.Option(help="Folders of training runs, comma-separated, or NAME=FOLDER. Required.")
    ] = "",
    output: Output = _FOLDER,
    width: Width = "column",
) -> None:
    """Alignment and uniformity along training, an arrow between evaluations (Figure 2)."""
    from harness.reports.figures.canvas import WIDTHS
    from harness.reports.figures.trajectory import read_log
    from harness.reports.figures.trajectory import trajectory as draw

    pick("width", WIDTHS, width)
    parts = [part.strip().rpartition("=") for part in runs.split(",") if part.strip()]
    if not parts:
        raise UsageError("--runs: nothing to draw; name the folders of training runs, or their logs")
    logs = [read_log(Path(path), name) for name, _, path in parts]
    _finish(settings, draw(logs, width=width), output, "trajectory", ())


def draw_rows(
    settings: Settings, kind: str, cards: "Mapping[str, EncoderCard | None]", output: Path, name: str
) -> tuple[tuple[Path, ...], bool]:
    """Draw what the rows of a paper's figure were measured with, and tell what is missing.

    Args:
        settings: of the call.
        kind: of figure, as `bench plot` names it.
        cards: row -> its encoder, or None where nothing was measured. The figure labels encoders as the rows are.
        output: folder for the files.
        name: of the files, without an ending.

    Returns:
        The files, none if nothing can be drawn; and whether every row was drawn.

    Raises:
        ResultError: if a result's per-item file is missing, or the files cannot be written.
    """
    from harness.reports.figures.canvas import save

    for label in (label for label, card in cards.items() if card is None):
        _tell(f"{name}: {label} is not drawn, nothing is measured for it")
    known = {label: card for label, card in cards.items() if card is not None}
    drawing = _paths(settings, known) if kind == "trajectory" else _points(settings, kind, known)
    if drawing is None:
        return (), False
    drawn, number = drawing
    return save(drawn, output, name), number == len(cards)


def _points(settings: Settings, kind: str, cards: "Mapping[str, EncoderCard]") -> "tuple[Drawing, int] | None":
    """Of encoders with a geometry result, and their number."""
    from harness.reports.figures.measured import Definition, find

    definition = Definition()
    labels = {card.name: label for label, card in cards.items()}
    found = find(settings.results_dir, definition.task, list(labels))
    _tell_gaps(settings, found, definition, colour=kind == "alignment-uniformity")
    measured = [replace(one, label=labels[one.card.name]) for one in found.measured] if cards else []
    return (_drawing(kind)(measured, definition), len(measured)) if measured else None


def _paths(settings: Settings, cards: "Mapping[str, EncoderCard]") -> "tuple[Drawing, int] | None":
    """Of encoders whose training log is in the cache, and their number."""
    from harness.reports.figures.trajectory import trajectory as draw

    runs = list(_logs(settings, cards))
    return (draw(runs), len(runs)) if runs else None


def _logs(settings: Settings, cards: "Mapping[str, EncoderCard]") -> "Iterator[Trajectory]":
    """The logs of the runs that made these weights; what has none is told."""
    from harness.encoders.checkpoint import open_checkpoint, weights_sha256
    from harness.reports.figures.trajectory import LOG, read_log

    trained = settings.cache / "trained"
    folders = [path.parent for path in sorted(trained.glob("*/card.json")) if (path.parent / LOG).is_file()]
    by_weights = {weights_sha256(open_checkpoint(folder, str(folder))): folder for folder in folders}
    for label, card in cards.items():
        folder = by_weights.get(card.weights_sha256 or "")
        if folder is None:
            _tell(
                f"{label}: not drawn, no training log in {trained} is of the weights of {card.name}; "
                "`bench plot trajectory --runs NAME=FOLDER` draws a run that is elsewhere"
            )
            continue
        try:
            yield read_log(folder, label)
        except ResultError as error:
            report_error(error)


def _drawing(kind: str) -> "Callable[..., Drawing]":
    from harness.reports.figures.alignment_uniformity import alignment_uniformity
    from harness.reports.figures.similarity_density import similarity_density
    from harness.reports.figures.spectrum import spectrum

    return {
        "alignment-uniformity": alignment_uniformity,
        "spectrum": spectrum,
        "similarity-density": similarity_density,
    }[kind]


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
    settings: Settings, models: str, definition: "Definition", *, colour: bool
) -> "tuple[tuple[Measured, ...], tuple[str, ...]]":
    """The encoders to draw, and those that were named and have no result; both kinds of gap are told on stderr."""
    from harness.reports.figures.measured import COLOUR_TASKS, find

    task = definition.task
    names = split_specs(models) if models else []
    found = find(settings.results_dir, task, names)
    if names and (settings.backbone or found.missing or (colour and any(m.sts is None for m in found.measured))):
        names = _evaluated(settings, names, (task, *COLOUR_TASKS[task]) if colour else (task,))
        found = find(settings.results_dir, task, names)
    _tell_gaps(settings, found, definition, colour=colour)
    if not found.measured:
        raise ResultError(
            f"{settings.results_dir}: nothing to draw, found no result of {task}; "
            f"run `bench run -t {task} -m {quote(','.join(names) or 'MODEL,MODEL')}` first"
        )
    return found.measured, found.missing


def _tell_gaps(settings: Settings, found: "Found", definition: "Definition", *, colour: bool) -> None:
    from harness.reports.figures.measured import COLOUR_TASKS

    task = definition.task
    for problem in found.problems:
        _tell(f"left out: {problem}")
    for name in found.missing:
        _tell(
            f"{name}: not drawn, {settings.results_dir} has no result of {task}; `bench run -t {task} -m {quote(name)}`"
        )
    for name in (m.card.name for m in found.measured if colour and m.sts is None):
        lacking = ",".join(COLOUR_TASKS[task])
        _tell(
            f"{name}: drawn hollow, because it lacks a result of {lacking}; `bench run -t {lacking} -m {quote(name)}`"
        )


def _evaluated(settings: Settings, models: Sequence[str], tasks: Sequence[str]) -> list[str]:
    """Evaluate what is not on disk yet, as `bench run` does; returns the full names of the encoders."""
    from harness.cli.evaluate import context_of, tell
    from harness.data.locate import data_root
    from harness.encoders.registry import resolve
    from harness.run import Plan, run
    from harness.tasks.suites import TASKS

    with context_of(settings) as context:
        names = [str(resolve(model, context).spec) for model in models]
        plan = Plan(
            models=models,
            tasks=[pick("task", TASKS, task) for task in tasks],
            results_dir=settings.results_dir,
            data_root=lambda: data_root(
                settings.data_dir, settings.cache, offline=settings.offline, progress=not settings.quiet
            ),
            context=context,
            force=False,
            told=lambda cell: None if cell.skipped else tell(cell, quiet=settings.quiet),
        )
        try:
            run(plan)
        except BenchError as error:  # no data, for instance: what is measured already can be drawn all the same
            report_error(error)
    return names


def _finish(settings: Settings, drawing: "Drawing", output: Path, name: str, missing: Sequence[str]) -> None:
    from harness.reports.figures.canvas import save

    paths = save(drawing, output, name)
    if settings.json:
        print_json({"files": [str(path) for path in paths], "missing": list(missing)})
    elif not settings.quiet:
        err.print(f"{', '.join(path.name for path in paths)} in {output}", markup=False, soft_wrap=True)
    if missing:
        raise typer.Exit(1)


def _tell(message: str) -> None:
    err.print(f"bench: {message}", markup=False, soft_wrap=True)
