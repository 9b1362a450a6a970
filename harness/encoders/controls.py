"""Controls: encoders that know nothing, and so show what a score means. They need no weights and no download."""

import hashlib
from collections.abc import Sequence

import numpy as np

from harness.encoders.protocol import Embeddings
from harness.names import EncoderCard, Spec, Value


def _generator(text: str, seed: int) -> np.random.Generator:
    """A stream that depends on the text and the seed alone, on every machine."""
    return np.random.default_rng(int.from_bytes(hashlib.blake2b(f"{seed}\0{text}".encode(), digest_size=16).digest()))


class RandomEncoder:
    """Every distinct sentence gets an independent standard normal vector: the floor of every task."""

    is_cheap = True

    def __init__(self, spec: Spec, *, dim: int, seed: int) -> None:
        self.card = _card(spec, dim, seed)

    def encode(self, sentences: Sequence[str], /) -> Embeddings:
        x = [_generator(s, self.card.seed or 0).standard_normal(self.card.dim, dtype=np.float32) for s in sentences]
        return np.stack(x) if x else np.empty((0, self.card.dim), np.float32)


class HashedWordsEncoder:
    """The sum of one random vector per word (whitespace tokens, lower-cased, with multiplicity).

    The cosine of two sums estimates the cosine of the two count vectors: word overlap and nothing else.
    """

    is_cheap = True

    def __init__(self, spec: Spec, *, dim: int, seed: int) -> None:
        self.card = _card(spec, dim, seed)
        self._words: dict[str, Embeddings] = {}

    def encode(self, sentences: Sequence[str], /) -> Embeddings:
        x = np.zeros((len(sentences), self.card.dim), dtype=np.float32)
        for row, sentence in enumerate(sentences):
            for word in sentence.lower().split():
                x[row] += self._vector(word)
        return x

    def _vector(self, word: str) -> Embeddings:
        if word not in self._words:
            generator = _generator(word, self.card.seed or 0)
            self._words[word] = generator.standard_normal(self.card.dim, dtype=np.float32)
        return self._words[word]


def _card(spec: Spec, dim: int, seed: int) -> EncoderCard:
    content: dict[str, Value | None] = {"method": spec.name, "seed": seed}
    parameters: dict[str, Value | None] = {"dim": dim, "seed": seed}
    return EncoderCard(name=str(spec), method=spec.name, parameters=parameters, dim=dim, seed=seed, content=content)
