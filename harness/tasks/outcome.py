"""What a task gives back, and what every kind of task can do."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from harness.encoders.context import Context
from harness.encoders.protocol import Encoder
from harness.results.items import Items


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Scores of one encoder on one task.

    Attributes:
        scores: `<metric>/<aggregation>/<split>` -> value; correlations -1..1, accuracies 0..1.
        counts: what was counted on the way.
        items: per-item gold and prediction.
    """

    scores: Mapping[str, float]
    counts: Mapping[str, int]
    items: Items


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A task with its data read.

    Attributes:
        files: data file (path in SentEval's layout) -> sha256.
        other_copies: files that are not the copy the manifest knows.
        sentences: everything that scoring will encode, as the encoder receives it.
        target: everything that a `fit=target` encoder may be fitted on.
        score: from an encoder to its outcome; the context gives the device, and is told of long work.
    """

    files: Mapping[str, str]
    other_copies: tuple[str, ...]
    sentences: Sequence[str]
    target: Sequence[str]
    score: Callable[[Encoder, Context], Outcome]
    flags: tuple[str, ...] = field(default=())


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
