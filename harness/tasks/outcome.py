"""What a task gives back, and what every kind of task can do."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, Protocol

from harness.encoders.context import Context
from harness.encoders.protocol import Encoder

Columns = Mapping[str, Sequence[Any]]  # a table by column, equal lengths


def text_id(text: str) -> str:
    """Sixteen hex digits (BLAKE2b) that stand for a sentence: sidecars are shared, and the sentences are not ours."""
    return blake2b(text.encode(), digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Scores of one encoder on one task.

    Attributes:
        scores: `<metric>/<aggregation>/<split>` -> value; correlations -1..1, accuracies 0..1.
        counts: what was counted on the way.
        items: per-item gold and prediction, for the sidecar; sentences only as their `text_id`.
    """

    scores: Mapping[str, float]
    counts: Mapping[str, int]
    items: Columns


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
