"""Embeddings kept on disk, so that a sentence is encoded once per encoder and not once per run.

Layout: `<root>/<fingerprint>/card.json` and `<root>/<fingerprint>/*.shard`. A shard is written under another name and
renamed when it is complete, and never changed afterwards, so that any number of processes read and add without locks.

A shard, little-endian: the magic number, the dimension d and the row count n (16 bytes), n keys of 16 bytes,
n x d float32, and the CRC-32 of all that (4 bytes).
"""

import json
import logging
import os
import re
import secrets
import struct
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from harness import files
from harness.errors import ResultError
from harness.progress import timed

_Keys = NDArray[np.bytes_]  # (n,) of S16: numpy sorts and searches them by their 16 bytes
T = TypeVar("T")

_log = logging.getLogger(__name__)

_HEADER = struct.Struct("<8sII")  # magic, dimension, rows
_CHECKSUM = struct.Struct("<I")
_MAGIC = b"EMBEDS01"
_KEY_BYTES = 16
_KEY = f"S{_KEY_BYTES}"
_OWN = (".shard", ".tmp", "card.json")  # the files of one encoder
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")
_ROWS_PER_SHARD = 8192  # a shard is read whole, so this bounds what a lookup holds besides its answer


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheEntry:
    """What the cache holds for one encoder: its name, the rows stored and the bytes on disk."""

    fingerprint: str
    encoder: str
    rows: int
    bytes: int


class EmbeddingStore:
    """The stored embeddings of one encoder; opening it touches no disk.

    A sentence is known by the 16-byte BLAKE2b digest of its exact text (UTF-8; nothing is stripped, folded or
    normalised). Among a billion sentences the odds that any two share a key are 2e-21.

    Where a sentence was stored twice, by two runs at once for instance, the row stored first answers.

    A cache saves time and is never worth a score: a folder that cannot be read or written, and a full disk, are named
    in one warning, and the rows go uncached.
    """

    def __init__(self, root: Path, fingerprint: str, dim: int, card: Mapping[str, object]) -> None:
        """Name the folder, which is made when the first row is stored.

        The fingerprint is the sha256 of the card's canonical JSON in 64 hexadecimal digits: everything that changes a
        row of `dim` numbers must be in the card, which is stored beside the rows for people and for `stat`.
        """
        if not _FINGERPRINT.fullmatch(fingerprint):
            raise ValueError(f"a fingerprint is 64 hexadecimal digits, not {fingerprint!r}")
        self._folder = root / fingerprint
        self._dim = dim
        self._card = card
        self._shards: dict[Path, _Keys | None] = {}  # None: damaged, ignored
        self._index = _Index({})

    def lookup(self, sentences: Sequence[str]) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        """Find stored rows, those that other processes have added since the last call included.

        A damaged shard is named in one warning and removed: its sentences are simply not found. In a folder that
        cannot be read none is.

        Returns:
            (n,) which of the n sentences are known, and (k, d) the rows of the k known ones in the order asked, bit for
            bit as they were stored. Sentences may be repeated.

        Raises:
            ResultError: if the stored rows have another dimension.
        """
        keys = _keys(sentences)
        self._read_new_shards()
        while True:
            found, shard, row = self._index.find(keys)
            rows = np.empty((len(shard), self._dim), dtype=np.float32)
            damaged = self._fill(rows, shard, row)
            if not damaged:
                return found, rows
            self._shards.update(dict.fromkeys(damaged))
            self._index = _Index(self._shards)

    def append(self, sentences: Sequence[str], rows: NDArray[np.float32]) -> None:
        """Store rows; they are on the disk when this returns without a warning, and each is absent or whole otherwise.

        What was stored before is kept in any case. Rows are (n, d) float32, row i for text i.
        """
        if rows.shape != (len(sentences), self._dim) or rows.dtype != np.float32:
            raise ValueError(f"rows are {rows.dtype}{rows.shape}, expected float32{(len(sentences), self._dim)}")
        keys = _keys(sentences)
        with timed("writing"), _warning(self._folder.parent, "written", "a writable folder with free space"):
            for start in range(0, len(keys), _ROWS_PER_SHARD):
                part = slice(start, start + _ROWS_PER_SHARD)
                try:
                    self._store(keys[part], rows[part])
                except FileNotFoundError:  # another process has cleared the cache in this very moment
                    self._store(keys[part], rows[part])

    def _read_new_shards(self) -> None:
        """Read the keys of the shards not seen yet; names begin with the time, so sorted means oldest first."""
        new: list[Path] = []
        with _warning(self._folder.parent, "read", "a readable folder"):
            new = sorted(set(_files(self._folder, ".shard")) - self._shards.keys())
        for path in new:
            dim, keys = _unless_damaged(_read_keys, path) or (self._dim, None)
            if dim != self._dim:
                raise ResultError(
                    f"{path}: the stored rows have {dim} numbers, expected {self._dim}, because two encoders share one "
                    "fingerprint: delete the rows with `bench cache clear`, or choose another folder with --cache-dir"
                )
            self._shards[path] = keys
        if new:
            self._index = _Index(self._shards)

    def _fill(self, out: NDArray[np.float32], shard: NDArray[np.intp], row: NDArray[np.intp]) -> list[Path]:
        """Set out[i] to row[i] of shard[i], reading each shard once; return the shards that turned out damaged."""
        damaged = []
        by_shard = np.argsort(shard, kind="stable")
        which, starts = np.unique(shard[by_shard], return_index=True)
        for number, members in zip(which, np.split(by_shard, starts[1:]), strict=False):  # no rows: one empty member
            stored = _unless_damaged(_read_rows, self._index.paths[number])
            if stored is None:
                damaged.append(self._index.paths[number])
            else:
                out[members] = stored[row[members]]
        return damaged

    def _store(self, keys: _Keys, rows: NDArray[np.float32]) -> None:
        """Write a shard, and the card where there is none; each appears under its name complete, or not at all."""
        card = self._folder / "card.json"
        if not card.exists():
            with files.draft(card) as file:
                file.write(json.dumps(self._card, indent=2, sort_keys=True).encode() + b"\n")
        header = _HEADER.pack(_MAGIC, rows.shape[1], len(keys))
        parts = (header, keys.tobytes(), np.ascontiguousarray(rows, dtype="<f4").tobytes())
        checksum = 0
        name = f"{time.time_ns():020d}-{secrets.token_hex(8)}.shard"  # sorts by age; unique across all machines
        with files.draft(self._folder / name) as file:
            for part in parts:
                file.write(part)
                checksum = zlib.crc32(part, checksum)
            file.write(_CHECKSUM.pack(checksum))


class _Index:
    """Where each key is stored: its first shard in the order given, and its row there."""

    def __init__(self, shards: Mapping[Path, _Keys | None]) -> None:
        intact = {path: keys for path, keys in shards.items() if keys is not None}
        self.paths = list(intact)
        sizes = [len(keys) for keys in intact.values()]
        keys = np.concatenate([*intact.values(), np.empty(0, _KEY)])
        order = np.argsort(keys, kind="stable")  # stable: of equal keys the first stored comes first
        self._sorted = keys[order]
        self._shard = np.repeat(np.arange(len(sizes)), sizes)[order]
        self._row = np.concatenate([*map(np.arange, sizes), np.empty(0, np.intp)])[order]

    def find(self, keys: _Keys) -> tuple[NDArray[np.bool_], NDArray[np.intp], NDArray[np.intp]]:
        """Which of n keys are known (n,), and the shard number (k,) and row (k,) of the k known ones."""
        if not len(self._sorted):
            return np.zeros(len(keys), dtype=np.bool_), np.empty(0, np.intp), np.empty(0, np.intp)
        at = np.minimum(np.searchsorted(self._sorted, keys), len(self._sorted) - 1)
        found = self._sorted[at] == keys
        return found, self._shard[at[found]], self._row[at[found]]


def stat(root: Path) -> list[CacheEntry]:
    """List what is stored, by encoder name; rows are counted as stored, a sentence stored twice counting twice.

    Raises:
        ResultError: if the folder cannot be read.
    """
    with _reporting(root, "read", "a readable folder"):
        names = list(root.iterdir()) if root.exists() else []
        folders = [path for path in names if _FINGERPRINT.fullmatch(path.name) and path.is_dir()]
        return sorted(map(_entry, folders), key=lambda entry: (entry.encoder, entry.fingerprint))


def _entry(folder: Path) -> CacheEntry:
    try:
        name = str(json.loads((folder / "card.json").read_bytes())["name"])
    except (OSError, ValueError, KeyError, TypeError):
        name = "(no card)"
    shards = [_unless_damaged(_read_keys, path) for path in _files(folder, ".shard")]
    return CacheEntry(
        fingerprint=folder.name,
        encoder=name,
        rows=sum(len(shard[1]) for shard in shards if shard is not None),
        bytes=sum(map(_size, _files(folder, *_OWN))),
    )


def _keys(sentences: Sequence[str]) -> _Keys:
    # surrogatepass: a lone surrogate, which JSON may hold, has a key like any other text
    digests = [blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_KEY_BYTES).digest() for text in sentences]
    return np.frombuffer(b"".join(digests), dtype=_KEY)


def _read_keys(path: Path) -> tuple[int, _Keys]:
    """The dimension and the keys. The checksum waits until the rows are asked for: a wrong key finds nothing."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        magic, dim, rows = _HEADER.unpack(file.read(_HEADER.size).ljust(_HEADER.size, b"\0"))
        if magic != _MAGIC:
            raise ValueError(f"it begins with {magic!r}, expected {_MAGIC!r}")
        expected = _HEADER.size + rows * (_KEY_BYTES + 4 * dim) + _CHECKSUM.size
        if size != expected:
            raise ValueError(f"it has {size} bytes, expected {expected}")
        return dim, np.frombuffer(file.read(rows * _KEY_BYTES), dtype=_KEY)


def _read_rows(path: Path) -> NDArray[np.float32]:
    """All rows (n, d), and the one place where rows enter, so their checksum is verified every time.

    Read whole and not memory-mapped: a map of a file that another process truncates kills the reader with SIGBUS.
    """
    content = path.read_bytes()
    body = memoryview(content)[: -_CHECKSUM.size]
    if content[-_CHECKSUM.size :] != _CHECKSUM.pack(zlib.crc32(body)):
        raise ValueError("its checksum does not match its content")
    _, dim, rows = _HEADER.unpack_from(content)
    return np.frombuffer(body, dtype="<f4", offset=_HEADER.size + rows * _KEY_BYTES).reshape(rows, dim)


def _unless_damaged(read: Callable[[Path], T], path: Path) -> T | None:
    """What `read` makes of the file; None where it is gone, and None with a warning where it is damaged or unreadable.

    A damaged file is removed: what it held is encoded again.
    """
    try:
        return read(path)
    except FileNotFoundError:  # another process has cleared the cache
        return None
    except OSError as error:
        _log.warning("%s: cannot be read (%s); its sentences are encoded again", path, error.strerror)
        return None
    except (ValueError, struct.error) as error:
        _log.warning("%s: is damaged (%s); it is removed, and its sentences are encoded again", path, error)
        with suppress(OSError):  # a read-only folder
            path.unlink()
        return None


def _files(folder: Path, *endings: str) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if path.name.endswith(endings)]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _size(path: Path) -> int:
    """Bytes; 0 for a file that another process has renamed or deleted meanwhile."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


@contextmanager
def _reporting(place: Path, done: str, expected: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ResultError(
            f"{place}: the embedding cache cannot be {done} ({error.strerror}), expected {expected}: choose another "
            "folder with --cache-dir"
        ) from error


@contextmanager
def _warning(place: Path, done: str, expected: str) -> Iterator[None]:
    try:
        with _reporting(place, done, expected):
            yield
    except ResultError as error:
        _warn_once(f"{error}; until then embeddings are computed and not kept")


@cache
def _warn_once(sentence: str) -> None:
    """Every piece of every encoder fails in the same way; the cache of this function remembers what was said."""
    _log.warning("%s", sentence)
