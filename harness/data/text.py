r"""One reader for every text that an encoder is fitted on, trained on, or asked to search.

A text is one of four kinds, told by its content and then by the ending of its name in any case, `.gz` aside:

- lines: one sentence a line, as in `.txt` and in any ending that says nothing; lines end at \n or \r\n alone.
- csv: a table whose first line names the columns, cells in quotes where they hold commas.
- tsv: the same with tabs; quotes are ordinary characters.
- json lines: one object a line, texts under names.

Tables are read by the names of their columns, and what no rule tells apart is refused, because a guess would be fitted
on without a word.
"""

import csv
import hashlib
import io
import json
import logging
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from gzip import GzipFile
from itertools import islice
from pathlib import Path, PurePath
from typing import BinaryIO, Literal, cast

from harness import files
from harness.data.columns import Column, find_columns, plain_name, role_of, shorten
from harness.errors import DataError, UsageError

_log = logging.getLogger(__name__)

Kind = Literal["lines", "csv", "tsv", "json lines"]
Row = tuple[str, ...]

_HEAD = 1 << 16  # bytes that are looked at to tell the kind
_BLOCK = 1 << 20
_MARK = b"\xef\xbb\xbf"  # a byte order mark says nothing in UTF-8

_KINDS: dict[str, Kind] = {".csv": "csv", ".tsv": "tsv", ".jsonl": "json lines", ".ndjson": "json lines"}
_READ = ".txt for one sentence a line, .csv or .tsv for a table with a header, or .jsonl, each with or without .gz"
_OTHER_ENDINGS = (  # as lines, they would be markup or bytes
    *(".json", ".xml", ".html", ".htm", ".yaml", ".yml", ".toml", ".rtf", ".ipynb"),
    *(".parquet", ".arrow", ".feather", ".xls", ".xlsx", ".ods", ".doc", ".docx", ".odt", ".pdf", ".db", ".sqlite"),
    *(".zip", ".tar", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar", ".lz4"),
    *(".npy", ".npz", ".pt", ".pth", ".bin", ".pkl", ".pickle", ".safetensors", ".h5", ".hdf5"),
)
_OTHER_CONTENT = {  # how files begin that are no text
    b"PK\x03\x04": "a zip archive or an Office file",
    b"%PDF": "a PDF",
    b"PAR1": "a Parquet file",
    b"ARROW1": "an Arrow file",
    b"BZh": "packed by bzip2",
    b"\xfd7zXZ": "packed by xz",
    b"\x28\xb5\x2f\xfd": "packed by zstd",
    b"7z\xbc\xaf": "a 7z archive",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
    b"version https://git-lfs": "a Git LFS pointer in the place of the file",
    b"<!doctype": "a web page",
    b"<html": "a web page",
    b"<?xml": "XML",
}


@dataclass(frozen=True, slots=True)
class SentenceFile:
    """A file of sentences whose kind and columns are known; `open_text` makes it.

    Attributes:
        path: of the file.
        kind: how it is read.
        columns: all of them, in their order; lines have one, named `sentence`.
    """

    path: Path
    kind: Kind
    columns: tuple[Column, ...]

    @property
    def sentence_columns(self) -> tuple[str, ...]:
        """The names of the columns that hold sentences."""
        return tuple(column.name for column in self.columns if column.role == "sentence")

    def rows(self, columns: Sequence[str] | None = None, first: int | None = None) -> Iterator[Row]:
        """The cells of these columns, row by row, as they stand in the file.

        Blank lines are rows of lines and of a table with one column; elsewhere they are none.

        Args:
            columns: names of columns; None: all that hold sentences.
            first: end after so many rows; a packed file is still unpacked to its end, where damage shows.

        Raises:
            DataError: if the file cannot be read or a row is not what the header says, with the line.
        """
        names = self.sentence_columns if columns is None else columns
        written = [column.name for column in self.columns]
        places = [written.index(name) for name in names]
        _log.info("%s: reading %s of it as %s", self.path, ", ".join(names), self.kind)
        with _open(self.path) as file:
            found = islice(_READERS[self.kind](self, file), first)
            if places == list(range(len(written))):
                yield from map(tuple, found)
            else:
                yield from (tuple(cells[place] for place in places) for cells in found)
            while file.read(_BLOCK):
                pass

    def sha256(self) -> str:
        """Digest (hex) of the file's bytes."""
        with _reading(self.path):
            return files.sha256(self.path)


@dataclass(frozen=True, slots=True)
class Text:
    """Sentences under a short name; they may come from several files, one after another.

    Attributes:
        label: what people call it; never a path.
        files: in their order.
        first: only so many sentences are read; None: all.
        by_path: whether it was asked for by the path of a file.
    """

    label: str
    files: tuple[SentenceFile, ...]
    first: int | None = None
    by_path: bool = False

    def sentences(self) -> Iterator[str]:
        """All sentences of all columns in file order: duplicates are kept, blank ones are left out.

        Raises:
            DataError: as `SentenceFile.rows`.
        """
        cells = (cell for file in self.files for row in file.rows() for cell in row if cell.strip())
        yield from islice(cells, self.first)
        for _ in cells:  # on to the end of the files, where damage shows
            pass

    def distinct(self) -> list[str]:
        """The different sentences in their first order, without spaces around them."""
        return list(dict.fromkeys(sentence.strip() for sentence in self.sentences()))

    @property
    def sha256(self) -> str:
        """Digest (hex) of the bytes; of several files, the digest of their digests."""
        digests = [file.sha256() for file in self.files]
        return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()

    @property
    def digest(self) -> str:
        """Digest (hex) of the sentences that are read: the same for two files that hold the same sentences."""
        return _digest(self, self.sha256)

    @property
    def name(self) -> str:
        """What cards say: the label and the start of the digest, such as `mini-nli@3fa9c1d2b0aa`."""
        return f"{self.label}@{self.digest[:12]}"


@lru_cache(maxsize=64)  # a command may ask for one text many times; other bytes are another question
def _digest(text: Text, sha256: str) -> str:
    return rows_sha256((sentence,) for sentence in text.sentences())


class RowsDigest:
    """Sha256 of rows of cells: how many cells each row has, and the length and the UTF-8 of each cell."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()

    def update(self, row: Sequence[str]) -> None:
        """Add a row."""
        cells = [cell.encode("utf-8", "surrogatepass") for cell in row]
        self._sha256.update(b"%d\n" % len(cells) + b"".join([b"%d:%s" % (len(cell), cell) for cell in cells]))

    def hexdigest(self) -> str:
        """Of the rows so far."""
        return self._sha256.hexdigest()


def rows_sha256(rows: Iterable[Sequence[str]]) -> str:
    """Digest (hex) of rows of cells."""
    digest = RowsDigest()
    for row in rows:
        digest.update(row)
    return digest.hexdigest()


def open_text(path: Path) -> SentenceFile:
    """Find out what kind of text a file is, and what its columns hold.

    Raises:
        DataError: if it cannot be read, or is empty.
        UsageError: if it is no text, of a format that is not read, or a table whose columns cannot be told.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such file, expected text; check the path")
    with _open(path) as file:
        head = file.read(_HEAD)
        kind = _kind(path, head)
    if kind == "lines":
        return SentenceFile(path, kind, (Column("sentence", "sentence"),))
    with _open(path) as file:
        return SentenceFile(path, kind, find_columns(path, _names(path, kind, file)))


def _kind(path: Path, head: bytes) -> Kind:
    start = head.removeprefix(_MARK).lstrip()
    for beginning, what in _OTHER_CONTENT.items():
        if start[: len(beginning)].lower() == beginning.lower():
            raise UsageError(f"{path}: the file is {what}, expected {_READ}; convert it, or get it again")
    if b"\0" in head:
        raise UsageError(f"{path}: the file holds zero bytes, expected text in UTF-8; convert it, or get it again")
    if not start:
        raise DataError(f"{path}: holds no text, expected sentences; is it the right file?")
    if b"\r" in head and b"\n" not in head:
        raise UsageError(f"{path}: lines end in \\r alone, expected \\n or \\r\\n; convert it")
    ending = PurePath(path.name.lower().removesuffix(".gz")).suffix
    if ending not in (".csv", ".tsv") and _is_object(start.partition(b"\n")[0]):
        return "json lines"
    if ending in _OTHER_ENDINGS:
        raise UsageError(f"{path}: {ending} files cannot be read, expected {_READ}; convert it")
    return _KINDS.get(ending, "lines")


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _names(path: Path, kind: Kind, file: BinaryIO) -> list[str]:
    """What the first line that is not blank calls the columns."""
    if kind == "json lines":
        first = next((line, number) for number, line in enumerate(_decode(path, file), start=1) if line.strip())
        return list(_object(path, first[1], first[0]))
    return next(filter(None, (cells for _, cells in _cells(path, kind, file))), [])


def _read_lines(text: SentenceFile, file: BinaryIO) -> Iterator[Sequence[str]]:
    return ((line.rstrip("\r\n"),) for line in _decode(text.path, file))


def _read_table(text: SentenceFile, file: BinaryIO) -> Iterator[Sequence[str]]:
    width = len(text.columns)
    counts = [
        place for place, column in enumerate(text.columns) if not plain_name(column.name).removeprefix("unnamed0")
    ]
    rows = ((number, cells) for number, cells in _cells(text.path, text.kind, file) if cells or width == 1)
    next(((number, cells) for number, cells in rows if cells), None)  # the header
    for number, cells in rows:
        if len(cells or [""]) != width:
            raise DataError(
                f"{text.path}:{number}: {len(cells)} column{'s' * (len(cells) != 1)}, expected the header's {width}; "
                "quote cells that hold the separator, or name a plain text .txt"
            )
        for place in counts:
            if not cells[place].strip().isdigit():
                raise DataError(
                    f"{text.path}:{number}: {shorten(cells[place])!r} in the column without a name, expected the "
                    "number of a row; name the column, or remove it"
                )
        yield cells or [""]


def _cells(path: Path, kind: Kind, file: BinaryIO) -> Iterator[tuple[int, list[str]]]:
    """Line numbers and cells; an empty line has none."""
    if kind == "tsv":
        for number, line in enumerate(_decode(path, file), start=1):
            plain = line.rstrip("\r\n")
            yield number, plain.split("\t") if plain else []
        return
    reader = csv.reader(_decode(path, file), strict=True)
    try:
        for cells in reader:
            yield reader.line_num, cells
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num}: {error}, expected comma-separated sentences") from error


def _read_objects(text: SentenceFile, file: BinaryIO) -> Iterator[Sequence[str]]:
    expected = text.sentence_columns
    for number, line in enumerate(_decode(text.path, file), start=1):
        if not line.strip():
            continue
        texts = _object(text.path, number, line)
        found = [name for name in texts if role_of(name) == "sentence"]
        if set(found) != set(expected):
            raise DataError(
                f"{text.path}:{number}: sentences named {', '.join(found) or 'nothing'}, expected "
                f"{', '.join(expected)} as in the first line"
            )
        yield [texts.get(column.name, "") for column in text.columns]


def _object(path: Path, number: int, line: str) -> dict[str, str]:
    """The texts of one object by name; numbers and the like are no texts, but where a sentence is due."""
    try:
        found = json.loads(line)
    except ValueError as error:
        raise DataError(f"{path}:{number}: no JSON ({error}), expected an object with texts under names") from error
    if not isinstance(found, dict):
        raise DataError(f"{path}:{number}: a JSON {type(found).__name__}, expected an object with texts under names")
    for name, value in found.items():
        if not isinstance(value, str) and role_of(name) == "sentence":
            raise DataError(f"{path}:{number}: {name!r} is {json.dumps(value)[:40]}, expected a text in quotes")
    return {name: value for name, value in found.items() if isinstance(value, str)}


_READERS: dict[Kind, Callable[[SentenceFile, BinaryIO], Iterator[Sequence[str]]]] = {
    "lines": _read_lines,
    "csv": _read_table,
    "tsv": _read_table,
    "json lines": _read_objects,
}


def _decode(path: Path, file: BinaryIO) -> Iterator[str]:
    text = io.TextIOWrapper(file, "utf-8-sig", newline="\n")
    try:
        for line in text:  # noqa: UP028  `yield from` closes the file when the reader stops early
            yield line
    except UnicodeDecodeError as error:
        raise _not_utf8(path) from error
    finally:
        with suppress(ValueError):  # it is closed already, where the reader stopped early
            text.detach()  # else the file would be closed with it


def _not_utf8(path: Path) -> DataError:
    """The sentence about the first line that cannot be decoded; it is looked for from the start."""
    with _open(path) as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                return DataError(f"{path}:{number}: byte 0x{line[error.start]:02x} is not UTF-8; convert the file")
    return DataError(f"{path}: is not UTF-8; convert the file")


@contextmanager
def _open(path: Path) -> Iterator[BinaryIO]:
    """The bytes of a file, unpacked where its content is gzip's, whatever its ending says."""
    with _reading(path), path.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        yield cast(BinaryIO, io.BufferedReader(GzipFile(fileobj=raw), _BLOCK)) if packed else raw


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be unpacked ({error}), expected a whole .gz file; get it again") from error
    except OSError as error:
        if error.strerror is None:  # gzip's own
            raise DataError(f"{path}: cannot be unpacked ({error}), expected a whole .gz file; get it again") from error
        raise DataError(f"{path}: cannot be read ({error.strerror}), expected text; check the file") from error
