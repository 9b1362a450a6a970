"""Names short enough to stand in a figure: what all encoders share is said once, beside the axes."""

from collections import Counter
from collections.abc import Mapping, Sequence

from harness.names import EncoderCard, Spec, Value


def short_names(cards: Sequence[EncoderCard]) -> tuple[Mapping[str, str], str]:
    """Full name -> label, and a note to append, with what the labels leave out, e.g. `; not shown: backbone=tiny`.

    A parameter is left out where the encoders that have it, two at least, agree on its value. Repositories and folders
    lose all but their last part. Where labels would be equal, the full names stay.
    """
    given = {card.name: Spec.parse(card.name).given for card in cards}
    values: dict[str, list[object]] = {}
    for card in cards:
        for key, value in card.parameters.items():
            values.setdefault(key, []).append(value)
    common = {key for key, found in values.items() if len(found) > 1 and len(set(found)) == 1}
    labels = {card.name: _label(card.name, given[card.name], common) for card in cards}
    twice = {label for label, count in Counter(labels.values()).items() if count > 1}
    left_out = {f"{key}={value}" for parameters in given.values() for key, value in parameters.items() if key in common}
    note = f"; not shown: {', '.join(sorted(left_out))}" if left_out else ""
    return {name: name if label in twice else label for name, label in labels.items()}, note


def _label(name: str, given: Mapping[str, Value | None], common: set[str]) -> str:
    method = Spec.parse(name).name
    if method.startswith("hf:"):
        method = method.rstrip("/").rpartition("/")[2].removeprefix("hf:")
    kept = ", ".join(f"{key}={value}" for key, value in given.items() if key not in common)
    return f"{method} [{kept}]" if kept else method
