"""Similarity and correlation: arrays in, one number out."""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

Vector = NDArray[np.floating]  # (n,)
Matrix = NDArray[np.floating]  # (n, d)


def cosine(x: Matrix, y: Matrix) -> Vector:
    """Cosine of each row of x with the same row of y, in the dtype of the rows.

    Args:
        x: (n, d), finite.
        y: (n, d), finite.

    Returns:
        (n,) in -1..1 up to rounding; 0 where a row is zero, as in the reference, where 0/0 becomes 0.

    Source: SentEval senteval/utils.py `cosine` inside senteval/sts.py, float32 for SimCSE's encoders.
    """
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):  # of the rows that are computed again below
        cosines, ordinary = _cosine(x, y)
    if not ordinary.all():
        # Squares of float32 numbers above 2e19 or below 1e-19 leave its range, and a length of inf or 0 makes every
        # cosine 0; the direction of such rows is as good as any other's, and float64 has room for their squares.
        lost = ~ordinary
        cosines[lost] = _cosine(x[lost].astype(np.float64), y[lost].astype(np.float64))[0]
    return cosines


def _cosine(x: Matrix, y: Matrix) -> tuple[Vector, NDArray[np.bool_]]:
    """The cosines, and for which of them each row is zero or its squared length within the range of its dtype."""
    dots = np.einsum("nd,nd->n", x, y)
    one, other = np.linalg.norm(x, axis=1), np.linalg.norm(y, axis=1)
    norms = one * other
    cosines: Vector = np.divide(dots, norms, out=np.zeros_like(dots), where=norms > 0)
    return cosines, _measured(x, one) & _measured(y, other)


def _measured(x: Matrix, norms: Vector) -> NDArray[np.bool_]:
    range_ = np.finfo(norms.dtype)
    in_range: NDArray[np.bool_] = (norms > np.sqrt(range_.tiny)) & np.isfinite(norms)
    if not in_range.all():
        in_range[~in_range] = ~x[~in_range].any(axis=1)  # zero rows have no direction to be lost
    return in_range


def pearson(x: Vector, y: Vector) -> float:
    """Pearson's correlation, -1..1; nan if either is constant or there are fewer than two values.

    Args:
        x: (n,), finite; computed in float64.
        y: (n,), finite.
    """
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    a, b = a - a.mean(), b - b.mean()
    return float(np.clip(a @ b / np.sqrt((a @ a) * (b @ b)), -1, 1))


def spearman(x: Vector, y: Vector) -> float:
    """Spearman's rank correlation, -1..1: Pearson's of the ranks, ties sharing their mean rank; nan as in `pearson`."""
    return pearson(rankdata(x), rankdata(y))


METRICS = {"spearman": spearman, "pearson": pearson}
