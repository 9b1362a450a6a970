"""A worker: takes the next cell that can be done, does it, and goes on until there is none."""

import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from harness.data.locate import BUNDLED
from harness.encoders.cached import CachedEncoder
from harness.encoders.context import Context
from harness.encoders.entry import Built
from harness.encoders.protocol import Transductive, embed
from harness.encoders.registry import Resolved, resolve
from harness.encoders.transformer import TransformerEncoder
from harness.errors import BenchError
from harness.progress import Progress, silent
from harness.results.record import Result
from harness.run import Cell as RunCell
from harness.run import Plan, build_cached, ignore, run
from harness.studies.cells import Board, Cell, Record, State, cells_of
from harness.studies.rates import Rate, note, rate_name
from harness.studies.study import Study
from harness.tasks.outcome import Task

_PAUSE = 1.0  # seconds between two looks for a cell that can be done

OnCell = Callable[[RunCell], None]


def work(study: Study, *, device: str | None = None, threads: int | None = None) -> None:
    """Do cells until there is none left to do; what others are doing is waited for, as they may be killed.

    Args:
        study: to be done.
        device: of this worker; None: the study's.
        threads: of torch in this worker; None: as they are.

    Raises:
        WriteError: if the results folder cannot be written.
    """
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    board = Board(replace(study, device=device or study.device), cells_of(study))
    while _work_once(board, board.cells, silent, ignore):
        pass


def work_here(board: Board, progress: Progress, on_cell: OnCell) -> None:
    """Do all cells in this process, with progress bars and a call for each score: no number waits for a training."""
    scores_first = sorted(board.cells, key=lambda cell: cell.kind != "score")
    while _work_once(board, scores_first, progress, on_cell):
        pass


def show_states(states: Mapping[str, State], progress: Progress) -> None:
    """Show how far the study is."""
    counts = Counter(states.values())
    ended = counts["done"] + counts["failed"]
    progress("cells", ended, len(states), f"{counts['running']} running, {counts['failed']} failed")


def _work_once(board: Board, order: Sequence[Cell], progress: Progress, on_cell: OnCell) -> bool:
    """Do the first cell that can be done, or wait a moment where others do them; whether there may be more."""
    states = board.states()
    show_states(states, progress)
    left = board.open_cells(states)
    for cell in (one for one in order if one in left and all(states[need] == "done" for need in one.needs)):
        with board.claim(cell) as record:
            if record is not None:
                board.finish(cell, _done(board, cell, record, progress, on_cell))
                return True
    if left:
        time.sleep(_PAUSE)
    return bool(left)


def _done(board: Board, cell: Cell, record: Record, progress: Progress, on_cell: OnCell) -> Record:
    """Do the cell; how it ended. An error costs this cell, and a bug keeps its traceback on stderr."""
    started, study = time.perf_counter(), board.study
    try:
        context = study.context(progress=progress)
        if cell.kind == "score":
            results = _score(study, cell, context, on_cell)
        else:
            _check_data([task for one in board.cells if cell.key in one.needs for task in one.tasks()], context)
            results = _make(cell, context)
    except BenchError as error:
        return replace(record, state="failed", error=str(error), exit_code=error.exit_code)
    except Exception as error:
        traceback.print_exc(file=sys.stderr)
        return replace(record, state="failed", error=f"{cell.label}: {type(error).__name__}: {error}", exit_code=1)
    files = tuple(str(one.file.relative_to(study.results_dir)) for one in results if one.file is not None)
    return replace(record, state="done", seconds=time.perf_counter() - started, files=files)


def _check_data(tasks: Sequence[Task], context: Context) -> None:
    """Refuse to train or fit for scores of which none has its data, before the hours that it takes.

    Raises:
        BenchError: why the first task cannot be scored.
    """
    errors: list[BenchError] = []
    for task in tasks:
        try:
            task.prepare(BUNDLED if task.bundled else context.data_root())
            return
        except BenchError as error:
            errors.append(error)
    if errors:
        raise errors[0]


def _make(cell: Cell, context: Context) -> list[Result]:
    """Train or fit: what is there already is found, and what was interrupted is resumed."""
    for spec in cell.specs:
        asked = resolve(spec, context)
        work = asked.entry.work(asked.spec, asked.parameters)
        cost = work.cost(context) if work else None
        started = time.perf_counter()
        encoder = build_cached(asked, context)
        if cell.kind == "fit" and not isinstance(encoder, Transductive):
            embed(encoder, ["a"])  # the first sentence makes it fit
        if cost is not None and not cost.done:
            seconds = time.perf_counter() - started
            note(context, Rate(kind=cell.kind, what=rate_name(asked), units=cost.texts, seconds=seconds))
    return []


def _score(study: Study, cell: Cell, context: Context, on_cell: OnCell) -> list[Result]:
    """Encode and score the encoders together.

    Raises:
        BenchError: the first error, after all that could be scored is.
    """
    asked = [resolve(spec, context) for spec in cell.specs]
    models = [_built(one, context) for one in asked]
    plan = Plan(models=models, tasks=cell.tasks(), results_dir=study.results_dir, context=context, on_cell=on_cell)
    cells = run(plan)
    _note_rates(asked[0], models, cells, context)
    errors = [one.error for one in cells if one.error is not None]
    if errors:
        more = f" (and {len(errors) - 1} more of {len(cells)} scores)" if len(errors) > 1 else ""
        raise type(errors[0])(f"{errors[0]}{more}")
    return [one.result for one in cells if one.result is not None]


def _built(asked: Resolved, context: Context) -> Resolved | Built:
    """The encoder, or, if it cannot be built, what is asked for: the run then says why, and goes on with the others."""
    try:
        return build_cached(asked, context)
    except BenchError:
        return asked


def _note_rates(asked: Resolved, models: list[Resolved | Built], cells: list[RunCell], context: Context) -> None:
    """How many sentences the passes encoded in a second, and how long each task took."""
    new = [one.result for one in cells if one.result is not None and not one.skipped]
    inner = [one.encoder for one in models if isinstance(one, CachedEncoder)]
    sentences = sum(one.backbone.statistics.sentences for one in inner if isinstance(one, TransformerEncoder))
    seconds = sum({one.encoder.name: one.run.encoding_seconds for one in new}.values())
    if sentences:
        note(context, Rate(kind="encode", what=rate_name(asked), units=sentences, seconds=seconds))
    for one in new:
        note(context, Rate(kind="task", what=f"{one.task} {one.protocol}", units=1, seconds=one.run.seconds))
