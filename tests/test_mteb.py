"""mteb both ways: our encoders and a local SentEval folder in mteb, mteb's models and results layout here."""

import json
from importlib.resources import files

import pytest
from report_cases import card, result
from test_published_tables import bench, sentence

import harness
from harness.errors import UsageError
from harness.integrations.imports import TASKS, read_mteb
from harness.integrations.mteb import Mteb, _local_task, data_digest, write_mteb
from harness.names import EncoderCard
from harness.tasks.suites import TASKS as OURS
from harness.tasks.suites import select

mteb = pytest.importorskip("mteb")

BAG = EncoderCard(name="bag-of-words", method="bag-of-words", parameters={"dim": 1024, "seed": 0}, dim=1024)
VALUES = {"STS12": 0.3551852345, "STSBenchmark": 0.51025611, "STSBenchmark-dev": 0.5, "SICKRelatedness-full": -0.25}


def results_of(encoder, values=VALUES):
    for task, value in values.items():
        split = OURS[task].split
        yield result(encoder, task, {f"spearman/all/{split}": value, f"pearson/all/{split}": value / 2})


def test_what_is_exported_is_read_by_mteb_and_comes_back_to_six_digits(tmp_path):
    minilm = card("minilm", backbone="sentence-transformers/all-MiniLM-L6-v2")
    left_out = result(BAG, "MR", {"accuracy/test": 0.5}, protocol="senteval[mode=test]")
    written = write_mteb([*results_of(BAG), *results_of(minilm), left_out], tmp_path)
    assert written.others == ("MR",) and len(written.files) == 6
    frame = mteb.ResultCache(tmp_path).load_results().to_dataframe().set_index("task_name")
    assert frame.loc["STS12", "simcse-bench/bag-of-words"] == 0.355185
    assert frame.loc["SICK-R", "sentence-transformers/all-MiniLM-L6-v2"] == -0.25
    numbers = read_mteb(tmp_path).numbers
    assert {n.spec for n in numbers} == {"bag-of-words", "minilm"} and {n.note for n in numbers} == {"SentEval copy"}
    found = {n.task: n.value for n in numbers if (n.spec, n.metric) == ("bag-of-words", "spearman")}
    assert found == {task: pytest.approx(100 * value, abs=5e-5) for task, value in VALUES.items()}


def test_an_export_names_our_data_and_hides_nothing_that_is_at_its_default(tmp_path):
    two = {"a.txt": "11", "b.txt": "22"}
    seeded = EncoderCard(name="bag-of-words[seed=1]", method="bag-of-words", parameters={"seed": 1}, dim=8)
    written = write_mteb(
        [result(one, "STS12", {"spearman/all/test": 0.1, "pearson/all/test": 0.2}, data=two) for one in (BAG, seeded)],
        tmp_path,
    )
    plain, hidden = written.files
    assert "experiments/seed_1" in hidden.as_posix() and "experiments" not in plain.as_posix()
    assert json.loads(plain.read_text())["dataset_revision"] == f"SentEval copy, sha256 {data_digest(two)}"
    assert json.loads((hidden.parent / "model_meta.json").read_text())["experiment_kwargs"] == {"seed": "1"}
    assert json.loads((plain.parent / "model_meta.json").read_text())["experiment_kwargs"] is None
    assert [n.spec for n in read_mteb(hidden).numbers] == ["bag-of-words[seed=1]"] * 2


def test_two_encoders_that_mteb_cannot_tell_apart_are_refused_before_anything_is_written(tmp_path):
    name = "org/model"
    one = card(f"hf:{name}", weights_sha256="ab", backbone=name)
    with pytest.raises(UsageError, match=r"hf:org/model would both be .*; export one of them with --models"):
        write_mteb([*results_of(one), *results_of(card("other", weights_sha256="ab", backbone=name))], tmp_path)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UsageError, match="none of the 1 results is of a task of mteb, expected STS12,"):
        write_mteb([result(BAG, "mini-sts", {"spearman/all/test": 0.1})], tmp_path)


def test_mtebs_own_class_scores_an_encoder_as_our_task_does(tmp_path, monkeypatch):
    """On the bundled pairs: STS12's place in mteb, the mini suite's sentences."""
    monkeypatch.setattr("harness.integrations.mteb.OUR_TASKS", {"STS12": OURS["mini-sts"]})
    from harness.data.locate import BUNDLED

    encoder = harness.load_encoder("bag-of-words", offline=True)
    (task,) = harness.mteb_tasks(BUNDLED, ["STS12"])
    found = mteb.evaluate(harness.as_mteb(encoder), [task], cache=None, show_progress_bar=False).task_results[0]
    ours = harness.evaluate("bag-of-words", tasks="mini-sts", offline=True)["mini-sts"]
    assert found.get_score() == pytest.approx(ours.scores["spearman/all/test"], abs=1e-6)
    assert found.scores["test"][0]["cosine_pearson"] == pytest.approx(ours.scores["pearson/all/test"], abs=1e-6)
    assert found.dataset_revision.startswith("SentEval copy, sha256 ")
    assert mteb.get_task("STS12").metadata.revision == "a0d554a64d88156834ff5ae9920b964011b16384"  # theirs is as it was


def test_what_mteb_cannot_do_is_one_sentence(shared):
    target = harness.load_encoder("bert-whitening[backbone=tiny,fit=target]", offline=True)
    with pytest.raises(UsageError, match="fitted per task, which mteb cannot do; name an encoder that is not"):
        harness.as_mteb(target)
    with pytest.raises(UsageError, match="no task of mteb is named 'STS17'; did you mean 'STS1"):
        harness.mteb_tasks(shared, ["STS17"])
    assert Mteb().counterpart(OURS["SICKRelatedness"]) == "mteb has no task SICKRelatedness"
    assert Mteb().counterpart(OURS["MR"]) == "mteb has no task MR"
    assert Mteb().counterpart(OURS["STSBenchmark-dev"]) == "mteb has no task STSBenchmark-dev"  # of v1, the test set


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.parametrize("name", TASKS)
def test_local_pairs_are_those_that_mteb_describes(shared, name):
    known = json.loads((files("mteb") / f"descriptive_stats/STS/{name}.json").read_text())
    task = _local_task(name, shared / "data/senteval")
    task.load_data()
    for split, facts in known.items():
        pairs = task.dataset[split]
        assert len(pairs) == facts["num_samples"]
        both = set(zip(pairs["sentence1"], pairs["sentence2"], strict=True))
        assert len(both) == pytest.approx(facts["unique_pairs"], abs=2)
        assert sum(pairs["score"]) / len(pairs) == pytest.approx(facts["label_statistics"]["avg_score"], abs=1e-6)


def test_a_model_of_mteb_is_an_encoder_with_the_prompt_of_a_task():
    name = "mteb:mteb/baseline-random-encoder"
    found = harness.evaluate(name, tasks="mini-sts", offline=True)
    (one,) = found
    assert one.encoder.name == name and one.encoder.method == "mteb" and one.encoder.dim > 1
    assert one.encoder.content["mteb task"] == "STSBenchmark" and one.encoder.revision
    prompted = harness.load_encoder(f"{name}[task=STS12,prompt=query]", offline=True)
    assert prompted.card.identity != one.encoder.identity
    assert prompted.card.name == f"{name}[task=STS12,prompt=query]"


def test_a_model_gets_the_prompt_that_mteb_gives_it(monkeypatch, bert_folder, tmp_path):
    import numpy as np
    from mteb.models import SentenceTransformerEncoderWrapper
    from sentence_transformers import SentenceTransformer, models

    modules = models.Transformer(str(bert_folder)), models.Pooling(16)
    own = SentenceTransformer(modules=modules, prompts={"STS12": "the cat "}, device="cpu")
    meta = mteb.get_model_meta("mteb/baseline-random-encoder").model_copy(
        update={"embed_dim": 16, "loader": lambda *a, **k: SentenceTransformerEncoderWrapper(own), "loader_kwargs": {}}
    )
    monkeypatch.setattr(mteb, "get_model_meta", lambda *args, **options: meta)
    plain, prompted = (
        harness.load_encoder(f"mteb:org/model{task}", offline=True, cache_dir=tmp_path).encode(["a dog"])
        for task in ("", "[task=STS12]")
    )
    assert np.allclose(plain, own.encode(["a dog"]), atol=1e-6)
    assert np.allclose(prompted, own.encode(["the cat a dog"]), atol=1e-6) and not np.allclose(plain, prompted)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("mteb:no/such-model", "mteb:no/such-model: mteb does not know it ("),
        ("mteb:mteb/baseline-random-encoder[task=STS99]", "[task=STS99]: mteb does not know it ("),
        ("mteb:nvidia/NV-Embed-v2", "mteb:nvidia/NV-Embed-v2: needs code of its own, which is never run"),
    ],
)
def test_models_that_cannot_be_had_are_one_sentence(spec, said, tmp_path):
    done = bench("run", "--models", spec, "--tasks", "mini-sts", "--results-dir", tmp_path, "--offline", "--quiet")
    assert done.exit_code == 2 and said in done.stderr


def test_the_command_writes_what_it_is_told(tmp_path):
    harness.evaluate(["random", "bag-of-words"], tasks="mini-sts", results_dir=tmp_path / "results", offline=True)
    where = ["--results-dir", tmp_path / "results", "--output", tmp_path / "mteb"]
    assert sentence(bench("export", "results", *where)).startswith(
        "none of the 2 results is of a task of mteb, expected"
    )
    assert sentence(bench("export", "results", "--models", "randon", *where)).endswith("; did you mean 'random'?")
    assert sentence(bench("export", "results", "--format", "mtebb", *where)).endswith("; did you mean 'mteb'?")
    assert [task.name for task in select(["sts-mteb-v2"], [])] == [
        *(f"STS{year}" for year in range(12, 17)),
        "STSBenchmark.v2",
        "SICKRelatedness-full",
    ]
