"""Metrics and aggregation against values worked out by hand and against scipy."""

import numpy as np
import pytest
from scipy import stats
from scipy.spatial import distance

from harness.data.records import Pairs
from harness.errors import TaskError
from harness.results.correlation import pearson, spearman
from harness.tasks.metrics import cosine
from harness.tasks.similarity import aggregate, as_senteval_text


def test_cosine_by_hand():
    x = np.array([[1, 0], [1, 1], [3, 4], [0, 0]], dtype=np.float32)
    y = np.array([[1, 0], [1, 0], [-3, -4], [1, 2]], dtype=np.float32)
    assert cosine(x, y) == pytest.approx([1, 1 / np.sqrt(2), -1, 0], abs=1e-7)
    assert cosine(x, y).dtype == np.float32


@pytest.mark.parametrize("scale", [1e30, 1e-30, 1e-21, 1e38, 1e-40])
def test_vectors_whose_squares_leave_float32_keep_their_direction(scale, recwarn):
    generator = np.random.default_rng(0)
    x, y = (generator.uniform(0.5, 2, size=(3, 5)) * generator.choice([-1, 1], size=(3, 5)) for _ in range(2))
    one = np.stack([scale * x[0], x[1], scale * x[2], np.zeros(5)]).astype(np.float32)
    other = np.stack([scale * y[0], y[1], y[2], scale * y[0]]).astype(np.float32)
    expected = [1 - distance.cosine(x[i], y[i]) for i in range(3)]
    assert cosine(one, other) == pytest.approx([*expected, 0], abs=1e-4 if scale == 1e-40 else 1e-6)
    assert cosine(one, other).dtype == np.float32
    assert cosine(one, other)[1] == cosine(one[1:2], other[1:2])[0]
    assert not recwarn.list


def test_ordinary_vectors_are_computed_as_the_reference_does_to_the_bit():
    generator = np.random.default_rng(0)
    for scale in (1e-12, 1, 1e12):
        x, y = (scale * generator.standard_normal((50, 16), dtype=np.float32) for _ in range(2))
        lengths = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
        assert np.array_equal(cosine(x, y), np.einsum("nd,nd->n", x, y) / lengths)


@pytest.mark.parametrize(("metric", "reference"), [(pearson, stats.pearsonr), (spearman, stats.spearmanr)])
def test_correlations_equal_scipy_with_and_without_ties(metric, reference):
    generator = np.random.default_rng(0)
    for n in (2, 3, 50, 1000):
        x, y = generator.normal(size=n), generator.normal(size=n)
        assert metric(x, y) == pytest.approx(reference(x, y).statistic, abs=1e-12)
        x = np.round(x) + np.arange(n) % 2  # ties
        assert metric(x, y) == pytest.approx(reference(x, y).statistic, abs=1e-12)


def test_spearman_by_hand():
    assert spearman(np.array([1.0, 2, 3, 4]), np.array([1.0, 3, 2, 4])) == pytest.approx(0.8)  # 1 - 6*2/(4*15)


@pytest.mark.parametrize("metric", [pearson, spearman])
def test_a_constant_has_no_correlation(metric):
    assert np.isnan(metric(np.ones(5), np.arange(5.0)))
    assert np.isnan(metric(np.ones(1), np.ones(1)))


def test_three_aggregations_by_hand():
    """Two subsets of 4 and 2 pairs: within each the order is perfect, across them the levels are swapped."""
    big = Pairs("big", [""] * 4, [""] * 4, [1, 2, 3, 4])
    small = Pairs("small", [""] * 2, [""] * 2, [1, 2])
    scores = aggregate("toy", (big, small), [np.array([0.1, 0.3, 0.2, 0.4]), np.array([0.9, 0.8])], "test")
    assert scores["spearman/subset:big/test"] == pytest.approx(0.8)
    assert scores["spearman/subset:small/test"] == pytest.approx(-1)
    assert scores["spearman/mean/test"] == pytest.approx(-0.1)
    assert scores["spearman/wmean/test"] == pytest.approx((4 * 0.8 - 2) / 6)
    # ranks of gold 1.5 3.5 5 6 1.5 3.5 and of cosine 1 3 2 4 6 5
    gold, predicted = np.array([1.5, 3.5, 5, 6, 1.5, 3.5]) - 3.5, np.array([1, 3, 2, 4, 6, 5]) - 3.5
    expected = gold @ predicted / np.sqrt((gold @ gold) * (predicted @ predicted))
    assert scores["spearman/all/test"] == pytest.approx(expected)


def test_an_encoder_that_tells_nothing_apart_has_no_score():
    pairs = Pairs("only", ["a"] * 3, ["b"] * 3, [1, 2, 3])
    with pytest.raises(TaskError) as caught:
        aggregate("toy", (pairs,), [np.ones(3)], "test")
    assert str(caught.value) == (
        "toy: spearman/subset:only/test is undefined, because all similarities are equal; "
        "the encoder tells nothing apart"
    )


def test_text_reaches_the_encoder_as_in_the_reference():
    assert as_senteval_text("  two\tmen  . ") == "two men ."
    assert as_senteval_text(" ") == ""
