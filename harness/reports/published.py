"""Numbers that others published, and which of them a measured encoder repeats.

A source is a paper whose numbers come with the package, or a CSV of the user's own, which is named by its path.

`published/simcse.csv`: tables 1-7, B.2, B.3, C.1, D.1, D.2 and E.1 of SimCSE (Gao et al. 2021, arXiv:2104.08821v4).
`published/mteb.csv`: the MTEB results repository at full precision; its SICK-R is over all 9,927 pairs.
`published/simple-simcse.csv`: a replication of unsupervised SimCSE, 50 runs on each of four backbones.
`published/successors.csv`: later papers, from their own READMEs, scripts and model cards, or from lists of others.
`published/papers.csv`: the names and titles of all of them.
"""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from itertools import groupby
from pathlib import Path

from harness import files
from harness.errors import BenchError, UsageError
from harness.names import EncoderCard, ScoreKey, Spec, nearest, pick, short_task
from harness.packaged import packaged
from harness.reports.layouts import LAYOUTS, SPEARMAN
from harness.reports.match import OWN_TEXT, Match, plain_backbone

AVERAGE = "Avg"  # the task under which a table's own average is listed

_CORRELATIONS = ("spearman", "pearson")
_METRICS = {metric: ("all", "mean", "wmean") for metric in _CORRELATIONS} | {"accuracy": ("",)}
_SPLITS = ("test", "dev", "full")
_REQUIRED = ("paper", "model", "task", "value")
_PREFER = "prefer"  # the column's name; the attribute is `preferred`
_OWN = ".csv"  # the ending that makes the name of a source a path

# Task -> the score that tables show of it: of several tables, the first.
_USUAL = {task: layout.key for layout in LAYOUTS[::-1] for task in layout.heads} | {AVERAGE: SPEARMAN}
_HEADS = {short_task(task): task for task in _USUAL}
_TASKS = {name.lower().rstrip("."): task for task in _USUAL for name in (task, short_task(task))}


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A paper, or another source of published numbers."""

    name: str  # as `--published` takes it
    title: str  # as reports print it
    arxiv: str  # identifier, or "" where no source states one
    year: str  # of publication, or ""
    file: str  # of `published/` that holds its numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedRow:
    """One row of a published table: what `Published` says of it, and task -> percent for one metric and split.

    `decimals` is how many digits behind the point its table prints; one that is not rounded has more than ten.
    """

    paper: str
    table: str
    supervision: str
    model: str
    backbone: str
    variant: str
    origin: str
    values: Mapping[str, float]
    decimals: int
    spec: str = ""
    preferred: bool = True
    note: str = ""

    @property
    def title(self) -> str:
        """The title of the paper as reports print it; a user's own table gives its own."""
        return sources()[self.paper].title if self.paper in sources() else self.paper

    @property
    def match(self) -> Match:
        """The encoders that make this row."""
        return Match.parse(self.spec)


@cache
def sources() -> Mapping[str, Source]:
    """Everything that published numbers were taken from, by name; the numbers of a new one are data, no code."""
    return {row["name"]: Source(**row) for row in _read("papers")}


def is_own(source: str) -> bool:
    """Whether the name of a source is the path of a user's table."""
    return source.endswith(_OWN)


def load(source: str) -> tuple[Published, ...]:
    """Every number of one paper, or of a user's table, in its order.

    Raises:
        UsageError: if nothing is published here under that name, or the user's table is not one.
    """
    return _load(source, _stamp(source))


@cache
def _load(source: str, stamp: str) -> tuple[Published, ...]:
    if is_own(source):
        return read_numbers(Path(source))
    return _by_paper(pick("paper", sources(), source).file).get(source, ())


def _stamp(source: str) -> str:
    """What changes when a user's table does, so that it is read once and never stale."""
    if not (is_own(source) and Path(source).is_file()):
        return ""
    facts = Path(source).stat()
    return f"{facts.st_mtime_ns} {facts.st_size}"


@cache
def _by_paper(file: str) -> Mapping[str, tuple[Published, ...]]:
    found: dict[str, list[Published]] = {}
    for row in _read(file):
        texts = {name: row[name] for name in _TEXTS if name in row}
        number = Published(**texts, value=float(row["value"]), preferred=row.get(_PREFER) != "0")
        found.setdefault(number.paper, []).append(number)
    return {paper: tuple(numbers) for paper, numbers in found.items()}


def _read(file: str) -> list[dict[str, str]]:
    text = packaged(f"harness/reports/published/{file}.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(io.StringIO(text, newline="")))


def rows(source: str, table: str | None, key: ScoreKey) -> tuple[PublishedRow, ...]:
    """The rows of one table, in its order, with the numbers of one score.

    Args:
        source: a key of `sources()`, or the path of a user's table.
        table: None for all of the paper's tables.
        key: of the score.
    """
    numbers = [n for n in load(source) if n.key == key and table in (None, n.table)]
    digits = _decimals(source)
    return tuple(_row(list(group), digits) for _, group in groupby(numbers, key=lambda n: (n.paper, *n.row)))


def candidates(key: ScoreKey, named: Sequence[str] = (), *, only: bool = False) -> tuple[PublishedRow, ...]:
    """Every published row that some encoder here makes, and of a paper's rows those to be shown first.

    Args:
        key: of the score.
        named: sources that come first if they are the user's own tables; the package's papers are all there anyway.
        only: whether to leave out all but the named sources.
    """
    first = [source for source in named if only or is_own(source)]
    own = [row for source in first for row in rows(source, None, key) if row.spec]
    return (*own, *(() if only else _packaged_candidates(key)))


@cache
def _packaged_candidates(key: ScoreKey) -> tuple[PublishedRow, ...]:
    found = (row for paper in sources() for row in rows(paper, None, key))
    return tuple(sorted((row for row in found if row.spec), key=lambda row: not row.preferred))


@cache
def _backbones() -> Mapping[str, str]:
    """Name of released weights, such as `sbert` or `hf:org/model` -> the backbone that they were trained from."""
    found: dict[str, str] = {}
    for paper in sources():
        for number in load(paper):
            for spec in Match.parse(number.spec).specs:
                if number.backbone and (spec.name.startswith("hf:") or not spec.given):
                    found.setdefault(spec.name, number.backbone)
    return found


def overview() -> list[dict[str, object]]:
    """One line per paper: what `--published` calls it, how many numbers there are, and its best STS average."""
    lines: list[dict[str, object]] = []
    for source_ in sources().values():
        numbers = load(source_.name)
        averages = [n.value for n in numbers if (n.task, n.metric, n.aggregation) == (AVERAGE, "spearman", "all")]
        lines.append(
            {
                "paper": source_.name,
                "title": source_.title,
                "year": source_.year or "-",
                "numbers": len(numbers),
                "best STS average": f"{max(averages):.2f}" if averages else "-",
                "encoders here": len({n.spec for n in numbers if n.spec}) or "-",
            }
        )
    return lines


def _decimals(source: str) -> dict[str, int]:
    """The number of digits that each table of a source prints after the decimal point, by table."""
    digits: dict[str, int] = {}
    for number in load(source):
        digits[number.table] = max(digits.get(number.table, 0), len(repr(number.value).partition(".")[2]))
    return digits


def counterpart(card: EncoderCard, candidates: Sequence[PublishedRow]) -> PublishedRow | None:
    """The first published row that was made the way this encoder is, or None."""
    return next((row for row in candidates if row.match.fits(card)), None)


def find(reference: str, metric: str = "spearman") -> list[PublishedRow]:
    """The rows that `source:table:model[:backbone[:variant]]` stands for, e.g. `simcse:5:bert` or `own.csv::minilm`.

    A row's numbers on several splits are together in it; those of other aggregations are rows of their own.

    Raises:
        UsageError: if the paper is unknown, or nothing of that name is in the table.
    """
    path, own, after = reference.partition(f"{_OWN}:")
    paper, *rest = [f"{path}{_OWN}", *after.split(":", 3)] if own else reference.split(":", 4)
    table, model, backbone, variant = (*rest, "", "", "", "")[:4]
    inside = [n for n in load(paper) if n.table == table and n.metric == metric]
    found = [n for n in inside if n.model == model and n.backbone.startswith(backbone) and variant in n.variant]
    if not found:
        what = dict.fromkeys(n.model for n in inside) or dict.fromkeys(f"{paper}:{n.table}" for n in load(paper))
        raise UsageError(f"--published {reference}: nothing of that name; known: {', '.join(what)}")
    groups: dict[tuple[str, ...], list[Published]] = {}
    for number in found:
        groups.setdefault((number.paper, *number.row, number.aggregation), []).append(number)
    digits = _decimals(paper)
    return [_row(numbers, digits) for numbers in groups.values()]


def label(row: PublishedRow) -> str:
    """`bert-flow, bert-base-uncased, NLI`."""
    variant = row.variant.partition(" (")[0]
    return ", ".join(part for part in (row.model, row.backbone, variant) if part)


def source(row: PublishedRow) -> str:
    """`SimCSE Table 5`."""
    named = f"Table {row.table}" if row.table[:1].isdigit() or row.table[1:2] == "." else row.table
    return f"{row.title} {named}".rstrip()


def backbone_of(card: EncoderCard) -> str | None:
    """What a paper would call the backbone of an encoder: of released weights, what they were trained from."""
    released = _backbones().get(Spec.parse(card.name).name)
    named = card.parameters.get("backbone") if card.method in OWN_TEXT and card.trained_on is None else None
    name = card.backbone if named is None else str(named)
    return released or (None if name is None else plain_backbone(name))


def _row(numbers: Sequence[Published], decimals: Mapping[str, int]) -> PublishedRow:
    first = numbers[0]
    return PublishedRow(
        paper=first.paper,
        table=first.table,
        supervision=first.supervision,
        model=first.model,
        backbone=first.backbone,
        variant=first.variant,
        origin=first.origin,
        values={number.task: number.value for number in numbers},
        decimals=decimals[first.table],
        spec=first.spec,
        preferred=first.preferred,
        note=first.note,
    )


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
    task = _TASKS.get(number.task.lower().rstrip("."))
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
