"""Published numbers as lines of a table: the record, and tables of the user's own, of which every line is checked."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from harness import files
from harness.errors import BenchError, UsageError
from harness.names import ScoreKey, nearest, short_task
from harness.reports.layouts import LAYOUTS, SPEARMAN
from harness.reports.match import Match

AVERAGE = "Avg"  # the task under which a table's own average is listed

_CORRELATIONS = ("spearman", "pearson")
_METRICS = {metric: ("all", "mean", "wmean") for metric in _CORRELATIONS} | {"accuracy": ("",)}
_SPLITS = ("test", "dev", "full")
_REQUIRED = ("paper", "model", "task", "value")
_PREFER = "prefer"  # the column's name; the attribute is `preferred`


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """One published number."""

    paper: str  # a key of `published.sources()`; in a user's own table whatever names its source
    table: str = ""  # its number in the paper, or ""
    model: str  # method name as in this project where there is one, e.g. `simcse-unsup`
    backbone: str = ""  # checkpoint name, or "" where the model's name says it
    supervision: str = ""  # `unsupervised`, `supervised`, or "" where it is not known
    variant: str = ""  # what sets rows of one model apart, in the paper's words
    task: str  # as in results; `Avg` is the average the paper prints
    metric: str  # `spearman`, `pearson` or `accuracy`
    aggregation: str  # `all`, `mean`, `wmean`, or "" where there is nothing to aggregate
    split: str  # `test`, `dev` or `full`
    value: float  # percent, with the digits that were published
    origin: str = "this paper"  # `this paper`, or whom the paper has the number from
    # specifications of the encoders that make it, as `Match.parse` reads them; "" where nothing here does
    spec: str = ""
    preferred: bool = True  # whether it is the one to show, where a row was published more than once
    note: str = ""  # what a reader must know of the number

    @property
    def row(self) -> tuple[str, ...]:
        """What numbers of one row of a table have in common, beside the paper."""
        return self.table, self.supervision, self.model, self.backbone, self.variant, self.origin

    @property
    def key(self) -> ScoreKey:
        """Which score of the task it is."""
        return ScoreKey(self.metric, self.aggregation, self.split)


@dataclass(frozen=True, slots=True)
class Imported:
    """What was read of another program's results: the numbers, and the names of what is none of ours."""

    numbers: tuple[Published, ...]
    others: tuple[str, ...] = ()


_TEXTS = [field.name for field in fields(Published) if field.name not in ("value", "preferred")]
COLUMNS = (*(name for name in _TEXTS if name not in ("spec", "note")), "value", "spec", _PREFER, "note")


def packaged_number(row: Mapping[str, str]) -> Published:
    """A line of the package's own tables, which its tests check."""
    texts = {name: row[name] for name in _TEXTS if name in row}
    return Published(**texts, value=float(row["value"]), preferred=row.get(_PREFER) != "0")


def read_numbers(path: Path) -> tuple[Published, ...]:
    """Every number of a user's table: a CSV whose columns are attributes of `Published`.

    Required are paper, model, task and value. A task may be named as tables head it (`STS-B`); metric, aggregation and
    split follow from the task where they are not given.

    Raises:
        UsageError: if the file cannot be read, a column is missing or unknown, a line is not a published number, or two
            lines are one number.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{path}: cannot be read ({reason}), expected a CSV of published numbers") from error
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        _check_columns(path, reader.fieldnames or ())
        numbers = [_number(f"{path}:{reader.line_num}", row) for row in reader]
    except csv.Error as error:
        raise UsageError(f"{path}:{reader.line_num}: {error}; quote texts that hold a comma or a quote") from error
    if not numbers:
        raise UsageError(f"{path}: no numbers below the header, expected a line for each published number")
    return _distinct(str(path), numbers)


def add_numbers(path: Path, new: Sequence[Published]) -> None:
    """Write the numbers behind those that the table holds; it is made where there is none.

    Raises:
        UsageError: if the table cannot be read, or has one of the numbers already; nothing is written then.
        WriteError: if the disk refuses.
    """
    numbers = _distinct(str(path), [*(read_numbers(path) if path.exists() else ()), *new])
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for number in numbers:
        cells = {name: getattr(number, name) for name in _TEXTS}
        cells |= {"value": repr(number.value), _PREFER: int(number.preferred)}
        writer.writerow([cells[name] for name in COLUMNS])
    files.replace(path, text.getvalue().encode())


def checked(number: Published, where: str) -> Published:
    """The number with what follows from its task filled in.

    Args:
        number: empty metric, aggregation and split are filled in.
        where: the place for errors.

    Raises:
        UsageError: if task, metric, aggregation or split is unknown, the value is out of its range, or the
            specification is none.
    """
    task = _TASKS.get(_plain(number.task))
    if task is None:
        raise UsageError(f"{where}: no task of a table is named {number.task!r}; {nearest(number.task, _HEADS)}")
    usual = _USUAL[task]
    metric = number.metric or usual.metric
    aggregation = number.aggregation or (usual.aggregation if metric in _CORRELATIONS else "")
    split = number.split or usual.split
    if metric not in _METRICS or aggregation not in _METRICS[metric]:
        found = "/".join(filter(None, (metric, aggregation)))
        raise UsageError(f"{where}: no score is named {found}, expected accuracy, or spearman or pearson with all")
    if (metric in _CORRELATIONS) != (usual.metric in _CORRELATIONS) and task != AVERAGE:
        raise UsageError(f"{where}: {metric} of {task}, expected {usual.metric}")
    if split != usual.split and task != AVERAGE:
        wanted = f"expected {usual.split}; numbers of splits do not compare"
        raise UsageError(f"{where}: split {split!r} of {task}, {wanted}")
    if split not in _SPLITS:
        raise UsageError(f"{where}: split {split!r}, expected one of {', '.join(_SPLITS)}")
    low = -100 if metric in _CORRELATIONS else 0
    if not low <= number.value <= 100:  # false for nan too
        raise UsageError(f"{where}: {number.value} on {task}, expected percent from {low} to 100")
    try:
        Match.parse(number.spec)
    except BenchError as error:
        raise UsageError(f"{where}: {error}") from error
    return replace(number, task=task, metric=metric, aggregation=aggregation, split=split)


def _check_columns(path: Path, found: Iterable[str]) -> None:
    names = list(found)
    missing = [name for name in _REQUIRED if name not in names]
    if missing:
        raise UsageError(
            f"{path}: no column {missing[0]}, expected a header with {', '.join(_REQUIRED)} and any of "
            f"{', '.join(name for name in COLUMNS if name not in _REQUIRED)}"
        )
    unknown = [name for name in names if name not in COLUMNS]
    if unknown:
        raise UsageError(f"{path}: unknown column {unknown[0]!r}; {nearest(unknown[0], COLUMNS)}")
    if len(set(names)) < len(names):
        raise UsageError(f"{path}: a column is twice in the header {', '.join(names)}; keep one")


def _number(where: str, row: Mapping[str | None, str | None]) -> Published:
    if None in row or None in row.values():
        raise UsageError(f"{where}: more or fewer fields than the header has; quote texts that hold a comma")
    given = {str(name): str(text).strip() for name, text in row.items() if str(text).strip()}
    missing = [name for name in _REQUIRED if name not in given]
    if missing:
        raise UsageError(f"{where}: no {missing[0]}, expected one in every line")
    try:
        value = float(given["value"])
    except ValueError:
        raise UsageError(f"{where}: value {given['value']!r} is no number, expected percent") from None
    if given.get(_PREFER, "1") not in ("0", "1"):
        raise UsageError(f"{where}: {_PREFER} is {given[_PREFER]!r}, expected 1 for the row to show, else 0")
    texts = {"metric": "", "aggregation": "", "split": ""} | {name: given[name] for name in _TEXTS if name in given}
    number = Published(**texts, value=value, preferred=given.get(_PREFER) != "0")
    return checked(number, where)


def _distinct(where: str, numbers: Sequence[Published]) -> tuple[Published, ...]:
    """The numbers themselves, if no two of them are one.

    Raises:
        UsageError: if two are.
    """
    seen: dict[tuple[str, ...], Published] = {}
    for number in numbers:
        key = (number.paper, *number.row, number.task, *number.key)
        if key in seen:
            raise UsageError(
                f"{where}: {number.metric} of {number.model} on {number.task} is there twice ({seen[key].value} and "
                f"{number.value}, both from {number.paper}, {number.origin}); keep one, or tell them apart by variant"
            )
        seen[key] = number
    return tuple(numbers)


def _plain(name: str) -> str:
    return name.lower().rstrip(".")


# Task -> the score that tables show of it: of several tables, the first.
_USUAL = {task: layout.key for layout in LAYOUTS[::-1] for task in layout.heads} | {AVERAGE: SPEARMAN}
_HEADS = {short_task(task): task for task in _USUAL}
_TASKS = {_plain(name): task for task in _USUAL for name in (task, short_task(task))}
