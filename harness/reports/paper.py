"""A paper's tables filled from results: which cells are there, which are missing, and the paper's layout."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import mean, stdev

from harness.names import EncoderCard
from harness.reports.numbers import AVERAGE
from harness.reports.table import Cell, Column, Row, Table
from harness.reports.targets import (
    Choice,
    Filler,
    Paper,
    Target,
    TargetCell,
    TargetRow,
    file_name,
    filler_of,
    rerun_note,
    title_of,
)
from harness.results.record import Result

_Places = Mapping[tuple[str, str], Sequence[Result]]  # task and protocol -> results


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A result that a table needs."""

    encoder: str
    task: str
    protocol: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """How much of a target is measured: cells that can be filled under a choice, and those that are."""

    fillable: int
    measured: int
    missing: tuple[Wanted, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperTable:
    """A filled target.

    Attributes:
        table: its name is that of its files, without an ending.
        cards: label of each row that can be filled -> the encoders in its first column, one a seed; none measured: ().
        published: label of a figure's row -> the average STS score that the paper prints for it.
    """

    table: Table
    cards: Mapping[str, tuple[EncoderCard, ...]] = field(default_factory=dict)
    published: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Replicates:
    """Measured values of one cell in the paper's unit, by seed, with the encoders and flags behind them."""

    values: Mapping[str, float] = field(default_factory=dict)
    cards: Mapping[str, EncoderCard] = field(default_factory=dict)
    flags: frozenset[str] = frozenset()


def coverage(target: Target, paper: Paper, choice: Choice, results: Sequence[Result]) -> Coverage:
    """What of a target is there and what is missing; where no seed is asked for, one of any seed is enough."""
    places = _by_place(results)
    fillable = measured = 0
    missing: dict[Wanted, None] = {}
    for cell in _cells(target):
        filler = filler_of(cell, paper, choice)
        if filler is None:
            continue
        fillable += 1
        found = _replicates(cell, filler, choice, places)
        measured += bool(found.values)
        for seed in _open_seeds(filler, found, choice):
            for task in cell.tasks:
                if not any(_is(filler, seed, result.encoder) for result in places.get((task, cell.protocol), ())):
                    missing[Wanted(encoder=filler.named(seed), task=task, protocol=cell.protocol)] = None
    return Coverage(fillable=fillable, measured=measured, missing=tuple(missing))


def _open_seeds(filler: Filler, found: _Replicates, choice: Choice) -> list[str | None]:
    if filler.seeded and choice.seeds:
        return [str(seed) for seed in choice.seeds if str(seed) not in found.values]
    return [] if found.values else [None]


def _is(filler: Filler, seed: str | None, card: EncoderCard) -> bool:
    return filler.fits(card) and seed in (None, _seed(card))


def fill(target: Target, paper: Paper, choice: Choice, results: Sequence[Result]) -> PaperTable:
    """A target in the paper's layout: the paper's rows, and under each what was measured for it."""
    if target.texts:
        return fill_words(target, paper, choice, {})
    choice = choice.used_by([cell.run for cell in _cells(target)])
    places = _by_place(results)
    rows: list[Row] = []
    cards: dict[str, tuple[EncoderCard, ...]] = {}
    printed: dict[str, float] = {}
    for row in target.rows:
        fillers = [filler_of(cell, paper, choice) if cell else None for cell in row.cells]
        found = [
            _replicates(cell, filler, choice, places) if cell and filler else _Replicates()
            for cell, filler in zip(row.cells, fillers, strict=True)
        ]
        rows += _rows(target, row, found, choice, comparable=choice.comparable(paper))
        if any(fillers):
            cards[row.label] = tuple(found[0].cards.values())
        if row.average is not None:
            printed[row.label] = row.average
    done = coverage(target, paper, choice, results)
    caption = f"{target.measure}. {done.measured} of {done.fillable} cells measured.{rerun_note(paper, choice)}"
    if any(cell.deviation is not None for row in rows for cell in row.cells):
        caption += " ±: standard deviation over seeds."
    table = Table(
        name=file_name(target, paper, choice),
        title=title_of(target, paper, choice),
        caption=caption,
        columns=_columns(target),
        rows=tuple(rows),
        head="Model",
    )
    return PaperTable(table=table, cards=cards, published=printed)


def _columns(target: Target) -> tuple[Column, ...]:
    columns = [Column(head=head, digits=target.digits, spread="inside") for head in target.heads]
    average = [Column(head="Avg.", digits=target.digits, task=AVERAGE, spread="inside")] if target.average else []
    return (*columns, *average)


def fill_words(target: Target, paper: Paper, choice: Choice, found: Mapping[int, Sequence[str]]) -> PaperTable:
    """A table of words in the paper's layout.

    Args:
        target: with texts.
        paper: of the target.
        choice: what was searched with.
        found: column -> the captions found, those of the first query first; as many as rows that begin with `#`.
    """
    rows: list[Row] = []
    number = 0
    for label, *words in target.texts:
        rows.append(Row(kind="published", label=label, cells=tuple(Cell(words=word) for word in words)))
        if found and label.startswith("#"):
            texts = [found[i][number] if i in found else "-" for i in range(len(target.heads))]
            cells = tuple(Cell(words=text) for text in texts)
            rows.append(Row(kind="measured", label="measured", cells=cells, below=True))
            number += 1
    table = Table(
        name=file_name(target, paper, choice) if found else f"{paper.name}-{target.name}",
        title=title_of(target, paper, choice) if found else f"{paper.title}, {target.label}: {target.title}",
        caption=f"{target.measure}.{rerun_note(paper, choice) if found else ''}",
        columns=tuple(Column(head=head, kind="words") for head in target.heads),
        rows=tuple(rows),
        head="",
    )
    return PaperTable(table=table)


def _cells(target: Target) -> Iterator[TargetCell]:
    return (cell for row in target.rows for cell in row.cells if cell is not None)


def _by_place(results: Sequence[Result]) -> _Places:
    places: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        places.setdefault((result.task, result.protocol), []).append(result)
    return places


def _replicates(cell: TargetCell, filler: Filler, choice: Choice, places: _Places) -> _Replicates:
    """A replicate counts if all tasks of the cell have a result."""
    by_seed: dict[str, dict[str, Result]] = {}
    for task in cell.tasks:
        for result in places.get((task, cell.protocol), ()):
            if filler.fits(result.encoder):
                by_seed.setdefault(_seed(result.encoder), {})[task] = result
    asked = {str(seed) for seed in choice.seeds} if filler.seeded else set()
    values: dict[str, float] = {}
    used: list[Result] = []
    for seed, tasks in sorted(by_seed.items(), key=lambda item: (len(item[0]), item[0])):
        value = _value(tasks, cell)
        if value is not None and (not asked or seed in asked):
            values[seed] = value
            used += tasks.values()
    cards = {seed: next(iter(by_seed[seed].values())).encoder for seed in values}
    return _Replicates(values, cards, frozenset(flag for result in used for flag in result.flags))


def _value(results: Mapping[str, Result], cell: TargetCell) -> float | None:
    scores = [_score(results[task], cell.score) if task in results else None for task in cell.tasks]
    known = [score for score in scores if score is not None]
    return cell.scale * mean(known) if len(known) == len(scores) else None


def _score(result: Result, key: str) -> float | None:
    """A task that is one set has the same score under every aggregation."""
    metric, *rest = key.split("/")
    if len(rest) == 2 and not any("/subset:" in name for name in result.scores):
        return result.scores.get(key, result.scores.get(f"{metric}/all/{rest[1]}"))
    return result.scores.get(key)


def _seed(card: EncoderCard) -> str:
    """Of the training, or one name for all that have none."""
    seed = card.parameters.get("seed")
    return "-" if seed is None else str(seed)


def _rows(
    target: Target, row: TargetRow, found: Sequence[_Replicates], choice: Choice, *, comparable: bool
) -> list[Row]:
    """The paper's row, and below it what was measured and, where that may be compared, the difference."""
    if not row.cells:
        return [Row(kind="section", label=row.label)]
    width = len(target.heads) + target.average
    own = [Cell(value=cell.published if cell else None, source=("the paper",)) for cell in row.cells]
    own += [Cell(value=row.average, source=("the paper",))] if target.average else []
    rows: list[Row] = []
    if any(cell.value is not None for cell in own):
        marks = tuple(filter(None, (f"number from {row.origin}" if row.origin else "", row.note)))
        rows.append(Row(kind="published", label=row.label, cells=_filled(own, width), marks=marks))
    measured = [_cell(list(one.values.values()), [card.name for card in one.cards.values()]) for one in found]
    measured += [_cell(_averages(found))] if target.average else []
    if all(cell.value is None for cell in measured):
        return rows
    flags = tuple(sorted(set().union(*(one.flags for one in found))))
    on = f" on {choice.backbone}" if choice.backbone else ""
    label, below = (f"measured{on}", True) if rows else (row.label, False)
    name = next((cell.source[0] for cell in measured if cell.source), row.label)
    cells = _filled(measured, width)
    rows.append(Row(kind="measured", label=label, name=name, cells=cells, marks=flags, below=below))
    if comparable and len(rows) == 2:
        gaps = [
            Cell(value=None if a.value is None or b.value is None else a.value - b.value)
            for a, b in zip(measured, own, strict=True)
        ]
        rows.append(Row(kind="difference", label="difference", cells=_filled(gaps, width), below=True))
    return rows


def _filled(cells: Sequence[Cell], width: int) -> tuple[Cell, ...]:
    return (*cells, *(Cell(words=" ") for _ in range(width - len(cells))))


def _cell(values: Sequence[float], source: Sequence[str] = ()) -> Cell:
    """The mean of some seeds."""
    if not values:
        return Cell()
    deviation = stdev(values) if len(values) > 1 else None
    return Cell(value=mean(values), deviation=deviation, seeds=len(values), source=tuple(source))


def _averages(found: Sequence[_Replicates]) -> list[float]:
    """Of the seeds that have every cell."""
    seeds = set.intersection(*(set(one.values) for one in found))
    return [mean(one.values[seed] for one in found) for seed in sorted(seeds)]
