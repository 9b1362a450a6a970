"""The number that a checkpoint gives on benchmarks under one reading of every factor."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from functools import cache
from statistics import fmean, stdev
from typing import Any

from scipy.stats import t

from harness.data import sts
from harness.data.locate import BUNDLED
from harness.data.records import Pairs
from harness.encoders.cached import CachedEncoder, cache_embeddings, share_passes
from harness.encoders.context import Context
from harness.encoders.entry import declared
from harness.encoders.pooling import POOLINGS, needs_head, parse_pooling
from harness.encoders.protocol import Embeddings, Encoder, Transductive, embed
from harness.encoders.registry import build, resolve
from harness.encoders.transformer import TransformerEncoder
from harness.errors import EncoderError, TaskError, UsageError
from harness.explanation.altered import Alteration, AlteredEncoder
from harness.explanation.factors import SIMILARITIES, TEXTS, Factor, Reading, Setup
from harness.names import Spec
from harness.tasks.classification import ClassificationTask
from harness.tasks.outcome import Task, prepare
from harness.tasks.similarity import SimilarityTask, aggregate, as_senteval_text
from harness.tasks.suites import CLASSIFIERS, TASKS

DRAWS = 3  # of a random reading
_VAGUE = 2.0  # points: draws that differ by more would explain almost any number
_ALTERATION = {field.name for field in fields(Alteration)}

Scores = Mapping[str, float]  # `spearman/all` -> percent


def pool_as(encoder: TransformerEncoder, pooling: str) -> TransformerEncoder:
    """The same weights with another pooling; they share a forward pass."""
    if pooling == encoder.pooling:
        return encoder
    width = encoder.backbone.width * len(parse_pooling(pooling))
    content = {**encoder.card.content, "pooling": pooling}
    card = replace(encoder.card, pooling=pooling, dim=encoder.layers.width(width), content=content)
    return TransformerEncoder(encoder.backbone, pooling, card, encoder.layers)


class Numbers:
    """Numbers by reading, each computed once, and only when it is asked for.

    Attributes:
        factors: of the readings.
        tasks: what the numbers are means over, without their splits.
        are_trained: whether each number needs a training, as those of probes do.
        progress: called during long work.
    """

    def __init__(
        self,
        encoders: Mapping[str, Encoder],
        tasks: Sequence[SimilarityTask | ClassificationTask],
        factors: Sequence[Factor],
        context: Context,
    ) -> None:
        """Take the encoders by pooling, the encoder's own first."""
        self.factors, self._context = tuple(factors), context
        self.tasks = tuple(task.name for task in tasks)
        self.are_trained = isinstance(tasks[0], ClassificationTask)
        self.progress = context.progress
        self._tasks = {task.name: task for task in tasks}
        self._own = next(iter(encoders.values()))
        self._encoders = {pooling: cache_embeddings(encoder, context) for pooling, encoder in encoders.items()}
        share_passes([encoder for encoder in self._encoders.values() if isinstance(encoder, CachedEncoder)])
        self._readings = {factor.name: factor.readings for factor in factors}
        self._random = {factor.name: factor for factor in factors if factor.is_random}
        self._draws = cache(self._draw)
        self._scores: dict[tuple[Any, ...], dict[str, Scores]] = {}
        self._subsets = cache(self._load)
        self._probes: dict[tuple[Any, ...], float] = {}

    def of(self, reading: Reading) -> tuple[float, ...] | None:
        """Percent by task, or None where the reading gives no number; of a random one the mean of the draws."""
        return self._draws(reading)[0]

    def spread(self, reading: Reading) -> float:
        """How far from `of` one more draw of the mean lies at the most, at 95 %; 0 where nothing is random."""
        return self._draws(reading)[1]

    def tolerance(self, reading: Reading) -> float:
        """The spread, where it is so narrow that a number inside it says something; else 0."""
        spread = self.spread(reading)
        return spread if spread <= _VAGUE else 0.0

    def _draw(self, reading: Reading) -> tuple[tuple[float, ...] | None, float]:
        setup = self._setup(reading)
        random = any(reading[name] != factor.usual for name, factor in self._random.items())
        seeds = range(DRAWS) if random else (0,)
        draws = [self._once(replace(setup, alteration=replace(setup.alteration, seed=seed))) for seed in seeds]
        known = [draw for draw in draws if draw is not None]
        mean = tuple(map(fmean, zip(*known, strict=True))) if len(known) == len(draws) else None
        if mean is None or not random:
            return mean, 0.0
        spread = stdev(fmean(draw) for draw in known)
        return mean, float(t.ppf(0.975, DRAWS - 1)) * spread * (1 + 1 / DRAWS) ** 0.5

    def _setup(self, reading: Reading) -> Setup:
        changes: dict[str, Any] = {}
        for factor, value in reading.values:
            changes |= self._readings[factor][value]
        altered = {field: value for field, value in changes.items() if field in _ALTERATION}
        others = {field: value for field, value in changes.items() if field not in _ALTERATION}
        return Setup(**others, alteration=Alteration(**altered))

    def _once(self, setup: Setup) -> tuple[float, ...] | None:
        found = [
            self._probed(task, setup) if isinstance(task, ClassificationTask) else self._compared(name, setup)
            for name, task in self._tasks.items()
        ]
        known = [value for value in found if value is not None]
        if len(known) < len(found):
            return None
        return tuple(value if setup.digits is None else round(value, setup.digits) for value in known)

    def _compared(self, task: str, setup: Setup) -> float | None:
        """Percent of one similarity benchmark; None where it is undefined."""
        if setup.stop_on and f"{task}-finetune" in TASKS:
            return self._regressed(task, setup)
        split = setup.split if self._split(task, setup.split) else "test"
        smt, blank = setup.smt and task == "STS13", setup.blank_gold if task == "STS16" else None
        key = (task, split, smt, blank, setup.pooling, setup.text, setup.alteration)
        if key not in self._scores:
            self._scores[key] = self._all_similarities(task, self._subsets(task, split, smt, blank), setup)
        scores = self._scores[key].get(setup.similarity)
        return None if scores is None else 100 * scores[f"{setup.correlation}/{setup.aggregation}/"]

    def _all_similarities(self, task: str, subsets: Sequence[Pairs], setup: Setup) -> dict[str, Scores]:
        """From one encoding of the sentences."""
        convert = TEXTS[setup.text]
        sides = [[convert(as_senteval_text(text)) for text in side] for s in subsets for side in (s.left, s.right)]
        vectors = self._encode(sides, setup)
        found: dict[str, Scores] = {}
        for name, similarity in SIMILARITIES.items():
            predicted = [similarity(left, right) for left, right in zip(vectors[::2], vectors[1::2], strict=True)]
            try:
                found[name] = aggregate(task, tuple(subsets), predicted, "")
            except TaskError:
                continue
        return found

    def _encode(self, sides: Sequence[Sequence[str]], setup: Setup) -> list[Embeddings]:
        encoder = self._encoder(setup)
        row = {sentence: place for place, sentence in enumerate(dict.fromkeys(text for side in sides for text in side))}
        x = embed(encoder, list(row))
        return [x[[row[text] for text in side]] for side in sides]

    def _encoder(self, setup: Setup) -> Encoder:
        pooling = setup.pooling or next(iter(self._encoders))
        plain = replace(setup.alteration, seed=0) == Alteration()
        if plain or not isinstance(self._own, TransformerEncoder):
            return self._encoders[pooling]
        pooled = pool_as(self._own, "cls" if setup.alteration.random_head else pooling)
        return cache_embeddings(AlteredEncoder(pooled, setup.alteration, self._context), self._context)

    def _split(self, task: str, split: str) -> SimilarityTask | None:
        found = TASKS.get(task if split == "test" else f"{task}-{split}")
        return found if isinstance(found, SimilarityTask) else None

    def _load(self, task: str, split: str, smt: bool, blank: float | None) -> tuple[Pairs, ...]:
        chosen = self._split(task, split)
        assert chosen is not None
        root = BUNDLED if chosen.bundled else self._context.data_root()
        subsets = chosen.load(root).subsets if blank is None else sts.semeval(root, year=task, blank_gold=blank).subsets
        more = sts.smt_of_sts13(root) if smt else None
        return subsets if more is None else (*subsets, more)

    def _regressed(self, task: str, setup: Setup) -> float | None:
        """By the regressor, whose answer has neither a similarity nor an aggregation, and which is tested on test."""
        if (setup.similarity, setup.aggregation, setup.split) != ("cosine", "all", "test"):
            return None
        key = (task, setup.stop_on, setup.pooling, setup.text, setup.alteration)
        if (*key, setup.correlation) not in self._probes:
            task_ = replace(TASKS[f"{task}-finetune"], stop_on=setup.stop_on)  # type: ignore[type-var]
            scores = self._outcome(task_, setup)
            self._probes |= {(*key, name): 100 * scores[f"{name}/all/test"] for name in ("spearman", "pearson")}
        return self._probes[*key, setup.correlation]

    def _probed(self, task: ClassificationTask, setup: Setup) -> float:
        classifier = CLASSIFIERS[setup.classifier]
        chosen = replace(task, mode=setup.mode, folds=setup.folds, classifier=classifier)
        key = (chosen.name, chosen.protocol, setup.pooling, setup.text, setup.alteration)
        if key not in self._probes:
            self._probes[key] = 100 * self._outcome(chosen, setup)[chosen.metric]
        return self._probes[key]

    def _outcome(self, task: Task, setup: Setup) -> Scores:
        encoder = _Converting(self._encoder(setup), setup.text)
        return prepare(task, self._context).score(encoder, self._context).scores


class _Converting:
    """An encoder that reads another form of every sentence."""

    def __init__(self, encoder: Encoder, text: str) -> None:
        self.card = encoder.card
        self._encoder, self._convert = encoder, TEXTS[text]

    def encode(self, sentences: Sequence[str], /) -> Embeddings:
        return self._encoder.encode([self._convert(text) for text in sentences])


def pooled_encoders(encoder: Encoder, poolings: Sequence[str]) -> tuple[dict[str, Encoder], tuple[str, ...]]:
    """The encoder by pooling, its own first, and the poolings that its weights do not offer."""
    if not isinstance(encoder, TransformerEncoder):
        return {encoder.card.pooling or "its own": encoder}, ()
    others = [pooling for pooling in poolings if pooling != encoder.pooling]
    refused = tuple(pooling for pooling in others if needs_head(pooling) and not encoder.backbone.offers(pooling))
    offered = [encoder.pooling, *(pooling for pooling in others if pooling not in refused)]
    return {pooling: pool_as(encoder, pooling) for pooling in offered}, refused


def encoders_of(model: str, context: Context) -> tuple[dict[str, Encoder], tuple[str, ...]]:
    """By pooling, the encoder's own first, and what cannot be pooled."""
    built = build(model, context)
    if isinstance(built, Transductive):
        raise UsageError(f"{model}: is fitted anew for every task, so it has no readings to try; name another encoder")
    encoders, refused = pooled_encoders(built, tuple(POOLINGS))
    notes = tuple(
        f"pooling {pooling}: the weights hold no trained head, so it would be random, as the factor `layer over CLS` is"
        for pooling in refused
    )
    takes_pooling = any(parameter.name == "pooling" for parameter in declared(resolve(model, context).entry))
    if isinstance(built, TransformerEncoder) or not takes_pooling:
        return encoders, notes
    for pooling in POOLINGS:  # of an encoder that is fitted on vectors of one pooling
        try:
            other = build(Spec.parse(model).replaced(pooling=pooling), context)
        except EncoderError as error:
            notes = (*notes, str(error))
        else:
            assert not isinstance(other, Transductive)
            encoders.setdefault(pooling, other)
    return encoders, notes
