"""A paper's tables filled from results: which cells are there, which are missing, and the paper's layout."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import mean, stdev

from harness.names import EncoderCard
from harness.reports.choice import Choice, Filler, file_name, filler_of, rerun_note, title_of
from harness.reports.render import Records
from harness.reports.rows import Kind
from harness.reports.tables import SYMBOLS, TextTable
from harness.reports.targets import Paper, Target, TargetCell, TargetRow
from harness.results.record import Result

_HEADER = ("target", "row", "column", "kind", "source", "seed", "value")
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
        name: of its files, without an ending.
        text: as it is printed.
        tidy: its numbers at full precision.
        cards: label of each row that can be filled -> the encoder in its first column, of the first seed, or None.
    """

    name: str
    text: TextTable
    tidy: Records
    cards: Mapping[str, EncoderCard | None] = field(default_factory=dict)


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
    lines: list[tuple[Kind, tuple[str, ...]]] = []
    notes: dict[str, str] = {}
    numbers: list[tuple[object, ...]] = []
    cards: dict[str, EncoderCard | None] = {}
    for row in target.rows:
        fillers = [filler_of(cell, paper, choice) if cell else None for cell in row.cells]
        found = [
            _replicates(cell, filler, choice, places) if cell and filler else _Replicates()
            for cell, filler in zip(row.cells, fillers, strict=True)
        ]
        lines += _lines(target, row, found, notes, choice, comparable=choice.comparable(paper))
        numbers += _numbers(target, row, found)
        if any(fillers):
            cards[row.label] = next(iter(found[0].cards.values()), None)
    header = ("Model", "Source", *target.heads, *(("Avg.",) if target.average else ()))
    done = coverage(target, paper, choice, results)
    caption = f"{target.measure}. {done.measured} of {done.fillable} cells measured.{rerun_note(paper, choice)}"
    if any("±" in text for _, texts in lines for text in texts[2:]):
        caption += " ±: standard deviation over seeds."
    text = TextTable(
        title=title_of(target, paper, choice),
        caption=caption,
        header=header,
        rows=tuple(lines),
        footnotes=tuple(f"{symbol} {note}" for note, symbol in notes.items()),
    )
    return PaperTable(name=file_name(target, paper, choice), text=text, tidy=Records(_HEADER, numbers), cards=cards)


def fill_words(target: Target, paper: Paper, choice: Choice, found: Mapping[int, Sequence[str]]) -> PaperTable:
    """A table of words in the paper's layout.

    Args:
        target: with texts.
        paper: of the target.
        choice: what was searched with.
        found: column -> the captions found, those of the first query first; as many as rows that begin with `#`.
    """
    lines: list[tuple[Kind, tuple[str, ...]]] = []
    number = 0
    for line in target.texts:
        lines.append(("published", line))
        if found and line[0].startswith("#"):
            texts = [found[i][number] if i in found else "-" for i in range(len(target.heads))]
            lines.append(("counterpart", ("↳ measured", *texts)))
            number += 1
    caption = f"{target.measure}.{rerun_note(paper, choice) if found else ''}"
    text = TextTable(
        title=title_of(target, paper, choice) if found else f"{paper.title}, {target.label}: {target.title}",
        caption=caption,
        header=("", *target.heads),
        rows=tuple(lines),
        footnotes=(),
    )
    name = file_name(target, paper, choice) if found else f"{paper.name}-{target.name}"
    return PaperTable(name=name, text=text, tidy=Records(text.header, [texts for _, texts in lines]))


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


def _lines(
    target: Target,
    row: TargetRow,
    found: Sequence[_Replicates],
    notes: dict[str, str],
    choice: Choice,
    *,
    comparable: bool,
) -> list[tuple[Kind, tuple[str, ...]]]:
    width = len(target.heads) + target.average
    if not row.cells:
        return [("section", (row.label, "", *[""] * width))]
    lines: list[tuple[Kind, tuple[str, ...]]] = []
    own = [cell.published if cell else None for cell in row.cells]
    own += [row.average] if target.average else []
    if any(value is not None for value in own):
        label = f"{row.label} {_mark(f'number from {row.origin}', notes)}" if row.origin else row.label
        lines.append(("published", (label, "published", *_texts([_spread(v) for v in own], target.digits, width))))
    groups = [list(one.values.values()) for one in found]
    groups += [_averages(found)] if target.average else []
    if any(groups):
        flags = [_mark(flag, notes) for flag in sorted(set().union(*(one.flags for one in found)))]
        label = f"{'↳ measured' if lines else row.label} {','.join(flags)}".strip()
        on = f"measured, {choice.backbone}" if choice.backbone else "measured"
        lines.append(("counterpart", (label, on, *_texts(groups, target.digits, width))))
        if comparable and len(lines) == 2:
            gaps = [[mean(g) - v] if g and v is not None else [] for g, v in zip(groups, own, strict=True)]
            lines.append(("difference", ("↳ difference", "", *_texts(gaps, target.digits, width, signed=True))))
    return lines


def _spread(value: float | None) -> list[float]:
    return [] if value is None else [value]


def _averages(found: Sequence[_Replicates]) -> list[float]:
    """Of the seeds that have every cell."""
    seeds = set.intersection(*(set(one.values) for one in found))
    return [mean(one.values[seed] for one in found) for seed in sorted(seeds)]


def _texts(groups: Sequence[Sequence[float]], digits: int, width: int, *, signed: bool = False) -> list[str]:
    texts = [_number(group, digits, signed=signed) if group else "-" for group in groups]
    return texts + [""] * (width - len(texts))


def _number(values: Sequence[float], digits: int, *, signed: bool) -> str:
    text = f"{mean(values):{'+' if signed else ''}.{digits}f}"
    if signed and float(text) == 0:
        text = text[1:]
    return f"{text} ± {stdev(values):.{digits}f}" if len(values) > 1 else text


def _mark(note: str, notes: dict[str, str]) -> str:
    if note not in notes:
        notes[note] = SYMBOLS[len(notes) % len(SYMBOLS)] * (1 + len(notes) // len(SYMBOLS))
    return notes[note]


def _numbers(target: Target, row: TargetRow, found: Sequence[_Replicates]) -> Iterator[tuple[object, ...]]:
    for head, cell, one in zip(target.heads, row.cells, found, strict=False):
        if cell is not None and cell.published is not None:
            yield target.label, row.label, head, "published", row.origin, "", cell.published
        for seed, value in one.values.items():
            yield target.label, row.label, head, "measured", one.cards[seed].name, seed, value
    if row.average is not None:
        yield target.label, row.label, "Avg.", "published", row.origin, "", row.average
