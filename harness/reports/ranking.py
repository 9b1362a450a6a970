"""The bootstrap of Spearman's correlation for many predictions of the same items at once.

The numbers are those of `harness.reports.bootstrap.correlation`, to about six digits. What all predictions have in
common, the resamples and the ranks of the gold scores, is made once. With weights w, centred gold ranks a and the items
in the order of a prediction, the sum of the products of ranks is that of w_k a_k (w_1 + ... + w_k - w_k / 2): the
centre of the prediction's ranks falls out, since the w a sum to 0. Running sums are taken in runs of `_RUN` items by
one product with a triangular matrix, which is several times faster than adding one item after the other.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from harness.reports.bootstrap import Design, Ranks, Vector, Weights, blocks

Singles = NDArray[np.float32]  # enough for the terms of a run; sums of runs are taken at double precision

_RUN = 16
_NOTHING = 1e-10  # of N^3, as two values give 1 / (4 N) of it or more: all are equal, whatever rounding has left
_TOGETHER = 64  # resamples
_WITHIN = (np.tril(np.ones((_RUN, _RUN))) - np.eye(_RUN) / 2).astype(np.float32)
_ONES = np.ones(_RUN, dtype=np.float32)


def draw_spearman(
    design: Design,
    gold: Vector,
    predicted: NDArray[np.float64],
    aggregations: Sequence[str],
    resamples: int,
    seed: int | Sequence[int],
) -> Mapping[str, NDArray[np.float64]]:
    """Spearman's correlations of m predictions with the gold scores, in the resamples that `draw` makes.

    Args:
        design: whose strata are the subsets.
        gold: (n,).
        predicted: (m, n).
        aggregations: some of `all`, `mean` and `wmean`, as in `correlation`.
        resamples: how many.
        seed: as in `draw`.

    Returns:
        By aggregation (m, resamples), nan where a resample leaves it undefined.
    """
    out = {name: np.empty((len(predicted), resamples)) for name in aggregations}
    split = any(name != "all" for name in aggregations)
    parts = (slice(0, design.items), *(design.strata if split else ()))
    panels = [_Panel(gold[part], predicted[:, part]) for part in parts]
    done = 0
    for weights in _wide(design, resamples, seed):
        stop = done + len(weights)
        whole, *subsets = (panel(weights[:, part]) for panel, part in zip(panels, parts, strict=True))
        for name, values in out.items():
            values[:, done:stop] = whole if name == "all" else _mean(design, weights, subsets, name)
        done = stop
    return out


def _mean(design: Design, weights: Weights, subsets: Sequence[NDArray[np.float64]], name: str) -> NDArray[np.float64]:
    """(m, b) of the subsets together."""
    values = np.stack(subsets)
    if name == "mean":
        return np.asarray(values.mean(axis=0))
    sizes = np.stack([weights[:, part].sum(axis=1) for part in design.strata])[:, None]
    return np.asarray((values * sizes).sum(axis=0) / sizes.sum(axis=0))


def _wide(design: Design, resamples: int, seed: int | Sequence[int]) -> Iterator[Weights]:
    """The blocks of `draw`, several together."""
    waiting: list[Weights] = []
    for weights in blocks(design, resamples, np.random.default_rng(seed)):
        waiting.append(weights)
        if sum(map(len, waiting)) >= _TOGETHER:
            yield np.concatenate(waiting)
            waiting = []
    if waiting:
        yield np.concatenate(waiting)


class _Panel:
    """Predictions of one set of items."""

    def __init__(self, gold: Vector, predicted: NDArray[np.float64]) -> None:
        self._gold = Ranks(gold)
        self._orders = [_Order(values) for values in predicted]

    def __call__(self, weights: Weights) -> NDArray[np.float64]:
        """(b, n) -> (m, b)."""
        ranks, gold_squares = self._gold.of(weights)
        count, n = weights.shape
        rows, products = np.zeros((2, n + 1, count), dtype=np.float32)  # a last row of nothing, to fill up a run
        rows[:n], products[:n] = weights.T, (weights * ranks).T
        cubes = np.vecdot(weights * weights, weights)
        total = weights.sum(axis=1)
        out = np.empty((len(self._orders), count))
        for row, order in zip(out, self._orders, strict=True):
            covered, raised = order.products(rows, products)
            squares = (total**3 - cubes - raised) / 12
            squares[squares < _NOTHING * total**3] = np.nan
            with np.errstate(divide="ignore", invalid="ignore"):
                row[:] = covered / np.sqrt(np.maximum(gold_squares, 0) * squares)
        return out


class _Order:
    """One prediction's items in order, equal values as one item."""

    def __init__(self, values: Vector) -> None:
        order = np.argsort(values, kind="stable")
        ordered = values[order]
        first = np.concatenate([[True], ordered[1:] != ordered[:-1]])
        starts = np.flatnonzero(first)
        sizes = np.diff(np.append(starts, len(values)))
        runs = -(-len(starts) // _RUN)
        places = np.full(runs * _RUN, len(values), dtype=np.intp)
        places[: len(starts)] = order[starts]
        self._rows = places.reshape(runs, _RUN).T.ravel()  # the first of each run, the second of each run, ...
        groups = np.flatnonzero(sizes > 1)
        self._groups = groups % _RUN * runs + groups // _RUN
        self._tied = order[np.repeat(sizes > 1, sizes)]
        self._tied_starts = np.concatenate([[0], np.cumsum(sizes[groups])[:-1]]).astype(np.intp)

    def products(self, weights: Singles, products: Singles) -> tuple[Vector, Vector]:
        """The sum of products of ranks (b,), and by how much the ties raise the sum of cubed weights (b,).

        Args:
            weights: (n + 1, b).
            products: (n + 1, b), of the weights and the centred gold ranks.
        """
        w, p = np.take(weights, self._rows, axis=0), np.take(products, self._rows, axis=0)
        raised = np.zeros(w.shape[1])
        if len(self._groups):
            tied = weights[self._tied].astype(np.float64)
            together = np.add.reduceat(tied, self._tied_starts, axis=0)
            raised = _cubes(together) - _cubes(tied)
            w[self._groups] = together
            p[self._groups] = np.add.reduceat(products[self._tied], self._tied_starts, axis=0)
        shape = (_RUN, -1, w.shape[1])
        within = (_WITHIN @ w.reshape(_RUN, -1)).reshape(shape)
        sums, later = ((_ONES @ x.reshape(_RUN, -1)).reshape(shape[1:]).astype(np.float64) for x in (w, p))
        before = np.cumsum(sums, axis=0) - sums
        inside = np.einsum("jrb,jrb->rb", within, p.reshape(shape))
        return inside.sum(axis=0, dtype=np.float64) + np.einsum("rb,rb->b", before, later), raised


def _cubes(weights: NDArray[np.float64]) -> Vector:
    return np.asarray(np.einsum("nb,nb,nb->b", weights, weights, weights))
