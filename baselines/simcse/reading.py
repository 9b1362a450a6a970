"""Training text, row by row: one sentence a line, or a table of sentences, their positives and hard negatives."""

import csv
import gzip
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations, groupby
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TextIO

from baselines.simcse.settings import TrainSettings
from harness.errors import DataError, UsageError

if TYPE_CHECKING:
    import _csv

Row = tuple[str, ...]  # the views of one example; a single one stands for two copies
_NEUTRAL = "neutral"


def read_rows(path: Path, settings: TrainSettings) -> Iterator[Row]:
    r"""The examples of a file, in order, as texts.

    `.txt` (or any other ending): one sentence a line; lines end at \n alone, and empty ones are kept, as in the
    original's loader. `.csv` and `.tsv`: a header, then columns by position; with or without `.gz`. One column is
    unsupervised data; sentence, positive and hard negative are supervised data, with a column named `neutral` where
    the settings ask for one. For positives=captions the two columns are image and caption, the captions of an image
    stand together, and every two of them are a pair.

    Raises:
        DataError: if the file cannot be read, or a row is not what the header says; with file and line.
        UsageError: if the columns do not fit the settings.
    """
    names = [suffix for suffix in path.suffixes if suffix != ".gz"]
    kind = names[-1] if names else ""
    try:
        with _opened(path) as file:
            if kind in (".csv", ".tsv"):
                yield from _table(path, file, "\t" if kind == ".tsv" else ",", settings)
            elif settings.method == "simcse-sup":
                raise UsageError(
                    f"{path}: supervised training needs pairs, expected a .csv with the columns sentence, positive and,"
                    " if wanted, hard negative"
                )
            else:
                yield from ((line.rstrip("\r\n"),) for line in file)
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: byte 0x{error.object[error.start]:02x} is not UTF-8; convert the file") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}); check the path") from error


def _opened(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8", newline="\n")
    return path.open(encoding="utf-8", newline="\n")


def _table(path: Path, file: TextIO, delimiter: str, settings: TrainSettings) -> Iterator[Row]:
    # tabs separate without any quoting: in such files quotes are ordinary characters
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if delimiter == "," else csv.QUOTE_NONE
    reader = csv.reader(file, delimiter=delimiter, quoting=quoting, strict=True)
    header = next(reader, [])
    choose = _chooser(path, header, settings)
    rows = _checked(path, reader, len(header))
    if settings.method == "simcse-sup" and settings.positives == "captions":
        for _, group in groupby(rows, key=lambda cells: cells[0]):
            yield from combinations([caption for _, caption in group], 2)
        return
    for cells in rows:
        yield from choose(cells)


def _checked(path: Path, reader: "_csv.Reader", width: int) -> Iterator[Sequence[str]]:
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise DataError(f"{path}:{reader.line_num}: {error}, expected comma-separated values") from error
        if cells is None:
            return
        if len(cells) != width:
            raise DataError(
                f"{path}:{reader.line_num}: {len(cells)} cells, expected the header's {width}; quote commas"
            )
        yield cells


def _chooser(path: Path, header: Sequence[str], settings: TrainSettings) -> Callable[[Sequence[str]], Iterator[Row]]:
    """From a row's cells to its examples."""
    if settings.method == "simcse-unsup":
        if len(header) != 1:
            raise UsageError(
                f"{path}: {_columns(header)}, expected 1 for simcse-unsup; use simcse-sup, or a file of one column"
            )
        return lambda cells: iter([(cells[0],)])
    if len(header) < 2:
        raise UsageError(f"{path}: {_columns(header)}, expected 2 or more for simcse-sup: sentence, positive")
    positives = _positives(path, header, settings)
    negatives = _negatives(path, header, settings)
    return lambda cells: iter([(cells[0], cells[p], *(cells[n] for n in negatives)) for p in positives])


def _positives(path: Path, header: Sequence[str], settings: TrainSettings) -> list[int]:
    match settings.positives:
        case "neutral":
            return [_named(path, header, _NEUTRAL, "positives=neutral")]
        case "contradiction":
            return [_third(path, header, "positives=contradiction")]
        case "all":
            return list(range(1, len(header)))
        case "captions" if len(header) != 2:
            raise UsageError(f"{path}: {_columns(header)}, expected 2 for positives=captions: image, caption")
        case _:
            return [1]


def _negatives(path: Path, header: Sequence[str], settings: TrainSettings) -> list[int]:
    if settings.hard_negatives in ("neutral", "both"):
        neutral = [_named(path, header, _NEUTRAL, f"hard_negatives={settings.hard_negatives}")]
        return (
            neutral if settings.hard_negatives == "neutral" else [_third(path, header, "hard_negatives=both"), *neutral]
        )
    if settings.hard_negatives == "none" or settings.positives not in ("entailment",):
        return []
    third = [2] if len(header) > 2 and header[2] != _NEUTRAL else []
    if settings.hard_negative_weight and not third:
        raise UsageError(
            f"{path}: {_columns(header)} and no hard negatives, expected a third column for "
            f"hard_negative_weight={settings.hard_negative_weight:g}"
        )
    return third


def _third(path: Path, header: Sequence[str], why: str) -> int:
    if len(header) < 3:
        raise UsageError(f"{path}: {_columns(header)}, expected a third one for {why}")
    return 2


def _named(path: Path, header: Sequence[str], name: str, why: str) -> int:
    if name not in header:
        raise UsageError(f"{path}: {_columns(header)}, expected one named {name!r} for {why}")
    return header.index(name)


def _columns(header: Sequence[str]) -> str:
    return f"{len(header)} column{'s' if len(header) != 1 else ''} ({', '.join(header)})"
