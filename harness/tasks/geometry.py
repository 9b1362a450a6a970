"""The geometry of sentence vectors on a similarity benchmark: alignment, uniformity and geometry.

Every score's key names its definition, since people who left one part open got 185 where the paper shows 0.25:

    alignment/<positives>/<split>       over pairs whose gold score passes the threshold
    <metric>/<sentences>/<split>        over the sentences of both sides of all pairs
    <either>/low, <either>/high         95% bootstrap interval

`unique` counts equal sentences once, `occurrences` as often as they stand in the file. Vectors are divided by their
lengths first, for every score: an encoder that does so itself gets the same numbers. Pairs that have a sentence with a
zero vector, which has no direction, are left out and counted.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.data.records import SimilarityData
from harness.encoders.context import Context
from harness.encoders.protocol import Embeddings, Encoder, embed
from harness.errors import TaskError
from harness.results.items import SeriesItems
from harness.tasks import geometry_metrics as geometry
from harness.tasks.geometry_metrics import unit_rows
from harness.tasks.metrics import Vector
from harness.tasks.outcome import Outcome, Prepared
from harness.tasks.similarity import as_senteval_text

Load = Callable[[Path], SimilarityData]
Scores = dict[str, float]

# The paper's footnote 3 says "score higher than 4"; re-implementations also took 4 itself, or 5 alone.
POSITIVES: Mapping[str, Callable[[Vector], NDArray[np.bool_]]] = {
    "gt4": lambda gold: gold > 4,
    "ge4": lambda gold: gold >= 4,
    "eq5": lambda gold: gold == 5,
}
ALPHA = 2.0
T = 2.0
_MOST_ZEROS = 0.01  # share of sentences; more of them are no accident of a few unknown words


@dataclass(frozen=True, slots=True, kw_only=True)
class GeometryTask:
    """Alignment, uniformity and anisotropy on the splits of one benchmark with gold scores 0..5."""

    name: str  # e.g. `geometry-stsb`
    title: str  # for people
    loads: Mapping[str, Load]  # split -> what reads its pairs below a data folder; subsets of a split are joined
    load_target: Load  # reads the pairs whose sentences a `fit=target` method may see
    bundled: bool = False  # whether the data come with the package
    protocol: str = f"geometry[alpha={ALPHA:g},t={T:g}]"  # the exponents; the rest of a definition is a score's key
    metric: str = "uniformity/unique/test"
    seed: int | None = 0  # of the bootstrap

    def prepare(self, root: Path) -> Prepared:
        """Read the data; see `Prepared`."""
        data = {split: load(root) for split, load in self.loads.items()}
        splits = {split: _join(one) for split, one in data.items()}
        return Prepared(
            files={path: digest for one in data.values() for path, digest in one.files.items()},
            other_copies=tuple(dict.fromkeys(path for one in data.values() for path in one.other_copies)),
            sentences=list(dict.fromkeys(s for split in splits.values() for s in split.sentences)),
            target=_join(self.load_target(root)).sentences,
            score=partial(self._score, splits),
        )

    def _score(self, splits: "Mapping[str, _Split]", encoder: Encoder, context: Context) -> Outcome:
        scores: Scores = {}
        counts: dict[str, int] = {}
        points: list[tuple[str, Vector, Vector]] = []
        for done, (name, split) in enumerate(splits.items()):
            context.progress("geometry", done, len(splits))
            split, left_out = _with_directions(encoder, split, self.name)
            row = {sentence: i for i, sentence in enumerate(dict.fromkeys(split.sentences))}
            unit = unit_rows(embed(encoder, list(row)))
            rows = np.array([row[sentence] for sentence in split.sentences])  # of each occurrence
            left, right = np.split(rows, 2)
            distances = geometry.squared_distances(unit[left], unit[right])
            spectra = {
                "spectrum": geometry.singular_values(unit, centred=False),
                "spectrum-centred": geometry.singular_values(unit, centred=True),
            }
            rng = np.random.default_rng(self.seed)
            scores |= _alignments(distances, split.gold, name, rng)
            scores |= _uniformities(unit, f"unique/{name}", rng)
            scores |= _uniformities(unit[rows], f"occurrences/{name}", rng)
            scores |= {
                f"effective-rank/unique/{name}": geometry.effective_rank(spectra["spectrum"]),
                f"effective-rank-centred/unique/{name}": geometry.effective_rank(spectra["spectrum-centred"]),
                f"isoscore/unique/{name}": geometry.isoscore(unit),
                f"hubness/unique/{name}": geometry.hubness(unit),
            }
            counts |= {f"pairs/{name}": len(split.gold)}
            counts |= {f"positives/{kind}/{name}": int(passes(split.gold).sum()) for kind, passes in POSITIVES.items()}
            counts |= {f"sentences/unique/{name}": len(unit), f"sentences/occurrences/{name}": len(rows)}
            if left_out:
                counts[f"pairs with a zero vector/{name}"] = left_out
            points.append((f"pairs/{name}", split.gold, 1 - distances / 2))
            points += [(f"{kind}/{name}", np.arange(1.0, len(v) + 1), v) for kind, v in spectra.items()]
        items = SeriesItems(
            series=[series for series, x, _ in points for _ in x],
            x=np.concatenate([x for _, x, _ in points]),
            y=np.concatenate([y for *_, y in points]),
        )
        return Outcome(scores=scores, counts=counts, items=items)


@dataclass(frozen=True, slots=True)
class _Split:
    """All left sentences, then all right ones, as the encoder receives them; and the gold scores of the pairs."""

    sentences: Sequence[str]
    gold: Vector


def _join(data: SimilarityData) -> _Split:
    left = [as_senteval_text(s) for subset in data.subsets for s in subset.left]
    right = [as_senteval_text(s) for subset in data.subsets for s in subset.right]
    return _Split([*left, *right], np.array([g for subset in data.subsets for g in subset.gold]))


def _with_directions(encoder: Encoder, split: _Split, task: str) -> tuple[_Split, int]:
    """The pairs whose sentences both have a vector other than zero, and how many others there are.

    Raises:
        TaskError: if more than one sentence in a hundred has a zero vector.
    """
    distinct = list(dict.fromkeys(split.sentences))
    zero = [distinct[row] for row in np.flatnonzero((embed(encoder, distinct) == 0).all(axis=1))]
    if len(zero) > _MOST_ZEROS * len(distinct):
        raise TaskError(
            f"{task}: {len(zero)} of {len(distinct)} sentences have a zero vector, the first is {zero[0]!r}, and a "
            "zero vector has no place on the sphere; give the encoder a vector for unknown words"
        )
    pairs = len(split.gold)
    left, right = split.sentences[:pairs], split.sentences[pairs:]
    kept = [i for i in range(pairs) if left[i] not in zero and right[i] not in zero] if zero else range(pairs)
    return _Split([*(left[i] for i in kept), *(right[i] for i in kept)], split.gold[list(kept)]), pairs - len(kept)


def _alignments(distances: Vector, gold: Vector, split: str, rng: np.random.Generator) -> Scores:
    """By `alignment/<positives>/<split>`.

    Raises:
        TaskError: if no pair passes the paper's threshold; the other two variants may be empty and are then left out.
    """
    scores: Scores = {}
    powers = distances ** (ALPHA / 2)
    for name, passes in POSITIVES.items():
        positive = passes(gold)
        if positive.any():
            scores |= _mean(f"alignment/{name}/{split}", powers[positive], rng)
        elif name == "gt4":
            raise TaskError(
                f"alignment/{name}: none of {len(gold)} pairs has a gold score above 4, the highest is "
                f"{gold.max():g}; alignment needs positive pairs, so give it data that have some"
            )
    return scores


def _uniformities(x: Embeddings, ending: str, rng: np.random.Generator) -> Scores:
    """By `<metric>/<ending>`; the ending is `<sentences>/<split>`.

    The interval is over sentences as if they were drawn one by one, not in pairs.
    """
    return {
        f"average-cosine/{ending}": geometry.average_cosine(x),
        f"mean-vector-norm/{ending}": geometry.mean_vector_norm(x),
        **_mean(f"uniformity/{ending}", geometry.uniformity_contributions(geometry.kernel_means(x, T)), rng),
    }


def _mean(key: str, values: Vector, rng: np.random.Generator) -> Scores:
    low, high = geometry.bootstrap_interval(values, rng)
    return {key: float(values.mean()), f"{key}/low": low, f"{key}/high": high}
