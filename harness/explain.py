"""Why a similarity score differs from another: every reading of the protocol from one pass, and the way between two.

The readings are a grid: pooling, similarity, aggregation, correlation, split and text. Scaling vectors to length 1 is
not among them: it changes no cosine. What it would change, the dot product, is a similarity of the grid.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
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
class Step:
    """One change on the way, and the mean score (percent) that the tasks have after it."""

    part: str
    before: str
    after: str
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """The way from a number to a published one.

    Attributes:
        tasks: what the numbers are means over.
        start: the reading at the start: the encoder's own, or the one nearest to the number that was given.
        given: the number that was given (percent), or None.
        score: mean score under `start`, percent.
        readings: how many were tried.
        notes: what could not be tried.
        steps: one change each, the one that helps most first.
        published: mean of the published numbers, percent, or None where there are none.
        gap: published minus the score after the last step, or None.
        as_near: how many readings are as near to the published numbers as the last step, or nearer.
    """

    tasks: tuple[str, ...]
    start: Reading
    given: float | None
    score: float
    readings: int
    notes: tuple[str, ...]
    steps: tuple[Step, ...] = ()
    published: float | None = None
    gap: float | None = None
    as_near: int = 0


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
        tasks=tuple(tasks), start=start, given=given, score=fmean(grid[start]), readings=len(grid), notes=notes
    )
    if published is None:
        return explanation
    targets = [published[task] for task in tasks]

    def distance(scores: Sequence[float]) -> float:
        return fmean(abs(score - target) for score, target in zip(scores, targets, strict=True))

    end = nearest(grid, start, distance)
    return replace(
        explanation,
        steps=tuple(way(grid, start, end, distance)),
        published=fmean(targets),
        gap=fmean(targets) - fmean(grid[end]),
        as_near=sum(distance(scores) <= distance(grid[end]) for scores in grid.values()),
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


SIMILARITIES: Mapping[str, Callable[[Embeddings, Embeddings], Vector]] = {"cosine": cosine, "dot product": _dot}

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


def way(grid: Grid, start: Reading, end: Reading, distance: Callable[[Sequence[float]], float]) -> Iterator[Step]:
    """From one reading to another, one part at a time, each time the part that brings the score nearest."""
    here = start
    while here != end:
        parts = here.changes(end)
        options = {part: replace(here, **{part: getattr(end, part)}) for part in parts}
        defined = [part for part in parts if options[part] in grid]
        if not defined:  # a score on the way is undefined: the rest is one step
            yield Step(part=", ".join(parts), before="", after="", score=fmean(grid[end]))
            return
        part = min(defined, key=lambda part: distance(grid[options[part]]))
        before, here = here, options[part]
        yield Step(part=part, before=getattr(before, part), after=getattr(here, part), score=fmean(grid[here]))
