"""Letters: two encoders share one if, and only if, they are not told apart."""

from itertools import combinations

import numpy as np
import pytest

from harness.reports.contrasts import ON_LETTERS, Side, find_differences, holm, letters
from harness.reports.uncertainty import Estimate, Sharing


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


def side(name, value, seeds=(), seed=0):
    """An encoder whose score has a standard error of a hundredth over items, and varies so much over seeds."""
    ids = np.array([f"s{i}" for i in range(400)])
    influence = np.random.default_rng(seed).normal(size=400) * 0.01 / 20
    mean = Estimate(value=value, influence=influence, sharing=Sharing(ids, ids))
    return Side(mean, {f"{name}{i}": value + shift for i, shift in enumerate(seeds or (0.0,))})


def test_the_noise_of_seeds_keeps_encoders_together():
    """Two seeds tell little of their noise, so that Student's t and not the normal distribution decides."""
    scores = {"a": side("a", 0.60), "b": side("b", 0.55, seed=1)}
    assert find_differences(scores) == [("b", "a")]
    wide = {"a": side("a", 0.60, (-0.02, 0.02)), "b": side("b", 0.55, (-0.02, 0.02), seed=1)}
    assert find_differences(wide) == []
    shifts = (-0.012, 0.012)
    two = {"a": side("a", 0.60, shifts), "b": side("b", 0.55, shifts, seed=1)}
    five = {"a": side("a", 0.60, shifts * 4), "b": side("b", 0.55, shifts * 4, seed=1)}
    assert (find_differences(two), find_differences(five)) == ([], [("b", "a")])


def test_letters_say_of_what_they_are_for_encoders_trained_once():
    assert "of one trained once, items only" in ON_LETTERS
