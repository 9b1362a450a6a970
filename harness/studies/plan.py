"""What a study will cost before it begins: sentences, tokens, fits, steps, downloads, memory, disk, and time.

Time comes from rates: how fast this machine was, of which a worker notes a line for each piece of its work.
"""

import hashlib
import heapq
import json
import os
import resource
import shutil
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from pydantic import BaseModel, ConfigDict, ValidationError

from harness.encoders.cached import CachedEncoder
from harness.encoders.checkpoint import load_tokenizer, weight_files
from harness.encoders.context import Context
from harness.encoders.entry import Cost
from harness.encoders.registry import Resolved, resolve
from harness.encoders.tokens import token_ids
from harness.encoders.transformer import TransformerEncoder
from harness.errors import BenchError, WriteError
from harness.progress import Progress, silent
from harness.results.record import machine
from harness.run import build_cached
from harness.studies.cells import Board, Cell, State
from harness.studies.study import Scoring, Study
from harness.tasks.outcome import prepare

_PROCESS_BYTES = 5 * 2**29  # of Python, torch and a batch: what `tiny` was seen to take, rounded up
_TRAINING = 4  # times the weights: they, their gradients, and two moments of Adam
_KEPT_OF_TRAINING = 4  # times the weights, on disk: checkpoint with both moments, and the best weights
_HUB_SECONDS = 5.0
_KEPT = 20  # the last ones of a kind count, as a machine changes


class _Rate(BaseModel):
    """How fast a piece of work was: a line of the file."""

    model_config = ConfigDict(strict=True)

    machine: str  # digest of its facts
    device: str
    dtype: str
    kind: str  # `train`, `fit`, `encode` or `task`
    what: str  # method and backbone (see `rate_name`), or task and protocol
    units: int  # texts read, sentences encoded, or 1
    seconds: float  # for all units
    peak_bytes: int  # of the process


def note_rate(context: Context, *, kind: str, what: str, units: int, seconds: float) -> None:
    """Keep a rate; where nothing can be written, it is not kept."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    rate = _Rate(**_here(context), kind=kind, what=what, units=units, seconds=seconds, peak_bytes=peak)
    path = _rates_file(context)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:  # one write of a short line, which other processes cannot come between
            os.write(handle, (json.dumps(rate.model_dump()) + "\n").encode())
        finally:
            os.close(handle)
    except OSError:
        return


def rate_name(asked: Resolved) -> str:
    """What a rate is about: the method, and the backbone where there is one."""
    backbone = getattr(asked.parameters, "backbone", None)
    return f"{asked.spec.name} on {Path(backbone).name}" if backbone else asked.spec.name


class Rates:
    """What is known of this machine and device."""

    def __init__(self, context: Context) -> None:
        here = _here(context)
        self._found: dict[tuple[str, str], list[float]] = {}
        self._peaks: dict[str, int] = {}
        for one in _read_rates(_rates_file(context)):
            if one.units and all(getattr(one, name) == value for name, value in here.items()):
                self._found.setdefault((one.kind, one.what), []).append(one.seconds / one.units)
                self._peaks[one.kind] = max(self._peaks.get(one.kind, 0), one.peak_bytes)

    def seconds(self, kind: str, what: str, units: int) -> float | None:
        """How long so many units take, by the median of what was measured; None if nothing was."""
        if not units:
            return 0.0
        found = self._found.get((kind, what), [])[-_KEPT:]
        return median(found) * units if found else None

    def peak_bytes(self, kind: str) -> int:
        """The largest memory of a process that did such work here; 0 if nothing was measured."""
        return self._peaks.get(kind, 0)


def _rates_file(context: Context) -> Path:
    return context.cache_dir / "rates" / "rates.jsonl"


def _here(context: Context) -> dict[str, str]:
    digest = hashlib.sha256(json.dumps(machine(), sort_keys=True).encode()).hexdigest()[:16]
    return {"machine": digest, "device": context.device.partition(":")[0], "dtype": context.dtype}


def _read_rates(path: Path) -> list[_Rate]:
    """The lines that can be read; those cut by a crash are passed by."""
    found: list[_Rate] = []
    with suppress(OSError):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            with suppress(ValidationError):
                found.append(_Rate.model_validate_json(line))
    return found


@dataclass(slots=True, kw_only=True)
class CellPlan:
    """What one cell will cost; all 0 if it is done."""

    label: str
    state: State
    seconds: float | None = 0.0  # None where nothing like it was measured on this machine
    steps: int = 0  # of an optimiser
    sentences: int = 0  # to be encoded in forward passes
    cached: int = 0  # vectors that are in the cache already
    tokens: int | None = 0  # of the sentences to be encoded; None where the tokenizer is not here yet
    memory_bytes: int = 0  # of its process, at the most
    disk_bytes: int = 0  # that will be written to the cache


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyPlan:
    """What a study will cost."""

    cells: list[CellPlan]  # in the order of the study's
    results: int  # that the study asks for
    measured: int  # how many of them are there
    sentences: int  # distinct ones of all tasks
    missing: list[str]  # one sentence for each thing that is not on this machine: data, texts and checkpoints
    seconds: dict[int, float]  # by number of workers, as far as the cells' times are known
    unknown: int  # how many cells' times are not
    memory_bytes: int  # of the largest process
    disk_bytes: int  # that will be written to the cache
    free_bytes: int  # on the cache's disk

    def check_disk(self, cache_dir: Path) -> None:
        """Refuse a study that the disk cannot hold.

        Raises:
            WriteError: if there is too little room.
        """
        if self.disk_bytes > self.free_bytes:
            raise WriteError(
                f"{cache_dir}: {self.free_bytes / 2**30:.1f} GiB are free and the study needs about "
                f"{self.disk_bytes / 2**30:.1f} GiB; make room there, or name another --cache-dir"
            )


def make_plan(board: Board, workers: Sequence[int] = (1,), progress: Progress = silent) -> StudyPlan:
    """Look at what is here and add up the rest; nothing is downloaded, trained or encoded.

    Training text is read, and tokenised where it was not yet, which is kept for the training. The time is told for one
    worker and for each of the given numbers of them.
    """
    study = board.study
    context = study.context(offline=True, progress=progress)
    states = board.states()
    missing: list[str] = []
    sentences = {
        scoring: _sentences(scoring, context, missing) for scoring in dict.fromkeys(own for _, own in study.models)
    }
    results = {(spec, task.name, task.protocol) for spec, scoring in study.models for task in scoring.chosen()}
    estimator = _Estimator(study, context, Rates(context), sentences, missing)
    cells = [estimator.of(cell, states[cell.key]) for cell in board.cells]
    times = {cell.key: one.seconds or 0.0 for cell, one in zip(board.cells, cells, strict=True)}
    return StudyPlan(
        cells=cells,
        results=len(results),
        measured=len(results & board.measured),
        sentences=len({sentence for own in sentences.values() for sentence in own}),
        missing=list(dict.fromkeys(missing)),
        seconds={n: simulate(board.cells, times, n) for n in dict.fromkeys((1, *workers))},
        unknown=sum(one.seconds is None for one in cells),
        memory_bytes=max((one.memory_bytes for one in cells), default=0),
        disk_bytes=sum(one.disk_bytes for one in cells),
        free_bytes=_free(study.cache_dir),
    )


def begin(board: Board, progress: Progress = silent) -> None:
    """Open the board for work, and refuse a study that the disk cannot hold.

    Raises:
        WriteError: if there is too little room, or files cannot be written or locked in the results folder.
    """
    board.open()
    if board.open_cells(board.states()):
        make_plan(board, progress=progress).check_disk(board.study.cache_dir)


def simulate(cells: Sequence[Cell], seconds: Mapping[str, float], workers: int) -> float:
    """The time until all cells are done, where each of some workers takes the first cell that can be done.

    What a cell takes is given by its key; a worker's start is not counted.
    """
    waiting, done, running, now = list(cells), set[str](), list[tuple[float, str]](), 0.0
    while waiting or running:
        ready = [cell for cell in waiting if done.issuperset(cell.needs)][: workers - len(running)]
        for cell in ready:
            waiting.remove(cell)
            heapq.heappush(running, (now + seconds[cell.key], cell.key))
        now, key = heapq.heappop(running)
        done.add(key)
    return now


@dataclass(slots=True)
class _Estimator:
    """Tells the cost of cells; what is missing for that goes into the list."""

    study: Study
    context: Context
    rates: Rates
    sentences: Mapping[Scoring, list[str]]
    missing: list[str]

    def of(self, cell: Cell, state: State) -> CellPlan:
        """The cost of a cell."""
        found = CellPlan(label=cell.label, state=state)
        if state == "done":
            return found
        asked = [resolve(spec, self.context) for spec in cell.specs]
        if cell.scoring is not None:
            self._score(found, asked, cell.scoring)
        else:
            for one in asked:
                self._make(found, one, cell.kind)
        measured = self.rates.peak_bytes("encode" if cell.kind == "score" else cell.kind)
        found.memory_bytes = measured or found.memory_bytes
        return found

    def _make(self, found: CellPlan, asked: Resolved, kind: str) -> None:
        cost = self._cost(asked)
        if cost is None:
            found.seconds = None
        elif not cost.done:
            found.steps += cost.steps
            found.seconds = _sum(found.seconds, self.rates.seconds(kind, rate_name(asked), cost.texts))
            found.memory_bytes = _PROCESS_BYTES + cost.model_bytes * (_TRAINING if kind == "train" else 1)
            found.disk_bytes += cost.model_bytes * (_KEPT_OF_TRAINING if kind == "train" else 1)

    def _cost(self, asked: Resolved) -> Cost | None:
        """What the work of an encoder takes; None if something is missing for it, or it has none."""
        try:
            return asked.work.cost(self.context) if asked.work else None
        except BenchError as error:
            self._miss(asked, error)
            return None

    def _score(self, found: CellPlan, asked: Sequence[Resolved], scoring: Scoring) -> None:
        sentences = self.sentences[scoring]
        passes: dict[str, int] = {}
        for one in asked:
            if self._is_trained_later(one):  # its vectors are new, and its tokenizer is not asked
                passes[str(one.spec)] = len(sentences)
                found.tokens = None
                continue
            inner = self._encoder(one)
            if inner is None:
                continue
            lacking = inner.missing(sentences)
            found.cached += len(sentences) - len(lacking)
            found.disk_bytes += len(lacking) * (4 * inner.card.dim + 16)
            if isinstance(inner.encoder, TransformerEncoder):
                backbone = inner.encoder.backbone
                weights = sum(path.stat().st_size for path in weight_files(backbone.checkpoint))
                found.memory_bytes = _PROCESS_BYTES + weights + 8 * inner.card.dim * len(sentences)
                if len(lacking) > passes.get(backbone.identity, -1):  # one pass serves all poolings
                    passes[backbone.identity] = len(lacking)
                    ids = token_ids(load_tokenizer(backbone.checkpoint), lacking, backbone.max_tokens)
                    found.tokens = None if found.tokens is None else found.tokens + sum(map(len, ids))
        found.sentences = sum(passes.values())
        found.memory_bytes = found.memory_bytes or _PROCESS_BYTES
        found.seconds = self.rates.seconds("encode", rate_name(asked[0]), found.sentences)
        for task in scoring.chosen():
            each = self.rates.seconds("task", f"{task.name} {task.protocol}", len(asked))
            found.seconds = _sum(found.seconds, each)

    def _is_trained_later(self, asked: Resolved) -> bool:
        if asked.work is None or asked.work.kind != "train":
            return False
        cost = self._cost(asked)
        return cost is None or not cost.done

    def _encoder(self, asked: Resolved) -> CachedEncoder | None:
        """The encoder whose vectors are cached; None where there is none, as of one that is faster than a disk."""
        try:
            built = build_cached(asked, self.context)
        except BenchError as error:
            self._miss(asked, error)
            return None
        inner = getattr(built, "base", built)
        return inner if isinstance(inner, CachedEncoder) else None

    def _miss(self, asked: Resolved, error: BenchError) -> None:
        backbone = getattr(asked.parameters, "backbone", None) or asked.spec.name.partition("hf:")[2]
        size = None if self.study.offline or not backbone else _download_bytes(backbone)
        self.missing.append(str(error) + (f" ({size / 2**20:,.0f} MiB to download)" if size else ""))


def _sum(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a + b


def _sentences(scoring: Scoring, context: Context, missing: list[str]) -> list[str]:
    """The distinct sentences of the tasks whose data are here."""
    found: dict[str, None] = {}
    for task in scoring.chosen():
        try:
            found |= dict.fromkeys(prepare(task, context).sentences)
        except BenchError as error:
            missing.append(str(error))
    return list(found)


def _download_bytes(repository: str) -> int | None:
    """What a checkpoint of the hub weighs; None where the hub does not say."""
    from huggingface_hub import HfApi

    try:
        found = HfApi().model_info(repository.partition("@")[0], files_metadata=True, timeout=_HUB_SECONDS)
    except Exception:  # the hub's library raises many kinds, and a plan can do without a size
        return None
    sizes = {one.rfilename: one.size or 0 for one in found.siblings or []}
    tensors = [size for name, size in sizes.items() if name.endswith(".safetensors")]
    return sum(tensors or [size for name, size in sizes.items() if name.endswith(".bin")]) or None


def _free(folder: Path) -> int:
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.is_dir())
    return shutil.disk_usage(there).free
