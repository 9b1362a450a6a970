"""Who does the cells of a study: workers, and the engines that start them. All workers do the same.

A worker takes the next cell that can be done, does it, and goes on until there is none. An engine starts a number of
workers, as processes of this machine, tasks of a Ray cluster, or jobs of Slurm, and says how many are still at work.
Which of them does what is settled in the results folder, so an engine knows nothing of cells, and a lost worker loses
nothing.
"""

import logging
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial
from types import FrameType
from typing import Any

from harness.encoders.cached import CachedEncoder
from harness.encoders.context import Context
from harness.encoders.entry import Built
from harness.encoders.protocol import Transductive, embed
from harness.encoders.registry import Resolved, resolve
from harness.encoders.transformer import TransformerEncoder
from harness.errors import BenchError, UsageError
from harness.progress import Progress, silent
from harness.results.record import Result
from harness.run import Cell as RunCell
from harness.run import Plan, build_cached, ignore, run
from harness.studies.cells import FOLDER, Board, Cell, Record, State, cells_of
from harness.studies.plan import note_rate, rate_name
from harness.studies.study import Study
from harness.tasks.outcome import Task, prepare

Alive = Callable[[], int]  # how many workers are at work
Engine = Callable[[Study, int], AbstractContextManager[Alive]]
OnCell = Callable[[RunCell], None]

_PAUSE = 1.0  # seconds between two looks for a cell that can be done
_RESTARTS = 3  # of workers that were killed, for each
_SLURM_TIMES = 100  # that a job is queued again at its time limit
_SLURM_MINUTES = 24 * 60  # of a job, where the study does not say; submitit's own 5 would end most trainings

_log = logging.getLogger(__name__)


def work(study: Study, *, device: str | None = None, threads: int | None = None) -> None:
    """Do cells until there is none left to do; what others are doing is waited for, as they may be killed.

    A device or a number of torch's threads is this worker's own, in place of the study's and the machine's.

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
                board.write(cell, _done(board, cell, record, progress, on_cell))
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
            prepare(task, context)
            return
        except BenchError as error:
            errors.append(error)
    if errors:
        raise errors[0]


def _make(cell: Cell, context: Context) -> list[Result]:
    """Train or fit: what is there already is found, and what was interrupted is resumed."""
    for spec in cell.specs:
        asked = resolve(spec, context)
        cost = asked.work.cost(context) if asked.work else None
        started = time.perf_counter()
        encoder = build_cached(asked, context)
        if cell.kind == "fit" and not isinstance(encoder, Transductive):
            embed(encoder, ["a"])  # the first sentence makes it fit
        if cost is not None and not cost.done:
            seconds = time.perf_counter() - started
            note_rate(context, kind=cell.kind, what=rate_name(asked), units=cost.texts, seconds=seconds)
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
        note_rate(context, kind="encode", what=rate_name(asked), units=sentences, seconds=seconds)
    for one in new:
        note_rate(context, kind="task", what=f"{one.task} {one.protocol}", units=1, seconds=one.run.seconds)


@contextmanager
def local(study: Study, workers: int) -> Iterator[Alive]:
    """Processes of this machine; cores and GPUs are shared out among them, several workers to a GPU if need be."""
    import torch

    spawned = multiprocessing.get_context("spawn")
    threads = max(1, (os.cpu_count() or 1) // workers)
    gpus = torch.cuda.device_count() if study.device in ("auto", "cuda") else 0

    def start(number: int) -> Any:
        device = f"cuda:{number % gpus}" if gpus else None
        process = spawned.Process(target=_work_locally, args=(study, device, threads), daemon=True)
        process.start()
        return process

    processes = {number: start(number) for number in range(workers)}
    restarts = _RESTARTS * workers

    def alive() -> int:
        nonlocal restarts
        for number, process in processes.items():
            if (process.exitcode or 0) < 0 and restarts:  # killed; its cell is free again
                restarts -= 1
                processes[number] = start(number)
        return sum(process.is_alive() for process in processes.values())

    try:
        yield alive
    finally:
        for process in processes.values():
            process.terminate()
        for process in processes.values():
            process.join()


def _work_locally(study: Study, device: str | None, threads: int) -> None:
    """What a process does; Ctrl-C is its parent's business, and an error is one sentence."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        work(study, device=device, threads=threads)
    except BenchError as error:
        sys.stderr.write(f"bench: {error}\n")
        sys.exit(error.exit_code)


@contextmanager
def ray(study: Study, workers: int) -> Iterator[Alive]:
    """Tasks of a Ray cluster, each again elsewhere if its node is lost.

    The table `[ray]` has `address` (else RAY_ADDRESS, else a cluster of this machine alone) and the options of
    `ray.remote`, such as `num_gpus = 0.25` for four workers to a GPU.
    """
    cluster = _import("ray", "ray")
    options = dict(study.engines.get("ray", {}))
    address = options.pop("address", None)
    mine = not cluster.is_initialized()
    if mine:
        cluster.init(address=address, include_dashboard=False, log_to_driver=False, logging_level="error")
    options = {"num_cpus": 1, "max_retries": _RESTARTS, **options}
    threads = max(1, int(options["num_cpus"]))
    task = cluster.remote(**options)(work)
    pending = [task.remote(study, threads=threads) for _ in range(workers)]

    def alive() -> int:
        nonlocal pending
        done, pending = cluster.wait(pending, num_returns=len(pending), timeout=0) if pending else ([], [])
        for one in done:
            with _losing_workers():
                cluster.get(one)
        return len(pending)

    try:
        yield alive
    finally:
        for one in pending:
            cluster.cancel(one, force=True)
        if mine:
            cluster.shutdown()


@contextmanager
def slurm(study: Study, workers: int) -> Iterator[Alive]:
    """Jobs of one Slurm array, through submitit.

    The table `[slurm]` has submitit's parameters, such as `timeout_min`, `cpus_per_task`, `gpus_per_node` and
    `slurm_partition`; `cluster = "local"` starts them as processes of this machine, to try a study.
    """
    submitit = _import("submitit", "slurm")
    options = dict(study.engines.get("slurm", {}))
    cluster = options.pop("cluster", None)
    folder = study.results_dir.absolute() / FOLDER / "jobs"
    executor = submitit.AutoExecutor(folder=folder, cluster=cluster, slurm_max_num_timeout=_SLURM_TIMES)
    executor.update_parameters(**{"timeout_min": _SLURM_MINUTES, **options})
    jobs = executor.map_array(_Job(), [study] * workers)

    def alive() -> int:
        for job in [job for job in jobs if job.done()]:
            jobs.remove(job)
            with _losing_workers():
                job.result()
        return len(jobs)

    try:
        yield alive
    finally:
        for job in jobs:
            job.cancel()


class _Job:
    """A worker as a job of Slurm: one that reaches its time limit is queued again, and goes on with what is left."""

    def __call__(self, study: Study) -> None:
        """Work; what submitit raises near the limit gets through the code of encoders as Ctrl-C does."""
        ending = signal.getsignal(signal.SIGUSR2)
        if callable(ending):
            signal.signal(signal.SIGUSR2, partial(_interrupt, ending))
        try:
            work(study)
        except KeyboardInterrupt as interruption:
            raise interruption.__cause__ or interruption from None

    def checkpoint(self, study: Study) -> Any:
        """What submitit queues again."""
        return _import("submitit", "slurm").helpers.DelayedSubmission(self, study)


def _interrupt(ending: Callable[[int, FrameType | None], Any], number: int, frame: FrameType | None) -> None:
    try:
        ending(number, frame)
    except BaseException as error:
        raise KeyboardInterrupt from error


@contextmanager
def _losing_workers() -> Iterator[None]:
    """Warn of a worker that was lost, and go on: others do its cell."""
    try:
        yield
    except Exception as error:  # each engine has its own kinds
        _log.warning("a worker was lost: %s", " ".join(str(error).split())[:300])


ENGINES: Mapping[str, Engine] = {"local": local, "ray": ray, "slurm": slurm}


def _import(module: str, extra: str) -> Any:
    """A package that only one engine needs.

    Raises:
        UsageError: if it is not installed; the message names the extra.
    """
    import importlib

    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise UsageError(
            f"--engine {extra}: the package {module} is not installed; install it with: pip install "
            f"'simcse-bench[{extra}]'"
        ) from error
