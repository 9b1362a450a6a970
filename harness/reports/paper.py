"""A paper's tables filled from results: which cells are there, which are missing, and the paper's layout."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import mean, stdev

from harness.names import EncoderCard, ScoreKey
from harness.reports.published import AVERAGE
from harness.reports.runs import Places, by_place, score_key
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
    """A filled target."""

    table: Table  # its name is that of its files, without an ending
    # label of each row that can be filled -> the encoders in its first column, one a seed; none measured: ()
    cards: Mapping[str, tuple[EncoderCard, ...]] = field(default_factory=dict)
    # label of a figure's row -> the average STS score that the paper prints for it
    published: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _FilledCell:
    """A cell that a choice fills: by seed the measured values, in the paper's unit, and the encoders; their flags."""

    cell: TargetCell
    filler: Filler
    values: Mapping[str, float]
    cards: Mapping[str, EncoderCard]
    flags: frozenset[str]


def coverage(target: Target, paper: Paper, choice: Choice, results: Sequence[Result]) -> Coverage:
    """What of a target is there and what is missing; where no seed is asked for, one of any seed is enough."""
    places = by_place(results)
    found = [one for row in target.rows for cell in row.cells if (one := _fill_cell(cell, paper, choice, places))]
    missing: dict[Wanted, None] = {}
    for one in found:
        for seed in _open_seeds(one, choice):
            for task in one.cell.tasks:
                there = places.get((task, one.cell.protocol), ())
                if not any(_is(one.filler, seed, result.encoder) for result in there):
                    missing[Wanted(encoder=one.filler.named(seed), task=task, protocol=one.cell.protocol)] = None
    return Coverage(fillable=len(found), measured=sum(bool(one.values) for one in found), missing=tuple(missing))


def _open_seeds(found: _FilledCell, choice: Choice) -> list[str | None]:
    """The seeds that are not measured; None for any."""
    if found.filler.seeded and choice.seeds:
        return [str(seed) for seed in choice.seeds if str(seed) not in found.values]
    return [] if found.values else [None]


def _is(filler: Filler, seed: str | None, card: EncoderCard) -> bool:
    return filler.fits(card) and seed in (None, _seed(card))


def fill(target: Target, paper: Paper, choice: Choice, results: Sequence[Result]) -> PaperTable:
    """A target in the paper's layout: the paper's rows, and under each what was measured for it."""
    if target.texts:
        return fill_words(target, paper, choice, {})
    choice = choice.used_by([cell.run for row in target.rows for cell in row.cells if cell])
    places = by_place(results)
    found = [[_fill_cell(cell, paper, choice, places) for cell in row.cells] for row in target.rows]
    rows: list[Row] = []
    cards: dict[str, tuple[EncoderCard, ...]] = {}
    for row, own in zip(target.rows, found, strict=True):
        rows += _rows(target, row, own, choice, comparable=choice.comparable(paper))
        if any(own):
            cards[row.label] = tuple(own[0].cards.values()) if own[0] else ()
    filled = [one for own in found for one in own if one]
    measured = sum(bool(one.values) for one in filled)
    caption = f"{target.measure}. {measured} of {len(filled)} cells measured.{rerun_note(paper, choice)}"
    if any(cell.deviation is not None for row in rows for cell in row.cells):
        caption += " ±: standard deviation over seeds."
    columns = [Column(head=head, digits=target.digits, spread="inside") for head in target.heads]
    columns += [Column(head="Avg.", digits=target.digits, task=AVERAGE, spread="inside")] if target.average else []
    table = Table(
        name=file_name(target, paper, choice),
        title=title_of(target, paper, choice),
        caption=caption,
        columns=tuple(columns),
        rows=tuple(rows),
        head="Model",
    )
    printed = {row.label: row.average for row in target.rows if row.average is not None}
    return PaperTable(table=table, cards=cards, published=printed)


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


def _fill_cell(cell: TargetCell | None, paper: Paper, choice: Choice, places: Places) -> _FilledCell | None:
    """What is measured of a cell; None where the paper's is empty or the choice does not fill it.

    A seed counts if all tasks of the cell have a result.
    """
    filler = filler_of(cell, paper, choice) if cell else None
    if cell is None or filler is None:
        return None
    wanted = ScoreKey.parse(cell.score)
    by_seed: dict[str, dict[str, Result]] = {}
    for task in cell.tasks:
        for result in places.get((task, cell.protocol), ()):
            if filler.fits(result.encoder):
                by_seed.setdefault(_seed(result.encoder), {})[task] = result
    asked = {str(seed) for seed in choice.seeds} if filler.seeded else set()
    values: dict[str, float] = {}
    cards: dict[str, EncoderCard] = {}
    flags: set[str] = set()
    for seed, tasks in sorted(by_seed.items(), key=lambda item: (len(item[0]), item[0])):
        scores = [result.scores[key] for result in tasks.values() if (key := score_key(result, wanted))]
        if len(scores) == len(cell.tasks) and (not asked or seed in asked):
            values[seed] = cell.scale * mean(scores)
            cards[seed] = next(iter(tasks.values())).encoder
            flags |= {flag for result in tasks.values() for flag in result.flags}
    return _FilledCell(cell, filler, values, cards, frozenset(flags))


def _seed(card: EncoderCard) -> str:
    """Of the training, or one name for all that have none."""
    seed = card.parameters.get("seed")
    return "-" if seed is None else str(seed)


def _rows(
    target: Target, row: TargetRow, found: Sequence[_FilledCell | None], choice: Choice, *, comparable: bool
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
        rows.append(Row(kind="published", label=row.label, cells=_padded(own, width), marks=marks))
    measured = [
        _cell(list(one.values.values()), [card.name for card in one.cards.values()]) if one else Cell() for one in found
    ]
    if target.average:
        seeds = set.intersection(*(set(one.values) if one else set() for one in found))
        measured.append(_cell([mean(one.values[seed] for one in found if one) for seed in sorted(seeds)]))
    if all(cell.value is None for cell in measured):
        return rows
    flags = tuple(sorted(set().union(*(one.flags for one in found if one))))
    on = f" on {choice.backbone}" if choice.backbone else ""
    label, below = (f"measured{on}", True) if rows else (row.label, False)
    name = next((cell.source[0] for cell in measured if cell.source), row.label)
    cells = _padded(measured, width)
    rows.append(Row(kind="measured", label=label, name=name, cells=cells, marks=flags, below=below))
    if comparable and len(rows) == 2:
        gaps = [
            Cell(value=None if a.value is None or b.value is None else a.value - b.value)
            for a, b in zip(measured, own, strict=True)
        ]
        rows.append(Row(kind="difference", label="difference", cells=_padded(gaps, width), below=True))
    return rows


def _padded(cells: Sequence[Cell], width: int) -> tuple[Cell, ...]:
    return (*cells, *(Cell(words=" ") for _ in range(width - len(cells))))


def _cell(values: Sequence[float], source: Sequence[str] = ()) -> Cell:
    """The mean of some seeds."""
    if not values:
        return Cell()
    deviation = stdev(values) if len(values) > 1 else None
    return Cell(value=mean(values), deviation=deviation, seeds=len(values), source=tuple(source))
