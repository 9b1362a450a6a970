"""The cells of a study, what must come before which, and what the results folder says of each.

A `train` and a `fit` cell make what an encoder needs; a `score` cell encodes and scores all encoders of one backbone,
so that they share their forward passes. A cell that is done again gives the same files, so any worker may do any cell.

Beside the results, in `.study/`, each cell has a record and a lock. Who works on a cell holds its lock, which the
system takes back when the process or the machine dies; a record that says `running` under a free lock was left by a
killed worker, and its cell is done again.
"""

import hashlib
import json
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Literal

from harness import files
from harness.encoders.registry import Resolved, resolve
from harness.errors import WriteError
from harness.results import store
from harness.studies.study import Scoring, Study
from harness.tasks.outcome import Task

Kind = Literal["train", "fit", "score"]
State = Literal["waiting", "running", "done", "failed"]

FOLDER = ".study"
MOST_ATTEMPTS = 3  # of a cell whose workers are killed, as by a machine with too little memory


@dataclass(frozen=True, slots=True)
class Cell:
    """A piece of work that one worker does."""

    kind: Kind
    specs: tuple[str, ...]  # of its encoders
    needs: tuple[str, ...]  # keys of the cells that come first
    key: str  # digest of all that it does
    scoring: Scoring | None = None  # of a `score` cell

    @property
    def label(self) -> str:
        """For people."""
        more = f" and {len(self.specs) - 1} more" if len(self.specs) > 1 else ""
        return f"{self.kind} {self.specs[0]}{more}"

    def tasks(self) -> list[Task]:
        """What its encoders are scored on."""
        return self.scoring.chosen() if self.scoring else []


def cells_of(study: Study) -> list[Cell]:
    """Every cell, each behind those that it needs."""
    makers: dict[str, list[str]] = {}
    backbones: dict[str, str] = {}
    for spec in study.specs:
        asked = resolve(spec)
        if asked.work is not None:
            makers.setdefault(f"{asked.work.kind} {asked.work.shares or spec}", []).append(spec)
        backbones[spec] = _backbone_of(asked)
    made = [_cell(study, "train" if name.startswith("train ") else "fit", own, ()) for name, own in makers.items()]
    by_spec = {spec: cell.key for cell in made for spec in cell.specs}
    groups: dict[tuple[str, Scoring], list[str]] = {}
    for spec, scoring in study.models:
        groups.setdefault((backbones[spec], scoring), []).append(spec)
    scores = [
        _cell(study, "score", own, tuple(dict.fromkeys(by_spec[spec] for spec in own if spec in by_spec)), scoring)
        for (_, scoring), own in groups.items()
    ]
    return [*sorted(made, key=lambda cell: cell.kind != "train"), *scores]


def _backbone_of(asked: Resolved) -> str:
    """Encoders with one text here may share a forward pass: what is trained has weights of its own."""
    if asked.work is not None and asked.work.kind == "train":
        return str(asked.spec)
    name = getattr(asked.parameters, "backbone", None)
    return f"{name or asked.spec.name} {getattr(asked.parameters, 'max_tokens', None)}"


def _cell(
    study: Study, kind: Kind, specs: Sequence[str], needs: tuple[str, ...], scoring: Scoring | None = None
) -> Cell:
    what = [kind, *specs, study.dtype, *(digest for spec in specs for digest in _contents(spec))]
    if scoring is not None:
        what += [scoring.mode, scoring.classifier, *(task.name for task in scoring.chosen())]
    return Cell(kind, tuple(specs), needs, hashlib.sha256(json.dumps(what).encode()).hexdigest()[:16], scoring)


def named_in(spec: str) -> list[str]:
    """Every text in a specification that may name a file, a folder or a text."""
    asked = resolve(spec)
    values = [*map(str, asked.spec.given.values()), asked.spec.name.partition("hf:")[2]]
    return [value for value in values if value]


def _contents(spec: str) -> list[str]:
    """Digests of the user's own files that an encoder is made of: a change makes another cell, on any machine."""
    roots = [path for path in map(Path, named_in(spec)) if path.exists()]
    own = [file for root in roots for file in ([root] if root.is_file() else sorted(root.rglob("*"))) if file.is_file()]
    return [_sha256(file, facts.st_size, facts.st_mtime_ns) for file, facts in ((file, file.stat()) for file in own)]


@cache
def _sha256(file: Path, size: int, changed: int) -> str:
    return files.sha256(file)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What is known of a cell."""

    state: State = "waiting"  # `running` is true only while the cell's lock is held
    label: str = ""
    worker: str = ""  # host and process that has or had it
    attempts: int = 0  # how often it was begun
    seconds: float = 0.0  # that it took; 0 until it is done
    files: tuple[str, ...] = ()  # results that it wrote, below the results folder
    error: str = ""  # one sentence, if it failed
    exit_code: int = 0  # that the error asks for


class Board:
    """The records and locks of a study's cells in its results folder.

    Attributes:
        study: whose they are.
        cells: all of them.
        folder: of records and locks.
    """

    def __init__(self, study: Study, cells: Sequence[Cell]) -> None:
        self.study = study
        self.cells = cells
        self.folder = study.results_dir / FOLDER
        self._damaged = set[str]()  # keys of cells that were done and have results that cannot be read
        done = {cell.key: record.files for cell in cells if (record := self.record(cell)).state == "done"}
        results, _ = store.read_all(study.results_dir, check=False)
        # What was measured before, by this study or not; names of texts by path are only known once they are read.
        self.measured = {(one.encoder.name, one.task, one.protocol) for one in results}
        read = {str(one.file.relative_to(study.results_dir)) for one in results if one.file is not None}
        self._damaged.update(key for key, names in done.items() if not read.issuperset(names))

    def open(self) -> None:
        """Make the folder, refuse one without locks, and let cells that failed earlier be tried again.

        Raises:
            WriteError: if files cannot be written or locked there.
        """
        with files.writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        files.check_locks(self.folder)
        for cell in self.cells:
            record = self.record(cell)
            if record.state == "failed" or (record.state == "running" and not self.is_held(cell)):
                self.write(cell, Record(label=cell.label))

    def record(self, cell: Cell) -> Record:
        """What is written down of a cell; `waiting` where nothing is, or nothing that can be read."""
        try:
            said = json.loads((self.folder / f"{cell.key}.json").read_bytes())
            record = Record(**{**said, "files": tuple(said["files"])})
        except (OSError, ValueError, TypeError, KeyError):
            return Record(label=cell.label)
        there = all((self.study.results_dir / name).is_file() for name in record.files)
        if record.state == "done" and (cell.key in self._damaged or not there):
            return Record(label=cell.label)  # its results were deleted, or damaged
        return record

    def states(self) -> dict[str, State]:
        """The state of each cell by its key; a training or fit whose scores are all there counts as done."""
        found: dict[str, State] = {cell.key: self.record(cell).state for cell in self.cells}
        scores = [cell for cell in self.cells if cell.kind == "score"]
        for cell in scores:
            tasks = cell.tasks()
            if all((spec, task.name, task.protocol) in self.measured for spec in cell.specs for task in tasks):
                found[cell.key] = "done"
        for cell in self.cells:
            users = [score for score in scores if cell.key in score.needs]
            if users and all(found[score.key] == "done" for score in users):
                found[cell.key] = "done"
        return found

    def open_cells(self, states: dict[str, State]) -> list[Cell]:
        """The cells that are neither done nor failed, and do not need one that failed."""
        failed = {key for key, state in states.items() if state == "failed"}
        return [
            cell
            for cell in self.cells
            if states[cell.key] in ("waiting", "running") and not failed.intersection(cell.needs)
        ]

    @contextmanager
    def claim(self, cell: Cell) -> Iterator[Record | None]:
        """Hold the cell, if nobody else does and it is still to be done; its record as it begins, else None."""
        from filelock import FileLock, Timeout

        lock = FileLock(self.folder / f"{cell.key}.lock", timeout=0)
        try:
            with files.writing(self.folder):
                lock.acquire()
        except Timeout:
            yield None
            return
        before = self.record(cell)
        try:
            yield self._begin(cell, before)
        except KeyboardInterrupt:  # left in good order, which is nothing against the cell
            self.write(cell, before)
            raise
        finally:
            lock.release()

    def _begin(self, cell: Cell, before: Record) -> Record | None:
        if before.state in ("done", "failed"):
            return None
        if before.attempts >= MOST_ATTEMPTS:
            sentence = (
                f"{cell.label}: {before.attempts} workers were killed while they did it, the last one {before.worker}; "
                "give it more memory or time, or fewer workers, and run the study again"
            )
            self.write(cell, replace(before, state="failed", error=sentence, exit_code=1))
            return None
        worker = f"{socket.gethostname()}:{os.getpid()}"
        record = Record(state="running", label=cell.label, worker=worker, attempts=before.attempts + 1)
        self.write(cell, record)
        return record

    def is_held(self, cell: Cell) -> bool:
        """Whether somebody works on the cell now."""
        from filelock import FileLock, Timeout

        path = self.folder / f"{cell.key}.lock"
        if not path.exists():
            return False
        try:
            with FileLock(path, timeout=0, is_singleton=False):
                return False
        except (Timeout, OSError):
            return True

    def write(self, cell: Cell, record: Record) -> None:
        """Write down how a cell stands; the caller holds it."""
        self._damaged.discard(cell.key)
        try:
            files.replace(self.folder / f"{cell.key}.json", (json.dumps(asdict(record), indent=1) + "\n").encode())
        except WriteError:
            if record.state != "running":
                raise
