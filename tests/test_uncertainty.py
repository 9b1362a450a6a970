"""Intervals from influence functions: each quantity by a second route, and coverage on real graphs."""

import math

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr

from harness.data import sts
from harness.errors import ResultError
from harness.reports.uncertainty import (
    Estimate,
    Sharing,
    average,
    difference_variances,
    effective_chains,
    normal_interval,
    pearson_influence,
    spearman_influence,
)
from harness.results.items import text_id


def correlated(n=150, seed=0, digits=1):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n).round(digits)  # with ties
    return x, x + rng.normal(size=n)


@pytest.mark.parametrize(("influence", "statistic"), [(spearman_influence, spearmanr), (pearson_influence, pearsonr)])
def test_influence_is_what_leaving_an_item_out_changes(influence, statistic):
    x, y = correlated()
    whole = statistic(x, y).statistic
    left_out = np.array([statistic(np.delete(x, i), np.delete(y, i)).statistic for i in range(len(x))])
    found = influence(x, y)
    assert found.sum() == pytest.approx(0, abs=1e-12)
    jackknife = (len(x) - 1) / len(x) * (whole - left_out)
    assert np.corrcoef(found, jackknife)[0, 1] > 0.9999  # up to second order
    assert found.std() == pytest.approx(jackknife.std(), rel=0.02)


def by_all_pairs_of_items(influence, left, right):
    """The definition: every two items that share a sentence, and every item with itself."""
    total = 0.0
    for i in range(len(left)):
        for j in range(len(left)):
            if i == j or {left[i], right[i]} & {left[j], right[j]}:
                total += influence[i] * influence[j]
    return total


def of(influence, left, right):
    return Estimate(value=0.5, influence=influence, sharing=Sharing(left, right))


def test_dyadic_variance_is_the_sum_over_items_that_share_a_sentence():
    rng = np.random.default_rng(1)
    names = np.array(list("abcdefgh"))
    for seed in range(20):
        rng = np.random.default_rng(seed)
        left, right = rng.choice(names, 40), rng.choice(names, 40)  # equal pairs, exchanged pairs and self-pairs too
        influence = rng.normal(size=40)
        floor = (influence**2).sum() / 10
        expected = max(by_all_pairs_of_items(influence, left, right), floor)
        assert of(influence, left, right).variance == pytest.approx(expected, rel=1e-9)


def test_variances_of_all_differences_are_those_of_each():
    rng = np.random.default_rng(0)
    left, right = rng.choice(list("abcdefgh"), 40), rng.choice(list("abcdefgh"), 40)
    scores = [of(rng.normal(size=40), left, right) for _ in range(5)]
    each = [[one.minus(other).variance for other in scores] for one in scores]
    assert difference_variances(scores) == pytest.approx(np.array(each), abs=1e-9)


def test_items_without_a_common_sentence_are_independent():
    influence = np.random.default_rng(0).normal(size=30)
    left, right = np.array([f"l{i}" for i in range(30)]), np.array([f"r{i}" for i in range(30)])
    assert of(influence, left, right).variance == pytest.approx((influence**2).sum())
    assert effective_chains(left, right) == pytest.approx(30)
    assert effective_chains(["a", "b", "c", "x"], ["b", "c", "d", "y"]) == pytest.approx(1 / (0.75**2 + 0.25**2))


def made(value, influence, start=0, step=2):
    n = len(influence)
    left = np.array([f"s{start + step * i}" for i in range(n)])
    return Estimate(value=value, influence=influence, sharing=Sharing(left, np.array([f"{name}'" for name in left])))


def test_an_average_over_tasks_with_common_sentences_varies_more():
    rng = np.random.default_rng(0)
    shared = rng.normal(size=100) / 100
    one, again, other = made(0.5, shared), made(0.7, shared), made(0.7, shared, start=10_000)
    together, apart = average([one, again]), average([one, other])
    assert together.value == apart.value == pytest.approx(0.6)
    assert together.variance == pytest.approx(2 * apart.variance, rel=1e-9)
    assert apart.variance == pytest.approx((one.variance + other.variance) / 4, rel=1e-9)


def test_the_interval_is_asymmetric_near_one_and_inside():
    near = normal_interval(0.97, 0.03)
    assert near.high < 1 and 0.97 - near.low > near.high - 0.97
    assert normal_interval(0.0, 0.1).half_width == pytest.approx(math.tanh(0.196), rel=1e-3)
    assert normal_interval(0.9, 0.1, bounded=False).high == pytest.approx(1.096, rel=1e-3)


def test_a_difference_needs_the_same_items():
    one, other = made(0.5, np.zeros(3)), made(0.4, np.zeros(3), start=1)
    with pytest.raises(ResultError, match="other items or another order"):
        one.minus(other)
    assert one.minus(made(0.4, np.zeros(3))).value == pytest.approx(0.1)


def pairs_of(root, name):
    data = sts.sick_relatedness(root, splits=("test",)) if name == "SICK" else sts.semeval(root, year=name)
    left = [text_id(text) for subset in data.subsets for text in subset.left]
    right = [text_id(text) for subset in data.subsets for text in subset.right]
    return np.array(left), np.array(right)


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.parametrize("effects", ["pairs", "sentences"])
@pytest.mark.parametrize("name", ["STS13", "STS16", "SICK"])
def test_intervals_cover_on_the_graphs_of_real_benchmarks(shared, name, effects):
    left, right = pairs_of(shared / "data" / "senteval", name)
    _, codes = np.unique(np.concatenate([left, right]), return_inverse=True)
    one, other, rng = codes[: len(left)], codes[len(left) :], np.random.default_rng(0)

    def draw():
        gold, error = rng.normal(size=len(left)), rng.normal(size=len(left))
        if effects == "pairs":
            return gold, gold + error
        topic, style = rng.normal(size=(2, codes.max() + 1))
        sums = topic[one] + topic[other], style[one] + style[other]
        return gold + sums[0] / 2, gold + 0.7 * error + sums[0] / 4 + sums[1] / 2

    truth = np.mean([spearmanr(*draw()).statistic for _ in range(400)])
    inside = 0
    for _ in range(500):
        gold, predicted = draw()
        score = spearmanr(gold, predicted).statistic
        influence = spearman_influence(gold, predicted)
        inside += Estimate(value=score, influence=influence, sharing=Sharing(left, right)).interval().holds(truth)
    assert 0.92 <= inside / 500 <= 0.98
