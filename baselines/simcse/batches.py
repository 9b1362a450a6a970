"""Which examples a step sees, and as what: everything is drawn from the seed and the step's number.

A resumed run therefore needs no generator's state and no position in the data, only the number of the next step.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from baselines.simcse.augment import Augment
from baselines.simcse.corpus import Corpus
from baselines.simcse.settings import TrainSettings
from harness.errors import UsageError

# Streams of random numbers; one per purpose, so that none depends on how much another draws.
INIT, ORDER, DROPOUT, AUGMENT, MASKING = range(5)
_ROUNDS = 6


@dataclass(frozen=True, slots=True)
class Batch:
    """b examples of c views, padded: ids and mask (b, c, s), and the lengths (b, c), which stay on the CPU."""

    ids: Tensor
    mask: Tensor
    lengths: Tensor

    def to(self, device: torch.device) -> "Batch":
        if device.type == "cpu":
            return self
        ids, mask = (x.pin_memory().to(device, non_blocking=True) for x in (self.ids, self.mask))
        return Batch(ids, mask, self.lengths)


def draw_seed(seed: int, stream: int, *numbers: int) -> int:
    """A 63-bit seed for a generator: equal for equal arguments, independent otherwise."""
    return int(np.random.SeedSequence([seed, stream, *numbers]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def shuffled(positions: NDArray[np.int64], n: int, key: int) -> NDArray[np.int64]:
    """What a random permutation of 0..n-1 has at these positions, in constant memory.

    A permutation of a hundred million rows would take 800 MB. A Feistel network permutes the smallest 2^(2h) >= n; what
    falls outside 0..n-1 is sent through again, which keeps it a permutation.

    Source: Black & Rogaway 2002, "Ciphers with arbitrary finite domains".
    """
    half = max(1, ((n - 1).bit_length() + 1) // 2)
    keys = np.random.SeedSequence(key).generate_state(_ROUNDS, np.uint64).astype(np.uint64)
    out = positions.astype(np.uint64)
    pending = np.arange(len(out))
    while len(pending):
        out[pending] = _feistel(out[pending], half, keys)
        pending = pending[out[pending] >= n]
    return out.astype(np.int64)


def _feistel(x: NDArray[np.uint64], half: int, keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    bits, low = np.uint64(half), np.uint64((1 << half) - 1)
    left, right = x >> bits, x & low
    for key in keys:
        # the finaliser of splitmix64
        mixed = right + key
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        left, right = right, left ^ ((mixed ^ (mixed >> np.uint64(31))) & low)
    return (left << bits) | right


class Batches:
    """The run's batches by step number.

    As in the original, every epoch is a new random order and its last batch may be smaller. Of several processes,
    each gets its part of the batch; a last batch of fewer examples than processes is left out.

    Raises:
        UsageError: if a batch is larger than the data.
    """

    def __init__(
        self, corpus: Corpus, settings: TrainSettings, pad_id: int, augment: Augment | None, share: tuple[int, int]
    ) -> None:
        n, b = len(corpus), settings.batch_size
        if b > n:
            raise UsageError(f"{corpus.name}: {n} examples, expected at least batch_size={b}; lower it or add data")
        rank, world = share
        if b < world:
            raise UsageError(f"batch_size={b} for {world} processes, expected at least one example each")
        self._corpus = corpus
        self._settings = settings
        self._pad_id = pad_id
        self._augment = augment
        self._rank, self._world = rank, world
        self.per_epoch = n // b + (n % b >= world)
        self.total = settings.max_steps or int(np.ceil(settings.epochs * self.per_epoch))

    def rows(self, step: int) -> NDArray[np.int64]:
        """Numbers of the examples of the whole step, over all processes."""
        epoch, place = divmod(step, self.per_epoch)
        start = place * self._settings.batch_size
        stop = min(start + self._settings.batch_size, len(self._corpus))
        return shuffled(np.arange(start, stop), len(self._corpus), draw_seed(self._settings.seed, ORDER, epoch))

    def sizes(self, step: int) -> list[int]:
        """How many of the step's examples each process has."""
        return [len(part) for part in np.array_split(self.rows(step), self._world)]

    def __getitem__(self, step: int) -> Batch:
        rows = np.array_split(self.rows(step), self._world)[self._rank]
        if self._corpus.columns > 1:
            views = [self._corpus.gather(rows, column) for column in range(self._corpus.columns)]
        else:
            first = self._corpus.gather(rows, 0)
            views = [first, first if self._augment is None else self._second(rows, step)]
        return _padded(views, self._pad_id)

    def _second(self, rows: NDArray[np.int64], step: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        assert self._augment is not None
        rng = np.random.default_rng(draw_seed(self._settings.seed, AUGMENT, step, self._rank))
        return self._augment(self._corpus, rows, rng)


def _padded(views: list[tuple[NDArray[np.int64], NDArray[np.int64]]], pad_id: int) -> Batch:
    lengths = np.stack([length for _, length in views], axis=1)  # (b, c)
    mask = np.arange(lengths.max()) < lengths[..., None]  # (b, c, s)
    ids = np.full(mask.shape, pad_id, dtype=np.int64)
    for column, (tokens, _) in enumerate(views):
        part = ids[:, column]
        part[mask[:, column]] = tokens
    return Batch(torch.from_numpy(ids), torch.from_numpy(mask.astype(np.int64)), torch.from_numpy(lengths))
