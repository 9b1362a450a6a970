"""Trains the bundled `glove-tiny` vectors: GloVe on the text that `corpus` cleaned.

    python -m baselines.pretraining.glove --work-dir WORK --out baselines/assets/glove-tiny

Source: Pennington, Socher & Manning 2014, https://aclanthology.org/D14-1162/ (equations 8 and 9), and the authors' C
code (https://github.com/stanfordnlp/GloVe) for what the paper leaves open: the initial values, AdaGrad's start at 1,
and the output of word plus context vectors.

Deviation: the C code updates after every word pair; here AdaGrad sees the summed gradient of `batch` pairs.
"""

import argparse
import csv
import gzip
import logging
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from baselines.pretraining.corpus import documents, sources

log = logging.getLogger(__name__)

Floats = NDArray[np.float32]

_NEGATION = re.compile(r"n't\b")
# as in SentEval's Moses text: clitics and punctuation apart, hyphens, decimals and initials (u.s.) kept together
_TOKEN = re.compile(r"n't\b|'(?:s|re|ve|ll|d|m)\b|(?:[a-z]\.){2,}|\d+(?:[.,]\d+)+|\w+(?:-\w+)*|--+|\.\.+|[^\w\s]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that decides the vectors."""

    seed: int = 0
    words: int = 20_000
    dim: int = 100
    window: int = 10
    x_max: float = 10.0  # the paper's 100 is for billions of tokens; the authors' demo on 17 million takes 10
    alpha: float = 0.75
    rate: float = 0.05
    epochs: int = 25
    batch: int = 25_000


@dataclass(frozen=True, slots=True)
class Pairs:
    """The non-zero co-occurrence counts: word (p,), context (p,), count (p,); both directions are present."""

    word: NDArray[np.int32]
    context: NDArray[np.int32]
    count: Floats


def tokens(sentence: str) -> list[str]:
    """Lower-cased words, numbers, clitics and punctuation marks."""
    return _TOKEN.findall(_NEGATION.sub(" n't", sentence.lower().replace("’", "'")))


def read_text(work: Path) -> Iterator[list[str]]:
    """The tokens of one document after another, of all sources; of one that is read in part, every so many."""
    for source in sources(work):
        every = max(1, round(1 / source.repeat))
        for number, document in enumerate(documents(source.path(work))):
            if number % every == 0:
                yield [token for sentence in document for token in tokens(sentence)]


def number_words(texts: Iterable[list[str]], words: int) -> tuple[list[str], list[NDArray[np.int32]]]:
    """The `words` most frequent words, and every text as their ranks; the others are -1 and keep their place."""
    ids: dict[str, int] = {}
    numbered = [np.fromiter((ids.setdefault(token, len(ids)) for token in text), np.int32) for text in texts]
    counts = np.bincount(np.concatenate(numbered), minlength=len(ids))
    names = list(ids)
    ranked = sorted(range(len(names)), key=lambda i: (-counts[i], names[i]))[:words]
    rank = np.full(len(names), -1, dtype=np.int32)
    rank[ranked] = np.arange(len(ranked), dtype=np.int32)
    return [names[i] for i in ranked], [rank[text] for text in numbered]


def cooccurrence(texts: list[NDArray[np.int32]], words: int, window: int) -> Pairs:
    """Sum of 1/distance over all pairs of words at most `window` apart in the same text, in both directions."""
    total = csr_array((words, words), dtype=np.float32)
    gap = np.full(window, -1, dtype=np.int32)
    for chunk in _chunks(texts, 1_000_000):
        line = np.concatenate([part for text in chunk for part in (text, gap)])
        counts = csr_array((words, words), dtype=np.float32)
        for distance in range(1, window + 1):
            left, right = line[:-distance], line[distance:]
            seen = (left >= 0) & (right >= 0)
            weight = np.full(int(seen.sum()), 1 / distance, dtype=np.float32)
            counts = counts + csr_array((weight, (left[seen], right[seen])), shape=(words, words))
        total = total + counts
    both = (total + total.T).tocoo()
    return Pairs(both.coords[0].astype(np.int32), both.coords[1].astype(np.int32), both.data.astype(np.float32))


def _chunks(texts: list[NDArray[np.int32]], size: int) -> Iterator[list[NDArray[np.int32]]]:
    chunk: list[NDArray[np.int32]] = []
    held = 0
    for text in texts:
        chunk.append(text)
        held += len(text)
        if held >= size:
            yield chunk
            chunk, held = [], 0
    if chunk:
        yield chunk


class AdaGrad:
    """One table of parameters with AdaGrad's sum of squared gradients, which starts at 1 as in the C code."""

    def __init__(self, values: Floats, rate: float) -> None:
        self.values = values
        self._squares = np.ones_like(values)
        self._rate = rate

    def descend(self, gradient: Floats) -> None:
        self.values -= self._rate * gradient / np.sqrt(self._squares)
        self._squares += gradient * gradient


def train(pairs: Pairs, words: int, settings: Settings) -> tuple[Floats, list[float]]:
    """Minimise sum f(X) (w.c + b + d - log X)^2 / 2 with f(X) = min(1, (X / x_max)^alpha).

    Returns:
        (words, dim) word plus context vectors, and the mean cost per pair of every epoch, measured as it trains.
    """
    rng = np.random.default_rng(settings.seed)
    word, context, word_bias, context_bias = (
        AdaGrad(((rng.random((words, dim)) - 0.5) / settings.dim).astype(np.float32), settings.rate)
        for dim in (settings.dim, settings.dim, 1, 1)
    )
    order = rng.permutation(len(pairs.count))
    i, j, x = pairs.word[order], pairs.context[order], pairs.count[order]
    target, weight = np.log(x), np.minimum(1, (x / settings.x_max) ** settings.alpha).astype(np.float32)
    costs = []
    for epoch in range(settings.epochs):
        cost = 0.0
        for start in rng.permutation(np.arange(0, len(x), settings.batch)):
            part = slice(start, start + settings.batch)
            a, b = i[part], j[part]
            inner = np.einsum("pd,pd->p", word.values[a], context.values[b])
            error = inner + word_bias.values[a, 0] + context_bias.values[b, 0] - target[part]
            pull = weight[part] * error
            cost += 0.5 * float(pull @ error)
            matrix = csr_array((pull, (a, b)), shape=(words, words))
            word_gradient, context_gradient = matrix @ context.values, matrix.T @ word.values
            word.descend(word_gradient)
            context.descend(context_gradient)
            word_bias.descend(np.bincount(a, pull, words).astype(np.float32)[:, None])
            context_bias.descend(np.bincount(b, pull, words).astype(np.float32)[:, None])
        costs.append(cost / len(x))
        log.info("epoch %d: mean cost %.5f", epoch + 1, costs[-1])
    return word.values + context.values, costs


def write_vectors(words: list[str], vectors: Floats, path: Path) -> None:
    """GloVe's text format, "word v1 v2 ...", with three decimals, compressed without a time stamp."""
    with path.open("wb") as raw, gzip.GzipFile("", "wb", mtime=0, fileobj=raw) as file:
        for word, vector in zip(words, vectors, strict=True):
            file.write(f"{word} {' '.join(f'{value:.3f}' for value in vector)}\n".encode())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--work-dir", type=Path, required=True, help="holds the cleaned text")
    parser.add_argument("--out", type=Path, required=True, help="gets vectors.txt.gz and training_log.csv")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    settings = Settings()
    began = time.monotonic()
    words, texts = number_words(read_text(args.work_dir), settings.words)
    known = sum(int((text >= 0).sum()) for text in texts)
    log.info("%d tokens, %d of them in the vocabulary", sum(map(len, texts)), known)
    pairs = cooccurrence(texts, len(words), settings.window)
    log.info("%d pairs, after %.0f s", len(pairs.count), time.monotonic() - began)
    vectors, costs = train(pairs, len(words), settings)
    log.info("trained after %.0f s", time.monotonic() - began)
    args.out.mkdir(parents=True, exist_ok=True)
    write_vectors(words, vectors, args.out / "vectors.txt.gz")
    with (args.out / "training_log.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["epoch", "mean_cost"])
        rows.writerows((epoch, f"{cost:.6f}") for epoch, cost in enumerate(costs, start=1))


if __name__ == "__main__":
    main()
