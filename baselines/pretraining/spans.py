"""Turns the text that `corpus` cleaned into a vocabulary, pieces of text, and masked batches, which `mlm` trains on.

Every document is cut twice: into one to three sentences of at most 62 tokens, since sentences are what will be
embedded, and into runs of 126 tokens, so that positions up to 128 are trained. Every so many documents are held out.
Batches have a few fixed shapes and are made on the device that trains on them.
"""

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers.implementations.bert_wordpiece import BertWordPieceTokenizer
from torch import Tensor
from transformers import AutoTokenizer, BertTokenizerFast

from baselines.pretraining.corpus import Source, documents, sources
from baselines.simcse.ablations import Masked
from harness import files
from harness.derived import Derived, recall

if TYPE_CHECKING:
    from baselines.pretraining.mlm import Settings

log = logging.getLogger(__name__)

_LONGEST = 128  # positions of a piece, [CLS] and [SEP] included
_VERSION = 1  # to be raised when the same text is cut in another way
_SHORT, _LONG, _LEAST = 62, _LONGEST - 2, 6
_SENTENCES = (0.60, 0.25, 0.15)  # how often a short piece has one, two and three sentences
_HELD_OUT = 6000  # pieces that the held-out loss is measured on
_DOCUMENTS_AT_ONCE = 4000
_VOCABULARY_CHARACTERS = 12_000_000  # of each source that the vocabulary is counted on
_WIDTHS = (32, 64, _LONGEST)  # positions of a batch: a piece is in the first that it fits into, so padding is little
_STEPS = 1_000_000  # that are planned
_HELD_OUT_SEED = 7
_HELD_OUT_MASKED = 0.15
_HELD_OUT_ROWS = 500


@dataclass(frozen=True, slots=True)
class Spans:
    """Pieces of one array of tokens: piece i is `tokens[start[i] : start[i] + length[i]]`.

    Attributes:
        tokens: (t,) uint16, no special ones among them.
        start: (n,) int64.
        length: (n,) int64, 6 to 126.
    """

    tokens: NDArray[np.uint16]
    start: NDArray[np.int64]
    length: NDArray[np.int64]


def make_tokenizer(work: Path, vocabulary: int) -> BertTokenizerFast:
    """Train a lower-casing WordPiece vocabulary on equal parts of the sources, or load the one already in `work`."""
    folder = work / f"tokenizer-{vocabulary}"
    if not (folder / "tokenizer.json").exists():
        trainer = BertWordPieceTokenizer(lowercase=True)
        trainer.train_from_iterator(_vocabulary_text(work), vocab_size=vocabulary, limit_alphabet=200)
        vocab = trainer.get_vocab()
        BertTokenizerFast(vocab=vocab, do_lower_case=True, model_max_length=512).save_pretrained(folder)
    tokenizer: BertTokenizerFast = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    return tokenizer


def _vocabulary_text(work: Path) -> Iterator[str]:
    for source in sources(work):
        path = source.path(work)
        every = max(1, int(path.stat().st_size / (_VOCABULARY_CHARACTERS * source.repeat)))
        for document in islice(documents(path), 0, None, every):
            yield from document


def prepare_spans(
    work: Path, tokenizer: BertTokenizerFast, seed: int, held_out_every: int = 200
) -> tuple[Spans, Spans]:
    """The pieces to train on and those held out; made once and kept in the work folder.

    Args:
        work: where `corpus` put the cleaned text.
        tokenizer: see `make_tokenizer`.
        seed: of the cuts, and of what is read in part.
        held_out_every: one document in so many is held out.
    """
    texts = sources(work)
    read = [(source.name, source.repeat, files.sha256(source.path(work))) for source in texts]
    key = json.dumps([_VERSION, read, tokenizer.backend_tokenizer.to_str(), seed, held_out_every])

    def make() -> Derived:
        parts = _Parts(np.random.default_rng(seed), held_out_every)
        for source in texts:
            parts.add(source, documents(source.path(work)), tokenizer)
        return parts.joined()

    arrays = recall(work / "spans" / f"pieces-{len(tokenizer)}-{seed}.safetensors", key, make).arrays
    train, held = (
        Spans(arrays["tokens"], arrays[f"{kind}_start"], arrays[f"{kind}_length"]) for kind in ("train", "held")
    )
    return train, held


class _Parts:
    """Tokens and pieces of the documents so far."""

    def __init__(self, rng: np.random.Generator, held_out_every: int) -> None:
        self._rng, self._held_out_every = rng, held_out_every
        self._tokens: list[NDArray[np.uint16]] = []
        self._pieces: dict[str, list[tuple[int, int]]] = {"train": [], "held": []}
        self._size = self._documents = 0

    def add(self, source: Source, texts: Iterator[list[str]], tokenizer: BertTokenizerFast) -> None:
        """Tokenise the documents of a source and cut them."""
        before = self._size
        while block := list(islice(texts, _DOCUMENTS_AT_ONCE)):
            sentences = [sentence for document in block for sentence in document]
            encoded = iter(tokenizer.backend_tokenizer.encode_batch_fast(sentences, add_special_tokens=False))
            for document in block:
                self._add_document(source, [next(encoded).ids for _ in document])
        log.info("%s: %d tokens", source.name, self._size - before)

    def _add_document(self, source: Source, sentences: list[list[int]]) -> None:
        first, lengths = self._size, [len(sentence) for sentence in sentences]
        self._tokens.append(np.array([token for sentence in sentences for token in sentence], np.uint16))
        self._size += sum(lengths)
        self._documents += 1
        if self._documents % self._held_out_every == 0:
            starts = first + np.cumsum([0, *lengths[:-1]])
            self._keep("held", [(start, min(n, _SHORT)) for start, n in zip(starts.tolist(), lengths, strict=True)])
            return
        whole, part = divmod(source.repeat, 1)
        for _ in range(int(whole) + (self._rng.random() < part)):
            self._keep("train", _one_after_another(first, cut_short(lengths, self._rng, 3 if source.running else 1)))
            if source.running:
                self._keep("train", _one_after_another(first, cut_long(sum(lengths))))

    def _keep(self, kind: str, pieces: list[tuple[int, int]]) -> None:
        self._pieces[kind] += [piece for piece in pieces if piece[1] >= _LEAST]

    def joined(self) -> Derived:
        """Everything as arrays."""
        arrays: dict[str, NDArray[np.uint16] | NDArray[np.int64]] = {"tokens": np.concatenate(self._tokens)}
        for kind, found in self._pieces.items():
            pieces = np.array(found, np.int64).reshape(-1, 2)
            if kind == "held":
                pieces = pieces[self._rng.permutation(len(pieces))[:_HELD_OUT]]
            arrays[f"{kind}_start"], arrays[f"{kind}_length"] = pieces[:, 0].copy(), pieces[:, 1].copy()
        return Derived(arrays)


def cut_short(lengths: Sequence[int], rng: np.random.Generator, most: int) -> list[int]:
    """Lengths of pieces of one to three sentences that cover a document without gaps; a long sentence is cut.

    Args:
        lengths: of the document's sentences in tokens.
        rng: draws the number of sentences, 60, 25 and 15 % of the time one, two and three.
        most: the largest number of sentences; 1 where they do not follow one another.
    """
    pieces, filled, wanted = list[int](), 0, 0
    for length in lengths:
        if filled and filled + length > _SHORT:
            pieces.append(filled)
            filled = 0
        rest = length
        while rest:
            if not filled:
                wanted = min(most, int(rng.choice(3, p=_SENTENCES)) + 1)
            taken = min(rest, _SHORT - filled)
            filled, rest = filled + taken, rest - taken
            if filled == _SHORT:
                pieces.append(filled)
                filled = 0
        wanted -= 1
        if filled and wanted <= 0:
            pieces.append(filled)
            filled = 0
    return [*pieces, filled] if filled else pieces


def cut_long(total: int) -> list[int]:
    """Lengths of runs of 126 tokens that cover a document without gaps; the last one is what is left."""
    whole, rest = divmod(total, _LONG)
    return [_LONG] * whole + [rest] * (rest > 0)


def _one_after_another(first: int, lengths: list[int]) -> list[tuple[int, int]]:
    ends = first + np.cumsum(lengths)
    return list(zip((ends - lengths).tolist(), lengths, strict=True))


@dataclass(frozen=True, slots=True)
class _Shape:
    """Batches of one width: the pieces that they are drawn from, and rows, masked tokens and tokens of each."""

    members: NDArray[np.int64]
    rows: int
    masked: int
    tokens: int


class Batches:
    """The batch of every step. It depends on the seed and the step alone."""

    def __init__(self, spans: Spans, settings: "Settings", tokenizer: BertTokenizerFast) -> None:
        """Put all tokens onto the device, and plan which width each step has, in proportion to their tokens."""
        self._device, self._seed = torch.device(settings.device), settings.seed
        self._maker = _Maker(spans, tokenizer, self._device)
        self._shapes: dict[int, _Shape] = {}
        size = spans.length + 2
        for low, width in zip((0, *_WIDTHS), _WIDTHS, strict=False):
            members = np.flatnonzero((size > low) & (size <= width))
            if len(members):
                rows, mean = max(1, settings.batch_tokens // width), float(spans.length[members].mean())
                # The number of masked tokens is fixed too, from the mean length: the share in one batch is near that.
                masked = max(1, round(settings.masked * mean * rows))
                self._shapes[width] = _Shape(members, rows, masked, round((mean + 2) * rows))
        weights = np.array([float(spans.length[shape.members].sum()) for shape in self._shapes.values()])
        rng = np.random.default_rng([settings.seed, 1])
        self._width = rng.choice(list(self._shapes), _STEPS, p=weights / weights.sum())
        self._turn = np.zeros(_STEPS, np.int64)  # how many batches of that width were before
        for width in self._shapes:
            self._turn[self._width == width] = np.arange(int((self._width == width).sum()))
        self._order = lru_cache(maxsize=2 * len(_WIDTHS))(self._order_of)

    def tokens(self, step: int) -> int:
        """How many tokens the step's batch has on average, special ones included and padding not."""
        return self._shapes[int(self._width[step])].tokens

    def draw(self, step: int) -> Masked:
        """The step's batch."""
        width = int(self._width[step])
        shape = self._shapes[width]
        epoch, place = divmod(int(self._turn[step]), max(1, len(shape.members) // shape.rows))
        chosen = self._order(width, epoch)[place * shape.rows : (place + 1) * shape.rows]
        seed = int(np.random.default_rng([self._seed, 3, step]).integers(2**63))
        return self._maker.make(chosen, width, shape.masked, torch.Generator(self._device).manual_seed(seed))

    def _order_of(self, width: int, epoch: int) -> Tensor:
        shape = self._shapes[width]
        order = np.random.default_rng([self._seed, 2, width, epoch]).permutation(shape.members)
        return torch.from_numpy(np.resize(order, max(len(order), shape.rows))).to(self._device)


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
