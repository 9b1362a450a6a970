"""What each of several changes is worth, whatever the order in which they are made."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import permutations
from statistics import fmean

from harness.explanation.factors import Reading

Value = Callable[[Reading], float | None]  # percent, or None where a reading gives no number


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """One factor whose reading differs, and how much of the way it is worth.

    Attributes:
        part: e.g. `pooling`.
        before: its reading at the start.
        after: its reading at the end.
        points: its Shapley value: the mean of what it changes over all orders in which the factors can be changed.
        low: the least that it changes in any order.
        high: the most.
    """

    part: str
    before: str
    after: str
    points: float
    low: float
    high: float


def shapley(value: Value, start: Reading, end: Reading) -> tuple[tuple[Share, ...], float]:
    """What each factor that differs is worth, over all orders in which the factors can be changed.

    Two wrong settings can each look like the cause, or like none, by the order in which they are put right; the mean
    over all orders depends on none. A reading on the way that gives no number leaves out the orders through it.

    Args:
        value: the number of a reading.
        start: where the way begins.
        end: where it ends.

    Returns:
        The shares, largest first, and the interaction: the whole difference minus what each factor changes alone.

    Source: Shapley 1953, A value for n-person games.
    """
    parts = start.changes(end)
    gains: dict[str, list[float]] = {part: [] for part in parts}
    for order in permutations(parts):
        stations = [start]
        for part in order:
            stations.append(stations[-1].changed(part, end[part]))
        values = [value(station) for station in stations]
        known = [one for one in values if one is not None]
        if len(known) == len(values):
            for part, before, after in zip(order, known, known[1:], strict=False):
                gains[part].append(after - before)
    shares = [
        Share(
            part=part,
            before=start[part],
            after=end[part],
            points=fmean(found),
            low=min(found),
            high=max(found),
        )
        for part, found in gains.items()
        if found
    ]
    return tuple(sorted(shares, key=lambda share: -abs(share.points))), _interaction(value, start, end)


def _interaction(value: Value, start: Reading, end: Reading) -> float:
    parts = start.changes(end)
    alone = [value(start.changed(part, end[part])) for part in parts]
    before, after = value(start), value(end)
    known = [one for one in alone if one is not None]
    if len(parts) < 2 or len(known) < len(parts) or before is None or after is None:
        return 0.0
    return after - before - sum(one - before for one in known)
