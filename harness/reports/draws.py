"""Bootstrap draws of stored results, from their per-item files alone; kept on disk, as each costs a second."""

import contextlib
import hashlib
import io
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness import files
from harness.errors import ResultError, WriteError
from harness.reports.bootstrap import KERNELS, Design, Statistic, accuracy, correlation, draw, pairs_design, rows_design
from harness.results.items import PairItems, RowItems
from harness.results.record import Result

Draws = Callable[[Result, str], NDArray[np.float64] | None]  # a result and the key of one of its scores -> (b,)

SEED = 0
_AGGREGATIONS = ("all", "mean", "wmean")
_RANKED = "spearman/"

_Name = tuple[str, str, str]  # of draws: the items' sha256, task and key


@dataclass(frozen=True, slots=True)
class _Shared:
    """Encoders scored on equal items: their cosines (n,) by the digest of their items, and who needs which key.

    `shared` is the digest of what they have in common.
    """

    task: str
    shared: str | None
    items: PairItems
    predicted: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    keys: dict[str, list[str]] = field(default_factory=dict)


class StoredDraws:
    """Draws of stored scores.

    All encoders are drawn on one task with the same resamples, so differences between their draws are paired. Tasks are
    drawn independently of one another; that some sentences are in several of them is left out of account.

    Attributes:
        resamples: per score; 0 for none at all.
        problems: one sentence for each per-item file that could not be used.
    """

    def __init__(self, resamples: int, cache_dir: Path | None = None) -> None:
        """Name the folder where draws are kept (None: nowhere)."""
        self._cache_dir = cache_dir
        self.resamples = resamples
        self.problems: list[str] = []
        self._made: dict[_Name, NDArray[np.float64] | None] = {}

    def prepare(self, wanted: Iterable[tuple[Result, str]]) -> None:
        """Draw the scores that will be asked for: those with the same items together, which is several times faster."""
        groups: list[_Shared] = []
        for result, key in wanted:
            name = (result.items_sha256 or "", result.task, key)
            if not self.resamples or result.items_sha256 is None or not _known(key) or name in self._made:
                continue
            self._made[name] = _load(self._kept(name))
            if self._made[name] is None and key.startswith(_RANKED):
                self._gather(result, key, groups)
        for group in groups:
            self._draw(group)

    def __call__(self, result: Result, key: str) -> NDArray[np.float64] | None:
        """The score's value in each resample, (b,) in its own unit; None where there is nothing to draw from."""
        if not self.resamples or result.items_sha256 is None or not _known(key):
            return None
        name = (result.items_sha256, result.task, key)
        self.prepare([(result, key)])
        if self._made[name] is None and not key.startswith(_RANKED):
            self._keep(name, self._alone(result, key))
        return self._made[name]

    def _alone(self, result: Result, key: str) -> NDArray[np.float64] | None:
        try:
            made = make_statistic(result, key)
        except ResultError as error:
            self.problems.append(str(error))
            return None
        return None if made is None else draw(made[0], [made[1]], self.resamples, task_seed(result.task))[0]

    def _gather(self, result: Result, key: str, groups: "list[_Shared]") -> None:
        """Add a score to the group with the same items, or to a new one."""
        known = next((group for group in groups if result.items_sha256 in group.predicted), None)
        if known is None:
            try:
                items = result.items()
            except ResultError as error:
                self.problems.append(str(error))
                return
            if not isinstance(items, PairItems):
                return
            known = next((g for g in groups if (g.task, g.shared) == (result.task, result.shared_sha256)), None)
            if known is None:
                known = _Shared(result.task, result.shared_sha256, items)
                groups.append(known)
            known.predicted[str(result.items_sha256)] = items.cosine.astype(np.float64)
        known.keys.setdefault(key, []).append(str(result.items_sha256))

    def _draw(self, group: "_Shared") -> None:
        from harness.reports.ranking import draw_spearman

        design = pairs_design(group.items.subset, group.items.left, group.items.right)
        by_digests: dict[tuple[str, ...], list[str]] = {}
        for key, digests in group.keys.items():
            by_digests.setdefault(tuple(digests), []).append(key)
        for together, keys in by_digests.items():
            drawn = draw_spearman(
                design,
                group.items.gold,
                np.stack([group.predicted[digest] for digest in together]),
                [key.split("/")[1] for key in keys],
                self.resamples,
                task_seed(group.task),
            )
            for key in keys:
                for digest, row in zip(together, drawn[key.split("/")[1]], strict=True):
                    self._keep((digest, group.task, key), row)

    def _keep(self, name: _Name, drawn: NDArray[np.float64] | None) -> None:
        self._made[name] = drawn
        if drawn is not None:
            with contextlib.suppress(WriteError):  # it saves the next report a second, and is no reason to have none
                _store(self._kept(name), drawn)

    def _kept(self, name: _Name) -> Path | None:
        if self._cache_dir is None:
            return None
        identity = " ".join([*name, str(self.resamples), str(SEED)])
        return self._cache_dir / "resamples" / f"{hashlib.sha256(identity.encode()).hexdigest()[:32]}.npy"


def task_seed(task: str) -> tuple[int, int]:
    """The seed of a task's resamples: the same for every encoder, another one for every task."""
    return SEED, zlib.crc32(task.encode())


def make_statistic(result: Result, key: str) -> tuple[Design, Statistic] | None:
    """What to draw, and the score named by the key as a function of weights; None if the items do not give it.

    Raises:
        ResultError: if the per-item file is missing or damaged.
    """
    items = result.items()
    metric, *rest = key.split("/")
    if metric == "accuracy" and isinstance(items, RowItems):
        return rows_design(len(items.gold)), accuracy(items.gold == items.predicted)
    if metric not in KERNELS or not isinstance(items, PairItems):
        return None
    design = pairs_design(items.subset, items.left, items.right)
    cosine = items.cosine.astype(np.float64)
    return design, correlation(design, items.gold, cosine, metric=metric, aggregation=rest[0])


def _known(key: str) -> bool:
    metric, *rest = key.split("/")
    return key == "accuracy/test" or (metric in KERNELS and rest[0] in _AGGREGATIONS)


def _load(path: Path | None) -> NDArray[np.float64] | None:
    try:
        return None if path is None else np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):  # not there, or not whole: it is made again
        return None


def _store(path: Path | None, drawn: NDArray[np.float64]) -> None:
    if path is not None:
        buffer = io.BytesIO()
        np.save(buffer, drawn, allow_pickle=False)
        files.replace(path, buffer.getvalue())
