"""Word vectors from a file: GloVe's text, fastText's .vec, or word2vec's text and binary layouts, packed or not.

A line of text is a word and d numbers between spaces or tabs; a first line of two whole numbers counts vectors and
numbers. The binary layout has that line, and then each word, a space and d little-endian float32. What a file is
packed by, and which layout it has, is told by its content. It is read once and kept as arrays that later loads verify
and map into memory; see `harness.derived`.
"""

import gzip
import hashlib
import io
import json
import logging
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from harness import files
from harness.derived import Derived, recall
from harness.errors import DataError, UsageError, WriteError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_log = logging.getLogger(__name__)

_VERSION = 1  # to be raised when the same file gives other arrays than before
_KEY_BYTES = 16  # of a word's BLAKE2b digest: among a billion words the odds that two share one are 2e-21
_HEAD_BYTES = 1 << 16
_BLOCK_BYTES = 1 << 24  # of a file parsed at once
_LARGEST = float(np.finfo(np.float32).max)
_MARK = b"\xef\xbb\xbf"  # a byte order mark says nothing in UTF-8
_UNREADABLE = (OSError, EOFError, zlib.error, zipfile.BadZipFile, NotImplementedError)
_OTHER_CONTENT = {
    b"\xba\x16\x4f\x2f": "fastText's own .bin",
    b"\x93NUMPY": "a NumPy array",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
    b"version https://git-lfs": "a Git LFS pointer in the place of the file",
}

Block = tuple[list[bytes], NDArray[np.float32]]  # n words, and their vectors (n, d)


@dataclass(frozen=True, slots=True)
class WordVectors:
    """V vectors, and where each word's first one is.

    Attributes:
        name: file name, with the member of a .zip.
        sha256: of the file's content, unpacked.
        matrix: (V, d) float32, mapped from disk, in the order of the file.
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
        """Row of each of n words (n,), spelt exactly so; -1 where the file has none."""
        keys = _digests(word.encode("utf-8", "surrogatepass") for word in words)
        at = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return np.where(self.keys[at] == keys, self.rows[at], -1).astype(np.int64)


def open_vectors(path: Path, cache_dir: Path, member: str | None = None) -> WordVectors:
    """Open a file of word vectors; the first time it is parsed in one pass, in about 200 MB and 60 bytes a vector.

    Words may hold spaces. Of a word that occurs twice the first vector counts. Later loads read the file and the arrays
    once each to verify them: some seconds for 5 GB.

    Args:
        path: the file, plain or packed by gzip or zip; an archive is read as a stream and not unpacked.
        cache_dir: folder that keeps the arrays.
        member: the file in a .zip with several.

    Raises:
        DataError: if the file is missing, damaged, truncated, or a vector is not a word and d finite numbers (with file
            and line).
        UsageError: if a .zip has several files and none is named, or not the one named, or the file is of a kind that
            is not read.
    """
    try:
        member = _choose_member(path, member)
        key = json.dumps([_VERSION, files.sha256(path), member])
        place = f"{path}({member})" if member else str(path)

        def make() -> Derived:
            _log.info("%s: reading the word vectors, once", place)
            try:
                with _unpack(path, member) as file, _scratch(cache_dir) as scratch:
                    return _read(file, place, scratch, cache_dir)
            except WriteError as error:
                _log.warning("%s; the word vectors are read into memory", error)
            with _unpack(path, member) as file:
                return _read(file, place, io.BytesIO(), cache_dir)

        stored = recall(cache_dir / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.safetensors", key, make)
    except _UNREADABLE as error:
        raise DataError(
            f"{path}: the word vectors cannot be read ({error}), expected a whole file, plain or packed by gzip or "
            "zip; if it is damaged, download it again"
        ) from error
    keys = stored.arrays["keys"].view(f"S{_KEY_BYTES}").ravel()
    name = f"{path.name}({member})" if member else path.name
    return WordVectors(name, stored.facts["content"], stored.arrays["vectors"], keys, stored.arrays["rows"])


def _choose_member(path: Path, member: str | None) -> str | None:
    """The file in a .zip that is meant; None for other files."""
    with path.open("rb") as file:
        if file.read(2) != b"PK":
            return None
    with zipfile.ZipFile(path) as archive:
        inside = [name for name in archive.namelist() if not name.endswith("/")]
    names = [name for name in inside if not name.startswith("__MACOSX/") and not Path(name).name.startswith(".")]
    chosen = names if member is None else [name for name in inside if name == member]
    if len(chosen) == 1:
        return chosen[0]
    has = f"it has {', '.join(names) or 'none'}"
    if member is None:
        raise UsageError(f"{path}: the archive has {len(names)} files, expected one; name it with member=FILE; {has}")
    raise UsageError(f"{path}: member={member} is not in the archive; {has}")


@contextmanager
def _unpack(path: Path, member: str | None) -> Iterator[BinaryIO]:
    """The content of the file as a stream of bytes."""
    with ExitStack() as stack:
        raw: BinaryIO = stack.enter_context(path.open("rb", buffering=_HEAD_BYTES))
        if member is not None:
            inside = stack.enter_context(stack.enter_context(zipfile.ZipFile(raw)).open(member))
            raw = cast(BinaryIO, io.BufferedReader(cast(io.RawIOBase, inside), _HEAD_BYTES))
        elif raw.read(2) == b"\x1f\x8b":
            raw.seek(0)
            raw = cast(BinaryIO, stack.enter_context(gzip.open(raw)))
        else:
            raw.seek(0)
        yield raw


@contextmanager
def _scratch(folder: Path) -> Iterator[BinaryIO]:
    """A file of the folder that has no name, or memory where the folder takes none."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = tempfile.TemporaryFile(dir=folder)
    except OSError:
        yield io.BytesIO()
        return
    try:
        yield cast(BinaryIO, file)
    finally:
        with suppress(OSError):  # what a full disk did not take is written once more, in vain
            file.close()


class _Hashed(io.RawIOBase):
    """A stream whose sha256 is taken as it is read."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.digest = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        block = self._stream.read(len(memoryview(buffer)))
        self.digest.update(block)
        memoryview(buffer)[: len(block)] = block
        return len(block)


def _read(file: BinaryIO, place: str, scratch: BinaryIO, folder: Path) -> Derived:
    """Parse a whole file; the vectors go through the scratch file, which is in the folder."""
    hashed = _Hashed(file)
    reader = io.BufferedReader(hashed, _HEAD_BYTES)
    head, stream = reader.peek(_HEAD_BYTES), cast(BinaryIO, reader)
    _check_kind(head, place)
    first = stream.readline().removeprefix(_MARK)
    promised = _counts(first)
    if promised and _is_binary(head):
        blocks = _binary_blocks(stream, promised, place)
    else:
        blocks = _text_blocks(stream, first, promised, place)
    keys, count, dim = [], 0, 0
    for words, values in blocks:
        keys.append(_digests(words))
        with files.writing(folder):
            scratch.write(values.tobytes())
            scratch.flush()
        count, dim = count + len(words), values.shape[1]
    if not count or (promised and promised[0] != count):
        raise DataError(
            f"{place}: found {count} vectors, expected {promised[0] if promised else 'some'} as its first line says; "
            "the file is truncated, download it again"
        )
    if isinstance(scratch, io.BytesIO):
        vectors = np.frombuffer(scratch.getbuffer(), np.float32)
    else:
        vectors = np.memmap(scratch, np.float32, "r")
    index = _index(np.concatenate(keys))
    return Derived({"vectors": vectors.reshape(count, dim), **index}, {"content": hashed.digest.hexdigest()})


def _check_kind(head: bytes, place: str) -> None:
    for beginning, what in _OTHER_CONTENT.items():
        if head.startswith(beginning):
            raise UsageError(
                f"{place}: the file is {what}, expected a text of vectors or word2vec's binary layout; convert it"
            )
    if _is_binary(head) and _counts(head.partition(b"\n")[0]) is None:
        raise UsageError(
            f"{place}: the file is binary and does not begin with two numbers, expected a text of vectors or "
            "word2vec's binary layout; convert it"
        )


def _is_binary(head: bytes) -> bool:
    if b"\0" in head:
        return True
    try:
        head[: head.rfind(b" ") + 1].decode("utf-8")  # no character is cut there
    except UnicodeDecodeError:
        return True
    return False


def _counts(line: bytes) -> tuple[int, int] | None:
    """(vectors, numbers per vector) of a first line that has two whole numbers alone."""
    parts = line.split()
    return (int(parts[0]), int(parts[1])) if len(parts) == 2 and all(part.isdigit() for part in parts) else None


def _index(keys: NDArray[np.bytes_]) -> dict[str, NDArray[np.uint8] | NDArray[np.int32]]:
    """Sorted digests of the different words, as (W, 16) bytes, and the row of each word's first vector (W,)."""
    order = np.argsort(keys, kind="stable")  # stable: of equal words the first one comes first
    ordered = keys[order]
    first = np.append(True, ordered[1:] != ordered[:-1])
    distinct = np.frombuffer(ordered[first].tobytes(), np.uint8).reshape(-1, _KEY_BYTES)
    return {"keys": distinct, "rows": order[first].astype(np.int32)}


def _binary_blocks(stream: BinaryIO, counts: tuple[int, int], place: str) -> Iterator[Block]:
    dim, rest, done = counts[1], b"", 0
    while block := stream.read(_BLOCK_BYTES):
        rest += block
        words, vectors, start = [], [], 0
        while (space := rest.find(b" ", start)) >= 0 and (end := space + 1 + 4 * dim) <= len(rest):
            words.append(rest[start:space].lstrip(b"\n"))
            vectors.append(rest[space + 1 : end])
            start = end
        rest = rest[start:]
        values = np.frombuffer(b"".join(vectors), "<f4").astype(np.float32).reshape(len(words), dim)
        bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
        if bad.size:
            raise DataError(
                f"{place}: vector {done + bad[0] + 1} has a number that is not finite; the file is damaged, download "
                "it again"
            )
        done += len(words)
        if words:
            yield words, values
    if rest.strip():
        raise DataError(
            f"{place}: ends within vector {done + 1} of {counts[0]}; the file is truncated, download it again"
        )


def _text_blocks(stream: BinaryIO, first: bytes, counts: tuple[int, int] | None, place: str) -> Iterator[Block]:
    dim = counts[1] if counts else _trailing_numbers(first)
    if dim < 1:
        raise DataError(f"{place}:1: found {first[:60]!r}, expected a word and its numbers; is it a text of vectors?")
    number, blank = 2 if counts else 1, 0
    for block in chain([[] if counts else [first]], iter(partial(stream.readlines, _BLOCK_BYTES), [])):
        filled = len(block)
        while filled and not block[filled - 1].strip():
            filled -= 1
        if filled and blank:
            raise _wrong_numbers(f"{place}:{blank}", 0, dim)
        if filled:
            yield _parse(block[:filled], dim, place, number)
        if filled < len(block):
            blank = blank or number + filled
        number += len(block)


def _parse(lines: Sequence[bytes], dim: int, place: str, number: int) -> Block:
    """Words and values (n, dim) of n lines, the first of them line `number` of the file."""
    words, texts = [], []
    for offset, line in enumerate(lines):
        stripped = line.rstrip().replace(b"\t", b" ")
        if stripped.count(b" ") == dim:
            word, _, text = stripped.partition(b" ")
        else:  # the word has spaces in it; it never ends with " " and a number, or the line is too long
            word = stripped.rsplit(b" ", dim)[0]
            text = stripped[len(word) + 1 :]
            if text.count(b" ") != dim - 1 or _is_number(word.rpartition(b" ")[2]):
                raise _wrong_numbers(f"{place}:{number + offset}", _trailing_numbers(stripped), dim)
        words.append(word)
        texts.append(text)
    try:
        values = np.fromstring(b" ".join(texts), dtype=np.float32, sep=" ")
    except ValueError:  # something in it is no number
        values = np.empty(0, dtype=np.float32)
    if values.size != len(lines) * dim or not np.isfinite(values).all():
        pieces = ((offset, piece) for offset, text in enumerate(texts) for piece in text.split(b" "))
        offset, piece = next((offset, piece) for offset, piece in pieces if not _is_number(piece))
        raise DataError(
            f"{place}:{number + offset}: found {piece.decode('utf-8', 'replace')!r}, expected a finite number; "
            "the file is damaged, download it again"
        )
    return words, values.reshape(len(lines), dim)


def _wrong_numbers(where: str, found: int, dim: int) -> DataError:
    return DataError(
        f"{where}: found {found} numbers, expected {dim} after the word; the file is truncated or damaged, download it "
        "again"
    )


def _is_number(text: bytes) -> bool:
    try:
        return b"_" not in text and abs(float(text)) <= _LARGEST
    except ValueError:
        return False


def _trailing_numbers(line: bytes) -> int:
    pieces = line.split()[1:]
    words = [place for place, piece in enumerate(pieces, start=1) if not _is_number(piece)]
    return len(pieces) - max(words, default=0)


def _digests(words: Iterable[bytes]) -> NDArray[np.bytes_]:
    """What a word is looked up by: (n,) S16, which numpy compares bytewise."""
    joined = b"".join(hashlib.blake2b(word, digest_size=_KEY_BYTES).digest() for word in words)
    return np.frombuffer(joined, dtype=f"S{_KEY_BYTES}")
