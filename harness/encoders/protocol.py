"""What every encoder promises, and the one place that holds it to the promise."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from harness.errors import EncoderError
from harness.registry import Value

Embeddings = NDArray[np.float32]  # (n, d)


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderCard:
    """Everything that can change an encoder's vectors, and so its identity.

    Attributes:
        name: the full specification, e.g. `bert-whitening[backbone=tiny,fit=nli,dim=256]`; parses back.
        method: the registry entry, e.g. `bert-whitening`.
        parameters: every parameter of the specification with its value, defaults included.
        backbone: checkpoint name or repository; None for encoders without one.
        revision: commit of a hub repository, `files:` and a digest of the configuration of a folder, or None.
        weights_sha256: digest of the weight file(s) read, or None where nothing is loaded.
        pooling: how token vectors become a sentence vector; None where there are no layers.
        dim: length of a vector.
        max_tokens: sentences are cut after so many tokens, special tokens included; None: never cut.
        dtype: arithmetic of the forward pass; vectors are always handed over as float32.
        normalized: whether rows have length 1 as the encoder returns them.
        fitted_on: the text that a post-processing step was fitted on, or None; "target" means the evaluated
            sentences themselves.
        trained_on: the text that the weights were trained on by this project, or None.
        seed: of fitting or training, or None.
    """

    name: str
    method: str
    parameters: Mapping[str, Value | None] = field(default_factory=dict)
    backbone: str | None = None
    revision: str | None = None
    weights_sha256: str | None = None
    pooling: str | None = None
    dim: int
    max_tokens: int | None = None
    dtype: str = "float32"
    normalized: bool = False
    fitted_on: str | None = None
    trained_on: str | None = None
    seed: int | None = None

    def fingerprint(self) -> str:
        """Sha256 (hex) of the card's canonical JSON: two encoders with equal cards give equal vectors."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True, allow_nan=False).encode()).hexdigest()


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

    def fit_target(self, task: str, sentences: Sequence[str], /) -> Encoder: ...


def embed(encoder: Encoder, sentences: Sequence[str]) -> Embeddings:
    """Encode, and hold the encoder to its promise. Tasks call this, never `.encode`.

    Returns:
        (n, d) float32, every value finite.

    Raises:
        EncoderError: if the matrix is not (n, d) float32, or holds a nan or an inf.
    """
    return checked(encoder.encode(sentences), encoder.card, sentences)


def checked(x: Embeddings, card: EncoderCard, sentences: Sequence[str]) -> Embeddings:
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
