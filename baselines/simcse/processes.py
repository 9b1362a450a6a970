"""Several processes as one: embeddings are gathered, so that every example of the global batch is a negative.

Source: SimCSE (49fa580) simcse/models.py: every process evaluates the loss of the global batch, in which only its own
embeddings are differentiable; the sum of the processes' gradients is the gradient of one process on the same batch.
"""

import os
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, distributed

from harness.errors import UsageError


def size() -> int:
    """How many processes torchrun started; 1 without it.

    Raises:
        UsageError: if torchrun's variables are not numbers.
    """
    world = os.environ.get("WORLD_SIZE", "1")
    if world == "1":
        return 1
    rank = os.environ.get("RANK", "nothing")
    if not (world.isdecimal() and rank.isdecimal()):
        raise UsageError(
            f"the environment has WORLD_SIZE={world} and RANK={rank}, expected numbers as torchrun sets them; start "
            "with torchrun, or unset WORLD_SIZE"
        )
    return int(world)


def leads() -> bool:
    """Whether this process is the one that writes: the only one, or the first of several."""
    return size() == 1 or os.environ["RANK"] == "0"


def join(device: str) -> tuple[str, int, int]:
    """Join the group that torchrun started, if it did.

    Returns:
        The device of this process, its rank, and the number of processes.

    Raises:
        UsageError: if torchrun's processes cannot each have a GPU.
    """
    world = size()
    if world == 1:
        return device, 0, 1
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if device.startswith("cuda"):
        if local >= torch.cuda.device_count():
            raise UsageError(
                f"process {local} of {world}: {torch.cuda.device_count()} GPUs here, expected one per process; lower "
                "--nproc-per-node"
            )
        device = f"cuda:{local}"
        torch.cuda.set_device(local)
    if not distributed.is_initialized():
        distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    return device, distributed.get_rank(), distributed.get_world_size()


def gather(z: Tensor, sizes: Sequence[int]) -> Tensor:
    """The embeddings of all processes, in the order of their ranks; differentiable in this process's own.

    Args:
        z: (b_r, c, d) of this process.
        sizes: b_r of every process.

    Returns:
        (sum of sizes, c, d); z itself where there is one process.
    """
    if len(sizes) == 1:
        return z
    padded = z.new_zeros(max(sizes), *z.shape[1:])
    padded[: len(z)] = z.detach()
    parts = [torch.empty_like(padded) for _ in sizes]
    distributed.all_gather(parts, padded)
    parts = [part[:size] for part, size in zip(parts, sizes, strict=True)]
    parts[distributed.get_rank()] = z
    return torch.cat(parts)


def reduce_gradients(parameters: Iterable[Tensor], world: int, scale: str) -> None:
    """Sum the gradients over the processes, in one message; scale "mean" then divides by their number."""
    if world == 1:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    distributed.all_reduce(flat)
    if scale == "mean":
        flat /= world
    for gradient, part in zip(gradients, torch.split(flat, [g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def wait(world: int) -> None:
    """Until all processes are here."""
    if world > 1:
        distributed.barrier()
