"""Seconds for bootstrap intervals of the whole STS suite: ours, and resamples that are sorted one by one with scipy.

python benchmarks/bootstrap.py --results results --encoder minilm
"""

import argparse
import time
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from harness.reports.bootstrap import correlation, draw, pairs_design
from harness.reports.draws import task_seed
from harness.reports.statistics import percentile_interval
from harness.results.store import read_all

TASKS = ("STS12", "STS13", "STS14", "STS15", "STS16", "STSBenchmark", "SICKRelatedness")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--encoder", default="minilm")
    parser.add_argument("--resamples", type=int, default=10_000)
    parser.add_argument("--sorted", type=int, default=20, help="resamples that are sorted one by one, for comparison")
    given = parser.parse_args()
    results = {(r.encoder.name, r.task): r for r in read_all(given.results)[0] if r.protocol == "sts"}
    ours, theirs, averages = 0.0, 0.0, []
    for task in TASKS:
        items = results[given.encoder, task].items()
        gold, cosine = items.gold, items.cosine.astype(np.float64)
        start = time.perf_counter()
        design = pairs_design(items.subset, items.left, items.right)
        statistic = correlation(design, gold, cosine, metric="spearman", aggregation="all")
        drawn = draw(design, [statistic], given.resamples, task_seed(task))[0]
        seconds = time.perf_counter() - start
        ours += seconds
        rng = np.random.default_rng(0)
        start = time.perf_counter()
        for _ in range(given.sorted):
            rows = rng.integers(0, len(gold), len(gold))
            spearmanr(gold[rows], cosine[rows])
        theirs += (time.perf_counter() - start) * given.resamples / given.sorted
        averages.append(drawn)
        clusters = sum(int(c.max()) + 1 for c in design.clusters)
        half = 100 * percentile_interval(drawn).half_width
        print(f"{task:<16}{len(gold):>6} pairs {clusters:>5} clusters  ± {half:.2f}  {seconds:6.2f} s")
    half = 100 * percentile_interval(np.mean(averages, axis=0)).half_width
    print(f"average ± {half:.2f}; {given.resamples:,} resamples: {ours:.1f} s, sorted one by one {theirs:.0f} s")


if __name__ == "__main__":
    main()
