"""The record of one encoder on one task: what a second run must repeat, and `run`, what it need not."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import ResultError

if TYPE_CHECKING:
    from harness.results.items import Items

from harness.names import EncoderCard

SCHEMA = 1


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
        schema: layout number of this file; others are refused.
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
        sidecar: sha256 of the Parquet file beside this one with per-item gold and prediction, or None.
        run: provenance.
        file: where the result lies, or None in memory.
        held: the per-item scores in memory, or None while they are only on disk; `items` gives both.
    """

    schema: int
    task: str
    protocol: str
    metric: str
    scores: Mapping[str, float]
    counts: Mapping[str, int]
    data: Mapping[str, str]
    flags: tuple[str, ...]
    encoder: EncoderCard
    seed: int | None
    sidecar: str | None
    run: Run
    file: Path | None = field(default=None, compare=False)
    held: Any = field(default=None, compare=False, repr=False)

    def items(self) -> "Items":
        """The per-item scores.

        Raises:
            ResultError: if there are none, or not those that the result was written with.
        """
        if self.held is not None:
            return self.held  # type: ignore[no-any-return]
        if self.file is None or self.sidecar is None:
            raise ResultError(
                f"{self.file or self.encoder.name}: has no per-item scores; run {self.task} again with --force"
            )
        from harness.results.store import read_items

        return read_items(self.file, self.sidecar)
