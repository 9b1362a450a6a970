"""Word vectors from a text file, and their averages as sentence vectors.

The text (GloVe, or fastText's .vec with its header line) is read once and kept as a folder of arrays that later loads
map into memory: a 5 GB file opens in milliseconds and costs the rows that are asked for.
"""

import json
import logging
import string
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from baselines.vectors_text import choose_member, digests, identity, make_arrays
from harness.errors import DataError

_log = logging.getLogger(__name__)

_UNREADABLE = (OSError, EOFError, zlib.error, zipfile.BadZipFile)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bag:
    """How a sentence's tokens become one vector.

    Attributes:
        lower: look tokens up in lower case. The 840B GloVe knows "The" and "the"; the 6B one is lower-cased.
        stop_words: drop English function words and single punctuation marks, in any case, before averaging. The list is
            scikit-learn's with `string.punctuation`; sentence-transformers' GloVe model drops such words by a list of
            its own.
        sif: None, or a of the smooth inverse frequency a / (a + p(word)), 1e-3 in the paper. p is not counted but
            estimated from the word's place r = 1, 2, ... in the file as 1 / (r * (1 + 1/2 + ... + 1/V)), Zipf's law for
            a file that is sorted by frequency, as GloVe's and fastText's are.
            Source: Arora et al. 2017, https://openreview.net/forum?id=SyK00v5xx
    """

    lower: bool = False
    stop_words: bool = False
    sif: float | None = None


@dataclass(frozen=True, slots=True)
class WordVectors:
    """Vectors of V lines of text, and where each word's first one is.

    Attributes:
        name: file name of the text, with the member of a .zip.
        sha256: of the text itself, unpacked.
        matrix: (V, d) float32, mapped from disk, in the order of the text.
        keys: (W,) S16 digests of the W <= V different words, sorted.
        rows: (W,) the row of each.
    """

    name: str
    sha256: str
    matrix: NDArray[np.float32]
    keys: NDArray[np.bytes_]
    rows: NDArray[np.int32]

    @property
    def dim(self) -> int:
        return int(self.matrix.shape[1])

    def find(self, words: Sequence[str]) -> NDArray[np.int64]:
        """Row of each of n words (n,), spelt exactly so; -1 where the text has none."""
        keys = digests(word.encode("utf-8", "surrogatepass") for word in words)
        at = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return np.where(self.keys[at] == keys, self.rows[at], -1).astype(np.int64)

    def average(self, sentences: Sequence[Sequence[str]], bag: Bag | None = None) -> NDArray[np.float32]:
        """Mean vector of each sentence's known tokens: (n, d) float32, not normalised.

        As SentEval's `examples/bow.py`: a token counts as often as it occurs, unknown ones count nowhere, an empty
        sentence is the token ".", and a sentence without any known token is the zero vector. Weights of `bag.sif`
        multiply the sum, which is still divided by the number of tokens, as in its paper. Sums are float64, and do not
        depend on the order of the tokens or on the other sentences.

        Args:
            sentences: n lists of tokens. Takes memory for the vectors of all different tokens together.
            bag: default: neither lower-cased, nor filtered, nor weighted.
        """
        bag = bag or Bag()
        owners, rows = self._known(sentences, bag)
        used, columns = np.unique(rows, return_inverse=True)
        vectors = self.matrix[used].astype(np.float64)
        if bag.sif is not None:
            vectors *= _weights(used, len(self.matrix), bag.sif)[:, None]
        counts = csr_array((np.ones(len(rows)), (owners, columns)), shape=(len(sentences), len(used)))
        counts.sum_duplicates()
        totals = counts @ vectors / np.maximum(np.bincount(owners, minlength=len(sentences)), 1)[:, None]
        return cast(NDArray[np.float64], totals).astype(np.float32)

    def require_overlap(self, sentences: Sequence[Sequence[str]], bag: Bag | None = None) -> None:
        """Refuse a corpus without one known token, which `average` would turn into zeros.

        Raises:
            DataError: if no token of any sentence is known.
        """
        if not len(self._known(sentences, bag or Bag())[1]):
            tokens = {token for sentence in sentences for token in sentence}
            raise DataError(
                f"{self.name}: none of the {len(tokens)} different tokens of {len(sentences)} sentences is among its "
                f"{len(self.keys)} words, expected some; is it of another language or case?"
            )

    def _known(self, sentences: Sequence[Sequence[str]], bag: Bag) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Sentence number and row of every known token that the bag keeps."""
        numbers: dict[str, int] = {}
        filled = [sentence or ["."] for sentence in sentences]
        tokens = np.array([numbers.setdefault(token, len(numbers)) for sentence in filled for token in sentence], int)
        owners = np.repeat(np.arange(len(filled)), np.fromiter(map(len, filled), int))
        rows = self.find([token.lower() if bag.lower else token for token in numbers])
        if bag.stop_words:
            dropped = _stop_words()
            rows[[number for token, number in numbers.items() if token.lower() in dropped]] = -1
        rows = rows[tokens]
        return owners[rows >= 0], rows[rows >= 0]


def fit_common_component(x: NDArray[np.floating]) -> NDArray[np.float64]:
    """First right singular vector (d,) of sentence vectors (n, d), not centred; the second half of SIF."""
    products = np.asarray(x, dtype=np.float64).T @ np.asarray(x, dtype=np.float64)
    return cast(NDArray[np.float64], np.linalg.eigh(products).eigenvectors[:, -1])


def remove_component(x: NDArray[np.floating], component: NDArray[np.float64]) -> NDArray[np.float32]:
    """What is left of each vector (n, d) without its part along the unit vector `component` (d,)."""
    return (x - np.outer(x @ component, component)).astype(np.float32)


def open_vectors(path: Path, cache_dir: Path, member: str | None = None) -> WordVectors:
    """Open a text of word vectors; the first time it is parsed in one pass, in about 200 MB and 60 bytes a line.

    A line is a word and d numbers, split at single spaces from the right, since words may hold spaces. Of a word that
    occurs twice the first vector counts. A first line of two whole numbers is fastText's header.

    Args:
        path: the text, plain, .gz or .zip; an archive is read as a stream and not unpacked.
        cache_dir: folder that keeps the arrays. They are made anew for a file of other size, time or first megabyte.
        member: the file in a .zip with several.

    Raises:
        DataError: if the file is missing, damaged, truncated, or a line is not a word and d finite numbers (with file
            and line).
        UsageError: if a .zip has several files and none is named, or not the one named.
    """
    try:
        member = choose_member(path, member)
        folder = cache_dir / f"vectors-{identity(path, member)}"
        if not folder.exists():
            _log.info("%s: reading the word vectors into %s, once", path, folder)
            make_arrays(path, member, folder)
    except _UNREADABLE as error:
        raise DataError(
            f"{path}: the word vectors cannot be read and kept in {cache_dir} ({error}), expected a whole text, .gz or "
            ".zip file and free space; if it is damaged, delete it and download it again"
        ) from error
    return _load(folder, f"{path.name}({member})" if member else path.name)


def _load(folder: Path, name: str) -> WordVectors:
    try:
        matrix, keys, rows = (np.load(folder / f"{part}.npy", mmap_mode="r") for part in ("vectors", "keys", "rows"))
        sha256 = json.loads((folder / "card.json").read_bytes())["sha256"]
    except (OSError, ValueError) as error:
        raise DataError(f"{folder}: the stored vectors are damaged ({error}); delete the folder") from error
    return WordVectors(name, sha256, matrix, keys, rows)


def _weights(rows: NDArray[np.int64], count: int, a: float) -> NDArray[np.float64]:
    harmonic = (1 / np.arange(1, count + 1)).sum()
    weights: NDArray[np.float64] = a / (a + 1 / ((rows + 1) * harmonic))
    return weights


def _stop_words() -> frozenset[str]:
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS  # takes a second to import, rarely needed

    return frozenset(ENGLISH_STOP_WORDS) | set(string.punctuation)
