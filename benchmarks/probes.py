"""SentEval's probes trained as one batch against one after another, on features of the shapes of CR and MRPC.

    python benchmarks/probes.py [--threads 2] [--sample 4]

The one-by-one side is the plain PyTorch of tests/reference_probe.py. It times a sample of the fits and takes the rest
to cost as much per pass over the training rows; the batched side runs the whole scheme in mode `test`. Features are
random, of the tasks' shapes and spread, and about as hard to tell apart as sentence vectors.

The floor is what the shared minibatches cost at this machine's speed: the multiplications at the rate of a large matrix
product, and one copy of every minibatch at the rate of a large gather. CPU seconds are printed beside wall seconds,
because other programs disturb them less.
"""

import argparse
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from harness.tasks.heads import L2_GRID, table, train_heads
from harness.tasks.probes import MODES, Examples, ProbeSettings, Problem
from harness.tasks.schemes import kfold_then_test, nested_kfold, stratified, train_dev_test

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import reference_probe as reference

MODE = MODES["test"]
Seconds = tuple[float, float]  # wall, CPU


def examples(n: int, dim: int, *, deviation: float, seed: int) -> Examples:
    """Two clouds, 65 % of the rows in one, that the best classifier tells apart in five of six cases."""
    draw = np.random.default_rng(seed)
    y = (draw.random(n) < 0.65).astype(np.int64)
    direction = np.random.default_rng(0).normal(size=dim) / np.sqrt(dim)
    x = deviation * (draw.normal(size=(n, dim)) + 2 * y[:, None] * direction)
    return Examples("synthetic", x.astype(np.float32), y)


def timed(work: Callable[[], object]) -> Seconds:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


class Passes:
    """A progress callback that adds up the passes of the heads that finished."""

    def __init__(self) -> None:
        self.heads = self.passes = 0

    def __call__(self, done: int, total: int, epoch: int) -> None:
        self.passes += (done - self.heads) * epoch
        self.heads = done


def one_by_one(train: Examples, sample: int, settings: ProbeSettings = MODE) -> tuple[Seconds, int]:
    """Time of `sample` fits of the first folds, and their passes."""
    folds = stratified(train.y, settings.kfold, settings.seed)[:sample]
    passes = 0

    def fits() -> None:
        nonlocal passes
        for i, fold in enumerate(folds):
            dev = train.x[fold.dev], train.y[fold.dev]
            run = reference.fit(train.x[fold.train], train.y[fold.train], dev, settings, L2_GRID[i % 4])
            passes += run.epochs

    return timed(fits), passes


def machine_speed(dim: int) -> tuple[float, float]:
    """Multiply-adds a second of a large product x 2, and gathered numbers a second, by the CPU clock."""
    a, rows, order = torch.randn(1024, 1024), torch.randn(4000, dim), torch.randint(4000, (1024,))
    product = min(timed(lambda: a @ a)[1] for _ in range(20))
    gather = min(timed(lambda: rows.index_select(0, order))[1] for _ in range(200))
    return 2 * 1024**3 / product, order.numel() * dim / gather


def compare(name: str, run: Callable[[Passes], object], inner: Examples, sample: int) -> None:
    passes = Passes()
    batched = timed(lambda: run(passes))
    (wall, cpu), sampled = one_by_one(inner, sample)
    alone = tuple(seconds / sampled * passes.passes for seconds in (wall, cpu))
    dim, rows = inner.x.shape[1], 0.9 * len(inner.y)
    speed, gathered = machine_speed(dim)
    numbers = passes.passes * rows * dim
    floor = 4 * 2 * numbers / speed + numbers / 4 / gathered
    print(
        f"{name}: {passes.heads} fits, {passes.passes} passes over {rows:.0f} x {dim}\n"
        f"  batched    {batched[0]:8.2f} s wall {batched[1]:8.2f} s CPU   (floor {floor:.2f} s CPU)\n"
        f"  one by one {alone[0]:8.2f} s wall {alone[1]:8.2f} s CPU   (from {sample} fits, {sampled} passes)\n"
        f"  ratio      {alone[0] / batched[0]:8.1f}   wall {alone[1] / batched[1]:8.1f}   CPU"
    )


def growth() -> None:
    """CPU seconds of four passes, for more and more folds, and for more and more rows."""
    four = ProbeSettings(kfold=10, optimizer="adam", batch_size=64, tenacity=5, epoch_size=4, max_epoch=0)

    def four_passes(data: Examples, folds: int) -> float:
        rows, held_out = np.arange(len(data.y) - 100), np.arange(len(data.y) - 100, len(data.y))
        problems = [Problem(rows, held_out, L2_GRID)] * folds
        features = table([data.x], [data.y], "cpu")
        return min(timed(lambda: train_heads(features, problems, four, lambda *_: None))[1] for _ in range(3))

    data = examples(3100, 384, deviation=0.2, seed=1)
    print("folds   ", {folds: round(four_passes(data, folds), 3) for folds in (20, 40, 80, 160)})
    sizes = {n: examples(n + 100, 384, deviation=0.2, seed=1) for n in (2000, 4000, 8000, 16000)}
    print("rows    ", {n: round(four_passes(data, 20), 3) for n, data in sizes.items()})


def large() -> None:
    """Memory of a task of SST2's size with 2,048 dimensions; one check, since more take no more memory."""
    draw = np.random.default_rng(0)
    splits = [
        Examples(name, draw.standard_normal((n, 2048), dtype=np.float32), np.arange(n) % 2)
        for name, n in (("train", 67349), ("dev", 872), ("test", 1821))
    ]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    once = ProbeSettings(kfold=10, optimizer="adam", batch_size=64, tenacity=5, epoch_size=4, max_epoch=0)
    wall, cpu = timed(lambda: train_dev_test(splits[0], splits[1], splits[2], once))
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        f"67,349 x 2,048: 4 passes of 4 heads {wall:.1f} s wall, {cpu:.1f} s CPU; "
        f"peak memory {after / 2**20:.2f} GiB, of which {before / 2**20:.2f} GiB before (features and program)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--sample", type=int, default=4, help="fits that the one-by-one side times")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"{arguments.threads} threads")
    cr = examples(3775, 384, deviation=0.2, seed=1)
    mrpc, tested = (examples(n, 768, deviation=0.08, seed=2) for n in (4076, 1725))
    outside = stratified(cr.y, MODE.kfold, MODE.seed)[0].train
    inner = Examples("synthetic", cr.x[outside], cr.y[outside])
    compare("CR", lambda told: nested_kfold(cr, MODE, progress=told), inner, arguments.sample)
    compare("MRPC", lambda told: kfold_then_test(mrpc, tested, MODE, progress=told), mrpc, arguments.sample)
    growth()
    large()


if __name__ == "__main__":
    main()
