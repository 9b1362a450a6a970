"""Measured beside published: reproduced, not reproduced, or undecided, by a stated rule.

An encoder that no seed decides must give the published number: within half a unit of its last printed digit and a
tolerance for differences of tokenisation and arithmetic. One that a seed decides (training, a fitted flow) is
judged by the mean of its seeds, with two one-sided tests: a published number is one run as well, and lies within two
standard deviations of one run from the mean in 95 % of cases, so this is the margin. The deviation is that of a
replication of 50 runs where there is one (unsupervised SimCSE); elsewhere the margin is `MARGIN` points.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import fmean, stdev
from typing import Literal

from harness.names import EncoderCard
from harness.reports import published
from harness.reports.published import PublishedRow
from harness.reports.statistics import Equivalence, equivalence

Outcome = Literal["reproduced", "not reproduced", "undecided"]

# Points. MiniLM on STS12 is 0.004 from MTEB's number, because SentEval joins tokens by one space; in a probe the last
# bits of a vector move its early stopping, and with that a few rows.
TOLERANCE: Mapping[str, float] = {"spearman": 0.01, "pearson": 0.01, "accuracy": 0.1}
MARGIN = 1.0  # points
REPLICATION = "simple-simcse"

RULE = (
    "Reproduced: without a seed, within half a unit of the last published digit and "
    f"{TOLERANCE['spearman']:g} ({TOLERANCE['accuracy']:g} for accuracies); with seeds, their mean is within two "
    f"standard deviations of one run (of 50 published runs of unsupervised SimCSE; else {MARGIN:g} point) by two "
    "one-sided tests at 5 %."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One cell judged.

    Attributes:
        outcome: what a reader wants to know.
        measured: percent, the mean where there are several seeds.
        published: percent.
        seeds: how many values were measured; 0 where no seed decides.
        limit: the tolerance or margin in points.
        reason: one phrase with the numbers it was decided by.
        more_seeds: how many more seeds would probably decide it; 0 if it is decided, None if that cannot be said.
    """

    outcome: Outcome
    measured: float
    published: float
    seeds: int
    limit: float
    reason: str
    more_seeds: int | None = 0


def judge(values: Sequence[float], card: EncoderCard, row: PublishedRow, task: str, metric: str) -> Verdict:
    """The verdict on one cell.

    Args:
        values: percent; one per seed, or the one value of an encoder without seeds.
        card: of the encoder (of any of its seeds).
        row: what was published for it; has a value for the task.
        task: as in results, or `Avg`.
        metric: `spearman`, `pearson` or `accuracy`.
    """
    target = row.values[task]
    if card.seed is None:
        return _exact(values[0], target, 0.5 * 10.0 ** -published.decimals(row.paper, row.table) + TOLERANCE[metric])
    spread = reference_spread(card.method, row.backbone, task)
    margin = MARGIN if spread is None else 2 * spread
    return _by_seeds(values, target, margin, equivalence(values, target, margin, spread))


def _exact(value: float, target: float, limit: float) -> Verdict:
    difference = value - target
    same = abs(difference) <= limit
    reason = f"differs by {difference:+.4f}, {'at most' if same else 'more than'} {limit:.3g}"
    outcome: Outcome = "reproduced" if same else "not reproduced"
    return Verdict(outcome=outcome, measured=value, published=target, seeds=0, limit=limit, reason=reason)


def _by_seeds(values: Sequence[float], target: float, margin: float, test: Equivalence) -> Verdict:
    outcome: Outcome = "undecided"
    if test.equivalent is not None:
        outcome = "reproduced" if test.equivalent else "not reproduced"
    seeds = f"{len(values)} seed{'' if len(values) == 1 else 's'}"
    if test.interval is None:
        reason = f"{seeds} and no known spread; needs at least one more seed"
    else:
        reason = f"difference {test.interval.low:+.2f}..{test.interval.high:+.2f} by {seeds}, margin {margin:.2f}"
    if outcome == "undecided" and test.interval is not None:
        reason += f"; needs {'many' if test.more_seeds is None else test.more_seeds} more seeds"
    return Verdict(
        outcome=outcome,
        measured=fmean(values),
        published=target,
        seeds=len(values),
        limit=margin,
        reason=reason,
        more_seeds=test.more_seeds,
    )


def reference_spread(method: str, backbone: str, task: str) -> float | None:
    """Standard deviation in points of one run among 50 that others published, or None where there are none."""
    runs = _replication().get((method, backbone, task))
    return None if runs is None else stdev(runs)


@cache
def _replication() -> Mapping[tuple[str, str, str], Sequence[float]]:
    runs: dict[tuple[str, str, str], list[float]] = {}
    for number in published.load(REPLICATION):
        runs.setdefault((number.model, number.backbone, number.task), []).append(number.value)
    return runs
