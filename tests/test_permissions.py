"""What may not be read is said to be so, and never taken for missing; a cache that may not be used costs only time."""

import json
import shutil

import pytest
from conftest import as_ordinary_user, make_bert
from typer.testing import CliRunner

from harness.cli.main import app

SENTENCE = "cannot be read (Permission denied); check the path and its permissions"
TRAIN = "simcse-unsup[backbone=tiny,data=mini-wiki,batch_size=8,max_steps=2,eval_every=2]"


def bench(*words):
    """A command whose user is bound by permissions; its exit code, and the last line that it told."""
    with as_ordinary_user():
        done = CliRunner().invoke(app, [str(word) for word in words])
    assert isinstance(done.exception, SystemExit | None), done.exc_info
    return done.exit_code, (done.stderr.splitlines() or [""])[-1], done.stdout


def run(model, folder):
    words = ("run", "-q", "-t", "mini-sts", "-m", model, "--results-dir", folder / "results")
    return bench(*words, "--cache-dir", folder / "cache")


@pytest.fixture
def forbid():
    """Takes every permission from files and folders; they have them back at the end."""
    changed = {}

    def forbid(path):
        changed[path] = path.stat().st_mode
        path.chmod(0)
        return path

    yield forbid
    for path, mode in reversed(changed.items()):
        if path.exists():
            path.chmod(mode)


@pytest.fixture
def results(tmp_path):
    for model in ("random", "bag-of-words"):
        assert run(model, tmp_path)[0] == 0
    return tmp_path / "results"


@pytest.mark.parametrize("name", ["", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "card.json"])
def test_a_model_folder(tmp_path, forbid, name):
    folder = make_bert(tmp_path / "model")
    (folder / "card.json").write_text("{}")
    forbid(folder / name)
    found = folder / (name or "card.json")
    assert run(f"hf:{folder}[pooling=avg]", tmp_path)[:2] == (2, f"bench: {found}: {SENTENCE}")


@pytest.mark.parametrize("name", ["texts", "texts/words.json"])
def test_a_name_that_may_not_be_looked_up_is_not_unknown(tmp_path, write, forbid, name):
    text = write("words.txt", "one\ntwo\nthree\n")
    assert bench("data", "add", "words", text, "--cache-dir", tmp_path / "cache")[0] == 0
    forbid(tmp_path / "cache" / name)
    code, told, _ = run("bert-whitening[backbone=tiny,fit=words]", tmp_path)
    assert (code, told) == (2, f"bench: {tmp_path}/cache/texts/words.json: {SENTENCE}")


def test_the_text_behind_a_name(tmp_path, write, forbid):
    text = write("words.txt", "one\ntwo\nthree\n")
    assert bench("data", "add", "words", text, "--cache-dir", tmp_path / "cache")[0] == 0
    forbid(text)
    assert run("bert-whitening[backbone=tiny,fit=words]", tmp_path)[:2] == (2, f"bench: {text}: {SENTENCE}")


def test_results_are_left_out_aloud(tmp_path, results, forbid):
    (folder,) = results.glob("random*")
    forbid(folder)
    told = f"bench: left out: {folder}/encoder.json: {SENTENCE} ({folder.name} is left out)"
    for words in (
        ("compare", "random", "bag-of-words"),
        ("claims",),
        ("claims", "--json"),
        ("power", "--gain", 1, "--encoder", "bag-of-words", "--tasks", "mini-sts"),
        ("plot", "scores", "--table", "mini", "--output", tmp_path / "figures"),
    ):
        with as_ordinary_user():
            done = CliRunner().invoke(app, [*map(str, words), "--results-dir", str(results)])
        assert told in done.stderr.splitlines(), words


def test_items_that_may_not_be_read_are_not_called_damaged(results, forbid):
    items = forbid(next(results.glob("random*/*.parquet")))
    code, told, _ = bench("results", "check", "--results-dir", results)
    assert (code, told) == (1, f"bench: {items}: {SENTENCE}")


def test_an_index_that_may_not_be_read(tmp_path, results, forbid):
    index = forbid(results / "index.csv")
    code, told, _ = bench("results", "check", "--results-dir", results)
    assert (code, told) == (1, f"bench: {index}: {SENTENCE}")
    assert bench("run", "-q", "-t", "mini-sts", "-m", "random", "--force", "--results-dir", results)[0] == 0
    assert len(index.read_text().splitlines()) == 3


def test_cache_info_says_what_it_cannot_see(tmp_path, forbid):
    shard = tmp_path / "fits" / "deep"
    shard.mkdir(parents=True)
    (shard / "x").write_bytes(bytes(2**20))
    forbid(shard)
    (kind,) = json.loads(bench("cache", "info", "--json", "--cache-dir", tmp_path)[2])["kinds"]
    assert kind["what"].endswith(f"; not all can be read ({shard}: Permission denied)")


@pytest.mark.parametrize("name", ["", "trained", "tokenized"])
def test_a_training_costs_time_in_a_cache_that_may_not_be_written(tmp_path, name):
    whole, bound = tmp_path / "whole", tmp_path / "bound"
    expected = run(TRAIN, whole)
    place = bound / "cache" / name
    place.mkdir(parents=True)
    place.chmod(0o500)
    found = run(TRAIN, bound)
    place.chmod(0o700)
    assert found[0] == 0 and found[2] == expected[2]
    assert not any(place.iterdir())
    shutil.rmtree(tmp_path)


def test_a_finished_training(tmp_path, forbid):
    words = ("train", "-q", TRAIN, "--output", tmp_path / "model", "--cache-dir", tmp_path / "cache")
    assert bench(*words)[0] == 0
    forbid(tmp_path / "model" / "config.json")
    assert bench(*words)[:2] == (
        2,
        f"bench: {tmp_path}/model/config.json: cannot be read (Permission denied), expected what the training wrote; "
        "mend it, name another folder, or train again in an empty one",
    )


def test_the_record_of_a_training(tmp_path, forbid):
    pytest.importorskip("tensorboard")
    (tmp_path / "card.json").write_text("{}")
    (tmp_path / "log.jsonl").write_text("")
    forbid(tmp_path / "card.json")
    assert bench("log", tmp_path)[:2] == (2, f"bench: {tmp_path}/card.json: {SENTENCE}")
