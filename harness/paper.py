"""Makes what a paper's tables and figures lack: results, measured as a study, captions, and training logs."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path

import numpy as np

from harness import files
from harness.data.named_texts import find_text
from harness.encoders.context import Context
from harness.encoders.protocol import Encoder, Transductive, embed
from harness.encoders.registry import resolve
from harness.errors import BenchError, ResultError, UsageError
from harness.names import EncoderCard
from harness.reports.figures.canvas import Drawing, save
from harness.reports.figures.measured import Definition, find, gaps, together
from harness.reports.figures.trajectory import LOG, Trajectory, read_log, trajectory
from harness.reports.paper import PaperTable, Wanted, fill_words
from harness.reports.targets import Choice, Paper, Target, filler_of
from harness.run import Cell, build_cached
from harness.studies.cells import Board, cells_of
from harness.studies.engines import work_here
from harness.studies.plan import begin
from harness.studies.report import OF_GEOMETRY
from harness.studies.study import study_of
from harness.tasks.geometry_metrics import unit_rows

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where results, vectors and training runs are."""

    results_dir: Path  # folder of result files
    context: Context  # the settings that encoders are built with
    tell: Tell  # called with one sentence about each gap


def measure(missing: Sequence[Wanted], places: Places, on_cell: Callable[[Cell], None]) -> int:
    """Measure what can be measured, as a study in this process; each error is told once, and stops nothing else.

    `on_cell` is called with each score that is computed or found.

    Returns:
        The exit code that the errors ask for, 0 without any.
    """
    told: dict[str, int] = {}

    def tell(sentence: str, code: int) -> None:
        if not sentence.startswith(tuple(told)):  # a cell's own error is the first of its scores' and their number
            places.tell(sentence)
            told[sentence] = code

    def show(cell: Cell) -> None:
        if cell.error is None:
            on_cell(cell)
        else:
            tell(str(cell.error), cell.error.exit_code)

    known = _known(missing, places, tell)
    if known:
        study = study_of("what is missing", map(astuple, known), places.context, places.results_dir)
        board = Board(study, cells_of(study))
        try:
            begin(board, places.context.progress)
            work_here(board, places.context.progress, show)
        except BenchError as error:
            tell(str(error), error.exit_code)
        states = board.states()
        for record in (board.record(cell) for cell in board.cells if states[cell.key] == "failed"):
            tell(record.error, record.exit_code)
    return max(told.values(), default=0)


def _known(missing: Sequence[Wanted], places: Places, tell: Callable[[str, int], None]) -> list[Wanted]:
    """What has an encoder and tasks here; one error is told for each encoder that has not."""
    known: list[Wanted] = []
    for encoder in dict.fromkeys(one.encoder for one in missing):
        own = [one for one in missing if one.encoder == encoder]
        try:
            study_of(encoder, map(astuple, own), places.context, places.results_dir)
        except BenchError as error:
            tell(str(error), error.exit_code)
        else:
            known += own
    return known


def retrieve(target: Target, paper: Paper, choice: Choice, context: Context) -> PaperTable:
    """Fill a table of retrieved captions. Nothing of it is stored, but the vectors are kept in the cache.

    Raises:
        UsageError: if the encoder is fitted per task, which a search has not.
    """
    corpus = find_text(choice.texts["captions"], context).distinct()
    seed = str(choice.seeds[0]) if choice.seeds else None
    found: dict[int, list[str]] = {}
    for column, model in enumerate(target.models):
        filler = filler_of(model, paper, choice)
        if filler is None:
            continue
        encoder = build_cached(resolve(filler.named(seed), context), context)
        if isinstance(encoder, Transductive):
            raise UsageError(f"{filler.named(seed)}: fitted per task, which a search has not; name another fit")
        found[column] = [one for group in nearest(encoder, target.queries, corpus, 3) for one in group]
    return fill_words(target, paper, choice, found)


def nearest(encoder: Encoder, queries: Sequence[str], corpus: Sequence[str], k: int) -> list[list[str]]:
    """For each query the k nearest sentences by cosine, nearest first; the query itself does not count.

    Sentences that differ from the query in case, spaces and punctuation alone are the query.

    Raises:
        EncoderError: if the encoder fails.
        TaskError: if a vector is zero.
    """
    vectors = unit_rows(embed(encoder, [*queries, *corpus]))
    cosines = vectors[: len(queries)] @ vectors[len(queries) :].T  # (queries, corpus)
    found = []
    for query, row in zip(queries, cosines, strict=True):
        order = (corpus[i] for i in np.argsort(-row, kind="stable"))
        others = (sentence for sentence in order if _words(sentence) != _words(query))
        found.append([sentence for sentence, _ in zip(others, range(k), strict=False)])
    return found


def _words(sentence: str) -> list[str]:
    return re.findall(r"\w+", sentence.lower())


def draw_rows(kind: str, filled: PaperTable, output: Path, places: Places) -> tuple[tuple[Path, ...], bool]:
    """Draw what the rows of a paper's figure were measured with, labelled as they are, and tell what is missing.

    The kind is the name of a figure in `bench plot`; the files are named after the table and the kind.

    Returns:
        The files, none if nothing can be drawn; and whether every row was drawn.

    Raises:
        ResultError: if a result's per-item file is missing.
        WriteError: if the files cannot be written.
    """
    name = f"{filled.table.name}-{kind}"
    for label in (label for label, cards in filled.cards.items() if not cards):
        places.tell(f"{name}: {label} is not drawn, nothing is measured for it")
    known = {label: cards for label, cards in filled.cards.items() if cards}
    drawing = _paths(known, places) if kind == "trajectory" else _points(kind, known, filled.published, places)
    if drawing is None:
        return (), False
    drawn, number = drawing
    return save(drawn, output, name), number == len(filled.cards)


def _points(
    kind: str, cards: Mapping[str, Sequence[EncoderCard]], published: Mapping[str, float], places: Places
) -> tuple[Drawing, int] | None:
    """A drawing of the encoders with a geometry result, their seeds together, and their number."""
    definition = Definition()
    labels = {card.name: label for label, seeds in cards.items() for card in seeds}
    found = find(places.results_dir, definition.task, list(labels))
    for gap in gaps(found, definition, places.results_dir, colour=kind == "alignment-uniformity"):
        places.tell(gap)
    measured = []
    for label in cards:
        runs = [one for one in found.measured if labels[one.card.name] == label]
        measured += [replace(together(runs), label=label, published=published.get(label))] if runs else []
    return (OF_GEOMETRY[kind](measured, definition), len(measured)) if measured else None


def _paths(cards: Mapping[str, Sequence[EncoderCard]], places: Places) -> tuple[Drawing, int] | None:
    """A drawing of the encoders whose training log is in the cache, and their number."""
    runs = list(_logs({label: seeds[0] for label, seeds in cards.items()}, places))
    return (trajectory(runs), len(runs)) if runs else None


def _logs(cards: Mapping[str, EncoderCard], places: Places) -> Iterator[Trajectory]:
    """The logs of the runs that made these weights; what has none is told."""
    trained = places.context.cache_dir / "trained"
    weights = [path for path in sorted(trained.glob("*/model.safetensors")) if (path.parent / LOG).is_file()]
    by_weights = {files.sha256(path): path.parent for path in weights if (path.parent / "card.json").is_file()}
    for label, card in cards.items():
        folder = by_weights.get(card.weights_sha256 or "")
        if folder is None:
            places.tell(
                f"{label}: not drawn, no training log in {trained} is of the weights of {card.name}; "
                "`bench plot trajectory --runs NAME=FOLDER` draws a run that is elsewhere"
            )
            continue
        try:
            yield read_log(folder, label)
        except ResultError as error:
            places.tell(str(error))
