"""Which encoders a table does not tell apart, as letters beside their scores.

Source: Piepho 2004, An algorithm for a letter-based representation of all-pairwise comparisons (insert and absorb).
"""

from collections.abc import Mapping, Sequence

import numpy as np

from harness.reports.crossed import Side, contrast
from harness.reports.uncertainty import difference_variances

LEVEL = 0.05
SENTENCE = (
    "Encoders that share a letter are not told apart on the average (5 %, Holm's correction over all pairs of "
    "encoders; items, and seeds where an encoder was trained with several, their spread pooled over a method's "
    "settings; of one trained once, items only)."
)


def letters(names: Sequence[str], apart: Sequence[tuple[str, str]]) -> dict[str, str]:
    """A text of letters for each name: two names share a letter if, and only if, they are not told apart.

    Args:
        names: best first, so that the best has the letter `a`.
        apart: the pairs that are told apart.

    Returns:
        name -> letters, in the order of the names; every name has at least one.
    """
    columns = [frozenset(names)]
    for one, other in apart:
        kept = [column for column in columns if one not in column or other not in column]
        parts = {column - {name} for column in columns if one in column and other in column for name in (one, other)}
        new = [part for part in parts if part and not any(part <= column for column in kept)]
        columns = kept + [part for part in new if not any(part < more for more in new)]
    rank = {name: i for i, name in enumerate(names)}
    columns.sort(key=lambda column: sorted(rank[name] for name in column))
    return {name: "".join(_letter(i) for i, column in enumerate(columns) if name in column) for name in names}


def _letter(number: int) -> str:
    """a, b, ..., z, then A, ..., Z, then in brackets."""
    alphabet = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    return alphabet[number] if number < len(alphabet) else f"({number})"


def find_differences(sides: Mapping[str, Side]) -> list[tuple[str, str]]:
    """The pairs of encoders whose scores differ at 5 %, Holm's correction over all pairs.

    Args:
        sides: by a name of its own, each encoder's score over the same items.
    """
    if not sides:
        return []
    names, known = list(sides), list(sides.values())
    items = difference_variances([side.mean for side in known])
    pairs = [(i, j) for i in range(len(names)) for j in range(i)]
    adjusted = holm([contrast(known[i], known[j], items=float(items[i, j])).p for i, j in pairs])
    return [(names[i], names[j]) for (i, j), p in zip(pairs, adjusted, strict=True) if p < LEVEL]


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for their number, in the order given, 0..1: the family's error stays below the level.

    Source: Holm 1979, A simple sequentially rejective multiple test procedure.
    """
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(np.argsort(p_values, kind="stable")):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = highest
    return adjusted
