"""Cost of the geometry metrics against the number of vectors: seconds and memory, a process for each line.

python benchmarks/geometry.py
python benchmarks/geometry.py --n 200000 --dim 768
"""

import argparse
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import numpy as np
from threadpoolctl import threadpool_info

from harness.tasks.geometry_metrics import hubness, singular_values, uniformity, unit_rows

METRICS = {
    "uniformity": uniformity,
    "singular values, centred": lambda x: singular_values(x, centred=True)[1],
    "hubness, 10 neighbours": hubness,
}


def measure(name: str, n: int, dim: int) -> tuple[float, float, float, object]:
    """Seconds, seconds of all threads together, peak memory in GiB with the vectors, and the value."""
    x = np.empty((n, dim), dtype=np.float32)
    rng = np.random.default_rng(0)
    for block in np.array_split(x, max(1, n // 10_000)):
        block[:] = unit_rows(rng.standard_normal(block.shape, dtype=np.float32) + 0.2)
    started, busy = time.perf_counter(), time.process_time()
    value = METRICS[name](x)
    seconds, busy = time.perf_counter() - started, time.process_time() - busy
    return seconds, busy, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, nargs="+", default=[2_500, 5_000, 10_000, 20_000, 40_000])
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--metrics", nargs="+", default=list(METRICS), choices=list(METRICS))
    given = parser.parse_args()
    threads = max((lib["num_threads"] for lib in threadpool_info() if lib["user_api"] == "blas"), default=1)
    print(f"{given.dim} dimensions, float32, {threads} threads")
    print(f"{'metric':<32}{'n':>9}{'seconds':>10}{'cpu s':>10}{'GiB':>7}  value")
    for name in given.metrics:
        for n in given.n:
            with ProcessPoolExecutor(1) as alone:
                seconds, busy, memory, value = alone.submit(partial(measure, name, n, given.dim)).result()
            print(f"{name:<32}{n:>9}{seconds:>10.2f}{busy:>10.2f}{memory:>7.2f}  {value}", flush=True)


if __name__ == "__main__":
    main()
