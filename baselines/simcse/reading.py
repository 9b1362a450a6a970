"""The examples of a training text: sentences, or sentences with their positives and hard negatives.

Files are read by `harness.data.text`. Columns of sentences go by position, as in the original; their names only say
which are neutral.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, groupby
from pathlib import Path

from harness.data.columns import NEUTRAL, columns_text, is_neutral
from harness.data.text import SentenceFile, open_text
from harness.errors import DataError, UsageError

Row = tuple[str, ...]  # the views of one example; a single one stands for two copies
Names = Sequence[str]


@dataclass(frozen=True, slots=True)
class Roles:
    """What is asked of a table's columns; the attributes are parameters of `SimcseSup`."""

    method: str
    positives: str = "entailment"
    hard_negatives: str = "given"
    hard_negative_weight: float = 0.0


def read_rows(path: Path, settings: Roles) -> Iterator[Row]:
    """The examples of a file, in order, as texts.

    Lines, and tables with one column of sentences, are unsupervised data, whose empty lines are kept, as in the
    original's loader. Sentence, positive and hard negative are supervised data, whose empty lines are skipped, with a
    column named `neutral` where the settings ask for one. For positives=captions the captions of an image stand
    together, and every two of them are a pair. A column of row numbers or ids is left out.

    Raises:
        DataError: if the file cannot be read, or a row is not what the header says, with file and line; at the end,
            if fewer than two examples begin with a text that is not blank.
        UsageError: if it cannot be told what the file holds, or the columns do not fit the settings.
    """
    yield from _two_or_more(path, _examples(open_text(path), settings), settings)


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


def _examples(file: SentenceFile, settings: Roles) -> Iterator[Row]:
    if settings.method == "simcse-sup" and file.kind == "lines":
        raise UsageError(
            f"{file.path}: supervised training needs pairs, expected a .csv with the columns sentence, positive and, "
            "if wanted, hard negative"
        )
    if settings.method == "simcse-sup" and settings.positives == "captions":
        return _caption_pairs(file, settings)
    _check_columns(file)
    header = file.sentence_columns
    if settings.method == "simcse-unsup":
        if len(header) != 1:
            raise UsageError(
                f"{file.path}: {columns_text(header)}, expected 1 for simcse-unsup; use simcse-sup, or a file of one "
                "column"
            )
        return file.rows()
    return _views(file, header, settings)


def _check_columns(file: SentenceFile) -> None:
    """Refuse columns that judge or group sentences: trained on without them, contradictions would be positives."""
    for column in file.columns:
        if column.role in ("label", "image"):
            names = [each.name for each in file.columns]
            raise UsageError(
                f"{file.path}: {columns_text(names)}, of which {column.name!r} names no sentences, expected sentences "
                "alone; choose rows by it and remove it"
            )


def _caption_pairs(file: SentenceFile, settings: Roles) -> Iterator[Row]:
    images = [column.name for column in file.columns if column.role in ("image", "index")]
    if len(images) != 1 or len(file.columns) != 2:
        names = [column.name for column in file.columns]
        raise UsageError(f"{file.path}: {columns_text(names)}, expected 2 for positives=captions: image, caption")
    _check_roles(file.path, [images[0], *file.sentence_columns], settings, ([1], []))
    for _, group in groupby(file.rows([images[0], *file.sentence_columns]), key=lambda cells: cells[0]):
        yield from combinations([caption for _, caption in group], 2)


def _views(file: SentenceFile, header: Names, settings: Roles) -> Iterator[Row]:
    if len(header) < 2:
        raise UsageError(f"{file.path}: {columns_text(header)}, expected 2 or more for simcse-sup: sentence, positive")
    positives, negatives = _positives(file.path, header, settings), _negatives(file.path, header, settings)
    _check_roles(file.path, header, settings, (positives, negatives))
    for cells in file.rows():
        yield from ((cells[0], cells[p], *(cells[n] for n in negatives)) for p in positives)


def _check_roles(path: Path, header: Names, settings: Roles, roles: tuple[list[int], list[int]]) -> None:
    positives, negatives = roles
    chosen = f"positives={settings.positives} and hard_negatives={settings.hard_negatives}"
    for number in positives:
        if number in negatives:
            raise UsageError(
                f"{path}: {columns_text(header)}, of which {header[number]!r} is positive and hard negative at once "
                f"with {chosen}, expected different ones; change one of the two"
            )
    if settings.hard_negative_weight and not negatives:
        raise UsageError(
            f"{path}: {columns_text(header)} and no hard negatives with {chosen}, expected some for "
            f"hard_negative_weight={settings.hard_negative_weight:g}; drop the weight, or choose others"
        )


def _positives(path: Path, header: Names, settings: Roles) -> list[int]:
    match settings.positives:
        case "neutral":
            return [_neutral(path, header, "positives=neutral")]
        case "contradiction":
            return [_contradiction(path, header, "positives=contradiction")]
        case "all":
            return list(range(1, len(header)))
        case _:
            return [1]


def _negatives(path: Path, header: Names, settings: Roles) -> list[int]:
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


def _contradictions(header: Names) -> list[int]:
    return [number for number in range(2, len(header)) if not is_neutral(header[number])]


def _contradiction(path: Path, header: Names, why: str) -> int:
    found = _contradictions(header)
    if not found:
        raise UsageError(
            f"{path}: {columns_text(header)}, expected one of contradictions, such as hard_neg, after the first two "
            f"for {why}"
        )
    return found[0]


def _neutral(path: Path, header: Names, why: str) -> int:
    found = [number for number in range(1, len(header)) if is_neutral(header[number])]
    if not found:
        raise UsageError(f"{path}: {columns_text(header)}, expected one named {NEUTRAL!r} after the first for {why}")
    return found[0]
