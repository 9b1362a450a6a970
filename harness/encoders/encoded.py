"""The vectors of a fixed set of sentences, held in memory: what the tasks of one run share."""

from collections.abc import Sequence

import numpy as np

from harness.encoders.protocol import Embeddings, Encoder, embed
from harness.names import EncoderCard


class Encoded:
    """An encoder that has encoded already: it only looks up.

    Attributes:
        card: of the encoder that made the vectors.
    """

    def __init__(self, encoder: Encoder, sentences: Sequence[str]) -> None:
        """Encode the distinct sentences in one pass; see `embed` for what it raises."""
        self.card: EncoderCard = encoder.card
        self._row = {sentence: row for row, sentence in enumerate(dict.fromkeys(sentences))}
        self._vectors = embed(encoder, list(self._row))

    def encode(self, sentences: Sequence[str], /) -> Embeddings:
        """(n, d) float32; a sentence that was not encoded is a KeyError, because a task must name all it will ask."""
        rows = np.fromiter((self._row[sentence] for sentence in sentences), dtype=np.intp, count=len(sentences))
        return self._vectors[rows]
