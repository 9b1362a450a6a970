"""What a task gives back, and what every kind of task can do."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from harness.data.locate import BUNDLED
from harness.encoders.context import Context
from harness.encoders.protocol import Encoder
from harness.results.items import Items


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Scores of one encoder on one task."""

    scores: Mapping[str, float]  # `<metric>/<aggregation>/<split>` -> value; correlations -1..1, accuracies 0..1
    counts: Mapping[str, int]  # what was counted on the way
    items: Items  # per-item gold and prediction


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A task with its data read."""

    files: Mapping[str, str]  # data file (path in SentEval's layout) -> sha256
    other_copies: tuple[str, ...]  # files that are not the copy the manifest knows
    sentences: Sequence[str]  # everything that scoring will encode, as the encoder receives it
    target: Sequence[str]  # everything that a `fit=target` encoder may be fitted on
    # From an encoder to its outcome; the context gives the device, and is told of long work.
    score: Callable[[Encoder, Context], Outcome]
    flags: tuple[str, ...] = ()  # conditions that a reader of the result must know


class Task(Protocol):
    """A benchmark: a name, how it is scored, its main score, and where its data are read."""

    @property
    def name(self) -> str: ...
    @property
    def protocol(self) -> str: ...
    @property
    def metric(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def bundled(self) -> bool: ...
    @property
    def seed(self) -> int | None: ...

    def prepare(self, root: Path) -> Prepared: ...


def prepare(task: Task, context: Context) -> Prepared:
    """Read the task's data, those that come with the package or those in the context's data folder.

    Raises:
        DataError: if they cannot be had, or are damaged.
    """
    return task.prepare(BUNDLED if task.bundled else context.data_root())
