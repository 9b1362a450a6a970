"""Which encoder a specification stands for: the one answer to "which encoder is this row?".

A published row, a cell of a paper's table and a claim each name encoders by specifications. A parameter that a
specification leaves out must be at its default; `data=wiki` and `data=nli` also stand for an encoder that names no
text. `weights:<sha256>` names weights wherever they lie.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from harness.names import EncoderCard, Spec, Value, value_text

TEXTS = ("nli", "wiki", "captions")  # the corpora that specifications of published rows name
OWN_TEXT = {"simcse-unsup": "wiki", "simcse-sup": "nli"}  # what the paper trained each method on
SAME_BACKBONE = {
    "google-bert/bert-base-uncased": "bert-base-uncased",
    "FacebookAI/roberta-base": "roberta-base",
    "FacebookAI/roberta-large": "roberta-large",
}
_BETWEEN = "|"  # separates specifications that all make one row
_WEIGHTS = "weights:"


@dataclass(frozen=True, slots=True)
class Match:
    """The encoders that any one of some specifications describes.

    Attributes:
        specs: alternatives; none of them for what no encoder here makes.
        free: parameters that may have any value.
    """

    specs: tuple[Spec, ...]
    free: frozenset[str] = frozenset({"seed"})

    @classmethod
    def parse(cls, text: str, free: Iterable[str] = ("seed",)) -> "Match":
        """Read `sbert | hf:org/model[pooling=avg]`; an empty text matches nothing."""
        return cls(tuple(Spec.parse(one.strip()) for one in text.split(_BETWEEN) if one.strip()), frozenset(free))

    def fits(self, card: EncoderCard) -> bool:
        """Whether the encoder is one of those."""
        return self.why_not(card) is None

    def why_not(self, card: EncoderCard) -> str | None:
        """One sentence on what sets the encoder apart, by the nearest specification; None if it is one of those."""
        if not self.specs:
            return "no encoder of this project makes this row"
        reasons = [_difference(spec, self.free, card) for spec in self.specs]
        if any(reason is None for reason in reasons):
            return None
        return max((reason for reason in reasons if reason is not None), key=lambda reason: reason[0])[1]


def _difference(spec: Spec, free: frozenset[str], card: EncoderCard) -> tuple[bool, str] | None:
    """Whether the method is the same, and the first difference in words; None where there is no difference."""
    parsed = _parsed(card.name)
    accounted = set(spec.given) | free | {"weights"}  # released or trained here, both are the method
    if spec.name.startswith(_WEIGHTS):
        if card.weights_sha256 != spec.name.removeprefix(_WEIGHTS) or card.fitted_on or card.parameters.get("fit"):
            return False, f"the weights of {card.name} are others"
        accounted |= {"backbone"}
    elif parsed.name != spec.name:
        return False, f"{card.name} is {parsed.name}, not {spec.name}"
    as_found = {"pooling": card.pooling, "backbone": card.backbone}  # where no parameter says it
    known = as_found | {key: value for key, value in card.parameters.items() if value is not None}
    for key, value in spec.given.items():
        if key not in free and not same_value(known.get(key), value, key):
            return True, f"{card.name} has {key}={value_text(known.get(key))}, not {value_text(value)}"
    accounted |= {"data"} if parsed.given.get("data") == OWN_TEXT.get(spec.name) else set()
    added = next((key for key in parsed.given if key not in accounted), None)
    if added is None:
        return None
    return True, f"{card.name} sets {added}={value_text(parsed.given[added])}, which {spec} leaves at its default"


def same_value(value: Value | None, wanted: Value | None, key: str) -> bool:
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
