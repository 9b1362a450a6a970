"""Where workers run: processes of this machine, tasks of a Ray cluster, or jobs of Slurm. All do the same.

An engine starts a number of workers (`harness.studies.worker.work`) and says how many are still at work. Which of them
does what is settled in the results folder, so an engine knows nothing of cells, and a lost worker loses nothing.
"""

import logging
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from types import FrameType
from typing import Any

from harness.errors import BenchError, UsageError
from harness.studies.cells import FOLDER
from harness.studies.study import Study
from harness.studies.worker import work

Alive = Callable[[], int]  # how many workers are at work
Engine = Callable[[Study, int], AbstractContextManager[Alive]]

_RESTARTS = 3  # of workers that were killed, for each
_SLURM_TIMES = 100  # that a job is queued again at its time limit
_SLURM_MINUTES = 24 * 60  # of a job, where the study does not say; submitit's own 5 would end most trainings

_log = logging.getLogger(__name__)


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
