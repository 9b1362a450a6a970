"""Batches of about equal work: sentences sorted by token count, as many in a batch as a token budget allows.

`prefetch` makes batches, or what a device makes of them, on threads while the consumer is at work.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from queue import SimpleQueue
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Tokens = Sequence[int]
Item = TypeVar("Item")
Made = TypeVar("Made")
Copy = TypeVar("Copy")


@dataclass(slots=True)
class Statistics:
    """What the last forward passes cost: sentences, tokens, and tokens with padding."""

    sentences: int = 0
    tokens: int = 0
    padded: int = 0

    def add(self, lengths: Sequence[int], padded: int) -> None:
        self.sentences += len(lengths)
        self.tokens += sum(lengths)
        self.padded += padded


def plan_batches(lengths: Sequence[int], budget: int, *, padding: bool = True) -> list[list[int]]:
    """Cut the sentences, longest first, into batches of at most `budget` padded tokens (one sentence at the least).

    Longest first shows a lack of memory at once instead of at the end. Batches have at most a few different lengths,
    so padding is a few percent.

    Args:
        lengths: n token counts.
        budget: padded tokens per batch.
        padding: whether a batch may hold sentences of different lengths. Without it a sentence is computed in the same
            way whatever stands beside it.

    Returns:
        The positions in the input of the sentences of each batch.
    """
    order = np.argsort(-np.asarray(lengths), kind="stable")
    batches: list[list[int]] = []
    rows: list[int] = []
    for row in order.tolist():
        full = bool(rows) and lengths[rows[0]] * (len(rows) + 1) > budget
        if full or (rows and not padding and lengths[row] != lengths[rows[0]]):
            batches.append(rows)
            rows = []
        rows.append(row)
    if rows:
        batches.append(rows)
    return batches


def pad(ids: Sequence[Tokens], pad_id: int, width: int | None = None) -> tuple[Tensor, Tensor]:
    """Pad lists of token ids on the right.

    Args:
        ids: b lists.
        pad_id: stands in the places of padding.
        width: s, at least the longest list's length; None: that length.

    Returns:
        Ids (b, s), and mask (b, s) with 1 on tokens.
    """
    lengths = np.fromiter(map(len, ids), np.int64, len(ids))
    flat = np.fromiter(chain.from_iterable(ids), np.int64, int(lengths.sum()))
    return pad_flat(flat, lengths, pad_id, width)


def pad_flat(
    tokens: NDArray[np.int64], lengths: NDArray[np.int64], pad_id: int, width: int | None = None
) -> tuple[Tensor, Tensor]:
    """Pad as `pad` does, from all ids of b sentences one after another (sum of lengths,) and the lengths (b,)."""
    width = int(lengths.max()) if width is None else width
    mask = np.arange(width) < lengths[:, None]  # (b, s)
    ids = np.full(mask.shape, pad_id, dtype=np.int64)
    ids[mask] = tokens
    return torch.from_numpy(ids), torch.from_numpy(mask.astype(np.int64))


def prefetch(
    make: Callable[[Item], Made],
    items: Iterable[Item],
    *,
    workers: int = 1,
    cores: int | None = None,
    ahead: int = 4,
) -> Generator[Made]:
    """Make something of each item on other threads, in the order of the items.

    Args:
        make: is called on one of the threads.
        items: are taken on the consumer's thread.
        workers: number of threads.
        cores: torch uses so many in each thread; None: as many as the consumer does.
        ahead: so many are made, or being made, beyond the one that the consumer has.
    """
    before = torch.get_num_threads()
    # A thread of OpenMP's starts with a thread for each core, however many the caller was given.
    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(cores or before,)) as pool:
        waiting: deque[Future[Made]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(make, item))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            torch.set_num_threads(before)


def share_out(
    make: Callable[[Copy, Item], Made], items: Iterable[Item], copies: Sequence[Copy], *, ahead: int
) -> Generator[Made]:
    """Make something of each item with whichever copy of a model is free, in the order of the items.

    Args:
        make: is called with a copy, which nobody else has meanwhile, and an item; on a thread on which torch uses one
            core.
        items: are taken on the consumer's thread.
        copies: one for each thread; the same one may be there several times, and is then used at once.
        ahead: for each copy so many are made beyond the one that the consumer has.
    """
    free: SimpleQueue[Copy] = SimpleQueue()
    for copy in copies:
        free.put(copy)

    def make_with_free(item: Item) -> Made:
        copy = free.get()
        try:
            return make(copy, item)
        finally:
            free.put(copy)

    return prefetch(make_with_free, items, workers=len(copies), cores=1, ahead=ahead * len(copies))
