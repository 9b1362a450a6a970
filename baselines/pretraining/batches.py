"""Masked batches of a few fixed shapes, made on the device that trains on them."""

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import BertTokenizerFast

from baselines.pretraining.spans import LONGEST, Spans
from baselines.simcse.ablations import Masked

if TYPE_CHECKING:
    from baselines.pretraining.mlm import Settings

_WIDTHS = (32, 64, LONGEST)  # positions of a batch: a piece is in the first that it fits into, so padding is little
_STEPS = 1_000_000  # that are planned
_HELD_OUT_SEED = 7
_HELD_OUT_MASKED = 0.15
_HELD_OUT_ROWS = 500


class Batches:
    """The batch of every step. It depends on the seed and the step alone."""

    def __init__(self, spans: Spans, settings: "Settings", tokenizer: BertTokenizerFast) -> None:
        """Put all tokens onto the device, and plan which width each step has, in proportion to their tokens."""
        self._device, self._seed = torch.device(settings.device), settings.seed
        self._maker = _Maker(spans, tokenizer, self._device)
        size = spans.length + 2
        bounds = zip((0, *_WIDTHS), _WIDTHS, strict=False)
        members = {width: np.flatnonzero((size > low) & (size <= width)) for low, width in bounds}
        self._members = {width: found for width, found in members.items() if len(found)}
        self._rows = {width: max(1, settings.batch_tokens // width) for width in self._members}
        # The number of masked tokens is fixed too, from the mean length: the share in one batch is only nearly that.
        means = {width: float(spans.length[found].mean()) for width, found in self._members.items()}
        self._masked = {width: max(1, round(settings.masked * means[width] * self._rows[width])) for width in means}
        self._tokens = {width: round((means[width] + 2) * self._rows[width]) for width in means}
        weights = np.array([float(spans.length[found].sum()) for found in self._members.values()])
        rng = np.random.default_rng([settings.seed, 1])
        self._width = rng.choice(list(self._members), _STEPS, p=weights / weights.sum())
        self._turn = np.zeros(_STEPS, np.int64)  # how many batches of that width were before
        for width in self._members:
            self._turn[self._width == width] = np.arange(int((self._width == width).sum()))
        self._order = lru_cache(maxsize=2 * len(_WIDTHS))(self._order_of)

    def tokens(self, step: int) -> int:
        """How many tokens the step's batch has on average, special ones included and padding not."""
        return self._tokens[int(self._width[step])]

    def draw(self, step: int) -> Masked:
        """The step's batch."""
        width = int(self._width[step])
        rows, found = self._rows[width], self._members[width]
        epoch, place = divmod(int(self._turn[step]), max(1, len(found) // rows))
        chosen = self._order(width, epoch)[place * rows : (place + 1) * rows]
        generator = torch.Generator(self._device).manual_seed(
            int(np.random.default_rng([self._seed, 3, step]).integers(2**63))
        )
        return self._maker.make(chosen, width, self._masked[width], generator)

    def _order_of(self, width: int, epoch: int) -> Tensor:
        found = self._members[width]
        order = np.random.default_rng([self._seed, 2, width, epoch]).permutation(found)
        return torch.from_numpy(np.resize(order, max(len(order), self._rows[width]))).to(self._device)


def held_out_batches(spans: Spans, tokenizer: BertTokenizerFast, device: str) -> list[Masked]:
    """All pieces, 15 % of their tokens masked; always the same."""
    generator = torch.Generator(device).manual_seed(_HELD_OUT_SEED)
    maker = _Maker(spans, tokenizer, torch.device(device))
    width = int(spans.length.max()) + 2
    batches = []
    for start in range(0, len(spans.start), _HELD_OUT_ROWS):
        part = np.arange(start, min(start + _HELD_OUT_ROWS, len(spans.start)))
        masked = max(1, round(_HELD_OUT_MASKED * float(spans.length[part].sum())))
        batches.append(maker.make(torch.from_numpy(part).to(device), width, masked, generator))
    return batches


class _Maker:
    """Puts pieces between [CLS] and [SEP] and corrupts them, on the device."""

    def __init__(self, spans: Spans, tokenizer: BertTokenizerFast, device: torch.device) -> None:
        self._tokens = torch.from_numpy(spans.tokens.astype(np.int32)).to(device)
        self._start, self._length = (torch.from_numpy(_writable(x)).to(device) for x in (spans.start, spans.length))
        self._cls, self._sep, self._pad = tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id
        self._mask, self._words = tokenizer.mask_token_id, len(tokenizer)
        self._specials = max(tokenizer.all_special_ids) + 1

    def make(self, pieces: Tensor, width: int, masked: int, generator: torch.Generator) -> Masked:
        """BERT's corruption: of the chosen tokens 80 % become [MASK], 10 % a random token, 10 % stay.

        Args:
            pieces: (n,) numbers of spans.
            width: positions of the batch.
            masked: how many tokens to choose, in all rows together.
            generator: of the choice, on the device.

        Source: Devlin et al. 2019, https://aclanthology.org/N19-1423/
        """
        device = self._tokens.device
        start, length = self._start[pieces, None], self._length[pieces, None]  # (n, 1)
        place = torch.arange(width, device=device)[None]  # (1, width)
        inside = (place > 0) & (place <= length)  # (n, width)
        ids = torch.where(inside, self._tokens[(start + place - 1).clamp(0, len(self._tokens) - 1)].long(), self._pad)
        ids = torch.where(place == 0, self._cls, torch.where(place == length + 1, self._sep, ids))
        score = torch.rand(ids.shape, device=device, generator=generator).masked_fill(~inside, 2.0)
        positions = score.flatten().topk(masked, largest=False).indices.sort().values  # (masked,)
        flat = ids.flatten()
        targets = flat[positions]
        draw = torch.rand(masked, device=device, generator=generator)
        random = torch.randint(self._specials, self._words, (masked,), device=device, generator=generator)
        flat[positions] = torch.where(draw < 0.8, self._mask, torch.where(draw < 0.9, random, targets))
        return Masked(flat.view_as(ids), (place < length + 2).long(), positions, targets)


def _writable(x: NDArray[np.int64]) -> NDArray[np.int64]:
    return x.astype(np.int64)  # a copy: what is mapped from a file cannot be written to, and torch warns of that
