from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

from harness.data.overlap import selection_flag, shared_pairs
from harness.data.records import Pairs, SimilarityData
from harness.data.sts import semeval, sts_benchmark
from harness.reports.bootstrap import KERNELS, accuracy, connected, correlation, draw, pairs_design, rows_design
from harness.reports.ranking import draw_spearman
from harness.reports.statistics import (
    Interval,
    bootstrap_p,
    holm,
    mcnemar,
    normal_p,
    percentile_interval,
    tied_groups,
    williams,
)
from harness.reports.ties import Candidate, tied
from harness.tasks.similarity import aggregate


def tied_scores(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Gold scores with many ties, and predictions that follow them, rounded so that some tie too."""
    rng = np.random.default_rng(seed)
    gold = np.round(5 * rng.random(n), 1)
    return gold, np.round(gold + rng.normal(size=n), 2)


@pytest.mark.parametrize("metric", ["spearman", "pearson"])
def test_weighted_correlations_are_those_of_the_resample_written_out(metric):
    gold, predicted = tied_scores(300)
    weights = np.random.default_rng(1).multinomial(300, np.full(300, 1 / 300), size=50).astype(float)
    found = KERNELS[metric](gold, predicted)(weights)
    for one, value in zip(weights.astype(int), found, strict=True):
        expected = getattr(stats, f"{metric}r")(np.repeat(gold, one), np.repeat(predicted, one)).statistic
        assert value == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("metric", ["spearman", "pearson"])
@pytest.mark.parametrize("aggregation", ["all", "mean", "wmean"])
def test_with_all_weights_one_the_statistic_is_the_tasks_score(metric, aggregation):
    gold, predicted = tied_scores(120)
    sizes = (50, 40, 30)
    cuts = np.cumsum((0, *sizes))
    parts = list(pairwise(cuts))
    subsets = tuple(Pairs(f"s{i}", [], [], gold[a:b].tolist()) for i, (a, b) in enumerate(parts))
    expected = aggregate("x", subsets, [predicted[a:b] for a, b in parts], "test")[f"{metric}/{aggregation}/test"]
    names = [f"s{i}" for i, size in enumerate(sizes) for _ in range(size)]
    design = pairs_design(names, [f"l{i}" for i in range(120)], [f"r{i}" for i in range(120)])
    statistic = correlation(design, gold, predicted, metric=metric, aggregation=aggregation)
    assert statistic(np.ones((1, 120)))[0] == pytest.approx(expected, abs=1e-12)


def test_a_cluster_is_what_hangs_together_by_shared_sentences():
    left, right = ["a", "c", "b", "x", "e", "f"], ["b", "d", "c", "x", "f", "g"]
    assert connected(left, right).tolist() == [0, 0, 0, 1, 2, 2]  # a-b, c-d and b-c are one: b and c link them
    design = pairs_design(["one"] * 3 + ["two"] * 3, left, right)
    assert design.strata == (slice(0, 3), slice(3, 6))
    assert [c.tolist() for c in design.clusters] == [[0, 0, 0], [0, 1, 1]]


def test_resamples_keep_the_size_of_every_subset_and_clusters_together():
    left = [f"s{i // 3}" for i in range(30)] + [f"t{i}" for i in range(20)]  # ten clusters of three, then twenty pairs
    design = pairs_design(["a"] * 30 + ["b"] * 20, left, [f"r{i}" for i in range(50)])
    seen = []
    draw(design, [lambda weights: seen.append(weights.copy()) or weights[:, 0]], 40, 0)
    weights = np.concatenate(seen)
    assert weights[:, :30].sum(axis=1) == pytest.approx(30)
    assert weights[:, 30:].sum(axis=1) == pytest.approx(20)
    assert np.array_equal(weights[:, 0:30:3], weights[:, 1:30:3])
    assert weights.std(axis=0).min() > 0


def test_equal_seeds_give_equal_resamples_and_others_do_not():
    gold, predicted = tied_scores(80)
    design = rows_design(80)
    statistic = correlation(design, gold, predicted, metric="spearman", aggregation="all")
    first = draw(design, [statistic], 60, 7)[0]
    assert np.array_equal(first, draw(design, [statistic, statistic], 60, 7)[1])
    assert not np.array_equal(first, draw(design, [statistic], 60, 8)[0])


def test_the_interval_agrees_with_scipys_bootstrap():
    gold, predicted = tied_scores(200, seed=3)
    design = rows_design(200)
    statistic = correlation(design, gold, predicted, metric="spearman", aggregation="all")
    found = percentile_interval(draw(design, [statistic], 10_000, 0)[0])
    other = stats.bootstrap(
        (gold, predicted),
        lambda x, y: stats.spearmanr(x, y).statistic,
        paired=True,
        vectorized=False,
        n_resamples=2000,
        method="percentile",
        rng=np.random.default_rng(1),
    )
    # The Monte Carlo error of a 2.5 % quantile of 2,000 draws is 2.7 standard deviations / sqrt(2000).
    error = 3 * 2.7 * other.standard_error / np.sqrt(2000)
    assert found.low == pytest.approx(other.confidence_interval.low, abs=error)
    assert found.high == pytest.approx(other.confidence_interval.high, abs=error)


@pytest.mark.slow
@pytest.mark.parametrize("per_cluster", [1, 3])
def test_the_interval_covers_the_truth(per_cluster):
    """Pairs of normal scores, correlated within a cluster as well, in two subsets; 1,000 data sets."""
    rng, true, n, covered = np.random.default_rng(5), 0.7, 300, 0
    spearman = 6 / np.pi * np.arcsin(true / 2)
    clusters = np.arange(n) // per_cluster
    left = [f"{i}" for i in clusters]
    design = pairs_design(["a"] * (n // 2) + ["b"] * (n // 2), left, [f"r{i}" for i in range(n)])
    mixing = np.linalg.cholesky([[1, true], [true, 1]])
    for number in range(1000):
        common, own = rng.normal(size=(clusters[-1] + 1, 2)), rng.normal(size=(n, 2))
        scores = (np.sqrt(0.5) * common[clusters] + np.sqrt(0.5) * own) @ mixing.T
        statistic = correlation(design, *scores.T, metric="spearman", aggregation="all")
        interval = percentile_interval(draw(design, [statistic], 1000, number)[0])
        covered += interval.low <= spearman <= interval.high
    assert 930 <= covered <= 970


def test_a_paired_difference_is_far_narrower_than_its_parts():
    gold, predicted = tied_scores(500)
    close = predicted + 0.05 * np.random.default_rng(2).normal(size=500)
    design = rows_design(500)
    a, b = draw(
        design,
        [correlation(design, gold, x, metric="spearman", aggregation="all") for x in (predicted, close)],
        1000,
        0,
    )
    assert percentile_interval(a - b).half_width < percentile_interval(a).half_width / 5


def test_an_undefined_resample_does_not_count():
    draws = np.array([0.1, np.nan, 0.2, 0.3])
    assert percentile_interval(draws, level=0.5) == Interval(pytest.approx(0.15), pytest.approx(0.25))
    assert bootstrap_p(draws) == 2 / 4


def test_bootstrap_p_is_twice_the_rarer_side():
    assert bootstrap_p(np.array([1.0] * 97 + [-1.0] * 2)) == pytest.approx(2 * 3 / 100)
    assert bootstrap_p(np.zeros(99)) == 1


def test_williams_gives_howells_worked_example():
    # D. C. Howell, Statistical Methods for Psychology (6th ed.), p. 262: t(23) = 1.36; to three places with SPSS
    t, p = williams(0.80, 0.72, 0.89, 26)
    assert (round(t, 3), round(p, 3)) == (1.361, 0.187)
    assert williams(0.72, 0.80, 0.89, 26) == pytest.approx((-t, p))


def test_williams_of_predictions_that_cannot_differ():
    t, p = williams(0.5, 0.5, 1.0, 100)
    assert np.isnan(t) and p == 1


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_tied_groups_may_overlap():
    apart = np.zeros((4, 4), dtype=bool)
    for i, j in [(0, 2), (0, 3), (1, 3), (2, 3)]:
        apart[i, j] = apart[j, i] = True
    assert tied_groups([80, 79, 78, 70], apart) == [(0, 1), (1, 2)]
    assert tied_groups([70, 78, 79, 80], apart[::-1, ::-1]) == [(3, 2), (2, 1)]
    assert tied_groups([1, 2], ~np.eye(2, dtype=bool)) == []


def test_mcnemar_agrees_with_scipy():
    assert mcnemar(3, 12) == pytest.approx(stats.binomtest(3, 15).pvalue)
    assert (mcnemar(0, 0), mcnemar(4, 4)) == (1, 1)


def test_accuracy_draws_have_the_binomial_spread():
    correct = np.arange(400) % 4 > 0
    drawn = draw(rows_design(400), [accuracy(correct)], 4000, 0)[0]
    assert drawn.mean() == pytest.approx(0.75, abs=0.002)
    assert drawn.std() == pytest.approx(np.sqrt(0.75 * 0.25 / 400), rel=0.05)


def test_shared_pairs_count_in_either_order_and_whatever_the_punctuation():
    def data(*pairs: tuple[str, str]) -> SimilarityData:
        left, right = (list(side) for side in zip(*pairs, strict=True))
        return SimilarityData((Pairs("all", left, right, [0.0] * len(pairs)),), {}, ())

    ours = data(("A man.", "A dog"), ("a cat", "a cow"), ("x", "y"))
    assert shared_pairs(ours, [data(("a dog", "a man")), data(("x", "z"))]) == (1, 3)


@pytest.mark.shared
def test_most_of_sts_b_is_in_sts12_to_sts16(shared):
    root = shared / "data" / "senteval"
    assert selection_flag(root) == "selected on STS-B dev, of whose 1,500 pairs 1,131 are in the test sets of STS12-16"
    years = [semeval(root, year=f"STS{year}") for year in range(12, 17)]
    assert shared_pairs(sts_benchmark(root, splits=("test",)), years) == (1007, 1379)


@pytest.mark.parametrize("aggregation", ["all", "mean", "wmean"])
def test_many_predictions_together_give_the_draws_of_each(aggregation):
    rng = np.random.default_rng(5)
    gold, predicted = tied_scores(150)
    many = np.stack([predicted, rng.normal(size=150), gold.round(), np.ones(150)])
    left = ["same"] * 7 + [f"l{i}" for i in range(143)]
    design = pairs_design(["x"] * 60 + ["y"] * 90, left, [f"r{i}" for i in range(150)])
    found = draw_spearman(design, gold, many, ["mean", aggregation], 50, 3)[aggregation]
    each = [correlation(design, gold, one, metric="spearman", aggregation=aggregation) for one in many[:3]]
    assert found[:3] == pytest.approx(draw(design, each, 50, 3), abs=1e-6)
    assert np.isnan(found[3]).all()


def test_normal_p_is_that_of_the_normal_distribution_and_has_no_floor():
    drawn = np.random.default_rng(0).normal(1, 1, 2000)
    z = drawn.mean() / drawn.std(ddof=1)
    assert normal_p(drawn) == pytest.approx(2 * stats.norm.sf(z))
    assert normal_p(drawn + 50) < 1e-100
    assert (normal_p(np.zeros(9)), normal_p(np.ones(9))) == (1.0, 0.0)


def test_of_32_encoders_only_those_that_are_alike_are_tied():
    rng = np.random.default_rng(0)
    common = rng.normal(0, 0.01, 2000)
    draws = {f"e{i}": 0.5 + 0.01 * i + common + rng.normal(0, 0.001, 2000) for i in range(30)}
    draws |= {"random": 0.05 + rng.normal(0, 0.01, 2000), "e29-again": draws["e29"] + rng.normal(0, 0.001, 2000)}
    assert len(draws) == 32
    assert tied([Candidate(name, values, {}) for name, values in draws.items()]) in (
        [("e29", "e29-again")],
        [("e29-again", "e29")],
    )
