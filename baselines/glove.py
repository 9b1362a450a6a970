"""Average word vectors: GloVe, fastText, or any text file of vectors.

Source: SentEval (5d6dc11) examples/bow.py: whitespace tokens, exact match, unknown words left out.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from baselines.vectors import Bag, WordVectors, fit_common_component, open_vectors, remove_component
from harness.encoders.context import Context
from harness.encoders.protocol import Embeddings, Encoder, Transductive
from harness.encoders.registry import EncoderEntry, parameter, parameters
from harness.errors import UsageError
from harness.names import EncoderCard, Spec
from harness.packaged import packaged_folder


class AverageVectors:
    """The mean vector of a sentence's known words; zeros where none is known."""

    def __init__(self, vectors: WordVectors, bag: Bag, card: EncoderCard) -> None:
        self.card = card
        self._vectors, self._bag = vectors, bag

    def encode(self, sentences: Sequence[str], /) -> Embeddings:
        """(n, d) float32.

        Raises:
            DataError: if no word of any of several sentences is known: vectors of another language or case.
        """
        tokens = [sentence.split() for sentence in sentences]
        if len(tokens) > 1:
            self._vectors.require_overlap(tokens, self._bag)
        return self._vectors.average(tokens, self._bag)


class SmoothInverseFrequency:
    """SIF: weighted averages without the first component that they share on the task's sentences.

    Source: Arora et al. 2017, https://openreview.net/forum?id=SyK00v5xx
    """

    def __init__(self, average: AverageVectors) -> None:
        self.card = average.card
        self._average = average

    def fit_target(self, sentences: Sequence[str], /) -> Encoder:
        """Find the shared component on these sentences."""
        return _WithoutComponent(self._average, fit_common_component(self._average.encode(sentences)))


class _WithoutComponent:
    def __init__(self, average: AverageVectors, component: np.ndarray[tuple[int], np.dtype[np.float64]]) -> None:
        self.card = average.card
        self._average, self._component = average, component

    def encode(self, sentences: Sequence[str], /) -> Embeddings:
        return remove_component(self._average.encode(sentences), self._component)


def find_vectors(name: str, member: str | None, context: Context) -> WordVectors:
    """The bundled vectors (`tiny`), a downloaded set, or a file; `member` is the one meant in a .zip of several.

    Raises:
        UsageError: if there is no such file or member.
        DataError: if it is damaged.
    """
    if name == "tiny":
        path = packaged_folder("baselines/assets/glove-tiny") / "vectors.txt.gz"
    else:
        folder = context.cache_dir / "glove"
        candidates = [Path(name), folder / f"{name}.zip", folder / f"{name}.txt"]
        found = next((candidate for candidate in candidates if candidate.is_file()), None)
        if found is None:
            raise UsageError(
                f"avg-glove: no word vectors {name!r}; run `bench data fetch glove` (2 GB), name a text file, or use "
                "backbone=tiny"
            )
        path = found
    return open_vectors(path, context.cache_dir / "vectors", member)


@parameters
class GloveParameters:
    backbone: str = parameter("glove.840B.300d", "tiny (bundled), glove.840B.300d, or a file")
    member: str | None = parameter(None, "the text in a .zip that has several")
    lower: bool = parameter(False, "look words up in lower case")
    stop_words: bool = parameter(False, "leave stop words and punctuation out")
    sif: float | None = parameter(
        None, "a of smooth inverse frequency, 0.001 in its paper; not set: the plain mean", gt=0
    )


def _build(spec: Spec, chosen: GloveParameters, context: Context) -> Encoder | Transductive:
    vectors = find_vectors(chosen.backbone, chosen.member, context)
    bag = Bag(lower=chosen.lower, stop_words=chosen.stop_words, sif=chosen.sif)
    card = EncoderCard(
        name=str(spec),
        method=spec.name,
        parameters=asdict(chosen),
        backbone=chosen.backbone,
        weights_sha256=vectors.sha256,
        pooling="mean of words",
        dim=vectors.dim,
        fitted_on="target" if bag.sif else None,
    )
    average = AverageVectors(vectors, bag, card)
    return SmoothInverseFrequency(average) if bag.sif else average


AVERAGE_GLOVE = EncoderEntry(
    name="avg-glove",
    summary="mean of word vectors; no training",
    parameters=GloveParameters,
    build=_build,
)
