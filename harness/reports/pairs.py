"""The pairs of sentences that a report page shows: where an encoder is furthest off, and where two disagree most.

Gold scores and cosines are on different scales, so both are replaced by their percentiles among all pairs of the task:
what Spearman's correlation over all pairs sees. A residual is the cosine's percentile minus the gold score's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import ResultError
from harness.reports.layouts import LAYOUTS
from harness.reports.match import recipe_of, short_names
from harness.results.items import PairItems
from harness.results.record import Result

ENCODERS = 12  # more would make every pair one that somebody is wrong about
_ROOM = 40  # pairs of a task per pair asked for

NO_SENTENCES: Mapping[str, str] = MappingProxyType({})

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Explorer:
    """What the page embeds.

    Attributes:
        encoders: names, the best first, in the order of the columns.
        labels: what the page calls them.
        tasks: per task its pairs by column, and each encoder's percentiles and cosines; ready for JSON.
        notes: what is not in it, one sentence each.
    """

    encoders: tuple[str, ...]
    labels: tuple[str, ...]
    tasks: tuple[Mapping[str, Any], ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Task:
    """One task's pairs, and the cosines of the encoders that were scored on the same ones."""

    pairs: PairItems
    cosines: Mapping[str, Floats]


def explore(results: Sequence[Result], limit: int, sentences: Mapping[str, str] = NO_SENTENCES) -> Explorer:
    """Choose the pairs of every similarity task that has per-item scores.

    Args:
        results: at most one per encoder, task and protocol.
        limit: pairs for each encoder and task, and for each two encoders and task; 0 for none.
        sentences: by `text_id`; a task that has one which is not there is shown without its sentences.
    """
    usable = [result for result in results if result.protocol == "sts" and result.items_sha256 and limit]
    encoders = _encoders(usable)
    notes = []
    cards = {result.encoder.name: result.encoder for result in usable}
    left_out = len(cards) - len(encoders)
    if left_out:
        notes.append(
            f"The pairs are those of the {ENCODERS} encoders with the highest scores, one seed each; "
            f"{left_out} are left out."
        )
    tasks: list[Mapping[str, Any]] = []
    measured = {result.task for result in usable}
    in_tables = [column.task for layout in LAYOUTS for column in layout.columns]
    for task in dict.fromkeys([*(t for t in in_tables if t in measured), *sorted(measured)]):
        found = _read([r for r in usable if r.task == task and r.encoder.name in encoders], notes)
        if found is not None:
            tasks.append({"name": task, **_chosen(found, encoders, limit, sentences)})
            if tasks[-1]["left"] is None:
                notes.append(f"The page has no sentences of {task}; `bench report --data-dir FOLDER` adds them.")
    labels, _ = short_names([card for name, card in cards.items() if name in encoders])
    return Explorer(
        encoders=tuple(encoders),
        labels=tuple(labels[name] for name in encoders),
        tasks=tuple(tasks),
        notes=tuple(dict.fromkeys(notes)),
    )


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
    """One of each recipe, those with the most tasks, then the highest mean score, first; at most `ENCODERS`."""
    scores: dict[str, list[float]] = {}
    recipes = {result.encoder.name: recipe_of(result.encoder) for result in results}
    for result in results:
        scores.setdefault(result.encoder.name, []).append(result.scores[result.metric])
    best = sorted(scores, key=lambda name: (-len(scores[name]), -float(np.mean(scores[name])), name))
    first = {recipes[name]: name for name in reversed(best)}
    return [name for name in best if first[recipes[name]] == name][:ENCODERS]


def _read(results: Sequence[Result], notes: list[str]) -> _Task | None:
    pairs: PairItems | None = None
    shared: str | None = None
    cosines: dict[str, Floats] = {}
    for result in results:
        name = result.encoder.name
        try:
            items = result.items()
        except ResultError as error:
            notes.append(f"{name} on {result.task} is left out: {error}.")
            continue
        if not isinstance(items, PairItems):
            continue
        if pairs is None:
            pairs, shared = items, result.shared_sha256
        if result.shared_sha256 != shared:
            notes.append(f"{name} on {result.task} is left out: it was scored on other pairs than the encoders above.")
            continue
        cosines[name] = items.cosine.astype(np.float64)
    return None if pairs is None else _Task(pairs, cosines)


def _chosen(task: _Task, encoders: Sequence[str], limit: int, sentences: Mapping[str, str]) -> dict[str, Any]:
    ranks = {name: percentiles(values) for name, values in task.cosines.items()}
    gold = percentiles(task.pairs.gold)
    rows, depth = choose(gold, np.stack(list(ranks.values())), limit, _ROOM * limit)
    subsets = list(dict.fromkeys(task.pairs.subset))
    left, right = ([sentences.get(side[i]) for i in rows] for side in (task.pairs.left, task.pairs.right))
    known = None not in left and None not in right
    return {
        "total": len(gold),
        "depth": depth,
        "subsets": subsets,
        "left": left if known else None,
        "right": right if known else None,
        "subset": [subsets.index(task.pairs.subset[i]) for i in rows],
        "words": task.pairs.words[rows].tolist(),
        "overlap": [round(100 * float(share)) for share in task.pairs.overlap[rows]],
        "gold": task.pairs.gold[rows].tolist(),
        "goldRank": _short(gold[rows], 1),
        "ranks": {encoders.index(name): _short(values[rows], 1) for name, values in ranks.items()},
        "cosines": {encoders.index(name): _short(values[rows], 3) for name, values in task.cosines.items()},
    }


def _short(values: Floats, digits: int) -> list[float]:
    return [round(float(value), digits) for value in values]
