"""Does 95 % mean 95 %? Coverage of score intervals on real benchmarks' graphs, and calibration of verdicts.

python benchmarks/uncertainty.py coverage SentEval/data      # a minute
python benchmarks/uncertainty.py verdicts                    # a minute
"""

import argparse
from pathlib import Path
from statistics import stdev

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.stats import spearmanr

from harness.data import sts
from harness.reports import published
from harness.reports.contrasts import Spread
from harness.reports.uncertainty import Estimate, Sharing, effective_chains, spearman_influence
from harness.reports.verdicts import predict
from harness.results.items import text_id

DRAWS = 1000


def main() -> None:
    """Print one of the two tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", choices=("coverage", "verdicts"))
    parser.add_argument("data", type=Path, nargs="?", help="folder with downstream/, for coverage")
    args = parser.parse_args()
    if args.table == "coverage":
        for name in ("STS13", "STS16", "SICK-R"):
            coverage(name, args.data)
    else:
        verdicts()


def coverage(name: str, root: Path) -> None:
    """How often the 95 % interval of a benchmark's Spearman holds the true value, under four kinds of dependence."""
    data = sts.sick_relatedness(root, splits=("test",)) if name == "SICK-R" else sts.semeval(root, year=name)
    left = np.array([text_id(text) for subset in data.subsets for text in subset.left])
    right = np.array([text_id(text) for subset in data.subsets for text in subset.right])
    _, codes = np.unique(np.concatenate([left, right]), return_inverse=True)
    one, other = codes[: len(left)], codes[len(left) :]
    size = int(codes.max()) + 1
    _, chain = connected_components(coo_array((np.ones(len(one)), (one, other)), (size, size)), directed=False)
    for effects in ("pairs", "sentences", "chains, in errors alone", "chains"):
        rng = np.random.default_rng(0)
        pairs, chains = np.arange(len(left)), chain[one]
        groups = {"pairs": (pairs, pairs), "sentences": (one, other), "chains": (chains, chains)}[
            effects.partition(",")[0]
        ]
        alone = effects.endswith("alone")
        truth = np.mean([spearmanr(*draw(rng, groups, errors_alone=alone)).statistic for _ in range(DRAWS)])
        inside, widths, sharing = 0, [], Sharing(left, right)
        for _ in range(DRAWS):
            gold, predicted = draw(rng, groups, errors_alone=alone)
            estimate = Estimate(
                value=spearmanr(gold, predicted).statistic,
                influence=spearman_influence(gold, predicted),
                sharing=sharing,
            )
            interval = estimate.interval()
            inside += interval.holds(truth)
            widths.append(interval.half_width)
        print(
            f"| {name} | {len(left):,} | {effective_chains(left, right):.0f} | {effects} | "
            f"{100 * inside / DRAWS:.1f} % | {100 * np.mean(widths):.2f} |"
        )


def draw(
    rng: np.random.Generator, groups: tuple[NDArray[np.intp], NDArray[np.intp]], *, errors_alone: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Gold and predicted scores of one imagined benchmark.

    A group has a common effect on gold, of half the variance that a pair has of its own, and another one of that size
    on the error of the prediction. With `errors_alone` gold has none, so that groups differ in how well they are
    predicted too high or too low and not in what their pairs are like.
    """
    one, other = groups
    n, m = len(one), int(max(one.max(), other.max())) + 1
    gold, error = rng.normal(size=n), rng.normal(size=n)
    # Two sentences have effects of variance 1/4 each, and a pair or a chain has one of variance 1/2.
    topic, style = rng.normal(size=(2, m)) * (np.sqrt(0.5) / 2 if one is other else 0.5)
    topic = topic * (not errors_alone)
    return gold + topic[one] + topic[other], gold + 0.7 * error + style[one] + style[other]


def verdicts() -> None:
    """Of 50 published runs one plays the published number, n the user's seeds, and the others the reference."""
    runs: dict[str, list[float]] = {}
    for number in published.load("simple-simcse"):
        if number.task == published.AVERAGE:
            runs.setdefault(number.backbone, []).append(number.value)
    for backbone, values in runs.items():
        for n in (1, 2, 3, 5, 10):
            rng, widths = np.random.default_rng(0), []
            found = np.zeros(4)
            for _ in range(DRAWS):
                own, target, others = np.split(rng.permutation(values), [n, n + 1])
                spread = Spread(stdev(others), len(others) - 1)
                for i, shift in enumerate((0.0, 1.0, 2.0, 3.0)):
                    one = predict((own - shift).tolist(), float(target[0]), spread, 100.0)
                    found[i] += (one.outcome == "reproduced") if i == 0 else (one.outcome == "not reproduced")
                widths.append(one.interval.half_width if one.interval else np.nan)
            share = [f"{100 * x / DRAWS:.0f} %" for x in found]
            print(f"| {backbone} | {n} | {' | '.join([share[0], f'{np.mean(widths):.2f}', *share[1:]])} |")


if __name__ == "__main__":
    main()
