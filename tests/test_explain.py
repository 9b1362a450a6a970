import json

import numpy as np
import pytest
from typer.testing import CliRunner

from harness.cli.main import app
from harness.data.locate import BUNDLED
from harness.encoders.context import Context
from harness.encoders.registry import resolve
from harness.errors import UsageError
from harness.explain import Reading, detokenise, explain, nearest, way
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
    assert [(step.part, step.before, step.after) for step in found.steps] == [("pooling", "cls_before_pooler", "avg")]
    assert found.gap == pytest.approx(0, abs=1e-4)
    # 6 poolings, 2 similarities, 3 aggregations, 2 correlations, 3 texts; the bundled pairs have one split
    assert found.readings == 6 * 2 * 3 * 2 * 3


def test_the_change_that_helps_most_is_the_first_step():
    start = Reading(pooling="cls_before_pooler")
    worth = {"avg": 8.0, "wmean": 2.0, "pearson": 0.01}
    grid = {
        Reading(pooling=pooling, aggregation=aggregation, correlation=correlation): (
            60 + worth.get(pooling, 0) + worth.get(aggregation, 0) + worth.get(correlation, 0),
        )
        for pooling in ("cls_before_pooler", "avg")
        for aggregation in ("all", "wmean")
        for correlation in ("spearman", "pearson")
    }

    def distance(scores):
        return abs(scores[0] - 70.01)

    end = nearest(grid, start, distance)
    assert end == Reading(pooling="avg", aggregation="wmean")  # a hundredth is not worth a change
    steps = list(way(grid, start, end, distance))
    assert [(step.part, step.score) for step in steps] == [("pooling", 68), ("aggregation", 70)]


def test_a_number_of_ones_own_starts_at_the_reading_nearest_to_it(bert_folder, context):
    own = score_of(bert_folder, "avg_first_last", context, key="pearson/all/test")
    target = score_of(bert_folder, "avg_first_last", context)
    found = explained(bert_folder, "avg_first_last", context, given=own, published={"mini-sts": target})
    assert found.start == Reading(pooling="avg_first_last", correlation="pearson")
    assert [step.part for step in found.steps] == ["correlation"]


def test_the_own_number_needs_no_way(bert_folder, context):
    target = score_of(bert_folder, "avg", context)
    found = explained(bert_folder, "avg", context, published={"mini-sts": target})
    assert (found.steps, found.gap) == ((), pytest.approx(0, abs=1e-4))
    assert found.as_near >= 1


def test_without_a_published_number_there_is_only_the_start(bert_folder, context):
    found = explained(bert_folder, "avg", context)
    assert (found.steps, found.published, found.gap) == ((), None, None)


def test_weights_without_a_trained_head_are_not_pooled_with_one(tmp_path_factory, context):
    from conftest import make_bert

    folder = make_bert(tmp_path_factory.mktemp("headless"), pooler=False)
    found = explained(folder, "avg", context)
    assert found.readings == 5 * 2 * 3 * 2 * 3
    (note,) = found.notes
    assert note.endswith("so it would be random; use pooling=cls_before_pooler, or convert the checkpoint")


def test_an_encoder_without_poolings_has_the_rest_of_the_readings(context):
    found = explain("bag-of-words", ["mini-sts"], context)
    assert found.start.pooling == "its own"
    assert found.readings == 2 * 3 * 2 * 3


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
