"""Training text, row by row: one sentence a line, or a table of sentences, their positives and hard negatives."""

import csv
import gzip
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, groupby
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Literal, TextIO, cast

from baselines.simcse.settings import Settings, SimcseSup
from harness.errors import DataError, UsageError

if TYPE_CHECKING:
    import _csv

Row = tuple[str, ...]  # the views of one example; a single one stands for two copies
Cells = Sequence[str]
_OTHER_FORMATS = (  # read as lines, they would train on markup or bytes
    *(".json", ".jsonl", ".ndjson", ".xml", ".html", ".htm", ".yaml", ".yml", ".toml"),
    *(".parquet", ".arrow", ".feather", ".xls", ".xlsx", ".ods", ".doc", ".docx", ".odt", ".pdf", ".db", ".sqlite"),
    *(".zip", ".tar", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar"),
    *(".npy", ".npz", ".pt", ".pth", ".bin", ".pkl", ".pickle", ".safetensors", ".h5", ".hdf5"),
)
_NEUTRAL = "neutral"
# Columns go by position, as in the original. Their names only tell a header from a first row that is none, and
# sentences from labels and ids, which would be trained on.
_SENTENCES = (
    *("sent", "sentence", "text", "premise", "hypothesis", "anchor", "query", "question", "answer", "passage"),
    *("document", "source", "target", "reference", "paraphrase", "caption", "positive", "pos", "entailment"),
    *("negative", "neg", "hard_negative", "hard_neg", "contradiction", _NEUTRAL),
)
_IMAGES = ("image", "image_id", "image_name", "filename", "id")


@dataclass(frozen=True, slots=True)
class Roles:
    """What is asked of a table's columns; the attributes are parameters of `SimcseSup`."""

    method: str
    positives: str = "entailment"
    hard_negatives: str = "given"
    hard_negative_weight: float = 0.0

    @classmethod
    def of(cls, settings: Settings) -> "Roles":
        """The roles that a method's settings ask for."""
        if not isinstance(settings, SimcseSup):
            return cls(settings.method)
        return cls(settings.method, settings.positives, settings.hard_negatives, settings.hard_negative_weight)


def read_rows(path: Path, settings: Roles) -> Iterator[Row]:
    r"""The examples of a file, in order, as texts.

    `.txt` (or an ending that says nothing): one sentence a line; lines end at \n alone, and empty ones are kept, as in
    the original's loader. `.csv` and `.tsv`: a header of known names, then columns by position; with or without `.gz`.
    One column is unsupervised data, whose empty lines are kept; sentence, positive and hard negative are supervised
    data, whose empty lines are skipped, with a column named `neutral` where the settings ask for one. For
    positives=captions the two columns are image and caption, the captions of an image stand together, and every two
    of them are a pair.

    Raises:
        DataError: if the file cannot be read, or a row is not what the header says, with file and line; at the end,
            if fewer than two examples begin with a text that is not blank.
        UsageError: if the ending is another format's, the first line is no header, or the columns do not fit the
            settings.
    """
    kind = PurePath(path.name.lower().removesuffix(".gz")).suffix
    if kind in _OTHER_FORMATS:
        raise UsageError(
            f"{path}: {kind} files cannot be read, expected .csv or .tsv for a table or .txt for one sentence a line, "
            "with or without .gz; convert it"
        )
    try:
        with _opened(path) as file:
            yield from _two_or_more(path, _examples(path, file, kind, settings), settings)
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from error


def _opened(path: Path) -> TextIO:
    if path.suffix.lower() == ".gz":
        return cast(TextIO, gzip.open(path, "rt", encoding="utf-8", newline="\n"))
    return path.open(encoding="utf-8", newline="\n")


def _unreadable(path: Path, error: Exception) -> DataError:
    if isinstance(error, UnicodeDecodeError):
        return DataError(f"{path}: byte 0x{error.object[error.start]:02x} is not UTF-8; convert the file")
    if isinstance(error, OSError) and error.strerror:
        return DataError(f"{path}: cannot be read ({error.strerror}); check the path")
    return DataError(f"{path}: cannot be unpacked ({error}), expected a whole .gz file; get it again")


def _two_or_more(path: Path, rows: Iterator[Row], settings: Roles) -> Iterator[Row]:
    """The rows; of fewer than two, a sentence would have no other to be told from."""
    filled = blank = 0
    for row in rows:
        if row[0].strip():
            filled += 1
        else:
            blank += 1
        yield row
    if filled < 2:
        what = "sentence" if settings.method == "simcse-unsup" else "example"
        found = f"1 {what}" if filled else f"no {what}s"
        beside = f" beside {blank} blank one{'s' * (blank != 1)}" if blank else ""
        raise DataError(f"{path}: {found}{beside}, expected at least two; is it the right file?")


def _examples(path: Path, file: TextIO, kind: str, settings: Roles) -> Iterator[Row]:
    if kind in (".csv", ".tsv"):
        return _table(path, file, "\t" if kind == ".tsv" else ",", settings)
    if settings.method == "simcse-sup":
        raise UsageError(
            f"{path}: supervised training needs pairs, expected a .csv with the columns sentence, positive and,"
            " if wanted, hard negative"
        )
    return ((line.rstrip("\r\n"),) for line in file)


def _table(path: Path, file: TextIO, delimiter: str, settings: Roles) -> Iterator[Row]:
    # tabs separate without any quoting: in such files quotes are ordinary characters
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if delimiter == "," else csv.QUOTE_NONE
    reader = csv.reader(file, delimiter=delimiter, quoting=quoting, strict=True)
    lines = _parsed(path, reader)
    header = next(filter(None, lines), None)
    if header is None:
        return
    choose = _chooser(path, header, settings)
    rows = _checked(path, reader, lines, len(header))
    if settings.method == "simcse-sup" and settings.positives == "captions":
        for _, group in groupby(rows, key=lambda cells: cells[0]):
            yield from combinations([caption for _, caption in group], 2)
        return
    for cells in rows:
        yield from choose(cells)


def _parsed(path: Path, reader: "_csv.Reader") -> Iterator[Cells]:
    try:
        yield from reader
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num}: {error}, expected comma-separated values") from error


def _checked(path: Path, reader: "_csv.Reader", lines: Iterator[Cells], width: int) -> Iterator[Cells]:
    for cells in lines:
        if len(cells) == width:
            yield cells
        elif cells:
            raise DataError(
                f"{path}:{reader.line_num}: {len(cells)} cells, expected the header's {width}; quote commas"
            )
        elif width == 1:  # an empty line: of text, an empty sentence; of a table, nothing
            yield [""]


def _chooser(path: Path, header: Cells, settings: Roles) -> Callable[[Cells], Iterator[Row]]:
    """From a row's cells to its examples."""
    _check_width(path, header, settings)
    _check_names(path, header, (*_IMAGES, *_SENTENCES) if settings.positives == "captions" else _SENTENCES)
    if settings.method == "simcse-unsup":
        return lambda cells: iter([(cells[0],)])
    positives = _positives(path, header, settings)
    negatives = _negatives(path, header, settings)
    _check_roles(path, header, settings, (positives, negatives))
    return lambda cells: iter([(cells[0], cells[p], *(cells[n] for n in negatives)) for p in positives])


def _check_width(path: Path, header: Cells, settings: Roles) -> None:
    found = f"{path}: {_columns(header)}"
    if settings.method == "simcse-unsup":
        if len(header) != 1:
            raise UsageError(f"{found}, expected 1 for simcse-unsup; use simcse-sup, or a file of one column")
    elif len(header) < 2:
        raise UsageError(f"{found}, expected 2 or more for simcse-sup: sentence, positive")
    elif len(header) > 2 and settings.positives == "captions":
        raise UsageError(f"{found}, expected 2 for positives=captions: image, caption")


def _check_names(path: Path, header: Cells, known: Cells) -> None:
    column = re.compile(rf"({'|'.join(map(_plain, known))})(\d+|[ab])?")
    plain = [_plain(name) for name in header]
    for name, shown in zip(plain, header, strict=True):
        if not column.fullmatch(name):
            raise UsageError(
                f"{path}: the first line has {_columns(header)}, of which {_short(shown)!r} names no sentences, "
                f"expected a header of the names {', '.join(known)}, with or without a number; a .csv or .tsv needs "
                "a header: add it, or correct it"
            )
        if plain.count(name) > 1:
            raise UsageError(f"{path}: {_columns(header)}, expected {shown!r} once; name every column differently")


def _check_roles(path: Path, header: Cells, settings: Roles, roles: tuple[list[int], list[int]]) -> None:
    positives, negatives = roles
    chosen = f"positives={settings.positives} and hard_negatives={settings.hard_negatives}"
    for number in positives:
        if number in negatives:
            raise UsageError(
                f"{path}: {_columns(header)}, of which {header[number]!r} is positive and hard negative at once with "
                f"{chosen}, expected different ones; change one of the two"
            )
    if settings.hard_negative_weight and not negatives:
        raise UsageError(
            f"{path}: {_columns(header)} and no hard negatives with {chosen}, expected some for "
            f"hard_negative_weight={settings.hard_negative_weight:g}; drop the weight, or choose others"
        )


def _positives(path: Path, header: Cells, settings: Roles) -> list[int]:
    match settings.positives:
        case "neutral":
            return [_neutral(path, header, "positives=neutral")]
        case "contradiction":
            return [_contradiction(path, header, "positives=contradiction")]
        case "all":
            return list(range(1, len(header)))
        case _:
            return [1]


def _negatives(path: Path, header: Cells, settings: Roles) -> list[int]:
    match settings.hard_negatives:
        case "neutral":
            return [_neutral(path, header, "hard_negatives=neutral")]
        case "both":
            why = "hard_negatives=both"
            return [_contradiction(path, header, why), _neutral(path, header, why)]
        case "given" if settings.positives == "entailment":
            return _contradictions(header)[:1]
        case _:
            return []


def _contradictions(header: Cells) -> list[int]:
    return [number for number in range(2, len(header)) if not _is_neutral(header[number])]


def _contradiction(path: Path, header: Cells, why: str) -> int:
    found = _contradictions(header)
    if not found:
        raise UsageError(
            f"{path}: {_columns(header)}, expected one of contradictions, such as hard_neg, after the first two for "
            f"{why}"
        )
    return found[0]


def _neutral(path: Path, header: Cells, why: str) -> int:
    found = [number for number in range(1, len(header)) if _is_neutral(header[number])]
    if not found:
        raise UsageError(f"{path}: {_columns(header)}, expected one named {_NEUTRAL!r} after the first for {why}")
    return found[0]


def _is_neutral(name: str) -> bool:
    return _plain(name).rstrip("0123456789") == _NEUTRAL


def _plain(name: str) -> str:
    """Letters and digits alone: a byte order mark, case, spaces and how words are joined do not matter."""
    return re.sub(r"[\W_]", "", name.casefold())


def _columns(header: Cells) -> str:
    return f"{len(header)} column{'s' if len(header) != 1 else ''} ({', '.join(map(_short, header))})"


def _short(name: str) -> str:
    """Where there is no header, names are whole sentences."""
    line = " ".join(name.split())
    return line if len(line) <= 40 else f"{line[:39]}…"
