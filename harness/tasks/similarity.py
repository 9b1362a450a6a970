"""Semantic textual similarity: cosine of two sentence vectors against human scores.

Source: SentEval (5d6dc11) senteval/sts.py with the "all" aggregation of SimCSE's copy (49fa580); STS-B and SICK-R are
scored the same way there, without a trained regressor.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from harness.data.records import Pairs, SimilarityData
from harness.encoders.context import Context
from harness.encoders.protocol import Encoder, embed
from harness.errors import TaskError
from harness.results.correlation import correlations, subset_slices
from harness.results.items import PairItems, text_id
from harness.tasks.metrics import Vector, cosine
from harness.tasks.outcome import Outcome, Prepared


def as_senteval_text(sentence: str) -> str:
    """What the reference hands to the encoder: whitespace tokens joined by one space, nothing else changed."""
    return " ".join(sentence.split())


@dataclass(frozen=True, slots=True, kw_only=True)
class SimilarityTask:
    """One similarity benchmark on one split."""

    name: str  # e.g. `STS12`, `STSBenchmark-dev`
    title: str  # for people
    split: str  # `test`, `dev`, or `full` (train, dev and test together)
    load: Callable[[Path], SimilarityData]  # reads the scored pairs below a data folder
    load_target: Callable[[Path], SimilarityData]  # the pairs whose sentences a `fit=target` method may see
    bundled: bool = False  # whether the data come with the package
    protocol: str = "sts"
    seed: int | None = None

    @property
    def metric(self) -> str:
        return f"spearman/all/{self.split}"

    def prepare(self, root: Path) -> Prepared:
        """Read the data; see `Prepared`."""
        data = _as_senteval(self.load(root))
        return Prepared(
            files=data.files,
            other_copies=data.other_copies,
            sentences=_texts(data),
            target=_texts(_as_senteval(self.load_target(root))),
            score=partial(self._score, data),
        )

    def _score(self, data: SimilarityData, encoder: Encoder, context: Context) -> Outcome:
        """Every aggregation and correlation from one pass over `_as_senteval` data; see `aggregate`."""
        predicted, zeros = [], 0
        for subset in data.subsets:
            left, right = embed(encoder, subset.left), embed(encoder, subset.right)
            zeros += int((~left.any(axis=1)).sum() + (~right.any(axis=1)).sum())
            predicted.append(cosine(left, right))
        empty = sum(not s for s in _texts(data))
        pairs = [pair for subset in data.subsets for pair in zip(subset.left, subset.right, strict=True)]
        counts = {f"pairs/{subset.name}": len(subset.gold) for subset in data.subsets}
        return Outcome(
            scores=aggregate(self.name, data.subsets, predicted, self.split),
            counts={**counts, "pairs": sum(counts.values()), "zero vectors": zeros, "empty sentences": empty},
            items=PairItems(
                subset=[subset.name for subset in data.subsets for _ in subset.gold],
                left=[text_id(one) for one, _ in pairs],
                right=[text_id(other) for _, other in pairs],
                words=np.array([len(one.split()) + len(other.split()) for one, other in pairs]),
                overlap=np.array([word_overlap(one, other) for one, other in pairs]),
                gold=np.array([g for subset in data.subsets for g in subset.gold]),
                cosine=np.concatenate(predicted),
            ),
        )


def word_overlap(left: str, right: str) -> float:
    """F1 of the two sets of lower-cased words, 0..1; 0 where one is empty."""
    a, b = set(left.lower().split()), set(right.lower().split())
    return 2 * len(a & b) / (len(a) + len(b)) if a and b else 0.0


def _as_senteval(data: SimilarityData) -> SimilarityData:
    def text(side: list[str]) -> list[str]:
        return [as_senteval_text(s) for s in side]

    return replace(data, subsets=tuple(replace(s, left=text(s.left), right=text(s.right)) for s in data.subsets))


def _texts(data: SimilarityData) -> list[str]:
    return [s for subset in data.subsets for s in [*subset.left, *subset.right]]


def aggregate(task: str, subsets: tuple[Pairs, ...], predicted: list[Vector], split: str) -> dict[str, float]:
    """Scores by `<metric>/<aggregation>/<split>`, correlations in -1..1, of each subset's (n,) similarities.

    Raises:
        TaskError: if a correlation is undefined because all similarities (or gold scores) are equal.
    """
    places = subset_slices([subset.name for subset in subsets for _ in subset.gold])
    gold = np.concatenate([subset.gold for subset in subsets])
    scores = {f"{key}/{split}": value for key, value in correlations(places, gold, np.concatenate(predicted)).items()}
    undefined = [key for key, value in scores.items() if not np.isfinite(value)]
    if undefined:
        where = next((key for key in undefined if "/subset:" in key), undefined[0])
        raise TaskError(
            f"{task}: {where} is undefined, because all similarities are equal; the encoder tells nothing apart"
        )
    return scores
