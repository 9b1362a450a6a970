"""How far vectors are from filling all directions evenly: arrays in, one number (or one spectrum) out, in float64.

Rows must have length 1 except for `isoscore`. Nothing grows faster than n or d^2 in memory.
"""

from functools import partial

import numpy as np
from numpy.typing import NDArray

from harness.errors import TaskError
from harness.tasks.blocks import blas, in_threads
from harness.tasks.metrics import Matrix
from harness.tasks.unit_vectors import Doubles, as_rows, check_count, check_unit, lengths_of

_BLOCK = 4096  # rows turned into float64 at once
_HELD = 1 << 24  # similarities held at once by one thread
_NOTHING = 1e-14  # a variance smaller than this share of the squared lengths is rounding


def mean_vector_norm(x: Matrix) -> float:
    """Length of the mean of unit vectors, 0..1; its square is the mean cosine over all i, j with j = i included.

    Raises:
        TaskError: if there are no vectors, or a row has not length 1.

    Source of the square: Prompt-BERT (Jiang et al. 2022), anisotropy of the first 100,000 lines of wiki1m.
    """
    x = as_rows(x)
    check_unit(x, "mean-vector norm", at_least=1)
    return float(np.linalg.norm(x.mean(axis=0, dtype=np.float64)))


def average_cosine(x: Matrix) -> float:
    """Mean cosine over all pairs of different vectors, i != j, from the mean vector m: (n |m|^2 - 1) / (n - 1).

    Args:
        x: (n, d) rows of length 1, n >= 2.

    Returns:
        -1/(n-1)..1; -2t (1 - this) is a lower bound of the uniformity.

    Raises:
        TaskError: if there are fewer than two vectors, or a row has not length 1.
    """
    x = as_rows(x)
    check_unit(x, "average cosine", at_least=2)
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
        TaskError: if there are fewer than two vectors, a row has not length 1, or all are equal and centred.

    Source: SimCSE (Gao et al. 2021), Figure F.1, which does not say whether it centres.
    """
    x = as_rows(x)
    check_unit(x, "singular values", at_least=2)
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
    x = as_rows(x)
    check_count(x, "IsoScore", 2)
    if x.shape[1] < 2:
        raise TaskError("IsoScore: vectors of 1 dimension, expected at least 2; there is nothing to spread over")
    lengths = lengths_of(x, "IsoScore")
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
        TaskError: if there are k vectors or fewer, a row has not length 1, or all occur equally often.

    Source: Radovanovic et al. 2010, "Hubs in space".
    """
    x = as_rows(x)
    check_unit(x, f"hubness of {k} neighbours", at_least=k + 1)
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
    for start in range(0, len(x), _BLOCK):
        shifted = x[start : start + _BLOCK] - centre
        total += shifted.T @ shifted
    return total


def _check_spread(moments: Doubles, lengths: Doubles, what: str) -> None:
    if np.trace(moments) <= _NOTHING * (lengths @ lengths):
        raise TaskError(f"{what}: all {len(lengths)} vectors are equal, so they have no variance; look at the encoder")
