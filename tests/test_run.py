"""The run: every cell, errors that sink nothing else, finished cells kept, kills and two runs at once survived."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import make_bert
from scipy import stats

from harness import run as running
from harness.cli.run import _labels
from harness.data.locate import BUNDLED
from harness.encoders.context import Context
from harness.encoders.entry import Cost, EncoderEntry, Work
from harness.encoders.registry import build, fill, known_encoders, resolve
from harness.errors import UsageError
from harness.names import EncoderCard
from harness.results import store
from harness.results.items import text_id
from harness.tasks.suites import SUITES, TASKS

MINI = TASKS["mini-sts"]
STSB = TASKS["STSBenchmark"]


def plan(tmp_path, models, tasks=(MINI,), **changes):
    on_cell = changes.pop("on_cell", lambda cell: None)
    return running.Plan(
        models=[resolve(model) for model in models],
        tasks=tasks,
        results_dir=tmp_path / "results",
        context=Context(cache_dir=tmp_path / "cache", data_dir=changes.get("root", BUNDLED), offline=True),
        force=changes.get("force", False),
        on_cell=on_cell,
    )


def test_no_number_waits_for_a_training(tmp_path, monkeypatch):
    """What has to be trained first is built last, and the cells keep the order of the plan."""
    seen = []

    def train(spec, parameters, context):
        seen.append("trained")
        return known_encoders()["random"].build(spec, parameters, context)

    work = Work("train", lambda context: Cost(done=False, steps=1, texts=1, model_bytes=1))
    trained = replace(known_encoders()["random"], name="trained", build=train, work=lambda spec, parameters: work)
    asked = plan(tmp_path, ["bag-of-words"], on_cell=lambda cell: seen.append(cell.encoder))
    cells = running.run(replace(asked, models=[fill(trained, {}), *asked.models]))
    assert seen == ["bag-of-words", "trained", "trained"]
    assert [cell.encoder for cell in cells] == ["trained", "bag-of-words"]


def test_the_score_by_a_second_route(tmp_path):
    """Word overlap computed here, with the plain reading of the bundled files."""
    (cell,) = running.run(plan(tmp_path, ["bag-of-words[dim=64]"]))
    encoder = build("bag-of-words[dim=64]", Context(cache_dir=tmp_path))
    folder = BUNDLED / "downstream/STS/MINI-en-test"
    gold, cosine, each = [], [], []
    for subset in ("captions", "headlines", "answers"):
        pairs = [line.split("\t") for line in (folder / f"STS.input.{subset}.txt").read_text().splitlines()]
        scores = [float(line) for line in (folder / f"STS.gs.{subset}.txt").read_text().splitlines()]
        left, right = (encoder.encode([pair[side] for pair in pairs]).astype(float) for side in (0, 1))
        found = (left * right).sum(1) / np.linalg.norm(left, axis=1) / np.linalg.norm(right, axis=1)
        each.append(stats.spearmanr(scores, found).statistic)
        gold += scores
        cosine += found.tolist()
    assert cell.result.scores["spearman/all/test"] == pytest.approx(stats.spearmanr(gold, cosine).statistic, abs=1e-6)
    assert cell.result.scores["spearman/mean/test"] == pytest.approx(np.mean(each), abs=1e-6)
    assert cell.result.scores["pearson/all/test"] == pytest.approx(stats.pearsonr(gold, cosine).statistic, abs=1e-6)


def test_two_runs_agree_but_for_the_run(tmp_path):
    (first,) = running.run(plan(tmp_path, ["random"]))
    (second,) = running.run(plan(tmp_path, ["random"], force=True))
    assert replace(second.result, run=first.result.run) == first.result


def test_finished_cells_are_kept_and_force_replaces_them(tmp_path):
    (first,) = running.run(plan(tmp_path, ["random"]))
    (second,) = running.run(plan(tmp_path, ["random"]))
    assert (first.skipped, second.skipped) == (False, True)
    assert second.result.scores == first.result.scores
    (third,) = running.run(plan(tmp_path, ["random"], force=True))
    assert not third.skipped


def test_the_record_names_data_counts_and_surroundings(tmp_path):
    (cell,) = running.run(plan(tmp_path, ["random"]))
    result = store.read(cell.result.file)
    assert result.counts["pairs"] == sum(v for k, v in result.counts.items() if k.startswith("pairs/")) == 336
    assert result.counts["zero vectors"] == 0
    assert len(result.data) == 6
    assert result.flags == ()
    assert {"torch", "numpy", "python"} <= set(result.run.packages)
    items = result.items()
    assert items.left[0] == text_id(MINI.prepare(BUNDLED).sentences[0])
    assert stats.spearmanr(items.gold, items.cosine).statistic == pytest.approx(cell.result.scores[MINI.metric])


class Broken:
    """An encoder that breaks its promise in a chosen way."""

    def __init__(self, how):
        self.how = how
        self.card = EncoderCard(name=f"broken-{how}", method="broken", dim=4)

    def encode(self, sentences, /):
        x = np.random.default_rng(0).normal(size=(len(sentences), 4)).astype(np.float32)
        match self.how:
            case "nan":
                x[0, 0] = np.nan
            case "shape":
                x = x[:, :3]
            case "dtype":
                x = x.astype(np.float64)
            case "constant":
                x[:] = 1
        return x


@pytest.fixture
def with_broken(monkeypatch):
    entries = [
        EncoderEntry(
            name=f"broken-{how}", summary="", build=lambda spec, chosen, context: Broken(spec.name.split("-")[1])
        )
        for how in ("nan", "shape", "dtype", "constant")
    ]
    table = {**known_encoders(), **{entry.name: entry for entry in entries}}
    monkeypatch.setattr("harness.encoders.registry.known_encoders", lambda: table)


def test_one_failing_encoder_does_not_sink_the_others(tmp_path, with_broken):
    names = ["broken-nan", "broken-shape", "broken-dtype", "broken-constant", "random"]
    cells = {cell.encoder: cell for cell in running.run(plan(tmp_path, names))}
    n = len(dict.fromkeys(MINI.prepare(BUNDLED).sentences))
    first = MINI.prepare(BUNDLED).sentences[0]
    assert str(cells["broken-nan"].error) == f"broken-nan: 1 of {n} vectors are not finite, the first for {first!r}"
    assert str(cells["broken-shape"].error) == f"broken-shape returned float32({n}, 3), expected float32({n}, 4)"
    assert str(cells["broken-dtype"].error) == f"broken-dtype returned float64({n}, 4), expected float32({n}, 4)"
    assert str(cells["broken-constant"].error) == (
        "mini-sts: spearman/subset:captions/test is undefined, because all similarities are equal; "
        "the encoder tells nothing apart"
    )
    assert {cell.error.exit_code for cell in cells.values() if cell.error} == {1}
    assert cells["random"].result is not None
    assert len(list((tmp_path / "results").rglob("*.sts.json"))) == 1


def test_one_damaged_task_does_not_sink_the_others(tmp_path):
    (tmp_path / "data" / "downstream").mkdir(parents=True)
    cells = running.run(plan(tmp_path, ["random"], tasks=(STSB, MINI), root=tmp_path / "data"))
    assert [cell.task for cell in cells if cell.error] == ["STSBenchmark"]
    assert str(cells[0].error).endswith("cannot be read (No such file or directory); `bench data fetch` gets the files")
    assert cells[0].error.exit_code == 2
    assert cells[1].result is not None


def test_an_unknown_model_stops_before_anything_runs(tmp_path):
    with pytest.raises(UsageError, match=r"^no model is named 'rnadom'; did you mean 'random'\?$"):
        running.run(plan(tmp_path, ["random", "rnadom"]))
    assert not (tmp_path / "results").exists()


def test_another_copy_of_the_data_is_flagged(tmp_path):
    shutil.copytree(BUNDLED, tmp_path / "other")
    path = tmp_path / "other/downstream/STS/MINI-en-test/STS.input.captions.txt"
    path.write_text(path.read_text().replace(" .", " !", 1))
    (cell,) = running.run(plan(tmp_path, ["random"], tasks=(replace(MINI, bundled=False),), root=tmp_path / "other"))
    assert cell.result.flags == (running.OTHER_COPY,)


@pytest.mark.parametrize(("selected_on", "selected"), [("STS-B dev", True), ("mini STS dev", False), (None, False)])
def test_what_was_selected_on_sts_b_says_so_where_it_is_scored_on_those_pairs(selected_on, selected, tmp_path):
    card = EncoderCard(name="mine", method="mine", selected_on=selected_on, dim=4)
    data = MINI.prepare(BUNDLED)
    own = plan(tmp_path, [], root=tmp_path)  # no data there: the flag is without the numbers of shared pairs
    for task in ("STS12", "STS16", "STSBenchmark-dev"):
        expected = (running.SELECTED_ON_STS_B,) if selected else ()
        assert running._flags(card, TASKS[task], data, own) == expected
    for task in ("STSBenchmark", "SICKRelatedness", "MR", "mini-sts"):
        assert running._flags(card, TASKS[task], data, own) == ()


@pytest.mark.shared
def test_the_flag_of_selection_has_the_numbers_of_shared_pairs(shared, tmp_path, monkeypatch):
    class Selected:
        card = EncoderCard(name="selected", method="selected", selected_on="STS-B dev", dim=4)

        def encode(self, sentences, /):
            return np.random.default_rng(0).normal(size=(len(sentences), 4)).astype(np.float32)

    entry = EncoderEntry(name="selected", summary="", build=lambda *_: Selected())
    table = {**known_encoders(), entry.name: entry}
    monkeypatch.setattr("harness.encoders.registry.known_encoders", lambda: table)
    tasks = (TASKS["STS13"], STSB)
    cells = running.run(plan(tmp_path, ["selected"], tasks=tasks, root=shared / "data" / "senteval"))
    assert [cell.result.flags for cell in cells] == [
        ("selected on STS-B dev, of whose 1,500 pairs 1,131 are in the test sets of STS12-16",),
        (),
    ]


def test_a_finished_cell_of_another_card_is_not_overwritten(tmp_path, bert_folder):
    name = f"hf:{bert_folder}[pooling=avg]"
    (first,) = running.run(plan(tmp_path, [name]))
    changed = plan(tmp_path, [name])
    changed = replace(changed, context=replace(changed.context, dtype="bfloat16"))
    (second,) = running.run(changed)
    assert (second.skipped, second.result.encoder.dtype) == (False, "bfloat16")
    assert store.read(first.result.file) == first.result
    (problem,) = store.read_all(tmp_path / "results")[1]
    assert f"holds earlier results of {first.result.encoder.name}, made with other vectors" in problem
    assert first.result.encoder.name.startswith(f"hf:{bert_folder.name}@")


def test_poolings_of_one_checkpoint_share_a_pass(tmp_path, bert_folder, monkeypatch):
    from harness.encoders.transformer import Backbone

    passes = []
    original = Backbone.pooled
    monkeypatch.setattr(Backbone, "pooled", lambda self, s, p: passes.append((len(s), list(p))) or original(self, s, p))
    running.run(plan(tmp_path, [f"hf:{bert_folder}[pooling={p}]" for p in ("avg", "cls", "avg_first_last")]))
    distinct = len(dict.fromkeys(MINI.prepare(BUNDLED).sentences))
    assert passes == [(distinct, ["avg", "cls", "avg_first_last"])]


def test_a_pooling_that_fails_does_not_sink_those_that_share_its_pass(tmp_path):
    folder = make_bert(tmp_path / "headless", pooler=False)
    cells = running.run(plan(tmp_path, [f"hf:{folder}[pooling={p}]" for p in ("avg", "cls", "cls_before_pooler")]))
    assert [cell.error is None for cell in cells] == [True, False, True]
    assert "the pooling cls needs a trained head" in str(cells[1].error)


def bench(tmp_path, *arguments, **environment):
    command = [sys.executable, "-m", "harness", *arguments, "--results-dir", str(tmp_path / "results")]
    return subprocess.Popen(
        [*command, "--cache-dir", str(tmp_path / "cache"), "--offline"],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a test run that is itself in the background ignores Ctrl-C, and its children would inherit that
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def scores(folder):
    found, problems = store.read_all(folder)
    assert problems == []
    return {(r.encoder.name, r.task): r.scores for r in found}


def test_a_killed_run_is_completed_with_the_same_numbers(tmp_path, bert_folder):
    """SIGKILL at ever later moments, then once to the end; an undisturbed run gives the reference."""
    models = f"hf:{bert_folder}[pooling=avg],bag-of-words,random"
    for delay in (2.5, 3.5, 4.5):
        process = bench(tmp_path, "run", "--suite", "mini", "--models", models)
        try:
            process.wait(delay)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
    assert bench(tmp_path, "run", "--suite", "mini", "--models", models).wait() == 0
    assert bench(tmp_path / "quiet", "run", "--suite", "mini", "--models", models).wait() == 0
    assert scores(tmp_path / "results") == scores(tmp_path / "quiet" / "results")


def test_two_runs_at_once_into_one_folder(tmp_path, bert_folder):
    models = f"hf:{bert_folder}[pooling=avg],bag-of-words,random"
    both = [bench(tmp_path, "run", "--suite", "mini", "--models", models, "--force") for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    assert len(scores(tmp_path / "results")) == 3 * len(SUITES["mini"])
    assert bench(tmp_path, "run", "--suite", "mini", "--models", models).wait() == 0


def test_interrupting_keeps_what_is_finished(tmp_path):
    names = [f"random[seed={seed}]" for seed in range(400)]
    process = bench(tmp_path, "run", "--suite", "mini", "--models", ",".join(names))
    deadline = time.monotonic() + 60
    while len(list((tmp_path / "results").rglob("*.sts.json"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.splitlines()[-1] == (
        "bench: interrupted; what is finished is kept, the same command goes on from there"
    )
    assert 2 <= len(scores(tmp_path / "results")) < 400


@pytest.mark.shared
def test_the_reference_scores_of_minilm(shared, tmp_path):
    """The golden file to 1e-5 (but see STS12 below), and SICK-R over all pairs as MTEB publishes it."""
    golden = json.loads((shared / "golden" / "sts_minilm.json").read_text())
    pins = (Path(__file__).parents[1] / "constraints.txt").read_text()
    pinned = f"torch=={version('torch').partition('+')[0]}\n" in pins
    tasks = [TASKS[name] for name in (*golden["spearman"], "STSBenchmark-dev", "SICKRelatedness-dev")]
    cells = running.run(
        plan(tmp_path, ["minilm"], tasks=(*tasks, TASKS["SICKRelatedness-full"]), root=shared / "data" / "senteval")
    )
    found = {cell.task: cell.result for cell in cells}
    assert found["STS12"].encoder.weights_sha256 == golden["encoder_weights_sha256"]
    for task, values in golden["spearman"].items():
        for key, expected in values.items():
            if key in ("all", "mean", "wmean"):
                score = found[task].scores[f"spearman/{key}/test"]
            else:
                score = found[task if key == "test" else f"{task}-dev"].scores[f"spearman/all/{key}"]
            # 79 pairs of STS12 are one sentence twice. Their cosines are 1 up to float32 rounding, and rounding alone
            # ranks them: equally exact arithmetic gives a mean over subsets from 0.69997 to 0.70014, and torch 2.6 and
            # 2.10 give 0.72366 over all pairs where 2.13 and the golden file have 0.72371.
            loose = 2e-4 if key != "all" else 1e-5 if pinned else 1e-4
            tolerance = loose if task == "STS12" else 1e-5
            assert score == pytest.approx(expected, abs=tolerance), (task, key)
    assert found["SICKRelatedness-full"].scores["spearman/all/full"] == pytest.approx(0.77582, abs=1e-4)


def test_names_of_a_narrow_table_leave_out_what_most_have_in_common():
    names = [f"bert-whitening[backbone=tiny,fit={fit}]" for fit in ("mini-wiki", "mini-nli")]
    cards = [EncoderCard(name=name, method="bert-whitening", backbone="tiny", dim=4) for name in names]
    cells = [SimpleNamespace(encoder=card.name, result=SimpleNamespace(encoder=card)) for card in cards]
    failed = SimpleNamespace(encoder="hf:nowhere", result=None)
    labels, left_out = _labels([*cells, failed], 80)
    assert [*labels.values()] == ["bert-whitening [fit=mini-wiki]", "bert-whitening [fit=mini-nli]", "hf:nowhere"]
    assert left_out == ("backbone=tiny",)
    assert _labels(cells, 200) == ({name: name for name in names}, ())
