"""The similarity of sentence vectors: arrays in, one number per row out."""

import numpy as np
from numpy.typing import NDArray

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
    return cosines, _keeps_direction(x, one) & _keeps_direction(y, other)


def _keeps_direction(x: Matrix, norms: Vector) -> NDArray[np.bool_]:
    range_ = np.finfo(norms.dtype)
    in_range: NDArray[np.bool_] = (norms > np.sqrt(range_.tiny)) & np.isfinite(norms)
    if not in_range.all():
        in_range[~in_range] = ~x[~in_range].any(axis=1)  # zero rows have no direction to be lost
    return in_range
