"""Reads a text of word vectors once, into arrays that can be mapped into memory.

The text is GloVe's or fastText's .vec: a line is a word and d numbers between single spaces, and fastText's first line
holds the counts.
"""

import gzip
import hashlib
import io
import json
import os
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import BinaryIO, NoReturn, cast

import numpy as np
from numpy.typing import NDArray

from harness.errors import DataError, UsageError

_KEY_BYTES = 16  # of a word's BLAKE2b digest: among a billion words the odds that two share one are 2e-21
_HEAD_BYTES = 1 << 20
_BLOCK_BYTES = 1 << 24  # of text parsed at once
_LARGEST = float(np.finfo(np.float32).max)


def choose_member(path: Path, member: str | None) -> str | None:
    """The file in a .zip that is meant; None for other files.

    Raises:
        UsageError: if the .zip has several files and none is named, or not the one named.
    """
    if path.suffix != ".zip":
        return None
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
    chosen = names if member is None else [name for name in names if name == member]
    if len(chosen) != 1:
        raise UsageError(f"{path}: expected the name of one file in it, found {member!r}; it has {', '.join(names)}")
    return chosen[0]


def identity(path: Path, member: str | None) -> str:
    """A name (32 hexadecimal digits) for the content, from size, time and first megabyte: no need to read it all."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
        status = os.fstat(file.fileno())
    facts = f"{member} {status.st_size} {status.st_mtime_ns} ".encode()
    return hashlib.sha256(facts + head).hexdigest()[:32]


def make_arrays(path: Path, member: str | None, folder: Path) -> None:
    """Parse the text into the folder, which appears whole or not at all.

    It then holds vectors.npy, (V, d) float32 in the order of the text; keys.npy, the sorted digests of the different
    words; rows.npy, the row of each word's first vector; and card.json, the text's sha256.

    Raises:
        DataError: if a line is not a word and d finite numbers, or the first line promises another number of lines.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    place = f"{path}({member})" if member else str(path)
    with tempfile.TemporaryDirectory(prefix=".vectors-", dir=folder.parent) as draft:
        made = Path(draft) / "made"
        made.mkdir()
        with _open_text(path, member) as text:
            _convert(text, place, made)
        for file in made.iterdir():
            with file.open("rb") as written:
                os.fsync(written.fileno())
        try:
            made.rename(folder)
        except OSError:
            if not folder.exists():  # else another process was faster, with the same content
                raise


@contextmanager
def _open_text(path: Path, member: str | None) -> Iterator[BinaryIO]:
    if member is not None:
        with zipfile.ZipFile(path) as archive, archive.open(member) as file:
            yield cast(BinaryIO, io.BufferedReader(cast(io.RawIOBase, file), _HEAD_BYTES))
    elif path.suffix == ".gz":
        with gzip.open(path, "rb") as packed:
            yield cast(BinaryIO, packed)
    else:
        with path.open("rb") as plain:
            yield plain


def _convert(text: BinaryIO, place: str, folder: Path) -> None:
    """Write vectors.npy, keys.npy, rows.npy and card.json."""
    digest = hashlib.sha256()
    blocks = _blocks(text, digest)
    start = next(blocks, [b""])
    promised, dim = _header(start[0]) or (None, _trailing_numbers(start[0]))
    if dim < 1:
        raise DataError(
            f"{place}:1: found {start[0][:60]!r}, expected a word and its numbers; is it a text of vectors?"
        )
    headers = 0 if promised is None else 1
    keys, count = [], 0
    with (folder / "vectors.npy").open("wb") as out:
        _write_header(out, 0, dim)
        for lines in filter(None, chain([start[headers:]], blocks)):
            words, values = _parse(lines, dim, place, 1 + headers + count)
            keys.append(digests(words))
            out.write(values.tobytes())
            count += len(lines)
        out.seek(0)
        _write_header(out, count, dim)
    if not count or promised not in (None, count):
        raise DataError(
            f"{place}: found {count} vectors, expected {promised or 'some'} as its first line says; the file is "
            "truncated, download it again"
        )
    _write_index(folder, np.concatenate(keys))
    (folder / "card.json").write_text(json.dumps({"sha256": digest.hexdigest()}), encoding="utf-8")


def _blocks(text: BinaryIO, digest: "hashlib._Hash") -> Iterator[list[bytes]]:
    """The text's lines, many at a time; the digest is updated with them."""
    while lines := text.readlines(_BLOCK_BYTES):
        for line in lines:
            digest.update(line)
        yield lines


def _header(line: bytes) -> tuple[int, int] | None:
    """(vectors, numbers per vector) of fastText's first line."""
    parts = line.split()
    return (int(parts[0]), int(parts[1])) if len(parts) == 2 and all(part.isdigit() for part in parts) else None


def _write_header(out: BinaryIO, rows: int, dim: int) -> None:
    """Numpy leaves room in it for a longer first axis, so that it can be written over."""
    facts = {"descr": "<f4", "fortran_order": False, "shape": (rows, dim)}
    np.lib.format.write_array_header_1_0(out, facts)


def _write_index(folder: Path, keys: NDArray[np.bytes_]) -> None:
    order = np.argsort(keys, kind="stable")  # stable: of equal words the first line comes first
    ordered = keys[order]
    first = np.append(True, ordered[1:] != ordered[:-1])
    np.save(folder / "keys.npy", ordered[first])
    np.save(folder / "rows.npy", order[first].astype(np.int32))


def _parse(lines: Sequence[bytes], dim: int, place: str, number: int) -> tuple[list[bytes], NDArray[np.float32]]:
    """Words and values (n, dim) of n lines, the first of them line `number` of the text."""
    words, texts = [], []
    for offset, line in enumerate(lines):
        stripped = line.rstrip()
        if stripped.count(b" ") == dim:
            word, _, text = stripped.partition(b" ")
        else:
            word, text = _split_from_right(stripped, dim, f"{place}:{number + offset}")
        words.append(word)
        texts.append(text)
    values = _numbers(b" ".join(texts))
    if values.size != len(lines) * dim or not np.isfinite(values).all():
        _name_bad_number(texts, place, number)
    return words, values.reshape(len(lines), dim)


def _split_from_right(line: bytes, dim: int, where: str) -> tuple[bytes, bytes]:
    """A word with spaces in it and its numbers; a word never ends with " " and a number, or the line is too long."""
    pieces = line.rsplit(b" ", dim)
    if len(pieces) <= dim or _is_number(pieces[0].rpartition(b" ")[2]):
        raise DataError(
            f"{where}: found {_trailing_numbers(line)} numbers, expected {dim} after the word; the file is truncated "
            "or damaged, download it again"
        )
    return pieces[0], line[len(pieces[0]) + 1 :]


def _numbers(text: bytes) -> NDArray[np.float32]:
    """The numbers of a text, none if it holds anything else."""
    try:
        return np.fromstring(text, dtype=np.float32, sep=" ")
    except ValueError:
        return np.empty(0, dtype=np.float32)


def _is_number(text: bytes) -> bool:
    try:
        return b"_" not in text and abs(float(text)) <= _LARGEST
    except ValueError:
        return False


def _trailing_numbers(line: bytes) -> int:
    pieces = line.split()[1:]
    words = [place for place, piece in enumerate(pieces, start=1) if not _is_number(piece)]
    return len(pieces) - max(words, default=0)


def _name_bad_number(texts: Sequence[bytes], place: str, number: int) -> NoReturn:
    for offset, text in enumerate(texts):
        for piece in text.split(b" "):
            if not _is_number(piece):
                raise DataError(
                    f"{place}:{number + offset}: found {piece.decode('utf-8', 'replace')!r}, expected a finite number; "
                    "the file is damaged, download it again"
                )
    raise AssertionError("every piece is a number")


def digests(words: Iterable[bytes]) -> NDArray[np.bytes_]:
    """What a word is looked up by: (n,) S16, which numpy compares bytewise."""
    joined = b"".join(hashlib.blake2b(word, digest_size=_KEY_BYTES).digest() for word in words)
    return np.frombuffer(joined, dtype=f"S{_KEY_BYTES}")
