"""Turns the text that `corpus` cleaned into a vocabulary and into pieces of text, which `mlm` trains on.

Every document is cut twice: into one to three sentences of at most 62 tokens, since sentences are what will be
embedded, and into runs of 126 tokens, so that positions up to 128 are trained. Every so many documents are held out.
"""

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers.implementations.bert_wordpiece import BertWordPieceTokenizer
from transformers import AutoTokenizer, BertTokenizerFast

from baselines.pretraining.corpus import Source, documents, sources
from harness import files
from harness.derived import Derived, recall

log = logging.getLogger(__name__)

LONGEST = 128  # positions of a piece, [CLS] and [SEP] included
_VERSION = 1  # to be raised when the same text is cut in another way
_SHORT, _LONG, _LEAST = 62, LONGEST - 2, 6
_SENTENCES = (0.60, 0.25, 0.15)  # how often a short piece has one, two and three sentences
_HELD_OUT = 6000  # pieces that the held-out loss is measured on
_DOCUMENTS_AT_ONCE = 4000
_VOCABULARY_CHARACTERS = 12_000_000  # of each source that the vocabulary is counted on


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
        path = work / f"{source.name}.txt"
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
    read = [(source.name, source.repeat, files.sha256(work / f"{source.name}.txt")) for source in texts]
    key = json.dumps([_VERSION, read, tokenizer.backend_tokenizer.to_str(), seed, held_out_every])

    def make() -> Derived:
        parts = _Parts(np.random.default_rng(seed), held_out_every)
        for source in texts:
            parts.add(source, documents(work / f"{source.name}.txt"), tokenizer)
        return parts.joined()

    arrays = recall(work / "spans" / f"pieces-{len(tokenizer)}-{seed}.safetensors", key, make).arrays
    return tuple(
        Spans(arrays["tokens"], arrays[f"{kind}_start"], arrays[f"{kind}_length"]) for kind in ("train", "held")
    )  # type: ignore[return-value]


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
