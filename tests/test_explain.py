import json
import re
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from harness.cli.main import app
from harness.data import sts
from harness.data.locate import BUNDLED
from harness.data.records import Copy, Pairs, SimilarityData, TextFile
from harness.data.sts import SEMEVAL_SUBSETS
from harness.encoders.context import Context
from harness.encoders.pooling import POOLINGS
from harness.encoders.registry import build, resolve
from harness.errors import UsageError
from harness.explanation.explain import (
    Explanation,
    explain,
    find_tasks,
    nearest,
    search,
    shapley,
)
from harness.explanation.factors import Reading, detokenise, factors_of, usual, without_dear
from harness.explanation.numbers import Numbers, pooled_encoders
from harness.names import EncoderCard
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
    assert found.start == found.own and found.own["pooling"] == "cls_before_pooler"
    assert found.score == pytest.approx(score_of(bert_folder, "cls_before_pooler", context), abs=1e-4)
    assert [(share.part, share.before, share.after) for share in found.shares] == [
        ("pooling", "cls_before_pooler", "avg")
    ]
    assert found.gap == pytest.approx(0, abs=1e-4)
    assert found.readings > 50  # different numbers: how many fall together depends on the processor's rounding


def reading(**values):
    parts = {"pooling": "avg", "similarity": "cosine", "aggregation": "all", "correlation": "spearman", **values}
    return Reading(tuple(parts.items()))


def made_grid(worth):
    """A grid in which each part is worth so many points, and two of them together more or less than both."""
    return {
        reading(pooling=pooling, similarity=similarity, aggregation=aggregation): (
            60 + worth.get(pooling, 0) + worth.get(similarity, 0) + worth.get(aggregation, 0)
            + (worth["both"] if (pooling, similarity) == ("avg", "cosine") else 0),
        )
        for pooling in ("cls_before_pooler", "avg")
        for similarity in ("dot product", "cosine")
        for aggregation in ("all", "wmean")
    }  # fmt: skip


def values_of(grid):
    return lambda one: grid[one][0] if one in grid else None


def test_shares_depend_on_no_order_and_add_up():
    """As MiniLM's, where pooling is worth -8.2 or +8.5 by the order in which two wrong settings are put right."""
    grid = made_grid({"avg": -8.2, "cosine": 11.6, "both": 16.7})
    start = reading(pooling="cls_before_pooler", similarity="dot product")
    end = reading(pooling="avg", similarity="cosine")
    shares, interaction = shapley(values_of(grid), start, end)
    assert {share.part: share.points for share in shares} == pytest.approx({"pooling": 0.15, "similarity": 19.95})
    by_part = {share.part: (share.low, share.high) for share in shares}
    assert by_part["pooling"] == pytest.approx((-8.2, 8.5)) and by_part["similarity"] == pytest.approx((11.6, 28.3))
    assert sum(share.points for share in shares) == pytest.approx(grid[end][0] - grid[start][0])
    assert interaction == pytest.approx(16.7)


def test_parts_that_act_together_are_named_together():
    grid = made_grid({"avg": -8.2, "cosine": 11.6, "both": 16.7})
    start, end = reading(pooling="cls_before_pooler", similarity="dot product"), reading(pooling="avg")
    shares, interaction = shapley(values_of(grid), start, end)
    found = Explanation(
        tasks=("a",),
        own=start,
        start=start,
        given=None,
        score=60.0,
        readings=8,
        notes=(),
        shares=shares,
        interaction=interaction,
    )
    assert found.causes == ("similarity", "pooling")
    apart, none = shapley(values_of(made_grid({"avg": 3.0, "cosine": 1.0, "both": 0.0})), start, end)
    alone = replace(found, shares=apart, interaction=none)
    assert (alone.causes, none) == (("pooling",), pytest.approx(0))


def test_a_hundredth_is_not_worth_a_change():
    grid = {
        reading(pooling="avg", aggregation=aggregation, correlation=correlation): (
            60 + 2.0 * (aggregation == "wmean") + 0.01 * (correlation == "pearson"),
        )
        for aggregation in ("all", "wmean")
        for correlation in ("spearman", "pearson")
    }
    end = nearest(grid, reading(pooling="avg"), lambda scores: abs(scores[0] - 62.01))
    assert end == reading(pooling="avg", aggregation="wmean")


@pytest.mark.slow
def test_a_number_that_no_reading_gives_is_not_explained(bert_folder, context):
    target = score_of(bert_folder, "avg", context)
    found = explained(bert_folder, "avg", context, given=3.21, published={"mini-sts": target})
    assert (found.met, found.shares, found.gap) == (False, (), None)


def test_a_number_of_ones_own_starts_at_the_reading_nearest_to_it(bert_folder, context):
    own = score_of(bert_folder, "avg_first_last", context, key="pearson/all/test")
    target = score_of(bert_folder, "avg_first_last", context)
    found = explained(bert_folder, "avg_first_last", context, given=own, published={"mini-sts": target})
    assert found.own.changes(found.start) == ["correlation"]
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
    assert found.notes[0].startswith("pooling cls: the weights hold no trained head, so it would be random")


def test_an_encoder_without_poolings_has_the_rest_of_the_readings(context):
    found = explain("bag-of-words", ["mini-sts"], context, given=0.0)
    assert found.start["pooling"] == "its own"
    assert 1 < found.readings <= 4 * 3 * 2 * 3


def test_tasks_have_the_names_that_are_in_use():
    assert [task.name for task in find_tasks(["sts-b", "STSB", "SICK-R", "sts12"])] == [
        "STSBenchmark",
        "SICKRelatedness",
        "STS12",
    ]


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["STS99"], "no task is named 'STS99'"),
        (["geometry-stsb"], "geometry-stsb: has no readings to try, expected a similarity or a classification task"),
        (["stsb-dev"], "STSBenchmark-dev: is one split, and all splits are readings; name STSBenchmark"),
        (["STS12", "MR"], "tasks: similarity and classification tasks differ in what can be read otherwise"),
    ],
)
def test_tasks_that_cannot_be_explained_are_one_sentence(names, sentence):
    with pytest.raises(UsageError, match="^" + re.escape(sentence)):
        find_tasks(names)


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


@pytest.mark.slow
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


TINY = "bert[backbone=tiny,pooling=avg]"
FACTORS = [
    ("pooling", "cls_before_pooler"),
    ("similarity", "Euclidean distance"),
    ("similarity", "Manhattan distance"),
    ("aggregation", "wmean"),
    ("correlation", "pearson"),
    pytest.param(*("max_tokens", "8"), marks=pytest.mark.slow),
    pytest.param(*("dtype", "bfloat16"), marks=pytest.mark.slow),
    pytest.param(*("special tokens", "not pooled"), marks=pytest.mark.slow),
    pytest.param(*("special tokens", "absent"), marks=pytest.mark.slow),
    pytest.param(*("padding", "pooled in batches of 64"), marks=pytest.mark.slow),
    pytest.param(*("padding", "pooled up to 128"), marks=pytest.mark.slow),
    pytest.param(*("prompt", "query: "), marks=pytest.mark.slow),
    pytest.param(*("dropout", "on"), marks=pytest.mark.slow),
    pytest.param(*("layer over CLS", "of random weights"), marks=pytest.mark.slow),
]


@pytest.fixture(scope="module")
def tiny_numbers(tmp_path_factory):
    """The numbers of a trained model, with what is kept of them, for all the tests below."""
    context = Context(cache_dir=tmp_path_factory.mktemp("tiny"), offline=True)
    tasks = find_tasks(["mini-sts"])
    encoders, _ = pooled_encoders(build(TINY, context), tuple(POOLINGS))
    return Numbers(encoders, tasks, factors_of(encoders, tasks, context)[0], context)


@pytest.mark.parametrize(("factor", "value"), FACTORS)
def test_a_number_made_otherwise_is_explained_by_that_factor_and_no_other(factor, value, tiny_numbers):
    own = usual(tiny_numbers.factors)
    (score,) = tiny_numbers.of(own.changed(factor, value))
    found = search(tiny_numbers, published={"mini-sts": round(score, 2)})
    assert [(share.part, share.after) for share in found.shares] == [(factor, value)]
    assert abs(found.gap) <= 0.005


def test_what_costs_a_pass_is_left_out_where_something_cheaper_gives_the_number(tiny_numbers):
    told = []
    (score,) = tiny_numbers.of(usual(tiny_numbers.factors).changed("correlation", "pearson"))
    search(tiny_numbers, published={"mini-sts": score}, tell=told.append)
    assert told == ["432 readings: pooling, text, similarity, aggregation and correlation"]


@pytest.mark.slow
def test_a_random_reading_is_a_cause_only_where_its_draws_are_close(tiny_numbers):
    own = usual(tiny_numbers.factors)
    for factor, value in (("dropout", "on"), ("layer over CLS", "of random weights")):
        random = own.changed(factor, value)
        spread = tiny_numbers.spread(random)
        assert spread > 0 and tiny_numbers.tolerance(random) == (spread if spread <= 2 else 0)
    assert tiny_numbers.spread(own) == 0


@pytest.mark.slow
def test_five_folds_are_found_as_the_cause_of_an_accuracy(tmp_path):
    told = []
    context = Context(cache_dir=tmp_path, offline=True)
    encoder = build_cached(resolve("bag-of-words[dim=16]", context), context)
    task = replace(TASKS["mini-mr"], folds=5)
    target = 100 * task.prepare(BUNDLED).score(encoder, context).scores[task.metric]
    found = explain("bag-of-words[dim=16]", ["mini-mr"], context, published={"mini-mr": target}, tell=told.append)
    assert told[0] == "4 readings: mode, folds and classifier"
    assert [(share.part, share.before, share.after) for share in found.shares] == [("folds", "10", "5")]
    assert found.gap == pytest.approx(0, abs=1e-9)


class Told:
    """An encoder of `0.8` whose cosine with `x` is 0.8: it says what a benchmark's similarities are."""

    def __init__(self) -> None:
        self.card = EncoderCard(name="told", method="told", dim=2)

    def encode(self, sentences):
        cosines = np.array([1.0 if text == "x" else float(text) for text in sentences])
        return np.stack([cosines, np.sqrt(1 - cosines**2)], axis=1).astype(np.float32)


def numbers_of(names, context):
    tasks, encoders = find_tasks(names), {"its own": Told()}
    return Numbers(encoders, tasks, factors_of(encoders, tasks, context)[0], context)


def ranked(ranks):
    """Pairs with gold scores 1, 2, ... whose similarities have these ranks."""
    gold = [float(i + 1) for i in range(len(ranks))]
    return SimilarityData((Pairs("all", ["x"] * len(ranks), [f"{rank / 10}" for rank in ranks], gold),), {}, ())


@pytest.fixture
def by_hand(monkeypatch, data_context):
    """SICK-R and STS-B of a few pairs, whose Spearman correlations are 1 - 6 sum(d^2) / (n (n^2 - 1))."""
    made = {
        "SICKRelatedness": ranked([1, 3, 2]),  # 1 - 12 / 24
        "SICKRelatedness-full": ranked([2, 1, 4, 3]),  # 1 - 24 / 60
        "SICKRelatedness-dev": ranked([1, 2, 3]),
        "STSBenchmark-dev": ranked([1, 2, 3]),
        "STSBenchmark": ranked([2, 1, 3, 4, 5, 6]),  # 1 - 12 / 210
    }
    for name, data in made.items():
        monkeypatch.setitem(TASKS, name, replace(TASKS[name], load=lambda root, data=data: data))
    return data_context


@pytest.fixture
def data_context(tmp_path):
    for folder in ("STS13-en-test", "STS16-en-test"):
        (tmp_path / "data/downstream/STS" / folder).mkdir(parents=True)
    return Context(cache_dir=tmp_path, data_dir=tmp_path / "data", offline=True)


def test_sick_r_over_all_pairs_and_means_of_rounded_values_by_hand(by_hand):
    numbers = numbers_of(["SICK-R", "STS-B"], by_hand)
    own = usual(numbers.factors)
    assert numbers.of(own) == pytest.approx((50.0, 100 - 1200 / 210))
    assert numbers.of(own.changed("split", "full")) == pytest.approx((60.0, 100 - 1200 / 210))
    assert numbers.of(own.changed("split", "dev"))[0] == pytest.approx(100.0)
    rounded = own.changed("mean over tasks", "of values with one decimal")
    assert numbers.of(rounded) == (50.0, 94.3)
    assert numbers.of(own.changed("mean over tasks", "of whole points")) == (50.0, 94.0)


def test_blank_gold_lines_as_0_by_hand(data_context, monkeypatch):
    """Ten pairs of gold 0.5 to 4.5 in the order of their similarities, and one blank with the highest similarity."""
    gold = ["", *(f"{0.5 * i}" for i in range(1, 10))]
    cosines = ["0.95", *(f"{0.05 * i:.2f}" for i in range(1, 10))]
    files = {}
    for i, name in enumerate(SEMEVAL_SUBSETS["STS16"]):
        files[f"STS.input.{name}.txt"] = [f"x\t{cosines[row]}" for row in (2 * i, 2 * i + 1)]
        files[f"STS.gs.{name}.txt"] = gold[2 * i : 2 * i + 2]

    def read(root, path):
        return TextFile(path, files[path.rpartition("/")[2]], "", Copy.UNMEASURED)

    monkeypatch.setattr(sts, "read_text_file", read)
    numbers = numbers_of(["STS16"], data_context)
    reading = usual(numbers.factors).changed("blank gold in STS16", "taken as 0")
    # The blank pair is first of ten by gold and last by similarity, and all others are one place off: 81 + 9.
    assert numbers.of(reading) == pytest.approx((100 - 100 * 6 * 90 / 990,))


def test_smt_is_a_reading_where_its_file_is_there_and_else_said_to_be_missing(data_context):
    tasks, encoders = find_tasks(["STS13"]), {"its own": Told()}
    factors, notes = factors_of(encoders, tasks, data_context)
    assert "SMT in STS13" not in [factor.name for factor in factors]
    assert notes[-1].startswith("SMT in STS13: downstream/STS/STS13-en-test/STS.input.SMT.txt is not in the data, ")
    place = data_context.data_dir / "downstream/STS/STS13-en-test"
    (place / "STS.input.SMT.txt").write_text("a\tb\n")
    (place / "STS.gs.SMT.txt").write_text("3\n")
    factors, notes = factors_of(encoders, tasks, data_context)
    assert "SMT in STS13" in [factor.name for factor in factors] and "SMT" not in notes[-1]


def test_the_pooling_of_a_whitening_is_found_as_the_cause(context):
    name = "bert-whitening[backbone=tiny,fit=mini-nli,dim=96,pooling={}]"
    encoder = build_cached(resolve(name.format("avg"), context), context)
    target = 100 * TASKS["mini-sts"].prepare(BUNDLED).score(encoder, context).scores["spearman/all/test"]
    found = explain(name.format("cls"), ["mini-sts"], context, published={"mini-sts": target})
    assert [(share.part, share.before, share.after) for share in found.shares] == [("pooling", "cls", "avg")]
    assert found.gap == pytest.approx(0, abs=1e-3)


class Counted(Numbers):
    """Knows which readings were asked for, and gives each a number that the test says."""

    def of(self, reading):
        self.asked = [*getattr(self, "asked", []), reading]
        own = usual(self.factors)
        return (self.said.get(tuple((name, reading[name]) for name in own.changes(reading)), 10.0),)

    def spread(self, reading):
        return 0.0


def test_no_pass_is_made_after_one_change_that_gives_the_number(tiny_numbers):
    numbers = object.__new__(Counted)
    numbers.__dict__ |= tiny_numbers.__dict__
    numbers.said = {(("max_tokens", "16"),): 42.0, (): 50.0}
    found = search(numbers, published={"mini-sts": 42.0})
    assert [(share.part, share.after) for share in found.shares] == [("max_tokens", "16")]
    passes = {reading["max_tokens"] for reading in numbers.asked}
    assert passes == {"its own", "8", "16"} and all(reading["dropout"] == "off" for reading in numbers.asked)


def test_the_dearest_readings_are_tried_on_demand(tiny_numbers):
    kept, notes = without_dear(tiny_numbers.factors)
    readings = {f"{factor.name} {name}" for factor in kept for name in factor.readings}
    assert "dtype bfloat16" in readings and not readings & {"dtype float16", "padding pooled up to 128"}
    assert notes == ("dtype float16, padding pooled up to 128: take longer than all the others; --thorough tries them",)
