"""BERT-whitening: subtract the mean, rotate to the principal axes, divide by the standard deviations, keep k of them.

Source: Su et al. 2021, https://arxiv.org/abs/2103.15316; the kernel is that of the authors' two repositories
(autoliuweijie/BERT-whitening-pytorch at b5cfbd6, bojone/BERT-whitening at 2bfea5a).
"""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.errors import EncoderError, UsageError
from harness.tasks.metrics import blas, in_threads

_ROWS = 4096  # of a thread at a time: 24 MiB of float64 at 768 dimensions, and large enough to keep the product busy
_THREADS = 8  # at most, since each takes that memory
_NOISE = 16 * float(np.finfo(np.float32).eps)


@dataclass(frozen=True, slots=True)
class Whitening:
    """A fitted whitening: y = (x - mean) @ kernel.

    Attributes:
        mean: (d,) float64.
        kernel: (d, k) float64; column j is the j-th principal axis over the standard deviation along it, the axis of
            largest variance first. Signs are arbitrary, cosines do not depend on them.
    """

    mean: NDArray[np.float64]
    kernel: NDArray[np.float64]

    def transform(self, x: NDArray[np.floating]) -> NDArray[np.float32]:
        """Whiten n vectors: (n, d) of any float type to (n, k) float32, not normalised.

        float32 moves cosines by no more than the rounding of float32 vectors has done already: taking the rounded mean
        off is exact where small variances would magnify an error, and what rounding took from the mean is taken off
        the product. Beside the result, a few MiB per core.
        """
        out = np.empty((len(x), self.kernel.shape[1]), dtype=np.float32)
        mean, kernel = self.mean.astype(np.float32), self.kernel.astype(np.float32)
        rest = ((self.mean - mean) @ self.kernel).astype(np.float32)

        def whiten(part: slice) -> None:
            np.matmul(np.subtract(x[part], mean, dtype=np.float32), kernel, out=out[part])
            out[part] -= rest

        for _ in in_threads(whiten, [slice(start, start + _ROWS) for start in range(0, len(x), _ROWS)]):
            pass
        return out


def fit_whitening(blocks: Iterable[NDArray[np.floating]], dim: int | None = None) -> Whitening:
    """Fit on all rows of all blocks, in one pass; duplicates count as often as they occur.

    Mean and covariance (divisor N - 1) are float64. Memory: for each core up to 8 some 4096 rows and a (d, d) matrix of
    float64, and the blocks they are from. Blocks are read while those before them are worked on.

    Args:
        blocks: (n_i, d) arrays, for instance rows of the embedding cache; n_i may differ, and may be 0. None may be
            written over when the next one is asked for.
        dim: how many axes to keep, those of largest variance first; None: all d. The paper keeps 256 of 768.

    Raises:
        UsageError: if dim is not in 1..d.
        EncoderError: if the vectors vary along fewer axes than are to be kept, as with fewer sentences than dimensions.
    """
    count, mean, covariance = mean_and_covariance(blocks)
    kept = len(mean) if dim is None else dim
    if count and not 1 <= kept <= len(mean):
        raise UsageError(
            f"whitening: dim={dim} was asked of vectors of {len(mean)} dimensions, expected 1 to {len(mean)}"
        )
    with blas().limit(limits=1):  # threads wait for each other here, and take ten times as long beside other work
        values, axes = np.linalg.eigh(covariance)  # ascending
    values, axes = values[::-1], axes[:, ::-1]
    rank = _rank(values, mean, count)
    if rank == 0:
        raise EncoderError(
            f"whitening: the {count} vectors to fit on do not vary, expected at least two different ones; fit on more "
            "sentences"
        )
    if rank < kept:
        raise EncoderError(
            f"whitening: the {count} vectors to fit on have rank {rank}, expected at least the {kept} of the "
            f"{len(mean)} dimensions to keep; set dim={rank} or less, or fit on more sentences"
        )
    return Whitening(mean, np.ascontiguousarray(axes[:, :kept] / np.sqrt(values[:kept])))  # as it is saved and loaded


def mean_and_covariance(
    blocks: Iterable[NDArray[np.floating]],
) -> tuple[int, NDArray[np.float64], NDArray[np.float64]]:
    """Count, mean (d,) and sample covariance (d, d; divisor N - 1, zeros for N < 2) in one pass.

    Each part of up to 4096 rows is centred on its own mean before its products are summed, and parts are merged by
    their means, so that a mean far from zero costs no digits. Products are float64 for float32 vectors too. Float32
    products of centred rows, added up in float64, would take half the time and do where variances span two orders of
    magnitude; where they span six, they moved whitened cosines of 80,000 vectors by up to 1e-4, 5 to 150 times as much
    as the rounding of the vectors to float32 did.

    Source: Chan, Golub & LeVeque 1979, "Updating formulae and a pairwise algorithm for computing sample variances".
    """
    count, mean, scatter = 0, np.zeros(0), np.zeros((0, 0))
    for rows, centre, products in _moments_of_parts(blocks):
        if count == 0:
            mean, scatter = np.zeros_like(centre), np.zeros_like(products)
        if centre.shape != mean.shape:
            raise ValueError(f"a block has vectors of {len(centre)} numbers, the blocks before it {len(mean)}")
        total, shift = count + rows, centre - mean
        scatter += products
        scatter += np.outer(shift, shift * (count * rows / total))
        mean += shift * (rows / total)
        count = total
    return count, mean, scatter / max(count - 1, 1)


_Moments = tuple[int, NDArray[np.float64], NDArray[np.float64]]


def _moments_of_parts(blocks: Iterable[NDArray[np.floating]]) -> Iterator[_Moments]:
    """The moments of up to _ROWS rows at a time, in order: a part per core, while this thread reads on.

    The blocks are read here, where an encoder that makes them may be interrupted, and use its threads.
    """
    threads = min(max((library["num_threads"] for library in blas().info()), default=1), _THREADS)
    coming: deque[Future[_Moments]] = deque()
    with blas().limit(limits=1), ThreadPoolExecutor(threads) as pool:
        for block in blocks:
            for start in range(0, len(block), _ROWS):
                coming.append(pool.submit(_moments, block[start : start + _ROWS]))
                if len(coming) > threads:
                    yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()


def _moments(x: NDArray[np.floating]) -> _Moments:
    """How many rows, their mean (d,), and the sum of the products of what they differ from it (d, d)."""
    mean = x.mean(axis=0, dtype=np.float64)
    centred = np.subtract(x, mean, dtype=np.float64)
    return len(x), mean, centred.T @ centred  # numpy sees that both are one matrix, and computes half of the product


def _rank(values: NDArray[np.float64], mean: NDArray[np.float64], count: int) -> int:
    """Axes along which the vectors vary by more than rounding; `values` are the variances, descending.

    N centred vectors span at most N - 1 axes, whatever rounding adds to the others. And a model whose last operation is
    a LayerNorm leaves one axis empty, as its vectors satisfy one linear equation: along it, float32 forward passes
    show 1e-7 of a component's root mean square, where real axes of trained models show 1e-4 and more.
    """
    if count < 2:
        return 0
    square = (values.sum() + mean @ mean) / len(mean)  # of a component, on average
    return min(int(np.count_nonzero(values > square * _NOISE**2)), count - 1)
