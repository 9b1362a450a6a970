"""Where to write labels beside points, so that they cover neither each other nor the points. Lengths in pixels."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]  # (n, 2): x, y
Costs = NDArray[np.float64]  # one per candidate place
Box = tuple[float, float, float, float]  # left, bottom, right, top

_ANGLES = np.deg2rad(np.arange(0, 360, 15))
_GAPS = (1.0, 1.8, 3.0, 4.5, 6.5, 9.0, 12.0, 16.0)  # in units of the nearest one
_KICKS, _KICKED, _ROUNDS = 80, 3, 20
# Costs: per share of a label that lies outside, on a label or on a point; per leader that runs through one, or another.
_OUTSIDE, _ON_LABEL, _ON_POINT, _THROUGH, _CROSS = 300.0, 40.0, 15.0, 12.0, 6.0


def place(anchors: Points, sizes: Points, bounds: Box, *, gap: float) -> Points:
    """Centres of the labels: each in turn takes the best of its places until none would rather move.

    Then some of the worst are put elsewhere at random and all may move again; the best outcome of many kicks counts.

    Args:
        anchors: (n, 2) the points.
        sizes: (n, 2) widths and heights of the labels.
        bounds: where labels may be.
        gap: the nearest that a label may come to its point's centre; also half the side of a point.

    Returns:
        (n, 2). The same input gives the same places. Where there is no room, labels overlap as little as possible.
    """
    candidates = [_around(anchor, size, gap) for anchor, size in zip(anchors, sizes, strict=True)]
    fixed = [_standing(places, i, anchors, sizes[i], bounds, gap) for i, places in enumerate(candidates)]
    start = np.array([places[cost.argmin()] for places, cost in zip(candidates, fixed, strict=True)])
    best, costs = _settle(start, candidates, fixed, anchors, sizes)
    rng = np.random.default_rng(0)
    for _ in range(_KICKS):
        kicked = best.copy()
        for i in rng.choice(len(anchors), size=_KICKED, p=costs / costs.sum()):
            kicked[i] = rng.choice(candidates[i])
        chosen, found = _settle(kicked, candidates, fixed, anchors, sizes)
        if found.sum() < costs.sum() - 1e-9:
            best, costs = chosen, found
    return best


def leader_end(anchor: Points, centre: Points, size: Points) -> Points:
    """Where the line from a point meets its label: the nearest of the label's box."""
    return np.clip(anchor, centre - size / 2, centre + size / 2)


def _settle(
    chosen: Points, candidates: Sequence[Points], fixed: Sequence[Costs], anchors: Points, sizes: Points
) -> tuple[Points, Costs]:
    """Places and what each costs when none moves any more; `chosen` is where to begin."""
    chosen = chosen.copy()
    total = np.zeros(len(anchors))
    for _ in range(_ROUNDS):
        before = chosen.copy()
        for i, places in enumerate(candidates):
            cost = fixed[i] + _crowding(places, i, anchors, chosen, sizes)
            chosen[i], total[i] = places[cost.argmin()], cost.min()
        if np.array_equal(before, chosen):
            break
    return chosen, total


def _around(anchor: Points, size: Points, gap: float) -> Points:
    """Nearest first, and at one distance from the right anticlockwise; ties go to the first."""
    directions = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)
    return np.concatenate([anchor + directions * (gap * factor + size / 2) for factor in _GAPS])


def _standing(places: Points, i: int, anchors: Points, size: Points, bounds: Box, gap: float) -> Costs:
    """Of each place, whatever the other labels do: outside, on a point, a leader through points, far away."""
    low, high = np.array(bounds[:2]), np.array(bounds[2:])
    over = np.maximum(low - (places - size / 2), 0) + np.maximum(places + size / 2 - high, 0)
    points = np.full_like(anchors, 2 * gap)
    on_points = _overlap(places, size, anchors, points).sum(axis=1)
    others = np.arange(len(anchors)) != i
    ends = leader_end(anchors[i], places, size)
    through = _through(anchors[i], ends[:, None], anchors[others], points[others]).sum(axis=1)
    lengths = np.linalg.norm(ends - anchors[i], axis=1) + 0.1 * np.linalg.norm(places - anchors[i], axis=1)
    far = lengths / (5 * gap)
    cost: Costs = _OUTSIDE * (over / size).sum(axis=1) + _ON_POINT * on_points + _THROUGH * through + far
    return cost


def _crowding(places: Points, i: int, anchors: Points, chosen: Points, sizes: Points) -> Costs:
    """Of each place, with others where they are: on one, its leader through one or across another's, under a leader."""
    others = np.flatnonzero(np.arange(len(anchors)) != i)
    on_labels = _overlap(places, sizes[i], chosen[others], sizes[others]).sum(axis=1)
    leader = (anchors[i], leader_end(anchors[i], places, sizes[i])[:, None])
    theirs = (anchors[others], leader_end(anchors[others], chosen[others], sizes[others]))
    through = _through(*leader, chosen[others], sizes[others]).sum(axis=1)
    under = _through(*theirs, places[:, None], sizes[i]).sum(axis=1)
    across = _cross(*leader, *theirs).sum(axis=1)
    cost: Costs = _ON_LABEL * on_labels + _THROUGH * (through + under) + _CROSS * across
    return cost


def _overlap(places: Points, size: Points, centres: Points, sizes: Points) -> Costs:
    """(places, boxes) the share of each box that one of `size` at each place covers; the least touch adds a fifth."""
    apart = np.abs(places[:, None] - centres[None])
    shared = np.clip((size + sizes[None]) / 2 - apart, 0, None).prod(axis=2)
    return np.asarray(shared / sizes.prod(axis=1) + 0.2 * (shared > 0))


def _through(start: Points, end: Points, centre: Points, size: Points) -> NDArray[np.bool_]:
    """Whether each way from start to end leads through the box, that is across one of its diagonals."""
    one, other = size / 2, size / 2 * (1, -1)
    return _cross(start, end, centre - one, centre + one) | _cross(start, end, centre - other, centre + other)


def _cross(a: Points, b: Points, c: Points, d: Points) -> NDArray[np.bool_]:
    """Whether the way from a to b crosses that from c to d."""
    return np.asarray((_side(a, b, c) != _side(a, b, d)) & (_side(c, d, a) != _side(c, d, b)))


def _side(start: Points, end: Points, point: Points) -> NDArray[np.bool_]:
    along, away = end - start, point - start
    return np.asarray(along[..., 0] * away[..., 1] > along[..., 1] * away[..., 0])
