"""Alignment and uniformity of unit vectors: arrays in, numbers out; natural logarithms; sums in float64.

Rows must have length 1: `unit_rows` makes them so, and no function here does it unasked, because a number that came
from vectors of any length compares with nothing. Products are made in the dtype of the rows.

Source: Wang & Isola 2020, https://arxiv.org/abs/2005.10242, section 4.1; SsnL/align_uniform. Neither normalises.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np

from harness.errors import TaskError
from harness.tasks.blocks import in_threads
from harness.tasks.metrics import Matrix, Vector
from harness.tasks.unit_vectors import Doubles, as_rows, check_unit

_BLOCK = 1024  # rows: a product of two blocks stays in the cache while its exponentials are taken
_SAMPLE = 8192  # pairs gathered at once


def squared_distances(x: Matrix, y: Matrix) -> Doubles:
    """|x_i - y_i|^2 of each row of x with the same row of y.

    Args:
        x: (n, d) rows of length 1, n >= 1.
        y: (n, d) rows of length 1.

    Returns:
        (n,) in 0..4.

    Raises:
        TaskError: if there are no pairs, the shapes differ, or a row has not length 1.
    """
    x, y = as_rows(x), as_rows(y)
    if x.shape != y.shape or not len(x):
        raise TaskError(
            f"alignment: vectors of shapes {x.shape} and {y.shape}, expected equal shapes and at least one pair; "
            "give it the two sides of the positive pairs"
        )
    check_unit(x, "alignment")
    check_unit(y, "alignment")
    difference = x - y
    squared: Doubles = np.einsum("nd,nd->n", difference, difference, dtype=np.float64)
    return squared


def alignment(x: Matrix, y: Matrix, alpha: float = 2.0) -> float:
    """How close the vectors of positive pairs are: the mean of |x_i - y_i|^alpha; lower is closer.

    Args:
        x: (n, d) rows of length 1, n >= 1.
        y: (n, d) rows of length 1, the other sentence of each pair.
        alpha: exponent, above 0; 2 in the paper, where it makes 2 - 2 mean cosine.

    Returns:
        0..2^alpha; 2 is expected of independent vectors at alpha=2.

    Raises:
        TaskError: if there are no pairs, the shapes differ, or a row has not length 1.
    """
    return float(np.mean(squared_distances(x, y) ** (alpha / 2)))


def kernel_means(x: Matrix, t: float = 2.0) -> Doubles:
    """For each vector the mean of exp(-t |x_i - x_j|^2) over all others j, exactly.

    Takes n^2 d multiplications (each pair once) and no memory that grows faster than n.

    Args:
        x: (n, d) rows of length 1, n >= 2.
        t: kernel width, above 0 and, for float32 rows, at most 20, beyond which the kernel underflows.

    Returns:
        (n,) in exp(-4t)..1; their mean is that over all pairs.

    Raises:
        TaskError: if there are fewer than two vectors, or a row has not length 1.
    """
    x = as_rows(x)
    check_unit(x, "uniformity", at_least=2)
    starts = range(0, len(x), _BLOCK)
    blocks = [(i, j) for i in starts for j in starts if i <= j]
    sums = np.zeros(len(x))
    for (i, j), (rows, columns) in zip(blocks, in_threads(partial(_kernel_sums, x, t), blocks), strict=True):
        sums[i : i + _BLOCK] += rows
        if i != j:
            sums[j : j + _BLOCK] += columns
    means: Doubles = sums / (len(x) - 1)
    return means


def _kernel_sums(x: Matrix, t: float, block: tuple[int, int]) -> tuple[Doubles, Doubles]:
    i, j = block
    kernel = x[i : i + _BLOCK] @ x[j : j + _BLOCK].T
    kernel -= 1
    kernel *= 2 * t  # -t |a-b|^2 = 2t (ab - 1) on the unit sphere
    np.exp(kernel, out=kernel)
    if i == j:
        np.fill_diagonal(kernel, 0)
    return kernel.sum(axis=1, dtype=np.float64), kernel.sum(axis=0, dtype=np.float64)


def uniformity(x: Matrix, t: float = 2.0) -> float:
    """How evenly unit vectors cover the sphere, log mean_{i<j} exp(-t |x_i - x_j|^2); lower is more even.

    The logarithm is outside the mean, so the mean of several batches' values is another number. Equal sentences are
    pairs at distance 0: say whether they were kept.

    Args:
        x: (n, d) rows of length 1, n >= 2.
        t: kernel width; 2 in the paper.

    Returns:
        -2tn/(n-1)..0, that is down to -4 at t=2 for many vectors; 0 when all are equal.

    Raises:
        TaskError: if there are fewer than two vectors, or a row has not length 1.
    """
    return float(np.log(np.mean(kernel_means(x, t))))


def uniformity_contributions(kernel: Doubles) -> Doubles:
    """One number per vector, whose mean is the uniformity and whose spread is its sampling error, to first order.

    Args:
        kernel: (n,) from `kernel_means`.

    Returns:
        (n,) log U + 2 (k_i / U - 1), where U is the mean: the linear (Hajek) part of the U-statistic, so that
        resampling these numbers is the bootstrap over vectors without n^2 work for each resample.
    """
    mean = kernel.mean()
    contributions: Doubles = np.log(mean) + 2 * (kernel / mean - 1)
    return contributions


@dataclass(frozen=True, slots=True)
class Estimate:
    """A sampled value and its standard error."""

    value: float
    standard_error: float


def sampled_uniformity(x: Matrix, pairs: int, rng: np.random.Generator, t: float = 2.0) -> Estimate:
    """Uniformity estimated from random pairs i != j, drawn evenly and with replacement.

    The estimate of the kernel's mean is unbiased; its logarithm is low by about half the squared standard error.

    Args:
        x: (n, d) rows of length 1, n >= 2.
        pairs: how many to draw, at least 2.
        rng: where they are drawn from.
        t: kernel width.

    Returns:
        The logarithm, and its standard error by the delta method, with regard to the draw alone.

    Raises:
        TaskError: if there are fewer than two vectors, or a row has not length 1.
    """
    x = as_rows(x)
    check_unit(x, "uniformity", at_least=2)
    kernel = np.empty(pairs)
    for start in range(0, pairs, _SAMPLE):
        size = min(_SAMPLE, pairs - start)
        i, j = rng.integers(len(x), size=size), rng.integers(len(x) - 1, size=size)
        j += j >= i
        difference = x[i] - x[j]
        squared = np.einsum("nd,nd->n", difference, difference, dtype=np.float64)
        kernel[start : start + size] = np.exp(-t * squared)
    mean = kernel.mean()
    return Estimate(float(np.log(mean)), float(kernel.std(ddof=1) / np.sqrt(pairs) / mean))


def bootstrap_interval(values: Vector, rng: np.random.Generator, resamples: int = 1000) -> tuple[float, float]:
    """The 2.5th and 97.5th percentile of the mean of resampled values.

    Args:
        values: (n,), one per pair or per sentence, drawn with replacement.
        rng: where they are drawn from.
        resamples: how many times.
    """
    means = [values[rng.integers(len(values), size=len(values))].mean() for _ in range(resamples)]
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)
