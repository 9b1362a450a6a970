"""Batches of about equal work: sentences sorted by token count, as many in a batch as a token budget allows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

Tokens = Sequence[int]


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of the input that go through the encoder together; `rows` are their positions in the input."""

    rows: list[int]
    tokens: int  # without padding
    padded: int  # rows x longest


def plan_batches(lengths: Sequence[int], budget: int, *, padding: bool = True) -> list[Batch]:
    """Cut the sentences, longest first, into batches of at most `budget` padded tokens (one sentence at the least).

    Longest first shows a lack of memory at once instead of at the end. Batches have at most a few different lengths,
    so padding is a few percent.

    Args:
        lengths: n token counts.
        budget: padded tokens per batch.
        padding: whether a batch may hold sentences of different lengths. Without it a sentence is computed in the same
            way whatever stands beside it.
    """
    order = np.argsort(-np.asarray(lengths), kind="stable")
    batches: list[Batch] = []
    rows: list[int] = []
    for row in order.tolist():
        full = bool(rows) and lengths[rows[0]] * (len(rows) + 1) > budget
        if full or (rows and not padding and lengths[row] != lengths[rows[0]]):
            batches.append(_batch(rows, lengths))
            rows = []
        rows.append(row)
    if rows:
        batches.append(_batch(rows, lengths))
    return batches


def _batch(rows: list[int], lengths: Sequence[int]) -> Batch:
    return Batch(rows, sum(lengths[row] for row in rows), lengths[rows[0]] * len(rows))


def pad(ids: Sequence[Tokens], pad_id: int) -> tuple[Tensor, Tensor]:
    """Lists of token ids -> ids (b, s) padded on the right with `pad_id`, and mask (b, s) with 1 on tokens."""
    longest = max(map(len, ids))
    padded = np.full((len(ids), longest), pad_id, dtype=np.int64)
    mask = np.zeros((len(ids), longest), dtype=np.int64)
    for row, tokens in enumerate(ids):
        padded[row, : len(tokens)] = tokens
        mask[row, : len(tokens)] = 1
    return torch.from_numpy(padded), torch.from_numpy(mask)
