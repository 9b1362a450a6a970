"""Arithmetic of sentence vectors: the cosine of rows, and threads over blocks of a matrix."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

Vector = NDArray[np.floating]  # (n,)
Matrix = NDArray[np.floating]  # (n, d)
Block = TypeVar("Block")
Part = TypeVar("Part")


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


def in_threads(work: Callable[[Block], Part], blocks: Sequence[Block]) -> Iterator[Part]:
    """The part of each block, in the order of the blocks, so that sums over them are the same on every run.

    As many blocks go at once as BLAS has threads (OMP_NUM_THREADS is heeded), and meanwhile BLAS has one for each:
    threads inside its products spin while the others wait for their exponentials, which costs half as much again.
    """
    workers = max((library["num_threads"] for library in blas().info()), default=1)
    with blas().limit(limits=1), ThreadPoolExecutor(workers) as pool:
        yield from pool.map(work, blocks)


@cache
def blas() -> ThreadpoolController:
    """What sets the number of BLAS's threads; to find the libraries takes as long as a small task."""
    return ThreadpoolController().select(user_api="blas")
