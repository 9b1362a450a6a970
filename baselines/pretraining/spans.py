"""Turns the text that `corpus` cleaned into what `mlm` trains on: a vocabulary, token spans, and batches of spans."""

import json
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers.implementations.bert_wordpiece import BertWordPieceTokenizer
from transformers import AutoTokenizer, BertTokenizerFast

from baselines.pretraining.corpus import documents

log = logging.getLogger(__name__)

CORPORA = ("imdb", "reuters", "wiki", "flickr8k")
HELD_OUT_EVERY = 100  # documents; the five captions of an image are one document, so none of them leaks


@dataclass(frozen=True, slots=True)
class Mixture:
    """How often each corpus is read, and tokens to train on and to hold out, with [CLS] and [SEP]; IMDb fills up."""

    repeats: dict[str, int]
    tokens: int
    heldout: float


@dataclass(frozen=True, slots=True)
class Spans:
    """Contiguous pieces of one token array: piece i is `tokens[start[i] : start[i] + length[i]]`."""

    tokens: NDArray[np.uint16]
    start: NDArray[np.int64]
    length: NDArray[np.int64]


def make_tokenizer(work: Path, vocabulary: int) -> BertTokenizerFast:
    """Train a lower-casing WordPiece vocabulary, or load the one already in `work`. IMDb gives every tenth review."""
    folder = work / "tokenizer"
    if not (folder / "tokenizer.json").exists():
        trainer = BertWordPieceTokenizer(lowercase=True)
        trainer.train_from_iterator(_vocabulary_text(work), vocab_size=vocabulary, limit_alphabet=200)
        vocab = trainer.get_vocab()
        BertTokenizerFast(vocab=vocab, do_lower_case=True, model_max_length=512).save_pretrained(folder)
    tokenizer: BertTokenizerFast = AutoTokenizer.from_pretrained(folder)
    return tokenizer


def _vocabulary_text(work: Path) -> Iterator[str]:
    for name in CORPORA:
        for number, document in enumerate(documents(work / f"{name}.txt")):
            if name != "imdb" or number % 10 == 0:
                yield from document


def tokenise(work: Path, name: str, tokenizer: BertTokenizerFast) -> tuple[NDArray[np.uint16], list[list[int]]]:
    """Token ids of a corpus as one memory-mapped array, and the sentence lengths of every document; done once."""
    target = work / f"{name}.tokens.npy"
    lengths_file = work / f"{name}.lengths.json"
    if not lengths_file.exists():
        pieces: list[NDArray[np.uint16]] = []
        lengths: list[list[int]] = []
        for document in documents(work / f"{name}.txt"):
            encoded = tokenizer.backend_tokenizer.encode_batch(document, add_special_tokens=False)
            pieces.extend(np.array(one.ids, dtype=np.uint16) for one in encoded)
            lengths.append([len(one.ids) for one in encoded])
        np.save(target, np.concatenate(pieces))
        lengths_file.write_text(json.dumps(lengths), encoding="utf-8")  # last: it marks the pair as complete
    return np.load(target, mmap_mode="r"), json.loads(lengths_file.read_text(encoding="utf-8"))


def cut(lengths: Iterable[tuple[int, list[int]]], rng: np.random.Generator, most: int) -> list[tuple[int, int]]:
    """Cut documents into (start, length) spans: mostly single sentences, since a sentence is what will be embedded.

    A span is one, two or three sentences (60, 25, 15%; at most `most`), 8 to 62 tokens; one in 25 is up to 126 tokens,
    so that positions up to 128 are trained. A longer sentence loses its end; a shorter remainder is dropped.

    Args:
        lengths: for every document the position of its first token, and its sentences' lengths in tokens.
        rng: draws the number of sentences.
        most: the largest number of sentences in a usual span.
    """
    spans = []
    for first, document in lengths:
        at, total, wanted, limit = first, 0, 0, 0
        for length in document:
            if total and total + length > limit:
                if total >= 8:
                    spans.append((at - total, total))
                total = 0
            if not total:
                long = most > 1 and rng.random() < 0.04
                limit = 126 if long else 62
                wanted = 99 if long else min(most, int(rng.choice(3, p=(0.60, 0.25, 0.15))) + 1)
            wanted -= 1
            total += length
            at += length
            if total >= limit or (wanted <= 0 and total >= 8):
                spans.append((at - total, min(total, limit)))
                total = 0
        if total >= 8:
            spans.append((at - total, min(total, limit)))
    return spans


def split_corpora(work: Path, tokenizer: BertTokenizerFast, mixture: Mixture, seed: int) -> tuple[Spans, Spans]:
    """Spans for training and held-out spans, of every hundredth document, in the same mixture of corpora."""
    rng = np.random.default_rng(seed)
    arrays, offset = [], 0
    train: dict[str, list[tuple[int, int]]] = {}
    held: dict[str, list[tuple[int, int]]] = {}
    for name in CORPORA:
        tokens, lengths = tokenise(work, name, tokenizer)
        starts = offset + np.concatenate([[0], np.cumsum([sum(one) for one in lengths])])
        both = list(zip(starts.tolist(), lengths, strict=False))
        kept = [one for number, one in enumerate(both) if number % HELD_OUT_EVERY]
        most = 1 if name == "flickr8k" else 3  # captions of one image are paraphrases, not a text
        train[name] = [span for _ in range(mixture.repeats[name]) for span in cut(kept, rng, most)]
        held[name] = cut(both[::HELD_OUT_EVERY], rng, most)
        arrays.append(tokens)
        offset += len(tokens)
    small = sum(_size(train[name]) for name in CORPORA[1:])
    train["imdb"] = _sample(train["imdb"], mixture.tokens - small, rng)
    share = mixture.heldout / sum(_size(spans) for spans in train.values())
    held = {name: _sample(held[name], int(share * _size(train[name])), rng) for name in CORPORA}
    for name in CORPORA:
        log.info("%s: %d training tokens, %d held out", name, _size(train[name]), _size(held[name]))
    everything = np.concatenate(arrays)
    return _pack(everything, train), _pack(everything, held)


def _size(spans: list[tuple[int, int]]) -> int:
    return sum(length + 2 for _, length in spans)  # with [CLS] and [SEP]


def _sample(spans: list[tuple[int, int]], tokens: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    order = rng.permutation(len(spans))
    sizes = np.array([length + 2 for _, length in spans], dtype=np.int64)[order]
    return [spans[i] for i in order[: int(np.searchsorted(np.cumsum(sizes), tokens))]]


def _pack(tokens: NDArray[np.uint16], spans: dict[str, list[tuple[int, int]]]) -> Spans:
    flat = np.array([span for name in CORPORA for span in spans[name]], dtype=np.int64).reshape(-1, 2)
    return Spans(tokens, flat[:, 0], flat[:, 1])


def plan(spans: Spans, batch_tokens: int, rng: np.random.Generator) -> list[NDArray[np.int64]]:
    """Batches of span numbers, each of similar lengths and about `batch_tokens` tokens, in random order.

    Lengths are sorted within pools of 64 batches: little padding, and no batch holds the whole corpus' shortest spans.
    """
    order = rng.permutation(len(spans.start))
    size = spans.length[order] + 2
    pool = np.cumsum(size) // (64 * batch_tokens)
    batches = []
    for members in np.split(order, np.flatnonzero(np.diff(pool)) + 1):
        ranked = members[np.argsort(spans.length[members], kind="stable")]
        slot = np.cumsum(spans.length[ranked] + 2) // batch_tokens
        batches.extend(np.split(ranked, np.flatnonzero(np.diff(slot)) + 1))
    return [batches[i] for i in rng.permutation(len(batches))]
