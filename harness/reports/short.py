"""Names short enough for a table or a figure: what all encoders share is said once, beside it."""

from collections import Counter
from collections.abc import Mapping, Sequence

from harness.names import EncoderCard, Spec, Value, value_text

_ALWAYS_SHORT = {"data", "fit", "backbone"}  # paths and digests, of which the file's name is enough


def short_names(cards: Sequence[EncoderCard]) -> tuple[Mapping[str, str], tuple[str, ...]]:
    """Full name -> label, and the parameters that the labels leave out, such as `backbone=tiny`.

    A parameter is left out where the encoders that have it, two at least, agree on its value. Repositories and folders
    lose all but their last part. Where labels would be equal, the full names stay.
    """
    given = {card.name: Spec.parse(card.name).given for card in cards}
    values: dict[str, list[object]] = {}
    for card in cards:
        known = {**given[card.name], **card.parameters}
        for key, value in known.items():
            values.setdefault(key, []).append(value)
    common = {key for key, found in values.items() if len(found) > 1 and len(set(found)) == 1}
    labels = {card.name: _label(card.name, given[card.name], common) for card in cards}
    twice = {label for label, count in Counter(labels.values()).items() if count > 1}
    left_out = {f"{key}={value_text(value)}" for one in given.values() for key, value in one.items() if key in common}
    return {name: name if label in twice else label for name, label in labels.items()}, tuple(sorted(left_out))


def _label(name: str, given: Mapping[str, Value | None], common: set[str]) -> str:
    method = Spec.parse(name).name
    if method.startswith("hf:"):
        method = method.rstrip("/").rpartition("/")[2].removeprefix("hf:")
    kept = ", ".join(f"{key}={_short(key, value)}" for key, value in given.items() if key not in common)
    return f"{method} [{kept}]" if kept else method


def _short(key: str, value: Value | None) -> str:
    text = value_text(value)
    return text.rstrip("/").rpartition("/")[2].partition("@")[0] if key in _ALWAYS_SHORT else text
