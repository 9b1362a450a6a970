"""An encoder that remembers: each distinct sentence goes through the model once, whoever asks and however often."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar, cast

import numpy as np

from harness.encoders.context import Context
from harness.encoders.foreign import foreign
from harness.encoders.protocol import Embeddings, Encoder, Releasable, check_vectors, embed
from harness.encoders.store import EmbeddingStore
from harness.encoders.transformer import TransformerEncoder, encode_poolings
from harness.names import EncoderCard

_log = logging.getLogger(__name__)

T = TypeVar("T")

_Batches = Iterator[tuple[list[int], list[Embeddings]]]

_PIECE = 8192  # sentences between two writes


class CachedEncoder:
    """Looks rows up on disk and encodes only what is missing; rows come back bit for bit as first computed."""

    def __init__(self, encoder: Encoder, root: Path) -> None:
        self.encoder = encoder
        self.companions: list[CachedEncoder] = []  # filled from the same forward pass; see `share_passes`
        self._cache = EmbeddingStore(root, encoder.card.identity, encoder.card.dim, asdict(encoder.card))

    @property
    def card(self) -> EncoderCard:
        return self.encoder.card

    def encode(self, sentences: Sequence[str], /) -> Embeddings:
        """(n, d) float32 in input order.

        Raises:
            EncoderError: if the encoder breaks its promise; nothing of the broken piece is stored.
            ResultError: if the rows stored for this encoder have another dimension.
        """
        position = {sentence: row for row, sentence in enumerate(dict.fromkeys(sentences))}
        distinct = list(position)
        found, known = self._cache.lookup(distinct)
        rows = np.empty((len(distinct), self.card.dim), dtype=np.float32)
        rows[found] = known
        missing = np.flatnonzero(~found)
        _log.info("%s: %d of %d sentences found in the cache", self.card.name, len(known), len(distinct))
        # Longest first, so that sentences of one length go through the model together wherever they stand.
        missing = missing[np.argsort([-len(distinct[i]) for i in missing], kind="stable")]
        if missing.size:
            for positions, x in self._encode_and_store([distinct[i] for i in missing]):
                rows[missing[positions]] = x
        if len(distinct) == len(sentences):
            return rows
        return rows[np.fromiter((position[s] for s in sentences), dtype=np.intp, count=len(sentences))]

    def missing(self, sentences: Sequence[str]) -> list[str]:
        """Those distinct sentences whose rows are not on disk yet."""
        distinct = list(dict.fromkeys(sentences))
        found, _ = self._cache.lookup(distinct)
        return [distinct[i] for i in np.flatnonzero(~found)]

    def release(self) -> None:
        """Drop the encoder's weights; they are loaded again if a sentence is missing on disk."""
        if isinstance(self.encoder, Releasable):
            self.encoder.release()

    def _encode_and_store(self, sentences: list[str]) -> Iterator[tuple[list[int], Embeddings]]:
        """Positions of the sentences and their rows, piece by piece, each stored before it is given."""
        if not isinstance(self.encoder, TransformerEncoder):
            for start in range(0, len(sentences), _PIECE):
                piece = sentences[start : start + _PIECE]
                x = check_vectors(self.encoder.encode(piece), self.card, piece)
                self._cache.append(piece, x)
                yield list(range(start, start + len(piece))), x
            return
        backbone = self.encoder.backbone
        # A companion that cannot be pooled, or pools to nan, fails when its own turn comes; it must not sink this one.
        companions = {c: c.encoder for c in self.companions if isinstance(c.encoder, TransformerEncoder)}
        able = {c: e for c, e in companions.items() if backbone.offers(e.pooling)}
        with closing(encode_poolings(backbone, sentences, [self.encoder, *able.values()])) as batches:
            for positions, (x, *others) in _pieces(batches):
                piece = [sentences[i] for i in positions]
                self._cache.append(piece, check_vectors(x, self.card, piece))
                for companion, y in zip(able, others, strict=True):
                    if np.isfinite(y).all():
                        companion._cache.append(piece, y)
                yield positions, x


def _pieces(batches: _Batches) -> _Batches:
    """Batches put together, as many as fit into a piece; a larger batch is one alone."""
    rows: list[int] = []
    parts: list[list[Embeddings]] = []
    for found, matrices in batches:
        if rows and len(rows) + len(found) > _PIECE:
            yield rows, [np.concatenate(of_one) for of_one in zip(*parts, strict=True)]
            rows, parts = [], []
        rows += found
        parts.append(matrices)
    if rows:
        yield rows, [np.concatenate(of_one) for of_one in zip(*parts, strict=True)]


def cache_embeddings(encoder: T, context: Context) -> "T | CachedEncoder":
    """An encoder with the store on disk in front of it, if its card says by content what decides its vectors.

    Anything else is returned as it is: encoders that call themselves cheap (`is_cheap`), because they are faster than a
    disk, those that are fitted per task, and those that give no content, whose changes nobody would notice.
    """
    card = getattr(encoder, "card", None)
    known = isinstance(card, EncoderCard) and bool(card.content) and not hasattr(encoder, "fit_target")
    if known and not isinstance(encoder, CachedEncoder) and not getattr(encoder, "is_cheap", False):
        return CachedEncoder(cast(Encoder, encoder), context.cache_dir / "embeddings")
    return encoder


def share_passes(encoders: Sequence[CachedEncoder]) -> None:
    """Link encoders that are poolings of one checkpoint, so that one forward pass fills the caches of all of them."""
    passes: dict[str, list[CachedEncoder]] = {}
    for cached in encoders:
        if isinstance(cached.encoder, TransformerEncoder):
            passes.setdefault(cached.encoder.backbone.identity, []).append(cached)
    for members in passes.values():
        for cached in members:
            cached.companions = [other for other in members if other is not cached]


class Encoded:
    """An encoder that has encoded already: it only looks up.

    Attributes:
        card: of the encoder that made the vectors.
    """

    def __init__(self, encoder: Encoder, sentences: Sequence[str]) -> None:
        """Encode the distinct sentences in one pass.

        Raises:
            EncoderError: if the encoder raises anything, or breaks its promise; see `embed`.
        """
        self.card: EncoderCard = encoder.card
        self._row = {sentence: row for row, sentence in enumerate(dict.fromkeys(sentences))}
        with foreign(encoder.card.name, "encoding"):
            vectors = embed(encoder, list(self._row))
            # Other people's encoders may give the same buffer at each call.
            self._vectors = vectors if isinstance(encoder, CachedEncoder) else vectors.copy()

    def encode(self, sentences: Sequence[str], /) -> Embeddings:
        """(n, d) float32; a sentence that was not encoded is a KeyError, because a task must name all it will ask."""
        rows = np.fromiter((self._row[sentence] for sentence in sentences), dtype=np.intp, count=len(sentences))
        return self._vectors[rows]
