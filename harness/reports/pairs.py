"""The pairs of sentences that a report page shows: where an encoder is furthest off, and where two disagree most.

Gold scores and cosines are on different scales, so both are replaced by their percentiles among all pairs of the task:
what Spearman's correlation over all pairs sees. A residual is the cosine's percentile minus the gold score's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import ResultError
from harness.reports.layouts import LAYOUTS
from harness.results.record import Result
from harness.results.store import cell_path, read_items

ENCODERS = 12  # more would make every pair one that somebody is wrong about
_SAME = ("subset", "left", "right", "gold")
_ROOM = 40  # pairs of a task per pair asked for

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Explorer:
    """What the page embeds.

    Attributes:
        encoders: names, in the order of the columns.
        tasks: per task its pairs by column, and each encoder's percentiles and cosines; ready for JSON.
        notes: what is not in it, one sentence each.
    """

    encoders: tuple[str, ...]
    tasks: tuple[Mapping[str, Any], ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Task:
    """One task's pairs by column, and the cosines of the encoders that were scored on the same pairs."""

    pairs: Mapping[str, list[Any]]
    cosines: Mapping[str, Floats]


def explore(results: Sequence[Result], results_dir: Path, limit: int) -> Explorer:
    """Choose the pairs of every similarity task that has per-item scores.

    Args:
        results: at most one per encoder, task and protocol.
        results_dir: where they were read from.
        limit: pairs for each encoder and task, and for each two encoders and task; 0 for none.
    """
    usable = [result for result in results if result.protocol == "sts" and result.sidecar and limit]
    encoders = _encoders(usable)
    notes = []
    left_out = len({result.encoder.name for result in usable}) - len(encoders)
    if left_out:
        notes.append(
            f"The pairs are those of the {ENCODERS} encoders with the highest scores; {left_out} are left out."
        )
    tasks: list[Mapping[str, Any]] = []
    measured = {result.task for result in usable}
    in_tables = [column.task for layout in LAYOUTS for column in layout.columns]
    for task in dict.fromkeys([*(t for t in in_tables if t in measured), *sorted(measured)]):
        found = _read([r for r in usable if r.task == task and r.encoder.name in encoders], results_dir, notes)
        if found.cosines:
            tasks.append({"name": task, **_chosen(found, encoders, limit)})
    return Explorer(encoders=tuple(encoders), tasks=tuple(tasks), notes=tuple(dict.fromkeys(notes)))


def percentiles(values: Floats) -> Floats:
    """Average rank of each of n values, 0 for the smallest and 100 for the largest; ties share theirs."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks = (last - counts + last - 1) / 2
    return 100 * ranks[place] / max(len(values) - 1, 1)


def choose(gold: Floats, cosines: Floats, limit: int, room: int) -> tuple[NDArray[np.intp], int]:
    """The pairs to show.

    Args:
        gold: (n,) percentiles.
        cosines: (m, n) percentiles, a row per encoder.
        limit: the largest residuals of each encoder, and the largest differences of each two.
        room: differences are added only up to so many pairs in all.

    Returns:
        Row numbers in order, and how many differences of each two encoders they hold.
    """
    chosen = {int(i) for row in cosines for i in _largest(row - gold, limit)}
    by_two = [_largest(a - b, limit) for a, b in combinations(cosines, 2)]
    depth = 0
    for depth, layer in enumerate(zip(*by_two, strict=True), start=1):
        if len(chosen | set(map(int, layer))) > room:
            depth -= 1
            break
        chosen |= set(map(int, layer))
    return np.array(sorted(chosen), dtype=np.intp), depth


def _largest(values: Floats, limit: int) -> NDArray[np.intp]:
    return np.argsort(-np.abs(values), kind="stable")[:limit]


def _encoders(results: Sequence[Result]) -> list[str]:
    """Those with the most tasks, then the highest mean score, at most `ENCODERS`; by name."""
    scores: dict[str, list[float]] = {}
    for result in results:
        scores.setdefault(result.encoder.name, []).append(result.scores[result.metric])
    best = sorted(scores, key=lambda name: (-len(scores[name]), -float(np.mean(scores[name])), name))
    return sorted(best[:ENCODERS])


def _read(results: Sequence[Result], results_dir: Path, notes: list[str]) -> _Task:
    pairs: Mapping[str, list[Any]] = {}
    cosines: dict[str, Floats] = {}
    for result in results:
        name = result.encoder.name
        try:
            items = read_items(cell_path(results_dir, name, result.task, result.protocol), result).to_pydict()
        except ResultError as error:
            notes.append(f"{name} on {result.task} is left out: {error}.")
            continue
        pairs = pairs or {column: items[column] for column in _SAME}
        if any(items[column] != pairs[column] for column in _SAME):
            notes.append(f"{name} on {result.task} is left out: it was scored on other pairs than the encoders above.")
            continue
        cosines[name] = np.array(items["cosine"], dtype=np.float64)
    return _Task(pairs, cosines)


def _chosen(task: _Task, encoders: Sequence[str], limit: int) -> dict[str, Any]:
    ranks = {name: percentiles(values) for name, values in task.cosines.items()}
    gold = percentiles(np.array(task.pairs["gold"], dtype=np.float64))
    rows, depth = choose(gold, np.stack(list(ranks.values())), limit, _ROOM * limit)
    subsets = list(dict.fromkeys(task.pairs["subset"]))
    left, right = ([task.pairs[side][i] for i in rows] for side in ("left", "right"))
    return {
        "total": len(gold),
        "depth": depth,
        "subsets": subsets,
        "left": left,
        "right": right,
        "subset": [subsets.index(task.pairs["subset"][i]) for i in rows],
        "words": [max(len(a.split()), len(b.split())) for a, b in zip(left, right, strict=True)],
        "overlap": [overlap(a, b) for a, b in zip(left, right, strict=True)],
        "gold": [task.pairs["gold"][i] for i in rows],
        "goldRank": _short(gold[rows], 1),
        "ranks": {encoders.index(name): _short(values[rows], 1) for name, values in ranks.items()},
        "cosines": {encoders.index(name): _short(values[rows], 3) for name, values in task.cosines.items()},
    }


def overlap(left: str, right: str) -> int:
    """Percent of the two sentences' distinct lower-cased words that both have; 0 if there are none."""
    a, b = set(left.lower().split()), set(right.lower().split())
    return round(100 * len(a & b) / len(a | b)) if a | b else 0


def _short(values: Floats, digits: int) -> list[float]:
    return [round(float(value), digits) for value in values]
