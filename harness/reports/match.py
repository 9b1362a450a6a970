"""Which encoder a specification stands for, the one answer to "which encoder is this row?", and what a row calls it.

A published row, a cell of a paper's table and a claim each name encoders by specifications. A parameter that a
specification leaves out must be at its default; `data=wiki` and `data=nli` also stand for an encoder that names no
text. `weights:<sha256>` names weights wherever they lie.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from harness.names import EncoderCard, Spec, Value, value_text

TEXTS = ("nli", "wiki", "captions")  # the corpora that specifications of published rows name
OWN_TEXT = {"simcse-unsup": "wiki", "simcse-sup": "nli"}  # what the paper trained each method on
SEEDED = (*OWN_TEXT, "bert-flow")  # methods whose runs differ by their seed
SAME_BACKBONE = {
    "google-bert/bert-base-uncased": "bert-base-uncased",
    "FacebookAI/roberta-base": "roberta-base",
    "FacebookAI/roberta-large": "roberta-large",
}
_BETWEEN = "|"  # separates specifications that all make one row
_WEIGHTS = "weights:"
_ALWAYS_SHORT = {"data", "fit", "backbone"}  # paths and digests, of which the file's name is enough


@dataclass(frozen=True, slots=True)
class Match:
    """The encoders that any one of some specifications describes."""

    specs: tuple[Spec, ...]  # alternatives; none of them for what no encoder here makes
    free: frozenset[str] = frozenset({"seed"})  # parameters that may have any value

    @classmethod
    def parse(cls, text: str) -> "Match":
        """Read `sbert | hf:org/model[pooling=avg]`; an empty text matches nothing."""
        return cls(tuple(Spec.parse(one.strip()) for one in text.split(_BETWEEN) if one.strip()))

    def fits(self, card: EncoderCard) -> bool:
        """Whether the encoder is one of those."""
        return any(_describes(spec, self.free, card) for spec in self.specs)


def _describes(spec: Spec, free: frozenset[str], card: EncoderCard) -> bool:
    parsed = _parsed(card.name)
    accounted = set(spec.given) | free | {"weights"}  # released or trained here, both are the method
    if spec.name.startswith(_WEIGHTS):
        if card.weights_sha256 != spec.name.removeprefix(_WEIGHTS) or card.fitted_on or card.parameters.get("fit"):
            return False
        accounted |= {"backbone"}
    elif _plain_name(parsed.name) != _plain_name(spec.name):
        return False
    as_found = {"pooling": card.pooling, "backbone": card.backbone}  # where no parameter says it
    known = as_found | {key: value for key, value in card.parameters.items() if value is not None}
    if not all(_same_value(known.get(key), value, key) for key, value in spec.given.items() if key not in free):
        return False
    accounted |= {"data"} if parsed.given.get("data") == OWN_TEXT.get(spec.name) else set()
    return parsed.given.keys() <= accounted


def _plain_name(name: str) -> str:
    """Of a hub's repository without its case, in which the hub does not tell names apart."""
    return name.casefold() if name.startswith("hf:") else name


def _same_value(value: Value | None, wanted: Value | None, key: str) -> bool:
    """Whether a card's parameter has the value that a specification writes, typed or as text."""
    text = value_text(wanted)
    if value is None:
        return text == "none" or (key == "data" and text in OWN_TEXT.values())
    if isinstance(value, bool):
        return text == value_text(value)
    if isinstance(value, int | float):
        try:
            return float(text) == float(value)
        except ValueError:
            return False
    if key in ("data", "fit"):
        return text == value or text.rpartition("/")[2] == value.partition("@")[0]  # a file's digest may be left out
    return text == value or (key == "backbone" and text == plain_backbone(value))


def plain_backbone(name: str) -> str:
    """The name that papers use: `google-bert/bert-base-uncased` -> `bert-base-uncased`."""
    return SAME_BACKBONE.get(name, name)


def recipe_of(card: EncoderCard) -> str:
    """What replicates have in common: the same method, settings, texts and arithmetic, with another seed.

    Weights that somebody released are a recipe of their own: no run of ours repeats them.
    """
    made_here = card.seed is not None and (card.trained_on is not None or card.fitted_on is not None)
    if not made_here:
        return card.name
    name = without_seed(card.name)
    return f"{name} | {card.trained_on} | {card.fitted_on} | {card.dtype}"


def without_seed(name: str) -> str:
    """The full name of an encoder without its seed."""
    return str(_parsed(name).without("seed"))


@cache
def _parsed(name: str) -> Spec:
    return Spec.parse(name)


def short_names(cards: Sequence[EncoderCard]) -> tuple[Mapping[str, str], tuple[str, ...]]:
    """Full name -> label, and the parameters that the labels leave out, such as `backbone=tiny`.

    A value is left out where most of the encoders that have the parameter have it, two at least, and every other one
    says its own. Repositories and folders lose all but their last part. Where labels would be equal, the full names
    stay.
    """
    given = {card.name: _parsed(card.name).given for card in cards}
    usual = _usual(cards)
    labels = {card.name: _label(card.name, usual) for card in cards}
    twice = {label for label, count in Counter(labels.values()).items() if count > 1}
    left_out = {
        f"{key}={_short(key, value)}"
        for one in given.values()
        for key, value in one.items()
        if key in usual and value == usual[key]
    }
    return {name: name if label in twice else label for name, label in labels.items()}, tuple(sorted(left_out))


def label_of_seeds(label: str, seeds: int) -> str:
    """What the mean of some runs is called, by the label of one of them."""
    if seeds == 1:
        return label
    method, bracket, inside = label.partition(" [")
    kept = [part for part in inside.rstrip("]").split(", ") if bracket and not part.startswith("seed=")]
    return f"{method} [{', '.join(kept)}], {seeds} seeds" if kept else f"{method}, {seeds} seeds"


def _usual(cards: Sequence[EncoderCard]) -> dict[str, Value | None]:
    """The value of each parameter that a label need not say."""
    known = [{**_parsed(card.name).given, **card.parameters} for card in cards]
    usual = {}
    for key in dict.fromkeys(key for one in known for key in one):
        value, count = Counter(one[key] for one in known if key in one).most_common(1)[0]
        others = [i for i, one in enumerate(known) if key in one and one[key] != value]
        if count > max(1, len(others)) and all(key in _parsed(cards[i].name).given for i in others):
            usual[key] = value
    return usual


def _label(name: str, usual: Mapping[str, Value | None]) -> str:
    spec = _parsed(name)
    method = spec.name
    if method.startswith("hf:"):
        method = method.rstrip("/").rpartition("/")[2].removeprefix("hf:")
    kept = [
        f"{key}={_short(key, value)}" for key, value in spec.given.items() if key not in usual or value != usual[key]
    ]
    return f"{method} [{', '.join(kept)}]" if kept else method


def _short(key: str, value: Value | None) -> str:
    text = value_text(value)
    return text.rstrip("/").rpartition("/")[2].partition("@")[0] if key in _ALWAYS_SHORT else text
