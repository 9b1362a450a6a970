"""The prediction interval: calibrated on 4 x 50 runs, never of zero width, with the number of seeds that it needs."""

from statistics import stdev

import numpy as np
import pytest

from harness.reports import published
from harness.reports.contrasts import Spread, pool_spreads
from harness.reports.verdicts import mean_interval, predict, prediction_interval

RUNS = {}
for number in published.load("simple-simcse"):
    if number.task == "Avg":
        RUNS.setdefault(number.backbone, []).append(number.value)


@pytest.mark.parametrize("backbone", RUNS)
@pytest.mark.parametrize("n", [1, 2, 3, 5, 10])
def test_a_run_of_the_recipe_is_inside_in_95_of_100(backbone, n):
    """Of the 50 runs one plays the published number, n the user's seeds, and the others the reference."""
    rng, runs, inside = np.random.default_rng(0), RUNS[backbone], 0
    for _ in range(200):
        mine, target, others = np.split(rng.permutation(runs), [n, n + 1])
        spread = Spread(stdev(others), len(others) - 1)
        inside += predict(mine.tolist(), float(target[0]), spread, 100).outcome == "reproduced"
    assert 0.9 <= inside / 200 <= 0.99


def test_a_point_is_seen_where_runs_are_alike_and_not_where_they_differ():
    spread = {name: Spread(stdev(runs), len(runs) - 1) for name, runs in RUNS.items()}
    centre = {name: float(np.mean(runs)) for name, runs in RUNS.items()}

    def outcome(name, shift):
        own = [centre[name] + 0.1 * i for i in (-2, -1, 0, 1, 2)]
        return predict(own, centre[name] + shift, spread[name], 2.0).outcome

    assert outcome("roberta-base", 1.0) == "not reproduced"
    assert outcome("bert-base-uncased", 1.0) == "reproduced"
    assert outcome("bert-large-uncased", 1.0) == "undecided"  # its runs differ by more than the margin


def test_the_interval_by_hand():
    spread = pool_spreads([[74.0, 75.0, 76.0]])
    assert (spread.deviation, spread.freedom) == (1.0, 2)
    interval = prediction_interval([74.0, 75.0, 76.0], spread)
    assert interval.half_width == pytest.approx(4.302653 * (4 / 3) ** 0.5, rel=1e-6)
    assert mean_interval([74.0, 75.0, 76.0], spread).half_width == pytest.approx(4.302653 / 3**0.5, rel=1e-6)


def test_spreads_are_pooled_with_their_degrees_of_freedom():
    pooled = pool_spreads([[74.0, 75.0, 76.0]], Spread(2.0, 8))
    assert pooled.freedom == 10 and pooled.deviation == pytest.approx(((2 * 1.0 + 8 * 4.0) / 10) ** 0.5)


def test_no_interval_of_zero_width_is_believed():
    assert pool_spreads([[74.0, 74.0]]) is None
    assert predict([74.0, 74.0], 74.9, None, 2.0).outcome == "undecided"
    assert predict([74.0], 74.0, None, 2.0).more_seeds == 1


def test_undecided_says_how_many_seeds_narrow_it():
    found = predict([75.0], 76.25, Spread(0.9, 49), 2.0)
    assert found.outcome == "undecided" and found.more_seeds >= 1
    again = predict([75.0] * (1 + found.more_seeds), 76.25, Spread(0.9, 49), 2.0)
    assert again.outcome == "reproduced"
    assert predict([70.0], 70.5, Spread(2.0, 49), 2.0).more_seeds is None  # no number of seeds makes runs alike


def test_a_mean_eight_points_low_is_far_outside():
    found = predict([66.4, 66.3, 66.2, 66.6, 66.1], 76.25, Spread(0.84, 49), 2.0)
    assert found.outcome == "not reproduced" and found.off == pytest.approx(76.25 - found.interval.high)
