"""Which device and how many cores the probes use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def probe_device(device: str) -> str:
    """The device of the run if it is a CUDA device, such as `cuda:1`; else the CPU, the only other one they know."""
    return device if device.startswith("cuda") else "cpu"


@contextmanager
def one_core_each(device: str) -> Iterator[int]:
    """Let torch use one core in each Python thread, and give the number of such threads to use.

    The probes' operations are too small to be shared out among cores: where other programs keep a core busy, waiting
    for the slower share at the end of each operation made CR ten times slower than one core did.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield before if device == "cpu" else 1
    finally:
        torch.set_num_threads(before)
