"""Bootstrap draws of stored results, from their per-item files alone; kept on disk, as each costs a second."""

import hashlib
import io
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.errors import ResultError
from harness.reports.bootstrap import KERNELS, Design, Statistic, accuracy, correlation, draw, pairs_design, rows_design
from harness.results.record import Result
from harness.results.store import cell_path, read_items, replace_file

Draws = Callable[[Result, str], NDArray[np.float64] | None]  # a result and the key of one of its scores -> (b,)

SEED = 0
_PAIRS = ("subset", "left", "right", "gold", "cosine")
_ROWS = ("gold", "predicted")
_AGGREGATIONS = ("all", "mean", "wmean")


class StoredDraws:
    """Draws of the scores of one results folder.

    All encoders are drawn on one task with the same resamples, so differences between their draws are paired. Tasks are
    drawn independently of one another; that some sentences are in several of them is left out of account.

    Attributes:
        resamples: per score; 0 for none at all.
        problems: one sentence for each per-item file that could not be used.
    """

    def __init__(self, results_dir: Path, resamples: int, cache_dir: Path | None = None) -> None:
        """Name the folder of results, and the one where draws are kept (None: nowhere)."""
        self._results_dir = results_dir
        self._cache_dir = cache_dir
        self.resamples = resamples
        self.problems: list[str] = []

    def __call__(self, result: Result, key: str) -> NDArray[np.float64] | None:
        """The score's value in each resample, (b,) in its own unit; None where there is nothing to draw from."""
        if not self.resamples or result.sidecar is None or not _known(key):
            return None
        kept = self._kept(result, key)
        found = _load(kept)
        if found is not None:
            return found
        try:
            made = make_statistic(result, self._results_dir, key)
        except ResultError as error:
            self.problems.append(str(error))
            return None
        if made is None:
            return None
        drawn: NDArray[np.float64] = draw(made[0], [made[1]], self.resamples, task_seed(result.task))[0]
        _store(kept, drawn)
        return drawn

    def _kept(self, result: Result, key: str) -> Path | None:
        if self._cache_dir is None:
            return None
        identity = f"{result.sidecar} {result.task} {key} {self.resamples} {SEED}"
        return self._cache_dir / "resamples" / f"{hashlib.sha256(identity.encode()).hexdigest()[:32]}.npy"


def task_seed(task: str) -> tuple[int, int]:
    """The seed of a task's resamples: the same for every encoder, another one for every task."""
    return SEED, zlib.crc32(task.encode())


def make_statistic(result: Result, results_dir: Path, key: str) -> tuple[Design, Statistic] | None:
    """What to draw, and the score named by the key as a function of weights; None if the items do not give it.

    Raises:
        ResultError: if the per-item file is missing or damaged.
    """
    place = cell_path(results_dir, result.encoder.name, result.task, result.protocol)
    items = read_items(place, result)
    metric, *rest = key.split("/")
    if metric == "accuracy" and {*_ROWS} <= {*items.column_names}:
        gold, predicted = (np.array(items[name].to_pylist()) for name in _ROWS)
        return rows_design(len(gold)), accuracy(gold == predicted)
    if metric not in KERNELS or not {*_PAIRS} <= {*items.column_names}:
        return None
    subset, left, right, *numbers = (items[name].to_pylist() for name in _PAIRS)
    gold, cosine = (np.array(values, dtype=np.float64) for values in numbers)
    design = pairs_design(subset, left, right)
    return design, correlation(design, gold, cosine, metric=metric, aggregation=rest[0])


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
        replace_file(path, buffer.getvalue())
