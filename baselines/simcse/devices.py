"""How a step runs on its devices: captured as a CUDA graph, and shared among processes.

Of several processes every one evaluates the loss of the global batch, in which only its own embeddings are
differentiable; the sum of the processes' gradients is the gradient of one process on the same batch.
Source: https://github.com/princeton-nlp/SimCSE/blob/49fa580/simcse/models.py#L170-L192
"""

import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, distributed, nn

from harness.errors import UsageError

# On an H200 recording a step of BERT-base takes 3 s, and a replay is 25 ms faster than the step; compiling it takes 35
# s more and saves a fifth, which is as much in a run of 170 s. Measured by benchmarks/gpu.py.
_RECORD_FROM = 100  # steps
_COMPILE_FROM = 3e16  # floating-point operations of a run
_WARM_UPS = 3  # passes before a capture, in which libraries allocate what they keep

Recording = tuple[Callable[[], None], Tensor, Tensor]  # does the step again; where its loss and gradient norm then are


class Graphs:
    """A step on a GPU, recorded once for each shape of its input and replayed: one launch in place of a thousand.

    Random numbers of a replay are those of the device's default generator, so that seeding it before the step decides
    the dropout masks, as it does without a graph.
    """

    def __init__(
        self, gradient: Callable[..., tuple[Tensor, Tensor]], update: Callable[[], None], device: torch.device
    ) -> None:
        """Remember what a step does; nothing is recorded yet.

        Args:
            gradient: from what a step reads to loss and gradient norm; leaves fresh gradients, waits for nothing.
            update: takes the gradients to the weights.
            device: of the weights.
        """
        self._gradient = gradient
        self._update = update
        self._device = device
        self._recorded: dict[tuple[torch.Size, ...], tuple[list[Tensor], Recording]] = {}
        self._pool: Any = None  # memory that all recordings share

    def __call__(self, seed: int, read: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Do the step on tensors that may lie in pinned memory; loss and gradient norm."""
        shapes = tuple(x.shape for x in read)
        if shapes not in self._recorded:
            own = [x.to(self._device, copy=True) for x in read]
            self._recorded[shapes] = own, self.record(own)
        own, (replay, loss, norm) = self._recorded[shapes]
        for kept, x in zip(own, read, strict=True):
            kept.copy_(x, non_blocking=True)
        torch.manual_seed(seed)
        replay()
        return loss.clone(), norm.clone()  # the next replay writes over them

    @property
    def recorded(self) -> int:
        """Number of shapes so far."""
        return len(self._recorded)

    def record(self, own: Sequence[Tensor]) -> Recording:
        """Record the step on tensors that stay in their places."""
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UPS):
                self._gradient(*own)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        # Other threads go on allocating pinned memory meanwhile, which a capture of all threads forbids.
        with torch.cuda.graph(graph, pool=self._pool, stream=stream, capture_error_mode="thread_local"):
            loss, norm = self._gradient(*own)
            self._update()
        self._pool = graph.pool()
        return graph.replay, loss, norm


class Clock:
    """Steps per second of the steps alone, without evaluations, checkpoints, and the windows that record a step."""

    def __init__(self) -> None:
        self._began: tuple[int, float] | None = None  # the first window warms up
        self._recorded = 0
        self._steps, self._seconds = 0, 0.0

    def start(self, step: int) -> None:
        self._began = step, time.perf_counter()

    def stop(self, step: int, recorded: int) -> None:
        """End the window; `recorded` is the number of shapes that the graphs hold."""
        if self._began is not None and recorded == self._recorded:
            self._steps += step - self._began[0]
            self._seconds += time.perf_counter() - self._began[1]
        self._recorded = recorded

    @property
    def rate(self) -> float | None:
        """Steps per second; None where no window counts."""
        return self._steps / self._seconds if self._steps else None


def pays(steps: int, operations: float) -> tuple[bool, bool]:
    """Whether a run on a GPU is long enough to record its step, and to compile it where torch.compile can."""
    can_compile = find_spec("triton") is not None and any(map(shutil.which, ("cc", "gcc", "clang")))
    return steps >= _RECORD_FROM, operations >= _COMPILE_FROM and can_compile


def compiled(module: nn.Module, *, recorded: bool) -> Any:
    """The module through torch.compile; unrecorded with the same random numbers, so that dropout masks are the same."""
    if recorded:
        return torch.compile(module, dynamic=False)
    return torch.compile(module, dynamic=True, options={"fallback_random": True})


@contextmanager
def gpu_settings(device: str, *, deterministic: bool) -> Iterator[None]:
    """Set what torch does on a GPU for the time of a run; on a CPU nothing is set, and everything is deterministic.

    cuDNN's attention is left out: at 32 tokens the memory-efficient kernel is faster (a step of BERT-base at batch
    64 takes 12.2 ms in place of 12.9 ms on an H200).

    Args:
        device: of the run; a GPU that is named by its number becomes torch's current one.
        deterministic: take only operations that give the same bits each time.
    """
    if not device.startswith("cuda"):
        yield
        return
    cudnn = torch.backends.cuda.cudnn_sdp_enabled()  # type: ignore[no-untyped-call]
    torch.backends.cuda.enable_cudnn_sdp(False)
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when the first product is made
        torch.use_deterministic_algorithms(True)
    try:
        with torch.cuda.device(device):
            yield
    finally:
        torch.backends.cuda.enable_cudnn_sdp(cudnn)
        if deterministic:
            torch.use_deterministic_algorithms(False)


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


def is_leader() -> bool:
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
        (sum of sizes, c, d).
    """
    padded = z.new_zeros(max(sizes), *z.shape[1:])
    padded[: len(z)] = z.detach()
    parts = [torch.empty_like(padded) for _ in sizes]
    distributed.all_gather(parts, padded)
    parts = [part[:size] for part, size in zip(parts, sizes, strict=True)]
    parts[distributed.get_rank()] = z
    return torch.cat(parts)


def reduce_gradients(parameters: Iterable[Tensor], world: int, scale: str) -> None:
    """Sum the gradients over the processes, in one message; scale "mean" then divides by their number."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    distributed.all_reduce(flat)
    if scale == "mean":
        flat /= world
    for gradient, part in zip(gradients, torch.split(flat, [g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def wait() -> None:
    """Until all processes are here."""
    distributed.barrier()
