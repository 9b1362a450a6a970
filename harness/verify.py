"""Score the same vectors by this harness and by another implementation, and put the numbers side by side."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from harness.encoders.cached import Encoded
from harness.encoders.context import Context
from harness.encoders.protocol import Encoder
from harness.errors import UsageError
from harness.integrations.mteb import Mteb
from harness.integrations.sentence_transformers import SentenceTransformers
from harness.integrations.senteval import open_senteval
from harness.names import pick
from harness.tasks.outcome import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One number by both routes, or the reason why the other implementation has none.

    Attributes:
        task: our name.
        score: our key, e.g. `spearman/mean/test`; empty where there is nothing to compare.
        ours: correlations -1..1, accuracies 0..1; None where there is nothing to compare.
        theirs: the same unit.
        our_seconds: for the whole task, vectors looked up in memory.
        their_seconds: likewise.
        note: why there is nothing to compare.
    """

    task: str
    score: str = ""
    ours: float | None = None
    theirs: float | None = None
    our_seconds: float = 0.0
    their_seconds: float = 0.0
    note: str = ""


class Upstream(Protocol):
    """Another implementation of our tasks."""

    @property
    def name(self) -> str: ...

    def counterpart(self, task: Task) -> Task | str:
        """Our task under the protocol that the other implementation has for it, or the reason why there is none."""

    def scores(self, encoder: Encoder, task: Task, root: Path) -> dict[str, float]:
        """The other implementation's numbers on such a task, in our keys and units."""


def open_upstream(name: str, senteval: Path | None) -> Upstream:
    """The implementation of that name: `senteval`, from a checkout, `sentence-transformers`, or `mteb`.

    Raises:
        UsageError: if the name is unknown, or senteval's checkout is not given or none.
    """
    known = {"senteval": None, "sentence-transformers": SentenceTransformers(), "mteb": Mteb()}
    upstream: Upstream | None = pick("implementation", known, name)
    if upstream is None:
        if senteval is None:
            raise UsageError(
                "--against senteval: no checkout is named, and senteval is not on the package index; clone "
                "https://github.com/facebookresearch/SentEval or https://github.com/princeton-nlp/SimCSE and name the "
                "folder with --senteval"
            )
        return open_senteval(senteval)
    return upstream


def compare(
    encoder: Encoder, tasks: Sequence[Task], root: Path, context: Context, upstream: Upstream
) -> Iterator[Comparison]:
    """Run both implementations on the same vectors, task by task.

    Raises:
        EncoderError: if the encoder or the other implementation fails; its own message is quoted.
        DataError: if a data file is missing or damaged.
    """
    for asked in tasks:
        task = upstream.counterpart(asked)
        if isinstance(task, str):
            yield Comparison(task=asked.name, note=task)
            continue
        data = task.prepare(root)
        encoded = Encoded(encoder, data.sentences)
        clock = time.perf_counter()
        ours = data.score(encoded, context).scores
        our_seconds = time.perf_counter() - clock
        clock = time.perf_counter()
        # Others also encode splits that they do not score, so they get the encoder itself.
        theirs = upstream.scores(encoder, task, root)
        their_seconds = time.perf_counter() - clock
        for key, value in theirs.items():
            yield Comparison(
                task=task.name,
                score=key,
                ours=ours[key],
                theirs=value,
                our_seconds=our_seconds,
                their_seconds=their_seconds,
            )
