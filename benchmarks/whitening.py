"""Whitening of vectors on disk: seconds of one pass of reading, of fitting, of applying, and peak memory.

    python benchmarks/whitening.py --rows 1000000 --scratch FOLDER

Once from a plain file of float32 (reading copies every block out of it), and once from the embedding cache (reading
looks every sentence up). The scratch folder needs twice rows x dims x 4 bytes; what is written is deleted at the end.
"Cold" is the first pass after the operating system was asked to forget the files. The floor is what the arithmetic
takes at the rates that the same matrix products reach here with one thread per core: the covariance is half a product
of (d, n) and (n, d) in float64, applying it a product of (n, d) and (d, k) in float32.
"""

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from baselines.whitening import Whitening, fit_whitening
from harness.encoders.store import EmbeddingStore
from harness.tasks.metrics import in_threads

Source = Callable[[], Iterator[NDArray[np.float32]]]

BLOCK = 16384  # as the encoders fit
PRODUCTS = 64  # timed for the floor


def write_vectors(path: Path, rows: int, dims: int) -> None:
    """Correlated vectors, far from zero as a language model's are; flushed, so that the file can be forgotten."""
    rng = np.random.default_rng(0)
    mixing = rng.standard_normal((dims, dims), dtype=np.float32) / np.sqrt(np.float32(dims))
    mean = rng.standard_normal(dims, dtype=np.float32) * 3
    with path.open("wb") as file:
        for start in range(0, rows, BLOCK):
            part = rng.standard_normal((min(BLOCK, rows - start), dims), dtype=np.float32)
            file.write((part @ mixing + mean).tobytes())
        os.fsync(file.fileno())


def fill_cache(root: Path, path: Path, dims: int) -> EmbeddingStore:
    cache = EmbeddingStore(root, "0" * 64, dims, {"name": "benchmark"})
    for number, block in enumerate(blocks(path, dims)):
        cache.append(sentences(number, len(block)), block)
    return cache


def sentences(number: int, count: int) -> list[str]:
    return [f"This is sentence {row} of block {number}, of about ten words." for row in range(count)]


def forget(paths: Iterable[Path]) -> None:
    for path in paths:
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def blocks(path: Path, dims: int) -> Iterator[NDArray[np.float32]]:
    """One map per block: pages of a map of the whole file would count as this process's memory."""
    rows = path.stat().st_size // (4 * dims)
    for start in range(0, rows, BLOCK):
        shape = (min(BLOCK, rows - start), dims)
        yield np.memmap(path, dtype=np.float32, mode="r", offset=start * dims * 4, shape=shape)


def cached_blocks(cache: EmbeddingStore, rows: int) -> Iterator[NDArray[np.float32]]:
    for number, start in enumerate(range(0, rows, BLOCK)):
        yield cache.lookup(sentences(number, min(BLOCK, rows - start)))[1]


def seconds(action: Callable[[], object]) -> NDArray[np.float64]:
    """Of the clock and of the processor, which is what counts on a machine that does other work too."""
    start = np.array([time.perf_counter(), time.process_time()])
    action()
    return np.array([time.perf_counter(), time.process_time()]) - start


def read(source: Source) -> None:
    for block in source():
        np.array(block)


def apply(whitening: Whitening, source: Source) -> None:
    for block in source():
        whitening.transform(block)


def measure(name: str, source: Source, files: Iterable[Path], keep: int) -> None:
    forget(files)
    cold = seconds(lambda: read(source))
    warm = np.min([seconds(lambda: read(source)) for _ in range(3)], axis=0)
    fitted: list[Whitening] = []
    fit = seconds(lambda: fitted.append(fit_whitening(source(), keep)))
    applying = seconds(lambda: apply(fitted[0], source))
    both = fit + applying
    rows = {"reading, cold": cold, "reading, warm": warm, "fitting": fit, "applying": applying, "both": both}
    for what, (clock, processor) in rows.items():
        ratios = f"{clock / cold[0]:5.1f} x reading cold, {clock / warm[0]:5.1f} x warm"
        print(f"{name}: {what:<14} {clock:7.2f} s of clock, {ratios}; {processor:7.2f} s of processor")


def print_floor(rows: int, dims: int, keep: int) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2048, dims))
    y, kernel = x.astype(np.float32), rng.standard_normal((dims, keep), dtype=np.float32)

    def best(product: Callable[[int], object]) -> float:
        passes = [seconds(lambda: list(in_threads(product, range(PRODUCTS))))[0] for _ in range(3)]
        return float(min(passes)) / PRODUCTS / len(x)

    fit, apply = best(lambda _: (x.T @ x).sum()), best(lambda _: (y @ kernel).sum())
    for what, flop, row in (("fitting", dims**2, fit), ("applying", 2 * dims * keep, apply)):
        print(f"floor of {what}: {rows * flop / 1e9:.0f} GFLOP at {flop / row / 1e9:.0f} GFLOP/s, {rows * row:.2f} s")


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dims", type=int, default=768)
    parser.add_argument("--keep", type=int, default=256)
    parser.add_argument("--scratch", type=Path, required=True, help="folder with room for the vectors")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as folder:
        path, root, rows, dims = Path(folder) / "vectors.f32", Path(folder) / "cache", arguments.rows, arguments.dims
        write_vectors(path, rows, dims)
        cache = fill_cache(root, path, dims)
        print(f"{rows} x {dims}, keeping {arguments.keep}; peak memory before {peak_mib():.0f} MiB")
        print_floor(rows, dims, arguments.keep)
        measure("plain file", lambda: blocks(path, dims), [path], arguments.keep)
        measure("embedding cache", lambda: cached_blocks(cache, rows), root.glob("*/*.shard"), arguments.keep)
        print(f"peak memory {peak_mib():.0f} MiB, numpy and this script included")


if __name__ == "__main__":
    main()
