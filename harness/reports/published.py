"""Numbers that others published, as packaged data, and which of them a measured encoder repeats.

`published/simcse.csv`: tables 1-7, B.2, B.3, C.1, D.1, D.2 and E.1 of SimCSE (Gao et al. 2021, arXiv:2104.08821v4).
`published/mteb.csv`: the MTEB results repository at full precision; its SICK-R is over all 9,927 pairs.
`published/simple-simcse.csv`: a replication of unsupervised SimCSE, 50 runs on each of four backbones.
`published/successors.csv`: later papers, from their own READMEs, scripts and model cards, or from lists of others.
`published/papers.csv`: the names and titles of all of them.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby

from harness.errors import UsageError
from harness.names import EncoderCard, Spec, pick
from harness.packaged import packaged
from harness.reports.match import OWN_TEXT, Match, plain_backbone

AVERAGE = "Avg"  # the task under which a table's own average is listed


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A paper, or another source of published numbers.

    Attributes:
        name: as `--published` takes it.
        title: as reports print it.
        arxiv: identifier, or "" where no source states one.
        year: of publication, or "".
        file: of `published/` that holds its numbers.
    """

    name: str
    title: str
    arxiv: str
    year: str
    file: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """One published number.

    Attributes:
        paper: a key of `sources()`.
        table: its number in the paper, or "".
        model: method name as in this project where there is one, e.g. `simcse-unsup`.
        backbone: checkpoint name, or "" where the model's name says it.
        supervision: `unsupervised` or `supervised`.
        variant: what sets rows of one model apart, in the paper's words.
        task: as in results; `Avg` is the average the paper prints.
        metric: `spearman`, `pearson` or `accuracy`.
        aggregation: `all`, `mean`, `wmean`, or "" where there is nothing to aggregate.
        split: `test`, `dev` or `full`.
        value: percent, with the digits that were published.
        origin: `this paper`, or whom the paper has the number from.
        spec: specifications of the encoders that make it, as `Match.parse` reads them; "" where nothing here does.
        preferred: whether it is the one to show, where a row was published more than once.
        note: what a reader must know of the number.
    """

    paper: str
    table: str
    model: str
    backbone: str
    supervision: str
    variant: str
    task: str
    metric: str
    aggregation: str
    split: str
    value: float
    origin: str
    spec: str = ""
    preferred: bool = True
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedRow:
    """One row of a published table: what `Published` says of it, and task -> percent for one metric and split."""

    paper: str
    table: str
    supervision: str
    model: str
    backbone: str
    variant: str
    origin: str
    values: Mapping[str, float]
    spec: str = ""
    preferred: bool = True
    note: str = ""

    @property
    def match(self) -> Match:
        """The encoders that make this row."""
        return Match.parse(self.spec)


@cache
def sources() -> Mapping[str, Source]:
    """Everything that published numbers were taken from, by name; the numbers of a new one are data, no code."""
    return {row["name"]: Source(**row) for row in _read("papers")}


@cache
def load(paper: str) -> tuple[Published, ...]:
    """Every number of one paper, in the paper's order.

    Raises:
        UsageError: if nothing is published here under that name.
    """
    return _by_paper(pick("paper", sources(), paper).file).get(paper, ())


@cache
def _by_paper(file: str) -> Mapping[str, tuple[Published, ...]]:
    found: dict[str, list[Published]] = {}
    for row in _read(file):
        found.setdefault(row["paper"], []).append(_published(row))
    return {paper: tuple(numbers) for paper, numbers in found.items()}


def _read(file: str) -> list[dict[str, str]]:
    text = packaged(f"harness/reports/published/{file}.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(io.StringIO(text, newline="")))


@cache
def rows(paper: str, table: str | None, metric: str, aggregation: str, split: str) -> tuple[PublishedRow, ...]:
    """The rows of one table, in the paper's order, with the numbers of one metric, aggregation and split.

    Args:
        paper: a key of `sources()`.
        table: None for all of the paper's tables.
        metric: as in `Published`, and so are the others.
        aggregation: likewise.
        split: likewise.
    """
    wanted = (metric, aggregation, split)
    numbers = [n for n in load(paper) if (n.metric, n.aggregation, n.split) == wanted and table in (None, n.table)]
    return tuple(_row(list(group)) for _, group in groupby(numbers, key=_identity))


@cache
def candidates(metric: str, aggregation: str, split: str) -> tuple[PublishedRow, ...]:
    """Every published row that some encoder here makes: SimCSE's first, and of a paper's those to be shown."""
    found = (row for paper in sources() for row in rows(paper, None, metric, aggregation, split))
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


@cache
def decimals(paper: str, table: str) -> int:
    """How many digits behind the point a table prints; one whose numbers are not rounded has more than ten."""
    return max(len(repr(number.value).partition(".")[2]) for number in load(paper) if number.table == table)


def counterpart(card: EncoderCard, candidates: Sequence[PublishedRow]) -> PublishedRow | None:
    """The first published row that was made the way this encoder is, or None."""
    return next((row for row in candidates if row.match.fits(card)), None)


def find(reference: str, metric: str = "spearman") -> list[PublishedRow]:
    """The rows that `paper:table:model[:backbone[:variant]]` stands for, e.g. `simcse:5:bert` or `mteb::minilm`.

    A row's numbers on several splits are together in it; those of other aggregations are rows of their own.

    Raises:
        UsageError: if the paper is unknown, or nothing of that name is in the table.
    """
    paper, *rest = reference.split(":", 4)
    table, model, backbone, variant = (*rest, "", "", "", "")[:4]
    inside = [n for n in load(paper) if n.table == table and n.metric == metric]
    found = [n for n in inside if n.model == model and n.backbone.startswith(backbone) and variant in n.variant]
    if not found:
        what = dict.fromkeys(n.model for n in inside) or dict.fromkeys(f"{paper}:{n.table}" for n in load(paper))
        raise UsageError(f"--published {reference}: nothing of that name; known: {', '.join(what)}")
    groups: dict[tuple[str, ...], list[Published]] = {}
    for number in found:
        groups.setdefault((*_identity(number), number.aggregation), []).append(number)
    return [_row(numbers) for numbers in groups.values()]


def label(row: PublishedRow) -> str:
    """`bert-flow, bert-base-uncased, NLI`."""
    variant = row.variant.partition(" (")[0]
    return ", ".join(part for part in (row.model, row.backbone, variant) if part)


def source(row: PublishedRow) -> str:
    """`SimCSE Table 5`."""
    title = sources()[row.paper].title
    named = f"Table {row.table}" if row.table[:1].isdigit() or row.table[1:2] == "." else row.table
    return f"{title} {named}".rstrip()


def backbone_of(card: EncoderCard) -> str | None:
    """What a paper would call the backbone of an encoder: of released weights, what they were trained from."""
    released = _backbones().get(Spec.parse(card.name).name)
    named = card.parameters.get("backbone") if card.method in OWN_TEXT and card.trained_on is None else None
    name = card.backbone if named is None else str(named)
    return released or (None if name is None else plain_backbone(name))


def _published(row: Mapping[str, str]) -> Published:
    return Published(
        paper=row["paper"],
        table=row["table"],
        model=row["model"],
        backbone=row["backbone"],
        supervision=row["supervision"],
        variant=row["variant"],
        task=row["task"],
        metric=row["metric"],
        aggregation=row["aggregation"],
        split=row["split"],
        value=float(row["value"]),
        origin=row["origin"],
        spec=row["spec"],
        preferred=row.get("prefer") != "0",
        note=row.get("note", ""),
    )


def _identity(number: Published) -> tuple[str, ...]:
    return number.table, number.supervision, number.model, number.backbone, number.variant, number.origin


def _row(numbers: Sequence[Published]) -> PublishedRow:
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
        spec=first.spec,
        preferred=first.preferred,
        note=first.note,
    )
