"""The main job: every encoder on every task, each distinct sentence encoded once, finished cells skipped."""

import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch

from harness.data.locate import BUNDLED
from harness.data.overlap import YEARS, selection_flag
from harness.encoders.cached import CachedEncoder, Encoded, cache_embeddings, share_passes
from harness.encoders.context import Context
from harness.encoders.foreign import foreign
from harness.encoders.protocol import Transductive
from harness.encoders.registry import Built, resolve
from harness.errors import BenchError, DataError, EncoderError, ResultError
from harness.names import STS_B_DEV, EncoderCard
from harness.results import store
from harness.results.machine import provenance
from harness.results.record import SCHEMA, Result
from harness.tasks.outcome import Prepared, Task

OTHER_COPY = "another copy of the data than the known one"
FITTED_ON_TARGET = "fitted on the evaluated sentences"
SELECTED_ON_STS_B = f"selected on {STS_B_DEV}"
_SEEN_IN_SELECTION = (*YEARS, "STSBenchmark-dev")  # tasks with pairs of STS-B dev


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One encoder on one task, and what became of it: a result that was computed or found, or an error."""

    encoder: str
    task: str
    result: Result | None = None
    error: BenchError | None = None
    skipped: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to run and where to put it.

    Attributes:
        models: specifications as the user wrote them.
        tasks: to score, in order.
        results_dir: result files are written below it.
        data_root: the folder with `downstream/`; called only if a task that is not bundled is asked for.
        context: for building encoders.
        force: overwrite finished cells.
        told: called with every cell when it is done.
    """

    models: Sequence[str]
    tasks: Sequence[Task]
    results_dir: Path
    data_root: Callable[[], Path]
    context: Context
    force: bool
    told: Callable[[Cell], None]


def run(plan: Plan) -> list[Cell]:
    """Evaluate; one failing encoder or task does not sink the others.

    Raises:
        UsageError: before anything is run, if a model's name or parameter is unknown.
        ResultError: before anything is run, if results would have to be written and cannot be.
        DataError: if the data folder cannot be had.
    """
    models = {str(resolve(text, plan.context).spec): text for text in plan.models}
    if plan.force or not _all_there(models, plan):
        _check_writable(plan.results_dir)
    prepared = _prepare(plan)
    encoders = {name: _built(text, plan.context) for name, text in models.items()}
    share_passes([encoder for encoder in encoders.values() if isinstance(encoder, CachedEncoder)])
    cells = []
    for name, encoder in encoders.items():
        for cell in _run_encoder(name, encoder, prepared, plan):
            plan.told(cell)
            cells.append(cell)
    return cells


def _all_there(models: Iterable[str], plan: Plan) -> bool:
    """Whether every cell has its file, so that a folder nobody may write to can still be shown."""
    cells = ((name, task) for name in models for task in plan.tasks)
    return all(store.cell_path(plan.results_dir, name, task.name, task.protocol).exists() for name, task in cells)


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
    root = BUNDLED if all(task.bundled for task in plan.tasks) else plan.data_root()
    prepared: dict[str, Prepared | BenchError] = {}
    for task in plan.tasks:
        try:
            prepared[task.name] = task.prepare(BUNDLED if task.bundled else root)
        except BenchError as error:
            prepared[task.name] = error
    return prepared


def _built(text: str, context: Context) -> Built | BenchError:
    try:
        return build_cached(text, context)
    except BenchError as error:
        return error


def build_cached(text: str, context: Context) -> Built:
    """The encoder of that specification; a transformer's vectors are kept on disk.

    Raises:
        UsageError: on an unknown name, parameter or checkpoint.
        EncoderError: if it cannot be built.
    """
    asked = resolve(text, context)
    spec = asked.spec
    with foreign(str(spec), "building"):
        built = asked.build(context)
        card = getattr(built, "card", None)
        if not isinstance(card, EncoderCard):
            found = "no card" if card is None else f"a card that is a {type(card).__name__}"
            raise EncoderError(
                f"{spec}: built a {type(built).__name__} with {found}, expected an EncoderCard; "
                "see harness.encoders.protocol.Encoder"
            )
        card.identity  # noqa: B018  results and caches hold the card as JSON
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
        with foreign(card.name, "looking for its result"):  # the card may hold anything, too
            if not store.finished(plan.results_dir, task.name, task.protocol, card, data.files):
                return None
        result = store.read(store.cell_path(plan.results_dir, card.name, task.name, task.protocol))
    except BenchError as error:
        return Cell(encoder=card.name, task=task.name, error=error)
    return Cell(encoder=card.name, task=task.name, result=result, skipped=True)


def _score_pending(built: Built, pending: Sequence[tuple[Task, Prepared]], plan: Plan) -> Iterator[Cell]:
    started = time.perf_counter()
    encoder: Built | BenchError = built
    if not isinstance(built, Transductive):
        try:
            with foreign(built.card.name, "encoding"):
                encoder = Encoded(built, [s for _, data in pending for s in data.sentences])
        except BenchError as error:
            encoder = error
    encoding_seconds = time.perf_counter() - started
    for task, data in pending:
        if isinstance(encoder, BenchError):
            yield Cell(encoder=built.card.name, task=task.name, error=encoder)
            continue
        try:
            with foreign(built.card.name, f"scoring on {task.name}"):  # where some are fitted, and encode
                result = _score(encoder, task, data, encoding_seconds, plan)
        except BenchError as error:
            yield Cell(encoder=built.card.name, task=task.name, error=error)
        else:
            yield Cell(encoder=built.card.name, task=task.name, result=result)


def _score(encoder: Built, task: Task, data: Prepared, encoding_seconds: float, plan: Plan) -> Result:
    started, clock = datetime.now(UTC), time.perf_counter()
    fitted = encoder.fit_target(data.target) if isinstance(encoder, Transductive) else encoder
    outcome = data.score(fitted, plan.context)
    result = Result(
        schema=SCHEMA,
        task=task.name,
        protocol=task.protocol,
        metric=task.metric,
        scores=outcome.scores,
        counts=outcome.counts,
        data=data.files,
        flags=_flags(encoder.card, task, data, plan),
        encoder=encoder.card,
        seed=task.seed,
        sidecar=None,
        run=provenance(
            started=started.isoformat(timespec="seconds"),
            seconds=time.perf_counter() - clock,
            encoding_seconds=encoding_seconds,
            device=plan.context.device,
            threads=torch.get_num_threads(),
        ),
    )
    store.write(result, outcome.items, plan.results_dir)
    return result


def _flags(card: EncoderCard, task: Task, data: Prepared, plan: Plan) -> tuple[str, ...]:
    flags = list(data.flags)
    if card.fitted_on == "target":
        flags.append(FITTED_ON_TARGET)
    if task.name in _SEEN_IN_SELECTION and card.selected_on == STS_B_DEV:
        flags.append(_selection_flag(plan.data_root()))
    if data.other_copies:
        flags.append(OTHER_COPY)
    return tuple(flags)


def _selection_flag(root: Path) -> str:
    """With the numbers of shared pairs where the data of all those tasks are there."""
    try:
        return selection_flag(root)
    except DataError:
        return SELECTED_ON_STS_B
