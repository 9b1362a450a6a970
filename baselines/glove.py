"""Average word vectors: GloVe, fastText, or any text file of vectors.

Source: SentEval (5d6dc11) examples/bow.py: whitespace tokens, exact match, unknown words left out.
"""

import string
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from baselines.postprocessing import FittedPerTask, Map
from baselines.vectors import WordVectors, open_vectors
from harness import files
from harness.data.named_texts import file_named, name_by_content
from harness.encoders.context import Context
from harness.encoders.entry import Built, EncoderEntry, parameter, parameters
from harness.encoders.protocol import Embeddings
from harness.errors import DataError, UsageError
from harness.names import EncoderCard, Spec
from harness.packaged import packaged_folder


def average(
    vectors: WordVectors,
    sentences: Sequence[Sequence[str]],
    *,
    lower: bool = False,
    stop_words: bool = False,
    sif: float | None = None,
) -> NDArray[np.float32]:
    """Mean vector of each sentence's known tokens: (n, d) float32, not normalised.

    As SentEval's `examples/bow.py`: a token counts as often as it occurs, unknown ones count nowhere, an empty
    sentence is the token ".", and a sentence without any known token is the zero vector. Sums are float64, and do
    not depend on the order of the tokens or on the other sentences.

    Args:
        vectors: of words.
        sentences: n lists of tokens. Takes memory for the vectors of all different tokens together.
        lower: look tokens up in lower case. The 840B GloVe knows "The" and "the"; the 6B one is lower-cased.
        stop_words: drop English function words and single punctuation marks, in any case, before averaging. The list is
            scikit-learn's with `string.punctuation`; sentence-transformers' GloVe model drops such words by a list of
            its own.
        sif: None, or a of the smooth inverse frequency a / (a + p(word)), 1e-3 in the paper, by which vectors are
            multiplied; the sum is still divided by the number of tokens. p is not counted but estimated from the word's
            place r = 1, 2, ... in the file as 1 / (r * (1 + 1/2 + ... + 1/V)), Zipf's law for a file that is sorted by
            frequency, as GloVe's and fastText's are.
            Source: Arora et al. 2017, https://openreview.net/forum?id=SyK00v5xx
    """
    from scipy.sparse import csr_array  # takes long to import

    owners, rows = _known(vectors, sentences, lower=lower, stop_words=stop_words)
    used, columns = np.unique(rows, return_inverse=True)
    rows_used = vectors.matrix[used].astype(np.float64)
    if sif is not None:
        harmonic = (1 / np.arange(1, len(vectors.matrix) + 1)).sum()
        rows_used *= (sif / (sif + 1 / ((used + 1) * harmonic)))[:, None]
    counts = csr_array((np.ones(len(rows)), (owners, columns)), shape=(len(sentences), len(used)))
    counts.sum_duplicates()
    totals = counts @ rows_used / np.maximum(np.bincount(owners, minlength=len(sentences)), 1)[:, None]
    return cast(NDArray[np.float64], totals).astype(np.float32)


def _known(
    vectors: WordVectors, sentences: Sequence[Sequence[str]], *, lower: bool, stop_words: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Sentence number and row of every known token that is not dropped."""
    numbers: dict[str, int] = {}
    filled = [sentence or ["."] for sentence in sentences]
    tokens = np.array([numbers.setdefault(token, len(numbers)) for sentence in filled for token in sentence], int)
    owners = np.repeat(np.arange(len(filled)), np.fromiter(map(len, filled), int))
    rows = vectors.find([token.lower() if lower else token for token in numbers])
    if stop_words:
        from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS  # takes a second to import, rarely needed

        dropped = ENGLISH_STOP_WORDS | set(string.punctuation)
        rows[[number for token, number in numbers.items() if token.lower() in dropped]] = -1
    rows = rows[tokens]
    return owners[rows >= 0], rows[rows >= 0]


def fit_common_component(x: NDArray[np.floating]) -> NDArray[np.float64]:
    """First right singular vector (d,) of sentence vectors (n, d), not centred.

    Smooth inverse frequency takes it off weighted averages, found on the task's sentences.
    Source: Arora et al. 2017, https://openreview.net/forum?id=SyK00v5xx
    """
    products = np.asarray(x, dtype=np.float64).T @ np.asarray(x, dtype=np.float64)
    return cast(NDArray[np.float64], np.linalg.eigh(products).eigenvectors[:, -1])


def remove_component(x: NDArray[np.floating], component: NDArray[np.float64]) -> NDArray[np.float32]:
    """What is left of each vector (n, d) without its part along the unit vector `component` (d,)."""
    return (x - np.outer(x @ component, component)).astype(np.float32)


class AverageVectors:
    """The mean vector of a sentence's known words; zeros where none is known."""

    is_cheap = True

    def __init__(self, vectors: WordVectors, card: EncoderCard, chosen: "GloveParameters") -> None:
        self.card = card
        self._vectors, self._chosen = vectors, chosen

    def encode(self, sentences: Sequence[str], /) -> Embeddings:
        """(n, d) float32.

        Raises:
            DataError: if no word of any of several sentences is known: vectors of another language or case.
        """
        texts, chosen = [sentence.split() for sentence in sentences], self._chosen
        x = average(self._vectors, texts, lower=chosen.lower, stop_words=chosen.stop_words, sif=chosen.sif)
        if len(texts) > 1 and not x.any():
            self._require_overlap(texts)
        return x

    def _require_overlap(self, texts: list[list[str]]) -> None:
        _, rows = _known(self._vectors, texts, lower=self._chosen.lower, stop_words=self._chosen.stop_words)
        if not len(rows):
            tokens = {token for text in texts for token in text}
            raise DataError(
                f"{self._vectors.name}: none of the {len(tokens)} different tokens of {len(texts)} sentences is among "
                f"its {len(self._vectors.keys)} words, expected some; is it of another language or case?"
            )


def find_vectors(name: str, context: Context) -> Path:
    """The file of the bundled vectors (`tiny`), of a downloaded set, or a file by its path or name in records.

    Raises:
        UsageError: if there is no such file.
        DataError: if the bundled file is damaged, or a named one has changed.
    """
    if name == "tiny":
        return packaged_folder("baselines/assets/glove-tiny") / "vectors.txt.gz"
    if (named := file_named(name, context.cache_dir)) is not None:
        return named
    folder = context.cache_dir / "glove"
    candidates = [Path(name).expanduser(), folder / f"{name}.zip", folder / f"{name}.txt"]
    found = next((candidate for candidate in candidates if candidate.is_file()), None)
    if found is None:
        raise UsageError(
            f"avg-glove: no word vectors {name!r}; run `bench data fetch glove` (2 GB), name a text file, or use "
            "backbone=tiny"
        )
    return found


@parameters
class GloveParameters:
    backbone: str = parameter("glove.840B.300d", "word vectors: tiny (bundled), glove.840B.300d, or a file")
    member: str | None = parameter(None, "the text in a .zip that has several")
    lower: bool = parameter(False, "look words up in lower case")
    stop_words: bool = parameter(False, "leave stop words and punctuation out")
    sif: float | None = parameter(
        None, "a of smooth inverse frequency, 0.001 in its paper; not set: the plain mean", gt=0
    )


def _build(spec: Spec, chosen: GloveParameters, context: Context) -> Built:
    path = find_vectors(chosen.backbone, context)
    vectors = open_vectors(path, context.cache_dir / "vectors", chosen.member)
    if path == Path(chosen.backbone).expanduser():  # names and records hold no path
        shown = name_by_content(path, vectors.sha256, files.sha256(path), context.cache_dir)
        spec, chosen = spec.replaced(backbone=shown), replace(chosen, backbone=shown)
    card = EncoderCard(
        name=str(spec),
        method=spec.name,
        parameters=asdict(chosen),
        backbone=chosen.backbone,
        weights_sha256=vectors.sha256,
        pooling="mean of words",
        dim=vectors.dim,
        fitted_on="target" if chosen.sif else None,
        content={
            "method": spec.name,
            "vectors": vectors.sha256,
            "lower": chosen.lower,
            "stop_words": chosen.stop_words,
            "sif": chosen.sif,
        },
    )
    encoder = AverageVectors(vectors, card, chosen)
    if not chosen.sif:
        return encoder

    def fit(sentences: Sequence[str]) -> Map:
        return partial(remove_component, component=fit_common_component(encoder.encode(sentences)))

    return FittedPerTask(encoder, fit, card)


AVERAGE_GLOVE = EncoderEntry(
    name="avg-glove",
    summary="mean of word vectors; no training",
    parameters=GloveParameters,
    build=_build,
)
