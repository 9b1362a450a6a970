"""What the geometry metrics take: (n, d) rows of length 1, and one sentence for every way in which they are not."""

import numpy as np
from numpy.typing import NDArray

from harness.errors import TaskError
from harness.tasks.metrics import Matrix

Doubles = NDArray[np.float64]

_TOLERANCE = 1e-5  # of a length; rounding to float32 stays below 1e-6


def unit_rows(x: Matrix) -> Matrix:
    """The rows divided by their lengths, in their dtype (float64 unless they are float32).

    Args:
        x: (n, d).

    Raises:
        TaskError: if a row is zero or not finite.
    """
    rows = as_rows(x)
    lengths = lengths_of(rows, "unit_rows")
    zero = np.flatnonzero(lengths == 0)
    if zero.size:
        raise TaskError(
            f"unit_rows: {zero.size} of {len(rows)} vectors are zero, the first is number {zero[0]}, and a zero vector "
            "has no direction; leave them out, or mend the encoder"
        )
    unit: Matrix = rows / lengths[:, None].astype(rows.dtype)
    return unit


def as_rows(x: Matrix) -> Matrix:
    x = np.asarray(x)
    if x.ndim != 2:
        raise TaskError(f"geometry: an array of shape {x.shape}, expected (vectors, dimensions)")
    return x if x.dtype == np.float32 else x.astype(np.float64, copy=False)


def check_count(x: Matrix, what: str, at_least: int) -> None:
    if len(x) < at_least:
        raise TaskError(f"{what}: {len(x)} vectors, expected at least {at_least}; give it more sentences")


def lengths_of(x: Matrix, what: str) -> Doubles:
    lengths: Doubles = np.sqrt(np.einsum("nd,nd->n", x, x, dtype=np.float64))
    bad = np.flatnonzero(~np.isfinite(lengths))
    if bad.size:
        raise TaskError(
            f"{what}: {bad.size} of {len(x)} vectors hold a nan or an inf, the first is number {bad[0]}; "
            "mend the encoder, or leave them out"
        )
    return lengths


def check_unit(x: Matrix, what: str, at_least: int = 1) -> None:
    check_count(x, what, at_least)
    lengths = lengths_of(x, what)
    bad = np.flatnonzero(np.abs(lengths - 1) > _TOLERANCE)
    if bad.size:
        raise TaskError(
            f"{what}: {bad.size} of {len(x)} vectors do not have length 1, the first is number {bad[0]} with length "
            f"{lengths[bad[0]]:.6g}; divide every vector by its length first, as `unit_rows` does"
        )
