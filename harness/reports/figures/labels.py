"""Where to write labels beside points, so that they cover neither each other nor the points. Lengths in pixels."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]  # (n, 2): x, y
Costs = NDArray[np.float64]  # one per candidate place
Box = tuple[float, float, float, float]  # left, bottom, right, top

_ANGLES = np.deg2rad(np.arange(0, 360, 15))
_GAPS = (1.0, 1.8, 3.0, 4.5, 6.5, 9.0, 12.0, 16.0)  # in units of the nearest one
_STARTS, _ROUNDS = 6, 20
_STEPS = np.linspace(0.1, 0.9, 9)  # along a leader, from the point to the label's centre
# Costs: per share of a label that lies outside, on a label or on a point; per leader that runs through one, or another.
_OUTSIDE, _ON_LABEL, _ON_POINT, _THROUGH, _CROSS = 300.0, 40.0, 15.0, 6.0, 4.0


def place(anchors: Points, sizes: Points, bounds: Box, *, gap: float) -> Points:
    """Centres of the labels: each in turn takes the best of its places until none would rather move.

    That is done from several orders of the labels, and the best outcome counts.

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
    chosen = np.array([places[cost.argmin()] for places, cost in zip(candidates, fixed, strict=True)])
    total = np.zeros(len(anchors))
    for _ in range(_ROUNDS):
        before = chosen.copy()
        for i in order:
            cost = fixed[i] + _crowding(candidates[i], i, anchors, chosen, sizes)
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
    through = _crossings(anchors[i], places, anchors[others], points[others]).sum(axis=1)
    far = np.linalg.norm(places - anchors[i], axis=1) / np.linalg.norm(size / 2 + gap)
    cost: Costs = _OUTSIDE * (over / size).sum(axis=1) + _ON_POINT * on_points + _THROUGH * through + far
    return cost


def _crowding(places: Points, i: int, anchors: Points, chosen: Points, sizes: Points) -> Costs:
    """Of each place, with the other labels where they are: on one, its leader through one, or across another's."""
    others = np.flatnonzero(np.arange(len(anchors)) != i)
    on_labels = _overlap(places, sizes[i], chosen[others], sizes[others]).sum(axis=1)
    through = _crossings(anchors[i], places, chosen[others], sizes[others]).sum(axis=1)
    leaders = anchors[others, None] + _STEPS[:, None] * (chosen[others] - anchors[others])[:, None]  # (n - 1, 9, 2)
    across = _across(anchors[i], places, anchors[others], chosen[others]).sum(axis=1)
    apart = np.abs(leaders[None] - places[:, None, None])
    under = (apart < sizes[i] / 2).all(axis=3).any(axis=2).sum(axis=1)
    cost: Costs = _ON_LABEL * on_labels + _THROUGH * (through + under) + _CROSS * across
    return cost


def _overlap(places: Points, size: Points, centres: Points, sizes: Points) -> Costs:
    """(places, boxes) the share of each box that one of `size` at each place covers; the least touch adds a fifth."""
    apart = np.abs(places[:, None] - centres[None])
    shared = np.clip((size + sizes[None]) / 2 - apart, 0, None).prod(axis=2)
    return np.asarray(shared / sizes.prod(axis=1) + 0.2 * (shared > 0))


def _crossings(anchor: Points, places: Points, centres: Points, sizes: Points) -> NDArray[np.bool_]:
    """(places, boxes) whether the way from the anchor to the place leads through the box."""
    steps = anchor + _STEPS[:, None, None] * (places - anchor)  # (9, places, 2)
    inside = np.abs(steps[:, :, None] - centres) < sizes / 2
    return np.asarray(inside.all(axis=3).any(axis=0))


def _across(anchor: Points, places: Points, starts: Points, ends: Points) -> NDArray[np.bool_]:
    """(places, leaders) whether the way from the anchor to the place crosses the way from a start to its end."""
    sides = [_side(starts, ends, anchor), _side(starts, ends, places[:, None])]
    others = [_side(anchor, places[:, None], starts), _side(anchor, places[:, None], ends)]
    return np.asarray((sides[0] != sides[1]) & (others[0] != others[1]))


def _side(start: Points, end: Points, point: Points) -> NDArray[np.bool_]:
    along, away = end - start, point - start
    return np.asarray(along[..., 0] * away[..., 1] > along[..., 1] * away[..., 0])
