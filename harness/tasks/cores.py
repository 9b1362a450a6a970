"""How many cores a task uses: threads over blocks of a matrix, and one core for each small probe."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
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


def probe_device(device: str) -> str:
    """The device of the run if it is a CUDA device, such as `cuda:1`; else the CPU, the only other one they know."""
    return device if device.startswith("cuda") else "cpu"


@contextmanager
def one_core_each(device: str) -> Iterator[int]:
    """Let torch use one core in each Python thread, and give the number of such threads to use.

    The probes' operations are too small to be shared out among cores: where other programs keep a core busy, waiting
    for the slower share at the end of each operation made CR ten times slower than one core did.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield before if device == "cpu" else 1
    finally:
        torch.set_num_threads(before)
