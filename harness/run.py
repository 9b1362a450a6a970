"""The runner: every encoder on every task, each distinct sentence encoded once, finished cells skipped."""

import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch

from harness.data.locate import BUNDLED
from harness.data.sts import YEARS, selection_flag
from harness.encoders.cached import CachedEncoder, Encoded, cache_embeddings, share_passes
from harness.encoders.context import Context
from harness.encoders.entry import Built
from harness.encoders.foreign import foreign
from harness.encoders.protocol import Encoder, Releasable, Transductive
from harness.encoders.registry import Resolved
from harness.errors import BenchError, DataError, EncoderError, ResultError
from harness.names import STS_B_DEV, EncoderCard, Spec
from harness.progress import timed
from harness.results import store
from harness.results.record import Result, provenance
from harness.tasks.outcome import Outcome, Prepared, Task

_log = logging.getLogger(__name__)

OTHER_COPY = "another copy of the data than the known one"
FITTED_ON_TARGET = "fitted on the evaluated sentences"
SELECTED_ON_STS_B = f"selected on {STS_B_DEV}"
_SEEN_IN_SELECTION = (*YEARS, "STSBenchmark-dev", "STSBenchmark.v2-dev")  # tasks with pairs of STS-B dev


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One encoder on one task, and its outcome: a result that was computed or found, or an error."""

    encoder: str
    task: str
    result: Result | None = None
    error: BenchError | None = None
    skipped: bool = False


def ignore(cell: Cell) -> None:
    """An `on_cell` that does nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to run and where to put it."""

    models: Sequence[Resolved | Built]  # specifications that the registry has resolved, or encoders that exist already
    tasks: Sequence[Task]  # the tasks to score, in order
    results_dir: Path  # result files are written below it
    context: Context  # folders, device, dtype and progress
    force: bool = False  # overwrite finished cells
    on_cell: Callable[[Cell], None] = ignore  # callback, called once per finished cell


def run(plan: Plan) -> list[Cell]:
    """Evaluate; one failing encoder or task does not sink the others, and those that are trained first come last.

    Returns:
        A cell for each encoder and task, in the order of the plan.

    Raises:
        ResultError: before anything is run, if results would have to be written and cannot be.
        DataError: if the data folder cannot be had.
    """
    models = {_name(model): model for model in plan.models}
    try:
        _check_writable(plan.results_dir)
    except ResultError:
        if plan.force or not _all_there(models, plan):
            raise
    prepared = _prepare(plan)
    cells: dict[str, list[Cell]] = {name: [] for name in models}
    for names in _stages(models):
        with timed("loading models"):
            encoders = {name: _built(models[name], plan.context) for name in names}
        share_passes([encoder for encoder in encoders.values() if isinstance(encoder, CachedEncoder)])
        for name, encoder in encoders.items():
            for cell in _run_encoder(name, encoder, prepared, plan):
                plan.on_cell(cell)
                cells[name].append(cell)
            if isinstance(encoder, Releasable):
                encoder.release()
    return [cell for own in cells.values() for cell in own]


def _stages(models: Mapping[str, Resolved | Built]) -> tuple[list[str], list[str]]:
    """The names of those that can encode at once, and of those that are trained: no number waits for a training."""
    works = {name: model.work for name, model in models.items() if isinstance(model, Resolved)}
    trained = [name for name, work in works.items() if work is not None and work.kind == "train"]
    return [name for name in models if name not in trained], trained


def _name(model: Resolved | Built) -> str:
    return str(model.spec) if isinstance(model, Resolved) else model.card.name


def _all_there(models: Iterable[str], plan: Plan) -> bool:
    """Whether every cell has its file, so that a folder nobody may write to can still be shown."""
    try:
        found = store.read_all(plan.results_dir, check=False)[0]
    except ResultError:  # a folder that cannot be read cannot be written either, and that is said then
        return False
    there = {(result.encoder.name, result.task, result.protocol) for result in found}
    return all((name, task.name, task.protocol) in there for name in models for task in plan.tasks)


def _check_writable(folder: Path) -> None:
    """Write a file there that has no name where the system can do that, so that even a killed run leaves none.

    Raises:
        ResultError: if that fails.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(1))
            file.flush()
            os.fsync(file.fileno())  # a full disk may say so only now
    except OSError as error:
        raise ResultError(
            f"{folder}: results cannot be written there ({error.strerror}); make room or give write permission, or "
            "name another --results-dir"
        ) from error


def _prepare(plan: Plan) -> dict[str, Prepared | BenchError]:
    root = BUNDLED if all(task.bundled for task in plan.tasks) else plan.context.data_root()
    prepared: dict[str, Prepared | BenchError] = {}
    for task in plan.tasks:
        place = BUNDLED if task.bundled else root
        try:
            with timed("reading data"):
                data = prepared[task.name] = task.prepare(place)
        except BenchError as error:
            prepared[task.name] = error
        else:
            _log.info("%s: %d sentences read from %s", task.name, len(data.sentences), place)
    return prepared


def _built(model: Resolved | Built, context: Context) -> Built | BenchError:
    try:
        return build_cached(model, context) if isinstance(model, Resolved) else cache_embeddings(model, context)
    except BenchError as error:
        return error


def build_cached(asked: Resolved, context: Context) -> Built:
    """Build the encoder of that specification, with the embedding cache in front of it.

    Raises:
        UsageError: on a checkpoint that cannot be had, or settings that cannot work.
        EncoderError: if it cannot be built, or its card is not the specification's.
    """
    name = str(asked.spec)
    with foreign(name, "building"):
        built = asked.build(context)
        card = getattr(built, "card", None)
        if isinstance(card, EncoderCard):
            card.identity  # noqa: B018  a card that JSON cannot hold fails here, and costs this encoder only
    if not isinstance(card, EncoderCard):
        found = "no card" if card is None else f"a card that is a {type(card).__name__}"
        raise EncoderError(
            f"{name}: built a {type(built).__name__} with {found}, expected an EncoderCard; "
            "see harness.encoders.protocol.Encoder"
        )
    if Spec.parse(card.name).name != asked.spec.name:
        raise EncoderError(
            f"{name}: built an encoder whose card is named {card.name!r}, expected the specification's own name"
        )
    return cache_embeddings(built, context)


def _run_encoder(
    name: str, built: Built | BenchError, prepared: Mapping[str, Prepared | BenchError], plan: Plan
) -> Iterator[Cell]:
    """The cells of one encoder: errors and finished cells first, then the rest after one encoding pass."""
    name = name if isinstance(built, BenchError) else built.card.name
    pending: list[tuple[Task, Prepared]] = []
    for task in plan.tasks:
        data = prepared[task.name]
        if isinstance(data, BenchError):
            yield Cell(encoder=name, task=task.name, error=data)
        elif isinstance(built, BenchError):
            yield Cell(encoder=name, task=task.name, error=built)
        else:
            found = _finished(task, data, built.card, plan)
            if found is None:
                pending.append((task, data))
            else:
                yield found
    if pending and not isinstance(built, BenchError):
        yield from _score_pending(built, pending, plan)


def _finished(task: Task, data: Prepared, card: EncoderCard, plan: Plan) -> Cell | None:
    """The cell if it is on disk already (or something else is in its place), None if it has to be computed."""
    if plan.force:
        return None
    try:
        result = store.finished(plan.results_dir, task.name, task.protocol, card, data.files)
    except BenchError as error:
        return Cell(encoder=card.name, task=task.name, error=error)
    if result is None:
        return None
    _log.info("%s: finished before, kept", result.file)
    return Cell(encoder=card.name, task=task.name, result=result, skipped=True)


def _score_pending(built: Built, pending: Sequence[tuple[Task, Prepared]], plan: Plan) -> Iterator[Cell]:
    started = time.perf_counter()
    encoder: Built | BenchError = built
    if not isinstance(built, Transductive):
        try:
            with timed("encoding"):
                encoder = Encoded(built, [s for _, data in pending for s in data.sentences])
        except BenchError as error:
            encoder = error
    encoding_seconds = time.perf_counter() - started
    for task, data in pending:
        if isinstance(encoder, BenchError):
            yield Cell(encoder=built.card.name, task=task.name, error=encoder)
            continue
        try:
            result = _score(encoder, task, data, encoding_seconds, plan)
        except BenchError as error:
            yield Cell(encoder=built.card.name, task=task.name, error=error)
        else:
            yield Cell(encoder=built.card.name, task=task.name, result=result)


def _score(encoder: Built, task: Task, data: Prepared, encoding_seconds: float, plan: Plan) -> Result:
    started, clock = datetime.now(UTC), time.perf_counter()
    fitted = _fit(encoder, task, data)
    with timed("scoring"):
        outcome: Outcome = data.score(fitted, plan.context)
    result = Result(
        task=task.name,
        protocol=task.protocol,
        metric=task.metric,
        scores=outcome.scores,
        counts=outcome.counts,
        data=data.files,
        flags=_flags(encoder.card, task, data, plan),
        encoder=encoder.card,
        seed=task.seed,
        run=provenance(
            started=started.isoformat(timespec="seconds"),
            seconds=time.perf_counter() - clock,
            encoding_seconds=encoding_seconds,
            device=plan.context.device,
            threads=torch.get_num_threads(),
        ),
    )
    with timed("writing"):
        return store.write(result.with_items(outcome.items), plan.results_dir)


def _fit(encoder: Built, task: Task, data: Prepared) -> Encoder:
    if not isinstance(encoder, Transductive):
        return encoder
    with foreign(encoder.card.name, f"fitting on {task.name}"), timed("fitting"):
        fitted = encoder.fit_target(data.target)
    with timed("encoding"):
        return Encoded(fitted, data.sentences)


def _flags(card: EncoderCard, task: Task, data: Prepared, plan: Plan) -> tuple[str, ...]:
    flags = list(data.flags)
    if card.fitted_on == "target":
        flags.append(FITTED_ON_TARGET)
    if task.name in _SEEN_IN_SELECTION and card.selected_on == STS_B_DEV:
        flags.append(_selection_flag(plan.context))
    if data.other_copies:
        flags.append(OTHER_COPY)
    return tuple(flags)


def _selection_flag(context: Context) -> str:
    """The flag, with the numbers of shared pairs where the data of all those tasks are there."""
    try:
        return selection_flag(context.data_root())
    except DataError:
        return SELECTED_ON_STS_B
