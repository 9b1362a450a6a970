import json
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from harness.cli.main import app
from harness.data.locate import BUNDLED
from harness.encoders.context import Context
from harness.encoders.registry import resolve
from harness.errors import UsageError
from harness.explanation import Explanation, Reading, detokenise, explain, nearest, shapley
from harness.run import build_cached
from harness.tasks.suites import TASKS

MODEL = "hf:{}[pooling={}]"


@pytest.fixture
def context(tmp_path):
    return Context(cache_dir=tmp_path, offline=True)


def score_of(folder, pooling: str, context: Context, key: str = "spearman/all/test") -> float:
    """Percent, by the ordinary way of a run."""
    outcome = (
        TASKS["mini-sts"].prepare(BUNDLED).score(build_cached(resolve(MODEL.format(folder, pooling)), context), context)
    )
    return 100 * outcome.scores[key]


def explained(folder, pooling: str, context: Context, **values: object):
    return explain(MODEL.format(folder, pooling), ["mini-sts"], context, **values)


def test_a_wrong_pooling_is_found_as_the_cause(bert_folder, context):
    target = score_of(bert_folder, "avg", context)
    found = explained(bert_folder, "cls_before_pooler", context, published={"mini-sts": target})
    assert found.start == Reading(pooling="cls_before_pooler")
    assert found.score == pytest.approx(score_of(bert_folder, "cls_before_pooler", context), abs=1e-4)
    assert [(share.part, share.before, share.after) for share in found.shares] == [
        ("pooling", "cls_before_pooler", "avg")
    ]
    assert found.gap == pytest.approx(0, abs=1e-4)
    assert found.readings > 50  # different numbers: how many fall together depends on the processor's rounding


def made_grid(worth):
    """A grid in which each part is worth so many points, and two of them together more or less than both."""
    return {
        Reading(pooling=pooling, similarity=similarity, aggregation=aggregation): (
            60 + worth.get(pooling, 0) + worth.get(similarity, 0) + worth.get(aggregation, 0)
            + (worth["both"] if (pooling, similarity) == ("avg", "cosine") else 0),
        )
        for pooling in ("cls_before_pooler", "avg")
        for similarity in ("dot product", "cosine")
        for aggregation in ("all", "wmean")
    }  # fmt: skip


def test_shares_depend_on_no_order_and_add_up():
    """As MiniLM's, where pooling is worth -8.2 or +8.5 by the order in which two wrong settings are put right."""
    grid = made_grid({"avg": -8.2, "cosine": 11.6, "both": 16.7})
    start = Reading(pooling="cls_before_pooler", similarity="dot product")
    end = Reading(pooling="avg", similarity="cosine")
    shares, interaction = shapley(grid, start, end)
    assert {share.part: share.points for share in shares} == pytest.approx({"pooling": 0.15, "similarity": 19.95})
    by_part = {share.part: (share.low, share.high) for share in shares}
    assert by_part["pooling"] == pytest.approx((-8.2, 8.5)) and by_part["similarity"] == pytest.approx((11.6, 28.3))
    assert sum(share.points for share in shares) == pytest.approx(grid[end][0] - grid[start][0])
    assert interaction == pytest.approx(16.7)


def test_parts_that_act_together_are_named_together():
    grid = made_grid({"avg": -8.2, "cosine": 11.6, "both": 16.7})
    start, end = Reading(pooling="cls_before_pooler", similarity="dot product"), Reading(pooling="avg")
    shares, interaction = shapley(grid, start, end)
    found = Explanation(
        tasks=("a",), start=start, given=None, score=60.0, readings=8, notes=(), shares=shares, interaction=interaction
    )
    assert found.causes == ("similarity", "pooling")
    apart, none = shapley(made_grid({"avg": 3.0, "cosine": 1.0, "both": 0.0}), start, end)
    alone = replace(found, shares=apart, interaction=none)
    assert (alone.causes, none) == (("pooling",), pytest.approx(0))


def test_a_hundredth_is_not_worth_a_change():
    grid = {
        Reading(pooling="avg", aggregation=aggregation, correlation=correlation): (
            60 + 2.0 * (aggregation == "wmean") + 0.01 * (correlation == "pearson"),
        )
        for aggregation in ("all", "wmean")
        for correlation in ("spearman", "pearson")
    }
    end = nearest(grid, Reading(pooling="avg"), lambda scores: abs(scores[0] - 62.01))
    assert end == Reading(pooling="avg", aggregation="wmean")


def test_a_number_that_no_reading_gives_is_not_explained(bert_folder, context):
    target = score_of(bert_folder, "avg", context)
    found = explained(bert_folder, "avg", context, given=3.21, published={"mini-sts": target})
    assert (found.met, found.shares, found.gap) == (False, (), None)


def test_a_number_of_ones_own_starts_at_the_reading_nearest_to_it(bert_folder, context):
    own = score_of(bert_folder, "avg_first_last", context, key="pearson/all/test")
    target = score_of(bert_folder, "avg_first_last", context)
    found = explained(bert_folder, "avg_first_last", context, given=own, published={"mini-sts": target})
    assert found.start == Reading(pooling="avg_first_last", correlation="pearson")
    assert [share.part for share in found.shares] == ["correlation"] and found.met


def test_the_own_number_needs_no_way(bert_folder, context):
    target = score_of(bert_folder, "avg", context)
    found = explained(bert_folder, "avg", context, published={"mini-sts": target})
    assert (found.shares, found.gap) == ((), pytest.approx(0, abs=1e-4))
    assert found.as_near >= 1


def test_without_a_published_number_there_is_only_the_start(bert_folder, context):
    found = explained(bert_folder, "avg", context)
    assert (found.shares, found.published, found.gap) == ((), None, None)


def test_weights_without_a_trained_head_are_not_pooled_with_one(tmp_path_factory, context):
    from conftest import make_bert

    folder = make_bert(tmp_path_factory.mktemp("headless"), pooler=False)
    found = explained(folder, "avg", context)
    (note,) = found.notes
    assert note.endswith("so it would be random; use pooling=cls_before_pooler, or convert the checkpoint")


def test_an_encoder_without_poolings_has_the_rest_of_the_readings(context):
    found = explain("bag-of-words", ["mini-sts"], context)
    assert found.start.pooling == "its own"
    assert 1 < found.readings <= 4 * 3 * 2 * 3


def test_unknown_tasks_are_one_sentence(context):
    with pytest.raises(UsageError) as caught:
        explain("bag-of-words", ["MR"], context)
    assert str(caught.value).startswith("no similarity task is named 'MR'; known: STS12, STS13,")


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        ("he did n't ( really ) .", "he didn't (really)."),
        ("`` well , no '' he said : it 's 5 %", '"well, no" he said: it\'s 5%'),
        ("plain words stay", "plain words stay"),
    ],
)
def test_detokenised_text_has_the_spaces_of_ordinary_text(tokens, text):
    assert detokenise(tokens) == text


def test_the_command_prints_the_way_or_json(bert_folder, tmp_path):
    options = [
        "--model",
        MODEL.format(bert_folder, "avg"),
        "--tasks",
        "mini-sts",
        "--cache-dir",
        str(tmp_path),
        "--offline",
    ]
    runner = CliRunner()
    done = runner.invoke(app, ["explain", *options])
    assert done.exit_code == 0, done.output
    off = runner.invoke(app, ["explain", *options, "--score", "1.5"])
    assert "No reading gives 1.50; the nearest is " in off.stdout
    assert "nothing is published for it; name a row with --published\n" in done.stderr
    as_json = json.loads(runner.invoke(app, ["explain", *options, "--score", "1.5", "--json"]).stdout)
    assert (as_json["given"], as_json["published"], as_json["tasks"]) == (1.5, None, ["mini-sts"])
    assert np.isfinite(as_json["score"])


def test_published_names_that_do_not_fit_are_one_sentence(bert_folder, tmp_path):
    options = ["--model", MODEL.format(bert_folder, "avg"), "--cache-dir", str(tmp_path), "--offline"]
    runner = CliRunner()
    wrong = runner.invoke(app, ["explain", *options, "--published", "simcse:5:brt"])
    assert wrong.exit_code == 2
    assert wrong.stderr.startswith("bench: --published simcse:5:brt: nothing of that name; known: avg-glove, bert,")
    several = runner.invoke(app, ["explain", *options, "--published", "simcse:5:simcse-unsup"])
    assert several.stderr.endswith(
        "name one of simcse:5:simcse-unsup:bert-base-uncased:, simcse:5:simcse-unsup:roberta-base:, "
        "simcse:5:simcse-unsup:roberta-large:\n"
    )
    missing = runner.invoke(app, ["explain", *options, "--published", "mteb::minilm", "--tasks", "mini-sts"])
    assert missing.stderr == (
        "bench: MTEB, minilm: has no number on mini-sts; it has STS12, STS13, STS14, STS15, STS16, STSBenchmark, "
        "SICKRelatedness\n"
    )
