"""The sentences of a corpus that are nearest to a query."""

import re
from collections.abc import Sequence

import numpy as np

from harness.encoders.protocol import Encoder, embed
from harness.tasks.geometry_metrics import unit_rows


def nearest(encoder: Encoder, queries: Sequence[str], corpus: Sequence[str], k: int) -> list[list[str]]:
    """For each query the k nearest sentences by cosine, nearest first; the query itself does not count.

    Sentences that differ from the query in case, spaces and punctuation alone are the query.

    Raises:
        EncoderError: if the encoder fails.
        TaskError: if a vector is zero.
    """
    vectors = unit_rows(embed(encoder, [*queries, *corpus]))
    cosines = vectors[: len(queries)] @ vectors[len(queries) :].T  # (queries, corpus)
    found = []
    for query, row in zip(queries, cosines, strict=True):
        order = (corpus[i] for i in np.argsort(-row, kind="stable"))
        others = (sentence for sentence in order if _words(sentence) != _words(query))
        found.append([sentence for sentence, _ in zip(others, range(k), strict=False)])
    return found


def _words(sentence: str) -> list[str]:
    return re.findall(r"\w+", sentence.lower())
