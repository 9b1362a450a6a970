"""Give the cards of results of schema 1 the names, parameters and identities that the same encoders have today."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from harness.encoders.context import Context
from harness.encoders.entry import declared
from harness.encoders.registry import Resolved, resolve
from harness.errors import BenchError
from harness.names import STS_B_DEV, EncoderCard, Spec, Value

Texts = Mapping[
    str, tuple[str, int | None]
]  # an old file's name -> the text's name or path today, and its first sentences

_TEXT = ("data", "fit")  # the parameters that name one
_UNSET = {"dropout": -1.0, "max_steps": 0, "max_tokens": 0}  # what "not set" was, where that had a number
_SAME = ("weights_sha256", "pooling", "dim", "max_tokens", "seed")  # else today's encoder is another one
_FACTS = ("method", "backbone", "weights_sha256", "pooling", "max_tokens", "dtype", "normalized", "fitted_on")


def identifier(context: Context, texts: Texts) -> Callable[[EncoderCard], EncoderCard]:
    """The function that `harness.results.migration.migrate` takes.

    Args:
        context: where data, named texts and weights are.
        texts: the texts that have another name today, by the name of the file that held them.
    """

    def identify(card: EncoderCard) -> EncoderCard:
        spec = _spec_today(card, texts)
        if card.trained_on is not None:
            return _trained(card, spec, context)
        try:
            return _built(card, resolve(spec, context), context)
        except BenchError:  # not known or not to be had today: the old card is all there is
            return replace(card, name=str(spec), content=_described(card))

    return identify


def _spec_today(card: EncoderCard, texts: Texts) -> Spec:
    """The specification with its texts by the names that they have today."""
    spec = Spec.parse(card.name)
    given: dict[str, Value | None] = {}
    for name, value in spec.given.items():
        text, first = texts.get(str(value), (value, None)) if name in _TEXT else (value, None)
        given |= {name: text} if first is None else {name: text, "sentences": first}
    return Spec(spec.name, given)


def _built(card: EncoderCard, found: Resolved, context: Context) -> EncoderCard:
    """The card of the encoder as it is built today, if it has the same weights and settings."""
    today = found.build(context).card
    changed = [name for name in _SAME if getattr(today, name) != getattr(card, name)]
    return replace(card, content=_described(card)) if changed else today


def _trained(card: EncoderCard, spec: Spec, context: Context) -> EncoderCard:
    """The card of weights that were trained elsewhere, whose own digest identifies them."""
    data, first = str(spec.given["data"]), spec.given.get("sentences")
    shown, trained_on = _text_today(data, None if first is None else int(first), context)
    shown, trained_on = shown or str(card.trained_on), trained_on or card.trained_on
    found = resolve(spec.replaced(data=shown), context)
    known = {one.name: card.parameters.get(one.name) for one in declared(found.entry)}
    unset = {name: None for name, value in known.items() if _UNSET.get(name) == value and name not in found.spec.given}
    on_sts_b = known["dev"] == "sts-b" or (known["dev"] == "auto" and card.backbone != "tiny")
    return replace(
        card,
        name=str(found.spec),
        parameters={**known, **unset, **found.spec.given},
        selected_on=STS_B_DEV if on_sts_b else None,
        trained_on=trained_on,
        content=_described(card),
    )


def _text_today(data: str, first: int | None, context: Context) -> tuple[str | None, str | None]:
    """How specifications and records name a training text that is at hand."""
    from harness.data.named_texts import find_text, name_in_records

    try:
        text = find_text(data, context, first)
        return name_in_records(data, text, context.cache_dir), text.name
    except BenchError:
        return None, None


def _described(card: EncoderCard) -> dict[str, Value | None]:
    """What the old card says that decides the vectors."""
    return {name: getattr(card, name) for name in _FACTS}
