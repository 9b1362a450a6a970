"""Verdicts: what counts as reproduced, for encoders with and without a seed."""

import json

import pytest

from harness.names import EncoderCard, ScoreKey
from harness.reports import published
from harness.reports.layouts import SPEARMAN
from harness.reports.match import recipe_of
from harness.reports.published import PublishedRow
from harness.reports.verdicts import JudgedScore, distinct_runs, judge, reference_spread

AVERAGE = JudgedScore(task="Avg", key=SPEARMAN)


def place(task="STS12", metric="spearman", aggregation="all", split="test", rows=None):
    return JudgedScore(task=task, key=ScoreKey(metric, aggregation, split), rows=rows)


def card(name, **values):
    return EncoderCard(name=name, method=name.partition("[")[0], dim=4, **values)


def seeds(n, **values):
    return [card("simcse-unsup", seed=i, weights_sha256=f"w{i}", trained_on="wiki@1", **values) for i in range(n)]


def row(paper, table, task, value, backbone="bert-base-uncased", **others):
    return PublishedRow(
        paper=paper, table=table, supervision="", model="", backbone=backbone, variant="", origin="",
        values={task: value, **others}, decimals={"1": 1, "": 14}.get(table, 2),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("measured", "target", "table", "outcome", "reason"),
    [
        (56.414, 56.40, "5", "reproduced", "differs by +0.01, at most 0.015"),
        (56.416, 56.40, "5", "not reproduced", "differs by +0.02, more than 0.015"),
        (82.441, 82.5, "1", "reproduced", "differs by -0.06, at most 0.06"),
    ],
)
def test_without_a_seed_the_printed_digits_decide(measured, target, table, outcome, reason):
    found = judge([measured], [card("bert")], row("simcse", table, "STS12", target), place())
    assert (found.outcome, found.reason, found.seeds) == (outcome, reason, 0)


def test_full_precision_is_held_to_a_hundredth():
    target = row("mteb", "", "STS12", 72.36899998079942)
    assert judge([72.3655], [card("minilm")], target, place()).outcome == "reproduced"
    assert judge([72.3580], [card("minilm")], target, place()).outcome == "not reproduced"


@pytest.mark.parametrize(
    ("measured", "published_", "rows", "outcome"),
    [
        (88.60, 88.20, 500, "reproduced"),  # two rows of TREC
        (88.80, 88.20, 500, "not reproduced"),  # three
        (94.91, 94.81, 10_000, "not reproduced"),  # ten rows of SUBJ
        (94.83, 94.81, 10_000, "reproduced"),
    ],
)
def test_accuracies_are_judged_by_rows(measured, published_, rows, outcome):
    where = place("TREC", "accuracy", "", rows=rows)
    assert judge([measured], [card("bert")], row("simcse", "E.1", "TREC", published_), where).outcome == outcome


def test_an_average_may_be_the_mean_of_the_published_cells():
    """Table 5 prints 74.89 for SBERT, whose cells have the mean 74.86."""
    (sbert,) = [one for one in published.rows("simcse", "5", SPEARMAN) if one.model == "sbert" and not one.variant][:1]
    mean = sum(value for task, value in sbert.values.items() if task != "Avg") / 7
    assert sbert.values["Avg"] == 74.89 and mean == pytest.approx(74.86, abs=0.005)
    assert judge([74.86], [card("sbert")], sbert, AVERAGE).outcome == "reproduced"
    assert judge([74.89], [card("sbert")], sbert, AVERAGE).outcome == "reproduced"
    assert judge([74.80], [card("sbert")], sbert, AVERAGE).outcome == "not reproduced"


def test_the_spread_is_of_that_split_and_that_average():
    """STS-B's test and dev scores are two things: 1.117 and not 2.76; the transfer average has no published spread."""
    where = place("STSBenchmark")
    assert reference_spread("simcse-unsup", "bert-base-uncased", where).deviation == pytest.approx(1.117, abs=5e-4)
    assert reference_spread("simcse-unsup", "roberta-base", where).deviation == pytest.approx(0.323, abs=5e-4)
    assert reference_spread("simcse-unsup", "bert-base-uncased", AVERAGE).deviation == pytest.approx(0.84, abs=5e-3)
    transfer = place("Avg", "accuracy", "")
    assert reference_spread("simcse-unsup", "bert-base-uncased", transfer) is None
    assert reference_spread("simcse-unsup", "bert-base-uncased", place("Avg", aggregation="wmean")) is None


def test_a_mean_four_points_low_is_not_reproduced():
    target = row("simcse", "5", "STSBenchmark", 76.85)
    found = judge([72.3, 72.6, 72.9, 73.2, 73.5], seeds(5), target, place("STSBenchmark"))
    assert found.outcome == "not reproduced" and found.seeds == 5
    other = row("simcse", "5", "STSBenchmark", 80.22, "roberta-base")
    low = judge([75.3 + i / 15 for i in range(10)], seeds(10), other, place("STSBenchmark"))
    assert low.outcome == "not reproduced"


def test_runs_of_the_paper_are_reproduced_and_say_why():
    target = row("simcse", "5", "Avg", 76.25)
    runs = [n.value for n in published.load("simple-simcse") if n.task == "Avg" and n.backbone == "bert-base-uncased"]
    found = judge(runs[:5], seeds(5), target, AVERAGE)
    assert found.outcome == "reproduced"
    assert found.reason.startswith("inside ") and "(5 seeds and 50 published runs)" in found.reason
    one = judge([74.8], seeds(1), target, AVERAGE)
    assert (one.outcome, one.seeds) == ("undecided", 1)
    assert "which is wider than 2 points either side" in one.reason
    wide = judge([74.8], seeds(1), target, AVERAGE, margin=3.0)
    assert wide.outcome == "reproduced"


def test_with_five_seeds_the_mean_is_held_against_the_mean_of_the_published_runs():
    target = row("simcse", "5", "Avg", 76.25)
    values = [73.0, 73.1, 73.2, 73.3, 73.4]
    found = judge(values, seeds(5), target, AVERAGE)
    # Pooled over 4 + 49 degrees of freedom; t = 2.00575 with 53; the published runs have the mean 75.35.
    spread = reference_spread("simcse-unsup", "bert-base-uncased", AVERAGE)
    pooled = ((4 * 0.025 + 49 * spread.deviation**2) / 53) ** 0.5
    low, high = 73.2 - 2.00575 * pooled / 5**0.5, 73.2 + 2.00575 * pooled / 5**0.5
    said = f"; the mean of the published runs, {spread.mean:.2f}, is outside the 95 % interval of our mean, "
    assert found.reason.endswith(f"{said}{low:.2f} to {high:.2f}")
    assert "the mean of" not in judge(values[:4], seeds(4), target, AVERAGE).reason


def test_the_same_weights_twice_are_one_run():
    twice = [card("simcse-unsup", seed=0, weights_sha256="same", trained_on="wiki@1")] * 2
    assert distinct_runs([74.0, 74.0], twice) == [74.0]
    found = judge([75.35, 75.35], twice, row("simcse", "5", "Avg", 76.25), AVERAGE)
    assert (found.outcome, found.seeds) == ("undecided", 1)


def test_the_published_digits_with_one_seed_are_reproduced():
    flow = card("bert-flow", seed=1234, fitted_on="nli@1")
    assert judge([66.55], [flow], row("simcse", "5", "Avg", 66.55), AVERAGE).outcome == "reproduced"
    other = judge([66.50], [flow], row("simcse", "5", "Avg", 66.55), AVERAGE)
    assert (other.outcome, other.reason) == ("undecided", "1 seed and no known spread, so one more seed is needed")


def test_a_release_is_no_replicate_of_ones_own_seeds():
    release = card("simcse-unsup", weights_sha256="r")
    mine = seeds(2)
    assert recipe_of(release) != recipe_of(mine[0])
    assert recipe_of(mine[0]) == recipe_of(mine[1])
    other_text = card("simcse-unsup[seed=3]", seed=3, weights_sha256="w3", trained_on="other@2")
    assert recipe_of(other_text) != recipe_of(mine[0])
    other_dtype = card("simcse-unsup[seed=4]", seed=4, weights_sha256="w4", trained_on="wiki@1", dtype="bfloat16")
    assert recipe_of(other_dtype) != recipe_of(mine[0])


@pytest.mark.shared
def test_the_six_protocols_that_mteb_shares_with_senteval_are_reproduced(shared):
    """MiniLM measured with the original SentEval, beside MTEB's full precision; its SICK-R is over other pairs."""
    golden = json.loads((shared / "golden" / "sts_minilm.json").read_text())["spearman"]
    (target,) = (r for r in published.rows("mteb", "", SPEARMAN) if r.model == "minilm")
    assert len(target.values) == 6
    for task in target.values:
        measured = golden[task]["all" if task != "STSBenchmark" else "test"]
        assert judge([100 * measured], [card("minilm")], target, place(task)).outcome == "reproduced"
