"""Encoders that are objects of the user's program: a SentenceTransformer, a scikit-learn pipeline, or a function."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from harness.encoders.foreign import foreign
from harness.encoders.protocol import Embeddings, Encoder, Transductive
from harness.errors import UsageError
from harness.names import EncoderCard

_PROBE = "a sentence that shows how long a vector is"


class ObjectEncoder:
    """Makes any object that turns texts into a matrix an `Encoder`."""

    def __init__(self, encode: Callable[[list[str]], Any], card: EncoderCard) -> None:
        self.card = card
        self._encode = encode

    def encode(self, sentences: Sequence[str], /) -> Embeddings:
        """(n, d) float32; whatever the object returns is converted, sparse matrices and tensors too."""
        return as_matrix(self._encode(list(sentences)))


def as_encoder(model: Any, name: str | None = None, fingerprint: str | None = None) -> Encoder | Transductive:
    """Wrap an object of the user's program.

    Args:
        model: an object with a `card` and `encode` (returned as it is), one with `encode(list of str)` such as a
            SentenceTransformer, one with `transform(list of str)` such as a fitted scikit-learn pipeline, or a function
            from a list of texts to n vectors.
        name: of the encoder in results; by default that of its type. Use letters, digits, `.`, `_` and `-`.
        fingerprint: a text that changes whenever the object's vectors change, e.g. a version or a digest of its
            weights. With it, vectors are kept in the embedding cache; without it, nothing is cached.

    Raises:
        UsageError: if the object is none of these, or the name has other characters.
        EncoderError: if it fails on a sentence, or returns no matrix.
    """
    if isinstance(getattr(model, "card", None), EncoderCard):
        return model  # type: ignore[no-any-return]
    encode = next(
        (f for f in (getattr(model, "encode", None), getattr(model, "transform", None), model) if callable(f)), None
    )
    kind = type(model).__name__
    if encode is None or isinstance(model, type):
        raise UsageError(
            f"{kind}: cannot be evaluated, expected a specification such as 'minilm', an object with encode(texts) or "
            "transform(texts), or a function from a list of texts to an array"
        )
    name = name or (model.__name__ if kind == "function" and model.__name__ != "<lambda>" else kind).lower()
    if not re.fullmatch(r"[\w.-]+", name, re.ASCII):
        raise UsageError(f"name {name!r}: expected letters, digits, '.', '_' and '-'; give another with name=")
    with foreign(name, "encoding one sentence"):
        width = as_matrix(encode([_PROBE])).shape[-1]
    content = {"method": name, "fingerprint": fingerprint} if fingerprint else {}
    return ObjectEncoder(encode, EncoderCard(name=name, method=name, dim=width, content=content))


def as_matrix(x: Any) -> Embeddings:
    """(n, d) float32 from an array, a list of vectors, a torch tensor, or a scipy sparse matrix."""
    if hasattr(x, "toarray"):
        x = x.toarray()
    elif hasattr(x, "detach"):
        x = x.detach().cpu().float().numpy()
    matrix: Embeddings = np.ascontiguousarray(x, dtype=np.float32)
    return matrix
