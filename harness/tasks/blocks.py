"""Work on blocks of large matrices, in threads and in order."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from threadpoolctl import threadpool_info, threadpool_limits  # type: ignore[import-untyped]

Block = TypeVar("Block")
Part = TypeVar("Part")


def in_threads(work: Callable[[Block], Part], blocks: Sequence[Block]) -> Iterator[Part]:
    """The part of each block, in the order of the blocks, so that sums over them are the same on every run.

    As many blocks go at once as BLAS has threads (OMP_NUM_THREADS is heeded), and meanwhile BLAS has one for each:
    threads inside its products spin while the others wait for their exponentials, which costs half as much again.
    """
    workers = max((library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"), default=1)
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(workers) as pool:
        yield from pool.map(work, blocks)
