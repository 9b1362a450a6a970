"""Numbers that others published, as packaged data, and which of them a measured encoder repeats.

`published/simcse.csv`: tables 1-7, B.2, B.3, C.1, D.1, D.2 and E.1 of SimCSE (Gao et al. 2021, arXiv:2104.08821v4).
`published/mteb.csv`: the MTEB results repository at full precision; its SICK-R is over all 9,927 pairs.
`published/simple-simcse.csv`: a replication of unsupervised SimCSE, 50 runs on each of four backbones.
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

PAPERS: Mapping[str, str] = {"simcse": "SimCSE", "mteb": "MTEB", "simple-simcse": "simple-simcse"}
AVERAGE = "Avg"  # the task under which a table's own average is listed

PAPERS_TEXT: Mapping[str, str] = {"simcse-unsup": "wiki", "simcse-sup": "nli"}  # what trained encoders learn from

# Checkpoints that their authors released with a paper's row -> method, backbone, and the pooling the row was made with.
_RELEASED: Mapping[str, tuple[str, str, str]] = {
    f"princeton-nlp/{kind}-simcse-{backbone}": (f"simcse-{kind}", backbone, pooling)
    for kind, pooling in (("unsup", "cls_before_pooler"), ("sup", "cls"))
    for backbone in ("bert-base-uncased", "roberta-base", "roberta-large")
} | {
    "sentence-transformers/bert-base-nli-mean-tokens": ("sbert", "bert-base-uncased", "avg"),
    "sentence-transformers/roberta-base-nli-mean-tokens": ("sroberta", "roberta-base", "avg"),
    "Contrastive-Tension/BERT-Base-CT": ("ct-bert", "bert-base-uncased", "avg"),
    "johngiorgi/declutr-base": ("declutr", "roberta-base", "avg"),
}
_TRAINED_FROM = {model: backbone for model, backbone, _ in _RELEASED.values() if model not in PAPERS_TEXT}
_OVER_RELEASED = {"bert": "", "bert-flow": "-flow", "bert-whitening": "-whitening"}  # -> ending of the paper's name
SAME_BACKBONE: Mapping[str, str] = {
    "google-bert/bert-base-uncased": "bert-base-uncased",
    "FacebookAI/roberta-base": "roberta-base",
    "FacebookAI/roberta-large": "roberta-large",
}
# A paper's variant -> the parameters that say the same; variants not listed have no counterpart here. What is fitted
# on another text than the paper's is another row.
_VARIANTS: Mapping[str, Mapping[str, str | float]] = {
    "": {},
    "NLI": {"fit": "nli"},
    "target": {"fit": "target"},
    "first-last avg (static word embedding + last layer)": {"pooling": "avg_static_last"},
    "first-last avg": {"pooling": "avg_first_last"},
    "avg last layer": {"pooling": "avg"},
    "[CLS]": {"pooling": "cls_before_pooler"},
    "MLM 0.1": {"mlm_weight": 0.1},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """One published number.

    Attributes:
        paper: a key of `PAPERS`.
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


@cache
def load(paper: str) -> tuple[Published, ...]:
    """Every number of one paper, in the paper's order."""
    text = packaged(f"harness/reports/published/{paper}.csv").read_text(encoding="utf-8")
    return tuple(_published(row) for row in csv.DictReader(io.StringIO(text, newline="")))


@cache
def rows(paper: str, table: str, metric: str, aggregation: str, split: str) -> tuple[PublishedRow, ...]:
    """The rows of one table, in the paper's order, with the numbers of one metric, aggregation and split."""
    wanted = (table, metric, aggregation, split)
    numbers = [n for n in load(paper) if (n.table, n.metric, n.aggregation, n.split) == wanted]
    return tuple(_row(list(group)) for _, group in groupby(numbers, key=_identity))


@cache
def decimals(paper: str, table: str) -> int:
    """How many digits behind the point a table prints; one whose numbers are not rounded has more than ten."""
    return max(len(repr(number.value).partition(".")[2]) for number in load(paper) if number.table == table)


def counterpart(card: EncoderCard, candidates: Sequence[PublishedRow]) -> PublishedRow | None:
    """The first published row that was made the way this encoder is, or None.

    Method, backbone and variant must be those of the row, and the specification must set nothing that the row's
    description does not account for (a seed apart).
    """
    return next((row for row in candidates if _repeats(card, row)), None)


def find(reference: str, metric: str = "spearman") -> list[PublishedRow]:
    """The rows that `paper:table:model[:backbone[:variant]]` stands for, e.g. `simcse:5:bert` or `mteb::minilm`.

    A row's numbers on several splits are together in it; those of other aggregations are rows of their own.

    Raises:
        UsageError: if the paper is unknown, or nothing of that name is in the table.
    """
    paper, *rest = reference.split(":", 4)
    pick("paper", PAPERS, paper)
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
    return f"{PAPERS[row.paper]} Table {row.table}" if row.table else PAPERS[row.paper]


def plain_backbone(name: str) -> str:
    """The name that papers use: `google-bert/bert-base-uncased` -> `bert-base-uncased`."""
    return SAME_BACKBONE.get(name, name)


def backbone_of(card: EncoderCard) -> str | None:
    """What a paper would call the backbone of an encoder: of released weights, what they were trained from."""
    named = card.parameters.get("backbone") if card.method in PAPERS_TEXT and card.trained_on is None else None
    name = card.backbone if named is None else str(named)
    return _TRAINED_FROM.get(card.method) or (None if name is None else plain_backbone(name))


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
    )


def _identity(number: Published) -> tuple[str, ...]:
    return number.supervision, number.model, number.backbone, number.variant, number.origin


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
    )


def _repeats(card: EncoderCard, row: PublishedRow) -> bool:
    parsed = Spec.parse(card.name)
    name, printed = parsed.name, parsed.given
    model, backbone, accounted = _made_as(card, row)
    required = _VARIANTS.get(row.variant)
    if required is None or row.model != model or (row.backbone and row.backbone != backbone):
        return False
    known = {"pooling": card.pooling} | dict(card.parameters)
    accounted |= required.keys() | ({"data"} if printed.get("data") == PAPERS_TEXT.get(name) else set())
    return printed.keys() <= accounted and all(known.get(key) == value for key, value in required.items())


def _made_as(card: EncoderCard, row: PublishedRow) -> tuple[str, str | None, set[str]]:
    """The paper's names of model and backbone ("" for none), and the parameters that change nothing of a row."""
    name = Spec.parse(card.name).name
    if name.startswith("hf:"):
        model, backbone, pooling = _RELEASED.get(name.removeprefix("hf:"), ("", "", None))
        return (model if card.pooling == pooling else ""), backbone, {"pooling"}
    released = _RELEASED.get(str(card.parameters.get("backbone")))
    if name in _OVER_RELEASED and released is not None:
        model, backbone, _ = released
        return (model + _OVER_RELEASED[name] if row.variant else ""), backbone, {"backbone", "seed"}
    return name, backbone_of(card), {"backbone", "seed", "weights"}
