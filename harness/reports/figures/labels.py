"""Where to write labels beside points, so that they cover neither each other nor the points. Lengths in pixels."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]  # (n, 2): x, y
Costs = NDArray[np.float64]  # one per candidate place
Box = tuple[float, float, float, float]  # left, bottom, right, top

_ANGLES = np.deg2rad(np.arange(0, 360, 15))
_GAPS = (1.0, 1.8, 3.0, 4.5, 6.5, 9.0, 12.0, 16.0)  # in units of the nearest one
_STARTS, _ROUNDS = 30, 20
# Costs: per share of a label that lies outside, on a label or on a point; per leader that runs through one, or another.
_OUTSIDE, _ON_LABEL, _ON_POINT, _THROUGH, _CROSS = 300.0, 40.0, 15.0, 12.0, 6.0


def place(anchors: Points, sizes: Points, bounds: Box, *, gap: float) -> Points:
    """Centres of the labels: each in turn takes the best of its places until none would rather move.

    That is done in several orders of the labels, and the best outcome counts.

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
    rng = np.random.default_rng(0)
    best, lowest = anchors, np.inf
    for _ in range(_STARTS):
        order = rng.permutation(len(anchors))
        chosen, cost = _settle(order, candidates, fixed, anchors, sizes)
        if cost < lowest - 1e-9:
            best, lowest = chosen, cost
    return best


def _settle(
    order: NDArray[np.int64], candidates: Sequence[Points], fixed: Sequence[Costs], anchors: Points, sizes: Points
) -> tuple[Points, float]:
    """Places and their total cost: one label after the other, then again with all of them there, until none moves."""
    chosen = anchors.copy()
    total = np.full(len(anchors), np.inf)
    for done in range(_ROUNDS):
        before = chosen.copy()
        for turn, i in enumerate(order):
            others = order[:turn] if done == 0 else order[order != i]
            cost = fixed[i] + _crowding(candidates[i], i, others, anchors, chosen, sizes)
            chosen[i], total[i] = candidates[i][cost.argmin()], cost.min()
        if np.array_equal(before, chosen):
            break
    return chosen, float(total.sum())


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
    through = _through(anchors[i], places[:, None], anchors[others], points[others]).sum(axis=1)
    far = np.linalg.norm(places - anchors[i], axis=1) / np.linalg.norm(size / 2 + gap)
    cost: Costs = _OUTSIDE * (over / size).sum(axis=1) + _ON_POINT * on_points + _THROUGH * through + far
    return cost


def _crowding(
    places: Points, i: int, others: NDArray[np.int64], anchors: Points, chosen: Points, sizes: Points
) -> Costs:
    """Of each place, with others where they are: on one, its leader through one or across another's, under a leader."""
    on_labels = _overlap(places, sizes[i], chosen[others], sizes[others]).sum(axis=1)
    leader, theirs = (anchors[i], places[:, None]), (anchors[others], chosen[others])
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
