"""Whitening: golden numbers of the reference formula, the invariants that define it, and what happens to bad input."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from numpy.typing import NDArray

from baselines.whitening import Whitening, fit_whitening, mean_and_covariance
from harness.errors import EncoderError, UsageError
from harness.tasks.metrics import blas


@pytest.fixture(scope="module")
def golden() -> NDArray[np.float64]:
    n, j = np.mgrid[:40, :6]
    return np.sin(0.9 * n * (j + 1) + 0.4 * j) + 0.05 * (n % 7) * (j + 1) + 3


@pytest.fixture(scope="module")
def sentences() -> NDArray[np.float64]:
    """500 correlated vectors of 12 numbers whose mean is 5 to 20 standard deviations from zero."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((500, 12)) @ rng.standard_normal((12, 12)) + rng.uniform(5, 20, 12)


def apply(whitening: Whitening, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """What `transform` computes before it rounds to float32."""
    return (x - whitening.mean) @ whitening.kernel


def cosines(x: NDArray[np.float64]) -> NDArray[np.float64]:
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    return unit @ unit.T


@pytest.mark.parametrize(
    ("dim", "expected"),
    [
        pytest.param(None, [-0.5206121488834, -0.0284402057334, -0.1755573016528], id="all 6"),
        pytest.param(3, [-0.9452102381090, 0.2529558412219, 0.3361454424276], id="first 3"),
    ],
)
def test_golden_cosines(golden, dim, expected):
    white = cosines(apply(fit_whitening([golden], dim), golden))
    assert white[[0, 2, 10], [1, 3, 11]] == pytest.approx(expected, abs=1e-11)


def test_golden_variances(golden):
    kernel = fit_whitening([golden]).kernel
    expected = [0.9751618477, 0.8707347476, 0.2937945291, 0.1691814357, 0.1654847892, 0.0103482089]
    assert (1 / (kernel**2).sum(axis=0)) == pytest.approx(expected, abs=1e-10)


def test_the_fitted_set_has_mean_zero_and_unit_covariance(sentences):
    white = apply(fit_whitening([sentences], 8), sentences)
    assert white.mean(axis=0) == pytest.approx(np.zeros(8), abs=1e-10)
    assert np.cov(white.T) == pytest.approx(np.eye(8), abs=1e-10)
    assert np.cov(white.T, ddof=0) == pytest.approx(np.eye(8) * 499 / 500, abs=1e-10)


def test_keeping_k_gives_the_first_k_columns_of_all(sentences):
    full, part = fit_whitening([sentences]), fit_whitening([sentences], 5)
    assert np.array_equal(part.kernel, full.kernel[:, :5])


@pytest.mark.parametrize("dim", [None, 5])
@pytest.mark.parametrize("change", ["shift", "scale", "rotation"])
def test_cosines_survive(sentences, dim, change):
    rotation = np.linalg.qr(np.random.default_rng(1).standard_normal((12, 12)))[0]
    changed = {"shift": sentences + np.arange(12), "scale": sentences * 7.5, "rotation": sentences @ rotation}[change]
    expected = cosines(apply(fit_whitening([sentences], dim), sentences))
    assert_allclose(cosines(apply(fit_whitening([changed], dim), changed)), expected, rtol=0, atol=1e-10)


def test_cosines_survive_any_linear_map_only_where_all_axes_are_kept(sentences):
    mapped = sentences @ np.random.default_rng(2).standard_normal((12, 12))
    for dim, survive in ((None, True), (5, False)):
        before = cosines(apply(fit_whitening([sentences], dim), sentences))
        after = cosines(apply(fit_whitening([mapped], dim), mapped))
        assert np.allclose(before, after, atol=1e-9) is survive


def test_full_cosines_are_those_of_mahalanobis(sentences):
    centred = sentences - sentences.mean(axis=0)
    inner = centred @ np.linalg.inv(np.cov(sentences.T)) @ centred.T
    lengths = np.sqrt(np.diag(inner))
    white = cosines(apply(fit_whitening([sentences]), sentences))
    assert_allclose(white, inner / np.outer(lengths, lengths), rtol=0, atol=1e-10)


def test_whitened_vectors_are_isotropic(sentences):
    white = apply(fit_whitening([sentences]), sentences)
    covariance = np.cov(white.T)
    participation = np.trace(covariance) ** 2 / (covariance**2).sum()
    assert (participation - 1) / 11 == pytest.approx(1, abs=1e-12)  # IsoScore
    assert abs(cosines(white)[np.triu_indices(500, 1)].mean()) < 0.01


@pytest.mark.parametrize("size", [1, 7, 4096, 4097, 9000])
def test_streaming_equals_one_batch(size):
    rng = np.random.default_rng(3)
    x = (rng.standard_normal((9000, 4)) * [1, 10, 0.1, 1] + [1e6, 0, -50, 3]).astype(np.float32)
    count, mean, covariance = mean_and_covariance(x[start : start + size] for start in range(0, 9000, size))
    assert count == 9000
    assert mean == pytest.approx(x.astype(np.float64).mean(axis=0), rel=1e-13)
    assert covariance == pytest.approx(np.cov(x.T.astype(np.float64)), rel=1e-9, abs=1e-9)


def test_small_variances_survive_beside_large_ones():
    """Variances over six orders of magnitude, far from zero: float32 products move these cosines by 3e-3."""
    rng = np.random.default_rng(4)
    rotation = np.linalg.qr(rng.standard_normal((24, 24)))[0]
    x = rng.standard_normal((5000, 24)) * 10 ** np.linspace(0, -3, 24) @ rotation + rng.standard_normal(24) * 10
    x = x.astype(np.float32).astype(np.float64)
    centred = x - x.mean(axis=0)
    _, spread, axes = np.linalg.svd(centred, full_matrices=False)
    expected = cosines(centred[:100] @ axes.T / spread)
    assert_allclose(cosines(apply(fit_whitening([x.astype(np.float32)]), x[:100])), expected, rtol=0, atol=1e-8)


def test_the_number_of_cores_changes_no_bit():
    x = np.random.default_rng(5).standard_normal((30000, 32), dtype=np.float32) + 3
    several = fit_whitening([x, x[:9000]], 5)
    with blas().limit(limits=1):
        one = fit_whitening([x, x[:9000]], 5)
        assert np.array_equal(one.transform(x), several.transform(x))
    assert np.array_equal(one.mean, several.mean)
    assert np.array_equal(one.kernel, several.kernel)


def test_transform_is_float32_and_each_row_stands_alone(sentences):
    whitening = fit_whitening([sentences], 5)
    x = np.tile(sentences, (9, 1)).astype(np.float32)  # 4500 rows: more than one block
    white = whitening.transform(x)
    assert (white.dtype, white.shape) == (np.float32, (4500, 5))
    assert_allclose(white, apply(whitening, x.astype(np.float64)), rtol=0, atol=1e-6)
    assert whitening.transform(x[4200:4201]) == pytest.approx(white[4200:4201], abs=1e-6)
    assert whitening.transform(x[:0]).shape == (0, 5)


def test_fewer_sentences_than_dimensions_names_the_rank(sentences):
    with pytest.raises(EncoderError) as caught:
        fit_whitening([sentences[:4], sentences[4:8]])
    assert str(caught.value) == (
        "whitening: the 8 vectors to fit on have rank 7, expected at least the 12 of the 12 dimensions to keep; set "
        "dim=7 or less, or fit on more sentences"
    )
    white = apply(fit_whitening([sentences[:8]], 7), sentences[:8])
    assert np.cov(white.T) == pytest.approx(np.eye(7), abs=1e-8)


def test_dimensions_that_repeat_others_name_the_rank(sentences):
    repeated = np.hstack([sentences, sentences[:, :3]]).astype(np.float32)
    with pytest.raises(EncoderError, match=r"the 500 vectors to fit on have rank 12, .* set dim=12 or less"):
        fit_whitening([repeated], 13)


def test_the_axis_that_a_layer_norm_leaves_empty_is_not_taken_for_one(sentences):
    x = sentences - sentences.mean(axis=1, keepdims=True)
    weight, bias = np.linspace(0.5, 2, 12), np.linspace(-3, 3, 12)
    normed = (x / x.std(axis=1, keepdims=True) * weight + bias).astype(np.float32)
    with pytest.raises(EncoderError, match=r"the 500 vectors to fit on have rank 11, .* set dim=11 or less"):
        fit_whitening([normed])
    assert fit_whitening([normed], 11).kernel.shape == (12, 11)


@pytest.mark.parametrize("blocks", [[], [np.ones((1, 4))], [np.ones((9, 4), np.float32)]], ids=["none", "one", "equal"])
def test_vectors_that_do_not_vary(blocks):
    with pytest.raises(EncoderError) as caught:
        fit_whitening(blocks)
    assert str(caught.value) == (
        f"whitening: the {sum(map(len, blocks))} vectors to fit on do not vary, expected at least two different ones; "
        "fit on more sentences"
    )


@pytest.mark.parametrize("dim", [0, -1, 7])
def test_dim_out_of_range(golden, dim):
    with pytest.raises(UsageError) as caught:
        fit_whitening([golden], dim)
    assert str(caught.value) == f"whitening: dim={dim} was asked of vectors of 6 dimensions, expected 1 to 6"


def test_blocks_of_unequal_width_are_a_bug():
    with pytest.raises(ValueError, match="a block has vectors of 3 numbers, the blocks before it 4"):
        fit_whitening([np.ones((2, 4)), np.ones((2, 3))])
