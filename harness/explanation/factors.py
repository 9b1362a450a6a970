"""What can differ between two evaluations of one checkpoint: one row per factor, and nothing about it elsewhere.

A factor is a name and its readings, the usual one first. A reading is what it changes in `Setup`, from which
`harness.explanation.numbers` makes a number; so a new factor is a new row where `Setup` has its fields.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from itertools import product
from typing import Any

import numpy as np

from harness.data.sts import SMT_INPUT, smt_of_sts13
from harness.encoders.context import Context
from harness.encoders.pooling import POOLINGS
from harness.encoders.protocol import Embeddings, Encoder
from harness.encoders.transformer import TransformerEncoder
from harness.explanation.altered import Alteration
from harness.tasks.classification import ClassificationTask
from harness.tasks.metrics import Vector, cosine
from harness.tasks.similarity import SimilarityTask

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
TEXTS: Mapping[str, Callable[[str], str]] = {"as given": str, "lower-cased": str.lower, "detokenised": detokenise}


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """All that makes a number of a checkpoint and a benchmark; the defaults are this project's protocol."""

    pooling: str = ""  # "" for the encoder's own
    text: str = "as given"  # a key of `TEXTS`
    similarity: str = "cosine"  # a key of `SIMILARITIES`
    aggregation: str = "all"  # `all`, `mean` or `wmean`
    correlation: str = "spearman"  # `spearman` or `pearson`
    split: str = "test"  # of the benchmark; where it has no such split, its test set
    smt: bool = False  # whether STS13 has its subset SMT
    blank_gold: float | None = None  # the score of STS16's lines without one; None: they are dropped
    digits: int | None = None  # to which a task's percent is rounded before the mean is taken; None: not rounded
    stop_on: str = ""  # of a regressor trained on STS-B and SICK-R, the correlation that stops it; "": no regressor
    mode: str = "test"  # of the probes: `test`, `fasttest` or `dev`
    folds: int | None = None  # of the probes; None: as many as the mode has
    classifier: str = "senteval"  # `senteval` or `senteval-sklearn`
    alteration: Alteration = field(default_factory=Alteration)  # of the forward pass


class Cost(IntEnum):
    """What a further reading costs, and so in which order factors are tried: the cheap ones first."""

    NUMBER = 0  # another number from the same vectors; tried with all readings of all other factors
    VECTORS = 1  # other vectors from the same pass, or of other sentences; tried with each other
    DATA = 2  # some more sentences; from here on factors are tried one by one
    PASS = 3  # a pass of the model over the sentences
    TRAINING = 4  # the training of a regressor or of probes


@dataclass(frozen=True, slots=True, kw_only=True)
class Factor:
    """One thing that can differ."""

    name: str  # for people
    readings: Mapping[str, Mapping[str, Any]]  # by name, the usual one first, what each changes in `Setup`
    cost: Cost  # of a reading
    is_random: bool = False  # whether the other readings give another number every time: then several draws are made
    # The readings that cost far more than the others of that kind, which are tried on demand only.
    dear: frozenset[str] = frozenset()

    @property
    def usual(self) -> str:
        return next(iter(self.readings))


def _altered(usual: str, changed: str, values: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    return {usual: {}, **{name: {changed: value} for name, value in values.items()}}


def _named(changed: str, names: Sequence[str]) -> Mapping[str, Mapping[str, Any]]:
    return {name: {changed: name} for name in names}


SIMILARITY = (
    Factor(name="text", cost=Cost.VECTORS, readings=_named("text", tuple(TEXTS))),
    Factor(name="similarity", cost=Cost.NUMBER, readings=_named("similarity", tuple(SIMILARITIES))),
    Factor(name="aggregation", cost=Cost.NUMBER, readings=_named("aggregation", ("all", "mean", "wmean"))),
    Factor(name="correlation", cost=Cost.NUMBER, readings=_named("correlation", ("spearman", "pearson"))),
    Factor(name="split", cost=Cost.VECTORS, readings=_named("split", ("test", "dev", "full"))),
    Factor(name="SMT in STS13", cost=Cost.DATA, readings=_altered("left out", "smt", {"included": True})),
    Factor(name="blank gold in STS16", cost=Cost.DATA, readings=_altered("dropped", "blank_gold", {"taken as 0": 0.0})),
    Factor(
        name="mean over tasks",
        cost=Cost.DATA,
        readings=_altered("of exact values", "digits", {"of values with one decimal": 1, "of whole points": 0}),
    ),
    Factor(
        name="trained regressor",
        cost=Cost.TRAINING,
        readings=_altered("none", "stop_on", {"as in SimCSE's SentEval": "spearman", "as in SentEval": "pearson"}),
        dear=frozenset({"as in SimCSE's SentEval", "as in SentEval"}),
    ),
)
TRANSFER = (
    Factor(name="text", cost=Cost.PASS, readings=_named("text", tuple(TEXTS))),
    Factor(name="mode", cost=Cost.TRAINING, readings=_named("mode", ("test", "fasttest", "dev"))),
    Factor(name="folds", cost=Cost.TRAINING, readings=_altered("10", "folds", {"5": 5})),
    Factor(name="classifier", cost=Cost.TRAINING, readings=_named("classifier", ("senteval", "senteval-sklearn"))),
)
FORWARD = (
    Factor(
        name="max_tokens",
        cost=Cost.PASS,
        readings=_altered("its own", "max_tokens", {str(limit): limit for limit in (8, 16, 32, 64)}),
    ),
    Factor(
        name="dtype",
        cost=Cost.PASS,
        readings=_altered("its own", "dtype", {name: name for name in ("bfloat16", "float16")}),
        dear=frozenset({"float16"}),
    ),
    Factor(
        name="special tokens",
        cost=Cost.PASS,
        readings=_altered("pooled", "special_tokens", {name: name for name in ("not pooled", "absent")}),
    ),
    Factor(
        name="padding",
        cost=Cost.PASS,
        readings=_altered("not pooled", "padding", {"pooled in batches of 64": "batch", "pooled up to 128": "128"}),
        dear=frozenset({"pooled up to 128"}),
    ),
    Factor(name="case", cost=Cost.PASS, readings=_altered("lower", "keep_case", {"kept by the tokenizer": True})),
    Factor(name="dropout", cost=Cost.PASS, readings=_altered("off", "dropout", {"on": True}), is_random=True),
    Factor(
        name="layer over CLS",
        cost=Cost.PASS,
        readings=_altered("as pooled", "random_head", {"of random weights": True}),
        is_random=True,
    ),
)


def prompts_factor(own: str, declared: Mapping[str, str]) -> Factor:
    """The prompt: the encoder's own, none, those that its folder declares, and E5's `query: `."""
    texts = {"none": "", **declared, "query: ": "query: "}
    return Factor(
        name="prompt",
        cost=Cost.PASS,
        readings=_altered("its own", "prompt", {name: text for name, text in texts.items() if text != own}),
    )


def pooling_factor(own: str, others: Sequence[str] = tuple(POOLINGS)) -> Factor:
    """The pooling: the encoder's own, and those of SimCSE's evaluation script."""
    readings = {own: {}, **{name: {"pooling": name} for name in others if name != own}}
    return Factor(name="pooling", cost=Cost.VECTORS, readings=readings)


@dataclass(frozen=True, slots=True)
class Reading:
    """One reading of every factor: pairs of a factor's name and its reading's."""

    values: tuple[tuple[str, str], ...]

    def __getitem__(self, factor: str) -> str:
        return dict(self.values)[factor]

    def changed(self, factor: str, value: str) -> "Reading":
        """The same with another reading of one factor."""
        return Reading(tuple((name, value if name == factor else old) for name, old in self.values))

    def changes(self, other: "Reading") -> list[str]:
        """The factors in which another reading differs."""
        return [name for (name, mine), (_, theirs) in zip(self.values, other.values, strict=True) if mine != theirs]


def usual(factors: Sequence[Factor]) -> Reading:
    """The encoder's own reading under this project's protocol."""
    return Reading(tuple((factor.name, factor.usual) for factor in factors))


def readings_of(factors: Sequence[Factor], origin: Reading) -> list[Reading]:
    """All combinations of the factors' readings; the others are as at the origin."""
    found = []
    for values in product(*(factor.readings for factor in factors)):
        reading = origin
        for factor, value in zip(factors, values, strict=True):
            reading = reading.changed(factor.name, value)
        found.append(reading)
    return found


def factors_of(
    encoders: Mapping[str, Encoder], tasks: Sequence[SimilarityTask | ClassificationTask], context: Context
) -> tuple[tuple[Factor, ...], tuple[str, ...]]:
    """The factors that can make a difference for this encoder and these tasks, and why others were left out."""
    own = next(iter(encoders.values()))
    pooling = pooling_factor(next(iter(encoders)), tuple(encoders))
    if not isinstance(own, TransformerEncoder):
        forward: tuple[Factor, ...] = ()
        notes = ["the forward pass: the encoder has none of its own that could be run otherwise"]
    else:
        forward = (*FORWARD, prompts_factor(own.backbone.prompt, own.backbone.checkpoint.prompts))
        notes = []
    if isinstance(tasks[0], ClassificationTask):
        return (pooling, *TRANSFER, *forward), tuple(notes)
    names = {task.name for task in tasks}
    needs = {"SMT in STS13": "STS13", "blank gold in STS16": "STS16"}
    chosen = [factor for factor in SIMILARITY if needs.get(factor.name) in (None, *names)]
    if "STS13" in names and smt_of_sts13(context.data_root()) is None:
        chosen = [factor for factor in chosen if factor.name != "SMT in STS13"]
        notes.append(f"SMT in STS13: {SMT_INPUT} is not in the data, as its licence keeps it out of SentEval")
    if len(tasks) == 1:
        chosen = [factor for factor in chosen if factor.name != "mean over tasks"]
    if not names & {"STSBenchmark", "SICKRelatedness"}:
        chosen = [factor for factor in chosen if factor.name not in ("split", "trained regressor")]
    return (pooling, *chosen, *forward), tuple(notes)


def without_dear(factors: Sequence[Factor]) -> tuple[tuple[Factor, ...], tuple[str, ...]]:
    """The factors without their dearest readings, and one sentence on what that leaves out."""
    kept = [
        replace(factor, readings={name: change for name, change in factor.readings.items() if name not in factor.dear})
        for factor in factors
    ]
    dear = [f"{factor.name} {name}" for factor in factors for name in factor.readings if name in factor.dear]
    left_out = (f"{', '.join(dear)}: take longer than all the others; --thorough tries them",) if dear else ()
    return tuple(factor for factor in kept if len(factor.readings) > 1 or not factor.dear), left_out
