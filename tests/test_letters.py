"""Letters: two encoders share one if, and only if, they are not told apart."""

from itertools import combinations

import numpy as np
import pytest

from harness.reports.letters import holm, letters, told_apart, two_sided_p
from harness.reports.uncertainty import Estimate


def share(found, one, other):
    return bool(set(found[one]) & set(found[other]))


@pytest.mark.parametrize("seed", range(30))
def test_sharing_a_letter_is_not_being_told_apart(seed):
    rng = np.random.default_rng(seed)
    names = [f"m{i}" for i in range(rng.integers(1, 9))]
    pairs = list(combinations(names, 2))
    apart = [pair for pair in pairs if rng.random() < 0.5]
    found = letters(names, apart)
    assert list(found) == names and all(found.values())
    assert [pair for pair in pairs if not share(found, *pair)] == apart


def test_the_example_of_the_source():
    """Piepho 2004, table 1: treatments 1..8, where 1 differs from 5, 7 and 8, and so on."""
    apart = [("1", "7"), ("1", "8"), ("2", "4"), ("2", "5"), ("3", "8"), ("4", "7")]
    found = letters(list("12345678"), apart)
    assert {pair for pair in combinations("12345678", 2) if not share(found, *pair)} == set(apart)


def test_the_best_has_the_first_letter_and_nobody_is_left_out():
    assert letters(["a", "b", "c"], [("a", "c")]) == {"a": "a", "b": "ab", "c": "b"}
    assert letters(["a", "b"], []) == {"a": "a", "b": "a"}
    assert letters(["a", "b"], [("a", "b")]) == {"a": "a", "b": "b"}


def test_holm_is_a_step_down():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert two_sided_p(1.96, 1.0) == pytest.approx(0.05, abs=1e-4)
    assert two_sided_p(0.0, 0.0) == 1.0 and two_sided_p(0.1, 0.0) == 0.0


def encoder(value, noise=0.01):
    rng = np.random.default_rng(0)
    ids = np.array([f"s{i}" for i in range(400)])
    return Estimate(value=value, influence=rng.normal(size=400) * noise / 20, left=ids, right=ids)


def test_the_noise_of_seeds_keeps_encoders_together():
    rng = np.random.default_rng(1)
    scores = {"a": encoder(0.60), "b": encoder(0.56)}
    scores["b"] = Estimate(
        value=0.56, influence=rng.normal(size=400) * 0.0005, left=scores["a"].left, right=scores["a"].right
    )
    assert told_apart(scores, {}) == [("b", "a")]
    assert told_apart(scores, {"a": 0.02**2, "b": 0.02**2}) == []  # seeds that differ by two points
