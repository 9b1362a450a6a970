"""Geometry of sentence vectors: alignment, uniformity and anisotropy. Arrays in, numbers (or one spectrum) out.

Rows must have length 1 except for `isoscore`: `unit_rows` makes them so, and no other function does it unasked, because
a number that came from vectors of any length compares with nothing. Every function raises a TaskError that says which
row has another length, or that there are fewer vectors than it needs. Logarithms are natural. Products are made in the
dtype of the rows, sums in float64; nothing grows faster than n or d^2 in memory.

Source of alignment and uniformity: Wang & Isola 2020, https://arxiv.org/abs/2005.10242, section 4.1;
SsnL/align_uniform. Neither normalises.
"""

from functools import partial

import numpy as np
from numpy.typing import NDArray

from harness.errors import TaskError
from harness.tasks.metrics import Matrix, Vector, blas, in_threads

Doubles = NDArray[np.float64]

_TOLERANCE = 1e-5  # of a length; rounding to float32 stays below 1e-6
_KERNEL_ROWS = 1024  # a product of two blocks stays in the cache while its exponentials are taken
_ROWS = 4096  # turned into float64 at once
_HELD = 1 << 24  # similarities held at once by one thread
_NOTHING = 1e-14  # a variance smaller than this share of the squared lengths is rounding


def unit_rows(x: Matrix) -> Matrix:
    """The rows divided by their lengths, in their dtype (float64 unless they are float32).

    Args:
        x: (n, d).

    Raises:
        TaskError: if a row is zero or not finite.
    """
    rows = _as_rows(x)
    lengths = _lengths(rows, "unit_rows")
    zero = np.flatnonzero(lengths == 0)
    if zero.size:
        raise TaskError(
            f"unit_rows: {zero.size} of {len(rows)} vectors are zero, the first is number {zero[0]}, and a zero vector "
            "has no direction; leave them out, or mend the encoder"
        )
    unit: Matrix = rows / lengths[:, None].astype(rows.dtype)
    return unit


def _as_rows(x: Matrix, what: str = "geometry", at_least: int = 0) -> Matrix:
    x = np.asarray(x)
    if x.ndim != 2:
        raise TaskError(f"geometry: an array of shape {x.shape}, expected (vectors, dimensions)")
    if len(x) < at_least:
        raise TaskError(f"{what}: {len(x)} vectors, expected at least {at_least}; give it more sentences")
    return x if x.dtype == np.float32 else x.astype(np.float64, copy=False)


def _lengths(x: Matrix, what: str) -> Doubles:
    lengths: Doubles = np.sqrt(np.einsum("nd,nd->n", x, x, dtype=np.float64))
    bad = np.flatnonzero(~np.isfinite(lengths))
    if bad.size:
        raise TaskError(
            f"{what}: {bad.size} of {len(x)} vectors hold a nan or an inf, the first is number {bad[0]}; "
            "mend the encoder, or leave them out"
        )
    return lengths


def _as_unit_rows(x: Matrix, what: str, at_least: int = 1) -> Matrix:
    """The rows, each of which has length 1."""
    x = _as_rows(x, what, at_least)
    lengths = _lengths(x, what)
    bad = np.flatnonzero(np.abs(lengths - 1) > _TOLERANCE)
    if bad.size:
        raise TaskError(
            f"{what}: {bad.size} of {len(x)} vectors do not have length 1, the first is number {bad[0]} with length "
            f"{lengths[bad[0]]:.6g}; divide every vector by its length first, as `unit_rows` does"
        )
    return x


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
    x, y = _as_rows(x), _as_rows(y)
    if x.shape != y.shape or not len(x):
        raise TaskError(
            f"alignment: vectors of shapes {x.shape} and {y.shape}, expected equal shapes and at least one pair; "
            "give it the two sides of the positive pairs"
        )
    difference = _as_unit_rows(x, "alignment") - _as_unit_rows(y, "alignment")
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
    """
    x = _as_unit_rows(x, "uniformity", at_least=2)
    starts = range(0, len(x), _KERNEL_ROWS)
    blocks = [(i, j) for i in starts for j in starts if i <= j]
    sums = np.zeros(len(x))
    for (i, j), (rows, columns) in zip(blocks, in_threads(partial(_kernel_sums, x, t), blocks), strict=True):
        sums[i : i + _KERNEL_ROWS] += rows
        if i != j:
            sums[j : j + _KERNEL_ROWS] += columns
    means: Doubles = sums / (len(x) - 1)
    return means


def _kernel_sums(x: Matrix, t: float, block: tuple[int, int]) -> tuple[Doubles, Doubles]:
    i, j = block
    kernel = x[i : i + _KERNEL_ROWS] @ x[j : j + _KERNEL_ROWS].T
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


def mean_vector_norm(x: Matrix) -> float:
    """Length of the mean of unit vectors, 0..1; its square is the mean cosine over all i, j with j = i included.

    Source of the square: Prompt-BERT (Jiang et al. 2022), anisotropy of the first 100,000 lines of wiki1m.
    """
    x = _as_unit_rows(x, "mean-vector norm")
    return float(np.linalg.norm(x.mean(axis=0, dtype=np.float64)))


def average_cosine(x: Matrix) -> float:
    """Mean cosine over all pairs of different vectors, i != j, from the mean vector m: (n |m|^2 - 1) / (n - 1).

    Args:
        x: (n, d) rows of length 1, n >= 2.

    Returns:
        -1/(n-1)..1; -2t (1 - this) is a lower bound of the uniformity.
    """
    x = _as_unit_rows(x, "average cosine", at_least=2)
    return (len(x) * mean_vector_norm(x) ** 2 - 1) / (len(x) - 1)


def singular_values(x: Matrix, *, centred: bool) -> Doubles:
    """Singular values of the matrix of unit vectors, largest first, divided by the largest.

    From the eigenvalues of the d x d second moments, so that values below 1e-7 are rounding.

    Args:
        x: (n, d) rows of length 1, n >= 2.
        centred: whether the mean vector is subtracted first.

    Returns:
        (min(n, d),) in 0..1, the first is 1.

    Raises:
        TaskError: as above, and if all are equal and centred.

    Source: SimCSE (Gao et al. 2021), Figure F.1, which does not say whether it centres.
    """
    x = _as_unit_rows(x, "singular values", at_least=2)
    moments = _second_moments(x, x.mean(axis=0, dtype=np.float64) if centred else np.zeros(x.shape[1]))
    _check_spread(moments, np.ones(len(x)), "singular values")
    with blas().limit(limits=1):  # threads make so small a problem slower, and far slower on a busy machine
        ascending = np.linalg.eigvalsh(moments)
    eigenvalues = ascending[::-1][: min(x.shape)]
    values: Doubles = np.sqrt(np.clip(eigenvalues, 0, None) / eigenvalues[0])
    return values


def effective_rank(spectrum: Doubles) -> float:
    """The exponential of the entropy of the singular values taken as a distribution; 1..len(spectrum).

    Args:
        spectrum: singular values on any scale, not all zero.

    Source: Roy & Vetterli 2007, "The effective rank".
    """
    shares = spectrum[spectrum > 0] / spectrum.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def isoscore(x: Matrix) -> float:
    """How evenly variance spreads over all directions: (P - 1) / (d - 1), P = (tr S)^2 / |S|_F^2, S the covariance.

    Args:
        x: (n, d) rows of any length, n >= 2, d >= 2.

    Returns:
        0 (all variance in one direction)..1 (equal in all). Isotropic Gaussian rows give about n / (n + d): compare
        at equal n.

    Raises:
        TaskError: if there are fewer than two vectors or dimensions, one is not finite, or all are equal.

    Source: Rudman et al. 2022, IsoScore; equal to its algorithm by way of principal components.
    """
    x = _as_rows(x, "IsoScore", at_least=2)
    if x.shape[1] < 2:
        raise TaskError("IsoScore: vectors of 1 dimension, expected at least 2; there is nothing to spread over")
    lengths = _lengths(x, "IsoScore")
    moments = _second_moments(x, x.mean(axis=0, dtype=np.float64))
    _check_spread(moments, lengths, "IsoScore")
    participation = np.trace(moments) ** 2 / np.einsum("de,de->", moments, moments)
    return float((participation - 1) / (x.shape[1] - 1))


def hubness(x: Matrix, k: int = 10) -> float:
    """Skewness of how often each vector is among the k nearest of another, by cosine; higher means more hubs.

    Args:
        x: (n, d) rows of length 1, n > k.
        k: neighbours of each.

    Returns:
        Third standardised moment, no unit: about 0 without hubs.

    Raises:
        TaskError: as above, and if all occur equally often.

    Source: Radovanovic et al. 2010, "Hubs in space".
    """
    x = _as_unit_rows(x, f"hubness of {k} neighbours", at_least=k + 1)
    rows = max(1, _HELD // len(x))
    counts = np.zeros(len(x))
    for found in in_threads(partial(_neighbour_counts, x, k, rows), range(0, len(x), rows)):
        counts += found
    deviation = counts - k  # every vector names k, so k is the mean
    if not deviation.any():
        raise TaskError(f"hubness: every vector is among the {k} nearest of {k} others, so there is no skewness")
    return float(np.mean(deviation**3) / np.mean(deviation**2) ** 1.5)


def _neighbour_counts(x: Matrix, k: int, rows: int, start: int) -> NDArray[np.int64]:
    similarities = x[start : start + rows] @ x.T
    here = np.arange(len(similarities))
    similarities[here, start + here] = -np.inf
    nearest = np.argpartition(similarities, -k, axis=1)[:, -k:]
    return np.bincount(nearest.ravel(), minlength=len(x))


def _second_moments(x: Matrix, centre: Doubles) -> Doubles:
    """(d, d) sum over rows of (x_i - centre)(x_i - centre)^T, in float64 by blocks."""
    total = np.zeros((x.shape[1], x.shape[1]))
    for start in range(0, len(x), _ROWS):
        shifted = x[start : start + _ROWS] - centre
        total += shifted.T @ shifted
    return total


def _check_spread(moments: Doubles, lengths: Doubles, what: str) -> None:
    if np.trace(moments) <= _NOTHING * (lengths @ lengths):
        raise TaskError(f"{what}: all {len(lengths)} vectors are equal, so they have no variance; look at the encoder")
