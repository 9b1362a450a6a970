"""Every kind of stored file, damaged in every way: it is named and made anew, or refused; never another number."""

import shutil
import sys
from pathlib import Path

import pytest

from harness import storage
from harness.encoders.context import Context
from harness.studies.plan import Rates, note_rate

sys.path.insert(0, str(Path(__file__).parent))
from damage import DAMAGES, Place, bench, damage, files_below

pytestmark = pytest.mark.slow

_TRAIN = "simcse-unsup[backbone=tiny,data=mini-wiki,batch_size=8,max_steps=4,eval_every=2,seed=1]"
MODELS = {  # kind of stored thing -> the encoder that reads it
    "embeddings": "bert[backbone=tiny]",
    "fits": "bert-whitening[backbone=tiny,fit=mini-wiki]",
    "vectors": "avg-glove[backbone=tiny]",
    "tokenized": _TRAIN,
    "trained": _TRAIN,
}
ELSEWHERE = {
    "texts": "test_a_name_of_a_text",
    "locks": "test_locks_hold_nothing",
    "senteval": "the digests of the manifest; tests/test_data.py",
    "rates": "test_damaged_rates_are_passed_by",
    "glove": "the archive is checked when its text is read; tests/test_vectors.py",
}


def test_every_kind_of_stored_thing_is_damaged_here():
    assert {*MODELS, *ELSEWHERE} == set(storage.KINDS)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A cache with one of everything, and the scores of each model."""
    place = Place(tmp_path_factory.mktemp("whole"))
    scores = {kind: place.score(model)[1] for kind, model in MODELS.items()}
    assert all(scores.values())
    return place, scores


def judged(outcome, found, expected):
    """The same scores, or a refusal in a sentence."""
    assert not outcome.traceback, outcome.stderr
    if found is None:
        assert outcome.code in (1, 2)
        assert "bench: " in outcome.stderr or '"error": "' in outcome.stdout
    else:
        assert found == expected


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("kind", MODELS)
def test_a_damaged_file_of_the_cache_changes_no_score(whole, tmp_path, kind, how):
    place, scores = whole
    for number, path in enumerate(files_below(place.cache / kind)):
        again = Place(tmp_path / str(number))
        shutil.copytree(place.cache, again.cache)
        if kind in ("fits", "vectors", "tokenized", "trained"):
            shutil.rmtree(again.cache / "embeddings")  # stored vectors would hide what they were made from
        if kind == "tokenized":
            shutil.rmtree(again.cache / "trained")
        damage(again.cache / path.relative_to(place.cache), how)
        outcome, found = again.score(MODELS[kind])
        judged(outcome, found, scores[kind])
        if found is not None:  # and it was mended, not only passed by
            assert again.score(MODELS[kind])[1] == scores[kind]
        shutil.rmtree(again.folder)


@pytest.mark.parametrize("how", DAMAGES)
def test_a_name_of_a_text(tmp_path, how):
    place = Place(tmp_path)
    text = tmp_path / "words.txt"
    text.write_text("\n".join(f"sentence number {i} is about the letter {chr(97 + i % 26)}" for i in range(300)))
    assert bench("data", "add", "words", text, "--cache-dir", place.cache).code == 0
    model = "bert-whitening[backbone=tiny,fit=words]"
    expected = place.score(model)[1]
    for path in files_below(place.cache / "texts"):
        damage(path, how)
        judged(*place.score(model), expected)


@pytest.mark.parametrize("how", [*DAMAGES, "not UTF-8", "another type"])
def test_damaged_rates_are_passed_by(tmp_path, how):
    context = Context(cache_dir=tmp_path)
    note_rate(context, kind="fit", what="flow", units=10, seconds=1.5)
    path = tmp_path / "rates" / "rates.jsonl"
    if how in DAMAGES:
        damage(path, how)
    else:
        text = path.read_bytes()
        path.write_bytes(b"\xff" + text if how == "not UTF-8" else text.replace(b"1.5", b'"x"'))
    assert Rates(context).seconds("fit", "flow", 20) in (None, 3.0) or how == "a bit"  # a plan's guess, never a score


@pytest.mark.parametrize("how", DAMAGES)
def test_locks_hold_nothing(whole, tmp_path, how):
    place, scores = whole
    again = Place(tmp_path)
    shutil.copytree(place.cache, again.cache)
    locks = [path for path in again.cache.rglob("*") if path.is_file() and "lock" in path.as_posix()]
    for path in locks:
        damage(path, how)
    for kind, model in MODELS.items():
        judged(*again.score(model), scores[kind])


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_result_is_named_and_computed_again(tmp_path, how):
    place = Place(tmp_path)
    results = tmp_path / "results"
    expected = place.score("bert[backbone=tiny]", results)[1]
    place.score("random", results)
    shutil.copytree(results, tmp_path / "whole")
    for path in files_below(results, most=20):
        damage(path, how)
        report = bench("report", "-q", "--results-dir", results, "--cache-dir", place.cache, "--output", tmp_path / "r")
        assert not report.traceback, (path, report.stderr)
        judged(*place.score("bert[backbone=tiny]", results), expected)
        shutil.rmtree(results)
        shutil.copytree(tmp_path / "whole", results)


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_checkpoint_of_a_training_does_not_change_the_weights(tmp_path, how, monkeypatch):
    """A training is interrupted after its first checkpoint, which is then damaged: the rest ends as if it never was."""
    from baselines.simcse import recipe

    place = Place(tmp_path)
    expected = place.score(_TRAIN)[1]
    trained = place.cache / "trained"
    shutil.rmtree(trained)
    _interrupt_after_the_first_checkpoint(monkeypatch, recipe)
    assert place.score(_TRAIN)[0].code == 130
    monkeypatch.undo()
    shutil.copytree(trained, tmp_path / "interrupted")
    for number, path in enumerate(files_below(tmp_path / "interrupted", most=8)):
        shutil.rmtree(trained)
        shutil.copytree(tmp_path / "interrupted", trained)
        shutil.rmtree(place.cache / "embeddings", ignore_errors=True)
        damage(trained / path.relative_to(tmp_path / "interrupted"), how)
        judged(*place.score(_TRAIN), expected), number


def _interrupt_after_the_first_checkpoint(monkeypatch, recipe):
    evaluate = recipe._Run.evaluate

    def interrupted(run):
        evaluate(run)  # keeps the best weights
        run.save()
        raise KeyboardInterrupt

    monkeypatch.setattr(recipe._Run, "evaluate", interrupted)
