"""Batched probes against one head at a time in plain PyTorch; streams, bad input, interruption; the regressor."""

from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
import reference_probe as reference
import torch
from scipy.stats import pearsonr, spearmanr
from sklearn.linear_model import LogisticRegression

from harness.errors import DataError, TaskError
from harness.tasks.heads import initial_weights, table, train_heads
from harness.tasks.probes import MODES, Examples, ProbeSettings, Problem
from harness.tasks.regression import Scored, relatedness, score_distribution
from harness.tasks.schemes import kfold_then_test, nested_kfold, stratified, train_dev_test

ADAM = ProbeSettings(kfold=4, optimizer="adam", batch_size=16, tenacity=1, epoch_size=2, max_epoch=14)
RMSPROP = ProbeSettings(kfold=4, optimizer="rmsprop", batch_size=32, tenacity=1, epoch_size=1, max_epoch=12)
BOTH = pytest.mark.parametrize("settings", [ADAM, RMSPROP], ids=["adam", "rmsprop"])


def clouds(n, classes, *, seed, dim=12, noise=1.5):
    """Noisy points around one centre for each class; labels are unevenly frequent."""
    draw = np.random.default_rng(seed)
    y = np.minimum(draw.geometric(0.5, size=n) - 1, classes - 1)
    centres = np.random.default_rng(0).normal(size=(classes, dim))
    return (centres[y] + draw.normal(size=(n, dim)) * noise).astype(np.float32), y


def examples(n, classes, *, seed, where="synthetic"):
    return Examples(where, *clouds(n, classes, seed=seed))


def silent(finished, epoch):
    """A report that nobody reads."""


@BOTH
def test_nested_folds_equal_one_head_at_a_time(settings):
    x, y = clouds(123, 2, seed=1)
    settings = replace(settings, max_epoch=6)
    dev, test, rows, _ = reference.nested(x, y, settings)
    score = nested_kfold(Examples("synthetic", x, y), settings)
    assert (score.dev, score.test, score.f1) == (dev, test, None)
    assert [(list(s.grid), s.regularisation, s.test, s.epochs) for s in score.selections] == rows


@BOTH
def test_every_head_stops_at_the_same_pass_with_the_same_accuracy(settings):
    x, y = clouds(203, 3, seed=2)  # 203 rows in 4 folds: training sets of 152 and 153 rows, each with a last batch
    folds = stratified(y, 4, 1111)
    problems = [Problem(fold.train, fold.dev, reference.L2) for fold in folds]
    found = train_heads(table([x], [y], "cpu"), problems, settings, silent)
    for fold, heads in zip(folds, found, strict=True):
        for l2, head in zip(reference.L2, heads, strict=True):
            alone = reference.fit(x[fold.train], y[fold.train], (x[fold.dev], y[fold.dev]), settings, l2)
            assert (head.epochs, head.accuracy) == (alone.epochs, alone.best)
            weights = torch.cat([alone.model.weight, alone.model.bias[:, None]], dim=1).detach()
            torch.testing.assert_close(head.weights, weights, rtol=0, atol=1e-4)
    assert len({head.epochs for heads in found for head in heads}) > 1  # so that some left the batch early


@BOTH
@pytest.mark.parametrize("classes", [2, 4])
def test_folds_then_test_equal_one_head_at_a_time(settings, classes):
    settings = replace(settings, kfold=5)
    train, test = examples(160, classes, seed=3), examples(50, classes, seed=4)
    means, l2, accuracy, last = reference.kfold((train.x, train.y), (test.x, test.y), settings)
    score = kfold_then_test(train, test, settings)
    (selection,) = score.selections
    assert (list(selection.grid), selection.regularisation, selection.epochs) == (means, l2, last.epochs)
    assert (score.dev, score.test) == (max(means), accuracy)
    predicted = reference.predictions(last.model, test.x)
    assert score.predictions.tolist() == predicted.tolist()
    if classes == 2:
        both, either = np.sum(predicted & test.y), np.sum(predicted) + np.sum(test.y)
        assert score.f1 == round(200 * both / either, 2)
    else:
        assert score.f1 is None


@BOTH
def test_a_split_equals_one_head_at_a_time(settings):
    train, dev, test = (examples(n, 3, seed=seed) for n, seed in ((170, 5), (40, 6), (60, 7)))
    means, l2, accuracy, last = reference.split((train.x, train.y), (dev.x, dev.y), (test.x, test.y), settings)
    score = train_dev_test(train, dev, test, settings)
    (selection,) = score.selections
    assert (list(selection.grid), selection.regularisation, selection.epochs) == (means, l2, last.epochs)
    assert (score.dev, score.test) == (max(means), accuracy)
    assert score.predictions.tolist() == reference.predictions(last.model, test.x).tolist()


def test_initial_weights_are_those_of_a_seeded_linear_layer():
    torch.manual_seed(1111)
    layer = torch.nn.Linear(7, 3)
    drawn = initial_weights(7, 3, 1111)
    assert torch.equal(drawn[:, :-1], layer.weight)
    assert torch.equal(drawn[:, -1], layer.bias)


def test_global_generators_and_torch_threads_are_left_alone():
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002 - the state under test
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), torch.get_num_threads()  # noqa: NPY002
    nested_kfold(examples(60, 2, seed=1), replace(RMSPROP, kfold=2))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]  # noqa: NPY002
    assert torch.get_num_threads() == before[2]


def test_threads_change_no_number():
    data, alone = examples(120, 2, seed=8), torch.get_num_threads()
    one = nested_kfold(data, RMSPROP)
    torch.set_num_threads(3)
    try:
        many = nested_kfold(data, RMSPROP)
    finally:
        torch.set_num_threads(alone)
    assert (many.dev, many.test, many.selections) == (one.dev, one.test, one.selections)
    assert many.predictions.tolist() == one.predictions.tolist()


def test_a_head_that_never_improves_makes_tenacity_plus_two_checks():
    """The first check always improves, the counter forgives `tenacity` misses, the next one stops."""
    x, y = np.zeros((40, 3), dtype=np.float32), np.array([0] * 10 + [1] * 30)
    rows = np.arange(40)
    fixed = replace(ADAM, tenacity=5, epoch_size=4, max_epoch=100)
    ((head,),) = train_heads(table([x], [y], "cpu"), [Problem(rows, rows, (1e-5,))], fixed, silent)
    assert (head.accuracy, head.epochs) == (0.75, 4 * 7)
    capped = replace(fixed, tenacity=100, max_epoch=8)
    ((head,),) = train_heads(table([x], [y], "cpu"), [Problem(rows, rows, (1e-5,))], capped, silent)
    assert head.epochs == 12  # 8 passes are not more than 8, so one more check is made


def test_progress_counts_every_head_once():
    heard = []
    nested_kfold(examples(80, 2, seed=9), RMSPROP, progress=lambda *told: heard.append(told))
    assert {total for _, total, _ in heard} == {4 * (4 * 4 + 1)}
    assert [done for done, _, _ in heard] == sorted(done for done, _, _ in heard)
    assert heard[-1][0] == 4 * (4 * 4 + 1)


def test_an_interruption_ends_every_block():
    def interrupt(done, total, epoch):
        raise KeyboardInterrupt

    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with pytest.raises(KeyboardInterrupt):
            nested_kfold(examples(80, 2, seed=9), replace(ADAM, tenacity=10**6, max_epoch=10**6), progress=interrupt)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_logistic_regression_equals_a_plain_loop():
    settings = replace(ADAM, protocol="senteval-sklearn")
    data = examples(90, 2, seed=10)
    score = nested_kfold(data, settings)
    tests = []
    for train, test in reference.folds(data.y, 4, 1111):
        x, y = data.x[train], data.y[train]
        means = []
        for c in (0.25, 0.5, 1, 2, 4, 8):
            fits = [(LogisticRegression(C=c).fit(x[a], y[a]), b) for a, b in reference.folds(y, 4, 1111)]
            means.append(round(100 * np.mean([model.score(x[b], y[b]) for model, b in fits]), 2))
        c = (0.25, 0.5, 1, 2, 4, 8)[int(np.argmax(means))]
        tests.append(round(100 * LogisticRegression(C=c).fit(x, y).score(data.x[test], data.y[test]), 2))
    assert [selection.test for selection in score.selections] == tests
    assert score.test == round(np.mean(tests), 2)
    assert [len(s.grid) for s in kfold_then_test(data, examples(20, 2, seed=1), settings).selections] == [7]
    assert [len(s.grid) for s in train_dev_test(data, data, data, settings).selections] == [6]


def test_modes_are_those_of_the_evaluation_script():
    assert MODES["test"] == ProbeSettings(
        kfold=10, optimizer="adam", batch_size=64, tenacity=5, epoch_size=4, max_epoch=200, seed=1111
    )
    assert MODES["fasttest"] == MODES["dev"] == ProbeSettings(5, "rmsprop", 128, 3, 2)


X = np.ones((4, 2), dtype=np.float32)


@pytest.mark.parametrize(
    ("x", "y", "sentence"),
    [
        pytest.param(
            X,
            np.array([0, 1, 0]),
            "MR, all: 4 feature rows for 3 gold values, expected as many rows as values and at least one; "
            "encode the split again",
            id="unequal",
        ),
        pytest.param(
            np.where(np.arange(4)[:, None] == 2, np.nan, X),
            np.array([0, 1, 0, 1]),
            "MR, all: 1 of 4 feature rows are not finite, the first is row 2, expected finite numbers; "
            "look at what the encoder returns for that sentence",
            id="nan",
        ),
        pytest.param(
            X,
            np.array([0, 1, -1, 1]),
            "MR, all: labels are int64 from -1, expected integers from 0; map the labels to the task's convention",
            id="negative",
        ),
        pytest.param(
            X,
            np.array([0, 1, 0.5, 1]),
            "MR, all: labels are float64 from 0.0, expected integers from 0; map the labels to the task's convention",
            id="float",
        ),
    ],
)
def test_bad_rows_are_refused(x, y, sentence):
    with pytest.raises(DataError) as caught:
        Examples("MR, all", x, y)
    assert str(caught.value) == sentence


def rows(labels, where="MR, all"):
    return Examples(where, np.zeros((len(labels), 2), dtype=np.float32), np.array(labels))


@pytest.mark.parametrize(
    ("labels", "found"), [([0] * 9 + [1] * 3, "1 has 3 of 12"), ([0] * 4 + [1] * 4, "0 has 4 of 8")]
)
def test_a_class_with_too_few_rows_for_two_levels_of_folds_is_refused(labels, found):
    with pytest.raises(TaskError) as caught:
        nested_kfold(rows(labels), ADAM)
    assert str(caught.value) == (
        f"MR, all: class {found} rows, expected at least 6 of every class from 0 to 1; give more rows or fewer folds"
    )


def test_an_absent_class_is_refused():
    with pytest.raises(TaskError) as caught:
        train_dev_test(rows([0, 2, 0, 2]), rows([0]), rows([0]), ADAM)
    assert str(caught.value) == (
        "MR, all: class 1 has 0 of 4 rows, expected at least 1 of every class from 0 to 2; "
        "give more rows or fewer folds"
    )


def test_a_single_class_is_refused():
    with pytest.raises(TaskError) as caught:
        nested_kfold(rows([0] * 8), ADAM)
    assert str(caught.value) == ("MR, all: every label is 0, expected two classes or more; check the labels' file")


def test_a_label_that_training_lacks_is_refused():
    with pytest.raises(TaskError) as caught:
        kfold_then_test(rows([0, 1] * 8, "TREC, train"), rows([0, 2], "TREC, test"), ADAM)
    assert str(caught.value) == (
        "TREC, test: label 2, expected 0 to 1 as in TREC, train; map the labels to the task's convention"
    )


def test_too_few_rows_to_hold_out_are_refused():
    with pytest.raises(TaskError) as caught:
        kfold_then_test(rows([0, 1] * 8), rows([0, 1]), replace(RMSPROP, max_epoch=1))
    assert str(caught.value) == (
        "16 training rows, expected 20 or more, of which 5 % decide when to stop; give more rows"
    )


class PlainRegressor:
    """Upstream's regressor in plain PyTorch, from its description."""

    correlations: ClassVar = {"pearson": pearsonr, "spearman": spearmanr}

    def __init__(self, dim):
        np.random.seed(1111)  # noqa: NPY002 - the reference seeds globally
        torch.manual_seed(1111)
        self.model = torch.nn.Sequential(torch.nn.Linear(dim, 5), torch.nn.Softmax(dim=-1))
        self.optimizer = torch.optim.Adam(self.model.parameters())

    def predict(self, x):
        with torch.no_grad():
            return self.model(torch.from_numpy(x)).numpy() @ np.arange(1, 6)

    def fifty_passes(self, x, target):
        for _ in range(50):
            order = np.random.permutation(len(x))  # noqa: NPY002
            for start in range(0, len(x), 64):
                batch = order[start : start + 64]
                found = self.model(torch.from_numpy(x[batch])).double()  # as the target is
                loss = torch.nn.functional.mse_loss(found, target[batch])
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()

    def fit(self, train, dev, test, stop_on):
        target = torch.tensor([spread(score) for score in train.y])
        best, misses, passes = -1, 0, 0
        while passes <= 1000:
            self.fifty_passes(train.x, target)
            passes += 50
            found = self.correlations[stop_on](self.predict(dev.x), dev.y)[0]
            if found > best:
                best, predicted = found, self.predict(test.x)
            elif misses >= 3:
                break
            else:
                misses += 1
        return best, passes, predicted


def spread(score):
    below = int(score)
    masses = [0.0] * 7
    masses[below + 1] += score - below
    masses[below] += 1 - (score - below)
    return masses[1:6]


def scored(n, seed):
    draw = np.random.default_rng(seed)
    x = draw.normal(size=(n, 6)).astype(np.float32)
    y = np.clip(2.5 + x @ np.array([1, -1, 0.5, 0, 0, 0.3]) + draw.normal(size=n), 0, 5).round(1)
    return Scored("SICK-R", x, y)


@pytest.mark.parametrize("stop_on", ["spearman", "pearson"])
def test_the_regressor_equals_the_plain_one(stop_on):
    splits = scored(100, 1), scored(30, 2), scored(40, 3)
    best, passes, predicted = PlainRegressor(6).fit(*splits, stop_on)
    score = relatedness(splits, stop_on=stop_on)
    assert score.epochs == passes
    assert score.dev == pytest.approx(best, abs=1e-6)
    np.testing.assert_allclose(score.predictions, predicted, atol=1e-4)
    gold = splits[2].y
    assert score.pearson == pytest.approx(pearsonr(predicted, gold)[0], abs=1e-5)
    assert score.spearman == pytest.approx(spearmanr(predicted, gold)[0], abs=1e-3)
    assert score.mse == pytest.approx(np.mean((predicted - gold) ** 2), abs=1e-4)


def test_score_distribution_by_hand():
    found = score_distribution(np.array([3.25, 1.0, 5.0, 0.4, 0.0]))
    expected = [[0, 0, 0.75, 0.25, 0], [1, 0, 0, 0, 0], [0, 0, 0, 0, 1], [0.4, 0, 0, 0, 0], [0, 0, 0, 0, 0]]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_score_beyond_the_scale_is_refused():
    with pytest.raises(DataError) as caught:
        Scored("STS-B, train", np.zeros((2, 2), dtype=np.float32), np.array([3.0, 5.2]))
    assert str(caught.value) == (
        "STS-B, train: gold score of row 1 is 5.2, expected a number from 0 to 5; check the gold file"
    )
