"""What every encoder promises, and the one place that holds it to the promise."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from harness.errors import EncoderError
from harness.names import EncoderCard

Embeddings = NDArray[np.float32]  # (n, d)


class Encoder(Protocol):
    """Turns n sentences into an (n, d) matrix.

    Row i depends on sentence i and on nothing else: not on its batch, its neighbours, or the task. A method that
    must look at a corpus first does so in a `fit` that returns an Encoder.
    """

    @property
    def card(self) -> EncoderCard: ...

    def encode(self, sentences: Sequence[str], /) -> Embeddings: ...


@runtime_checkable
class Transductive(Protocol):
    """An encoder that is fitted anew on the sentences of each task before it scores them (`fit=target`).

    The card says `fitted_on="target"` and is that of every encoder that `fit_target` returns.

    Source: BERT-flow (Li et al. 2020) and BERT-whitening (Su et al. 2021), "target" rows.
    """

    @property
    def card(self) -> EncoderCard: ...

    def fit_target(self, sentences: Sequence[str], /) -> Encoder: ...


@runtime_checkable
class Releasable(Protocol):
    """An encoder that can drop its weights from memory; it loads them again when it is asked to encode."""

    def release(self) -> None: ...


def embed(encoder: Encoder, sentences: Sequence[str]) -> Embeddings:
    """Encode, and hold the encoder to its promise. Tasks call this, never `.encode`.

    Returns:
        (n, d) float32, every value finite.

    Raises:
        EncoderError: if the matrix is not (n, d) float32, or holds a nan or an inf.
    """
    return check_vectors(encoder.encode(sentences), encoder.card, sentences)


def check_vectors(x: Embeddings, card: EncoderCard, sentences: Sequence[str]) -> Embeddings:
    """The matrix itself, if it is what the card promises for these sentences.

    Raises:
        EncoderError: if it is not (n, d) float32, or holds a nan or an inf.
    """
    expected = (len(sentences), card.dim)
    if not isinstance(x, np.ndarray) or x.shape != expected or x.dtype != np.float32:
        found = f"{x.dtype}{x.shape}" if isinstance(x, np.ndarray) else type(x).__name__
        raise EncoderError(f"{card.name} returned {found}, expected float32{expected}")
    bad = np.flatnonzero(~np.isfinite(x).all(axis=1))
    if bad.size:
        raise EncoderError(
            f"{card.name}: {bad.size} of {len(x)} vectors are not finite, the first for {sentences[bad[0]]!r}"
        )
    return x
