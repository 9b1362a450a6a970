"""Why a similarity score differs from another: every reading of the protocol, and what each difference is worth.

The readings are a grid: pooling, similarity, aggregation, correlation, split and text. Scaling vectors to length 1 is
not among them: it changes no cosine. What it would change, the dot product, is a similarity of the grid.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import permutations, product
from statistics import fmean

import numpy as np

from harness.data.locate import BUNDLED
from harness.data.records import Pairs
from harness.encoders.cached import CachedEncoder, Encoded, cache_embeddings, share_passes
from harness.encoders.context import Context
from harness.encoders.pooling import POOLINGS
from harness.encoders.protocol import Embeddings, Encoder, Transductive
from harness.encoders.registry import build, declared, resolve
from harness.errors import EncoderError, TaskError, UsageError
from harness.names import Spec
from harness.results.correlation import METRICS
from harness.tasks.metrics import Vector, cosine
from harness.tasks.similarity import SimilarityTask, aggregate, as_senteval_text
from harness.tasks.suites import TASKS

DIGITS = 0.005 + 1e-9  # points: half a unit of the second decimal, in which numbers are printed
_WORTH = 0.05  # points that a change must explain to be called a cause, so that chance matches are not
_AGGREGATIONS = ("all", "mean", "wmean")
_NO_POOLING = "its own"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One way to turn a checkpoint and a benchmark into a number; the defaults are this project's protocol `sts`."""

    pooling: str
    similarity: str = "cosine"
    aggregation: str = "all"
    correlation: str = "spearman"
    split: str = "test"
    text: str = "as given"

    def changes(self, other: "Reading") -> list[str]:
        """The parts in which another reading differs."""
        mine, theirs = asdict(self), asdict(other)
        return [part for part in mine if mine[part] != theirs[part]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """One part of the protocol that differs, and how much of the way it is worth.

    Attributes:
        part: e.g. `pooling`.
        before: its value at the start.
        after: its value at the end.
        points: its Shapley value: the mean of what it changes over all orders in which the parts can be changed.
        low: the least that it changes in any order.
        high: the most.
    """

    part: str
    before: str
    after: str
    points: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """The way from a number to a published one.

    Attributes:
        tasks: what the numbers are means over.
        start: the reading at the start: the encoder's own, or the one nearest to the number that was given.
        given: the number that was given (percent), or None.
        score: mean score under `start`, percent.
        readings: how many different numbers the readings give.
        notes: what could not be tried.
        shares: the parts that differ between start and end, the one that is worth most first; their points add up to
            the difference of the two scores.
        interaction: points that the parts change together and none of them alone; 0 where there is one part.
        published: mean of the published numbers, percent, or None where there are none.
        gap: published minus the score at the end, or None.
        as_near: how many different numbers are as near to the published ones as the end, or nearer.
    """

    tasks: tuple[str, ...]
    start: Reading
    given: float | None
    score: float
    readings: int
    notes: tuple[str, ...]
    shares: tuple[Share, ...] = ()
    interaction: float = 0.0
    published: float | None = None
    gap: float | None = None
    as_near: int = 0

    @property
    def met(self) -> bool:
        """Whether a reading gives the number that was given, to the digits of two decimals."""
        return self.given is None or abs(self.score - self.given) <= DIGITS

    @property
    def causes(self) -> tuple[str, ...]:
        """The parts that are to blame: the largest share, or all of them where they act together."""
        if not self.shares:
            return ()
        together = abs(self.interaction) > abs(self.shares[0].points) / 2
        return tuple(share.part for share in (self.shares if together else self.shares[:1]))


def explain(
    model: str,
    tasks: Sequence[str],
    context: Context,
    *,
    given: float | None = None,
    published: Mapping[str, float] | None = None,
) -> Explanation:
    """Find the reading of the protocol under which an encoder gives the published numbers.

    Args:
        model: specification.
        tasks: similarity benchmarks, without a split: `STS12`, `SICKRelatedness`, ...
        context: of the encoder.
        given: a number that the user has, the mean over the tasks; the way starts at the reading nearest to it.
        published: task -> percent, for all the tasks.

    Raises:
        UsageError: if the specification or a task is unknown, or the encoder is fitted anew for every task.
        EncoderError: if the encoder cannot be built or breaks its promise.
    """
    encoders, own, notes = _encoders(model, context)
    benchmarks = {task: _splits(task) for task in tasks}
    grid = _grid(encoders, _read(benchmarks, context))
    if own not in grid:
        raise TaskError(f"{model}: its own score is undefined on {', '.join(tasks)}; the encoder tells nothing apart")
    start = own if given is None else nearest(grid, own, lambda scores: abs(fmean(scores) - given))
    explanation = Explanation(
        tasks=tuple(tasks),
        start=start,
        given=given,
        score=fmean(grid[start]),
        readings=len(set(grid.values())),
        notes=notes,
    )
    if published is None or not explanation.met:
        return explanation
    targets = [published[task] for task in tasks]

    def distance(scores: Sequence[float]) -> float:
        return fmean(abs(score - target) for score, target in zip(scores, targets, strict=True))

    end = nearest(grid, start, distance)
    shares, interaction = shapley(grid, start, end)
    return replace(
        explanation,
        shares=shares,
        interaction=interaction,
        published=fmean(targets),
        gap=fmean(targets) - fmean(grid[end]),
        as_near=sum(distance(scores) <= distance(grid[end]) for scores in set(grid.values())),
    )


def _encoders(model: str, context: Context) -> tuple[dict[str, Encoder], Reading, tuple[str, ...]]:
    """By pooling, sharing one forward pass; the reading that the specification stands for; and what is left out."""
    built = build(model, context)
    if isinstance(built, Transductive):
        raise UsageError(f"{model}: is fitted anew for every task, so it has no readings to try; name another encoder")
    base = cache_embeddings(built, context)
    own = Reading(pooling=base.card.pooling or _NO_POOLING)
    encoders: dict[str, Encoder] = {own.pooling: base}
    notes: list[str] = []
    entry = resolve(model, context).entry
    if any(parameter.name == "pooling" for parameter in declared(entry)):
        for pooling in POOLINGS:
            if pooling != own.pooling:
                try:
                    encoders[pooling] = _pooled(model, pooling, context)
                except EncoderError as error:
                    notes.append(str(error))
    share_passes([encoder for encoder in encoders.values() if isinstance(encoder, CachedEncoder)])
    return encoders, own, tuple(notes)


def _pooled(model: str, pooling: str, context: Context) -> Encoder:
    encoder = build(Spec.parse(model).replaced(pooling=pooling), context)
    if isinstance(encoder, Transductive):
        raise UsageError(f"{model}: is fitted anew for every task, so it has no readings to try; name another encoder")
    cached = cache_embeddings(encoder, context)
    if pooling == "cls":  # only the weights say whether there is a trained head
        cached.encode(["a"])
    return cached


def _splits(task: str) -> dict[str, SimilarityTask]:
    found = {
        t.split: t
        for t in TASKS.values()
        if isinstance(t, SimilarityTask) and t.name.removesuffix(f"-{t.split}") == task
    }
    if not found:
        known = dict.fromkeys(
            t.name.removesuffix(f"-{t.split}") for t in TASKS.values() if isinstance(t, SimilarityTask)
        )
        raise UsageError(f"no similarity task is named {task!r}; known: {', '.join(known)}")
    return found


def _read(benchmarks: Mapping[str, Mapping[str, SimilarityTask]], context: Context) -> "Data":
    bundled = all(task.bundled for splits in benchmarks.values() for task in splits.values())
    folder = BUNDLED if bundled else context.data_root()
    return {
        name: {split: task.load(BUNDLED if task.bundled else folder).subsets for split, task in splits.items()}
        for name, splits in benchmarks.items()
    }


Data = Mapping[str, Mapping[str, tuple[Pairs, ...]]]  # task -> split -> subsets
Grid = dict[Reading, tuple[float, ...]]  # percent, by task


def _grid(encoders: Mapping[str, Encoder], data: Data) -> Grid:
    converted = (
        convert(as_senteval_text(sentence))
        for splits in data.values()
        for subsets in splits.values()
        for subset in subsets
        for sentence in (*subset.left, *subset.right)
        for convert in TEXTS.values()
    )
    sentences = list(dict.fromkeys(converted))
    grid: Grid = {}
    for pooling, encoder in encoders.items():
        encoded = Encoded(encoder, sentences)
        for text, similarity in product(TEXTS, SIMILARITIES):
            grid |= _scored(encoded, data, Reading(pooling=pooling, similarity=similarity, text=text))
    return grid


def _scored(encoded: Encoded, data: Data, reading: Reading) -> Grid:
    """Every aggregation, correlation and split; undefined ones are left out. A task without a split keeps `test`."""
    scores = {
        (task, split): score
        for task, splits in data.items()
        for split, subsets in splits.items()
        if (score := _aggregated(encoded, task, subsets, reading)) is not None
    }
    grid: Grid = {}
    every_split = dict.fromkeys(split for splits in data.values() for split in splits)
    for split, aggregation, correlation in product(every_split, _AGGREGATIONS, METRICS):
        found = [scores.get((task, split if split in splits else "test")) for task, splits in data.items()]
        values = [100 * one[f"{correlation}/{aggregation}/"] for one in found if one is not None]
        if len(values) == len(data):
            key = replace(reading, split=split, aggregation=aggregation, correlation=correlation)
            grid[key] = tuple(values)
    return grid


def _aggregated(
    encoded: Encoded, task: str, subsets: tuple[Pairs, ...], reading: Reading
) -> Mapping[str, float] | None:
    convert, similarity = TEXTS[reading.text], SIMILARITIES[reading.similarity]
    predicted = []
    for subset in subsets:
        left, right = (
            encoded.encode([convert(as_senteval_text(s)) for s in side]) for side in (subset.left, subset.right)
        )
        predicted.append(similarity(left, right))
    try:
        return aggregate(task, subsets, predicted, "")
    except TaskError:
        return None


def _dot(left: Embeddings, right: Embeddings) -> Vector:
    return np.asarray(np.einsum("nd,nd->n", left, right))


def _euclidean(left: Embeddings, right: Embeddings) -> Vector:
    return np.asarray(-np.linalg.norm(left.astype(np.float64) - right, axis=1))


def _manhattan(left: Embeddings, right: Embeddings) -> Vector:
    return np.asarray(-np.abs(left.astype(np.float64) - right).sum(axis=1))


SIMILARITIES: Mapping[str, Callable[[Embeddings, Embeddings], Vector]] = {
    "cosine": cosine,
    "dot product": _dot,
    "Euclidean distance": _euclidean,
    "Manhattan distance": _manhattan,
}

_SPACED = (
    (re.compile(r"\s+(?=[.,!?;:%)\]}]|n't\b|'(?:s|m|d|ll|re|ve)\b)", re.IGNORECASE), ""),
    (re.compile(r"(?<=[(\[{$#])\s+"), ""),
    (re.compile(r"``\s*|\s*''"), '"'),
)


def detokenise(text: str) -> str:
    """Undo a Treebank tokeniser's spaces: "he did n't ( really ) ." -> "he didn't (really)."."""
    for pattern, replacement in _SPACED:
        text = pattern.sub(replacement, text)
    return text


TEXTS: Mapping[str, Callable[[str], str]] = {"as given": str, "lower-cased": str.lower, "detokenised": detokenise}


def nearest(grid: Grid, origin: Reading, distance: Callable[[Sequence[float]], float]) -> Reading:
    """The reading of the smallest distance, each part that differs from the origin counted as `_WORTH` points."""
    return min(grid, key=lambda reading: distance(grid[reading]) + _WORTH * len(origin.changes(reading)))


def shapley(grid: Grid, start: Reading, end: Reading) -> tuple[tuple[Share, ...], float]:
    """What each part that differs is worth, over all orders in which the parts can be changed.

    Two wrong settings can each look like the cause, or like none, by the order in which they are put right; the mean
    over all orders depends on none. A reading on the way whose score is undefined leaves out the orders through it.

    Args:
        grid: readings and their scores.
        start: where the way begins.
        end: where it ends.

    Returns:
        The shares, largest first, and the interaction: the whole difference minus what each part changes alone.

    Source: Shapley 1953, A value for n-person games.
    """
    parts = start.changes(end)
    gains: dict[str, list[float]] = {part: [] for part in parts}
    for order in permutations(parts):
        stations = [start]
        for part in order:
            stations.append(replace(stations[-1], **{part: getattr(end, part)}))
        if all(station in grid for station in stations):
            for part, before, after in zip(order, stations, stations[1:], strict=False):
                gains[part].append(fmean(grid[after]) - fmean(grid[before]))
    shares = [
        Share(
            part=part,
            before=str(getattr(start, part)),
            after=str(getattr(end, part)),
            points=fmean(found),
            low=min(found),
            high=max(found),
        )
        for part, found in gains.items()
        if found
    ]
    alone = [replace(start, **{part: getattr(end, part)}) for part in parts]
    whole, single = fmean(grid[end]) - fmean(grid[start]), fmean(grid[start])
    known = [fmean(grid[one]) - single for one in alone if one in grid]
    interaction = whole - sum(known) if len(parts) > 1 and len(known) == len(parts) else 0.0
    return tuple(sorted(shares, key=lambda share: -abs(share.points))), interaction
