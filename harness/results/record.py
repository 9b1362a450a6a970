"""The record of one encoder on one task: what a second run must repeat, and `run`, what it need not."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from harness.errors import ResultError
from harness.names import EncoderCard
from harness.results.items import Items, columns, digest, digest_of_all


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """When, where and with what a result was made. Not compared between runs.

    Attributes:
        started: UTC, ISO 8601.
        seconds: wall time of scoring this cell, with the sentences encoded already.
        encoding_seconds: wall time of the encoder's one pass over the distinct sentences of all cells of its run.
        machine: processor, cores, memory, operating system.
        packages: name -> version of every package that can change a number.
        commit: of the project's checkout, or None outside one; `dirty` says whether files differed from it.
        device: torch device string.
        threads: torch intra-op threads.
    """

    started: str
    seconds: float
    encoding_seconds: float
    machine: Mapping[str, str | int]
    packages: Mapping[str, str]
    commit: str | None
    dirty: bool | None
    device: str
    threads: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One encoder on one task. Equal inputs must give equal everything-but-`run`.

    Attributes:
        task: e.g. `STS12`.
        protocol: how the task was scored, in words that identify it, e.g. `sts` or `senteval[mode=test]`.
        metric: the key of `scores` that tables show.
        scores: `<metric>/<aggregation>/<split>` -> value at full precision. Correlations are -1..1 and accuracies
            0..1; a subset's own score has the aggregation `subset:<name>`.
        counts: what was counted on the way: pairs per subset, empty sentences, zero vectors.
        data: data file (path in SentEval's layout) -> sha256 of the bytes read.
        flags: conditions a reader must know, e.g. `fitted on the evaluated sentences`.
        encoder: the card.
        seed: of the task's own randomness (probes), or None.
        run: provenance.
        shared_sha256: of the content of the per-item columns that all encoders share, or None without items.
        items_sha256: of the content of all per-item columns, or None without items.
        file: where the result lies, or None in memory.
        held: the per-item scores while they are in memory; `items` gives them from disk as well.
    """

    task: str
    protocol: str
    metric: str
    scores: Mapping[str, float]
    counts: Mapping[str, int]
    data: Mapping[str, str]
    flags: tuple[str, ...]
    encoder: EncoderCard
    seed: int | None
    run: Run
    shared_sha256: str | None = None
    items_sha256: str | None = None
    file: Path | None = field(default=None, compare=False)
    held: Items | None = field(default=None, compare=False, repr=False)

    @property
    def is_whole(self) -> bool:
        """Whether the task's whole data were scored; `bench run --limit N` scores a part, and its protocol says so."""
        return "[limit=" not in self.protocol

    def with_items(self, items: Items) -> Self:
        """The result with these per-item scores in memory."""
        shared = digest(columns(items, own=False))
        return replace(self, shared_sha256=shared, items_sha256=digest_of_all(items, shared), held=items)

    def as_dict(self) -> dict[str, Any]:
        """The record as JSON has it: everything but its file and the per-item scores."""
        facts = asdict(replace(self, file=None, held=None))
        return {key: value for key, value in facts.items() if key not in ("file", "held")}

    def items(self) -> Items:
        """The per-item scores.

        Raises:
            ResultError: if there are none, or not those that the result was written with.
        """
        if self.held is not None:
            return self.held
        if self.file is None or self.items_sha256 is None:
            place = self.file or self.encoder.name
            raise ResultError(f"{place}: has no per-item scores of {self.task}; run it again with --force")
        from harness.results.store import read_items

        return read_items(self)
