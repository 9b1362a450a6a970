"""Work on blocks of large matrices, in threads and in order."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

Block = TypeVar("Block")
Part = TypeVar("Part")


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
