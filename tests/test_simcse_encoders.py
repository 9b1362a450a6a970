"""The registry's entries: what is trained, what is loaded, and what the card says."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from simcse_models import random_bert, sentences
from transformers import AutoModel, AutoTokenizer

from baselines.simcse import SIMCSE_SUP, SIMCSE_UNSUP, encoders
from baselines.simcse.encoders import train_spec
from baselines.simcse.settings import SimcseSup, SimcseUnsup, published
from harness.encoders.context import Context
from harness.encoders.export import export
from harness.encoders.protocol import embed
from harness.encoders.registry import build, fill
from harness.encoders.training import TrainingOptions
from harness.errors import UsageError

TEXTS = ["the cat sees a dog", "a bird", "the old tree"]


def specification(entry, **given):
    return fill(entry, {key: str(value) for key, value in given.items()})


def folder_and_data(tmp_path, entry):
    random_bert(tmp_path / "bert")
    texts = sentences(40)
    if entry is SIMCSE_UNSUP:
        (tmp_path / "data.txt").write_text("\n".join(texts))
        return tmp_path / "bert", tmp_path / "data.txt"
    rows = ["sent0,sent1,hard_neg", *(f"{a},{b},{c}" for a, b, c in zip(texts, texts[1:], texts[2:], strict=False))]
    (tmp_path / "data.csv").write_text("\n".join(rows))
    return tmp_path / "bert", tmp_path / "data.csv"


@pytest.mark.parametrize("entry", [SIMCSE_UNSUP, SIMCSE_SUP], ids=lambda entry: entry.name)
def test_it_is_trained_once_and_pooled_as_the_method_says(tmp_path, monkeypatch, entry):
    backbone, data = folder_and_data(tmp_path, entry)
    context = Context(cache_dir=tmp_path / "cache", offline=True)
    spec = specification(entry, backbone=backbone, data=data, dev="none", batch_size=8, max_steps=3, seed=5)
    encoder = spec.build(context)
    x = embed(encoder, TEXTS)
    trained_on = encoder.card.trained_on
    assert trained_on.startswith(f"{data.name}@") and encoder.card.parameters["learning_rate"] > 0
    shown = spec.spec.replaced(backbone=encoder.card.parameters["backbone"], data=trained_on)
    assert encoder.card.name == str(shown) and "/" not in str(shown) and encoder.card.seed == 5
    assert encoder.card.backbone == backbone.name and encoder.card.parameters["data"] == trained_on
    folder = encoder.backbone.checkpoint.folder
    tokens = AutoTokenizer.from_pretrained(folder)(TEXTS, padding=True, return_tensors="pt")
    with torch.inference_mode():
        output = AutoModel.from_pretrained(folder).eval()(**tokens)
    expected = output.last_hidden_state[:, 0] if entry is SIMCSE_UNSUP else output.pooler_output
    assert np.allclose(x, expected.numpy(), atol=1e-5)
    monkeypatch.setattr(encoders, "train", lambda job: json.loads((job.folder / "card.json").read_text()))
    assert np.array_equal(embed(spec.build(context), TEXTS), x)


def test_the_first_sentences_of_a_text_are_a_text_of_their_own(tmp_path):
    backbone, data = folder_and_data(tmp_path, SIMCSE_UNSUP)
    context = Context(cache_dir=tmp_path / "cache", offline=True)
    (tmp_path / "head.txt").write_text("\n".join(data.read_text().splitlines()[:9]))
    given = dict(backbone=backbone, dev="none", batch_size=3, max_steps=2, seed=5)
    first = specification(SIMCSE_UNSUP, data=data, sentences=9, **given).build(context)
    alone = specification(SIMCSE_UNSUP, data=tmp_path / "head.txt", **given).build(context)
    assert np.array_equal(embed(first, TEXTS), embed(alone, TEXTS))
    assert first.card.trained_on.partition("@")[2] == alone.card.trained_on.partition("@")[2]
    assert "sentences=9" in first.card.name
    backbone, data = folder_and_data(tmp_path / "sup", SIMCSE_SUP)
    with pytest.raises(UsageError, match="columns of sentences, expected one sentence a line"):
        specification(SIMCSE_SUP, backbone=backbone, data=data, sentences=9).build(context)


def test_the_trainer_tells_where_and_how(tmp_path):
    backbone, data = folder_and_data(tmp_path, SIMCSE_SUP)
    spec = specification(SIMCSE_SUP, backbone=backbone, data=data, dev="mini", batch_size=8, max_steps=4, eval_every=2)
    context = Context(cache_dir=tmp_path / "cache", offline=True)
    told = train_spec(spec, context, TrainingOptions(output=tmp_path / "out"))
    assert told.folder == tmp_path / "out" and told.selected_step in (2, 4) and told.steps == 4
    assert told.card["selected"] == {"step": told.selected_step, "dev_spearman": told.dev_spearman}
    assert (tmp_path / "out" / "model.safetensors").is_file()


@pytest.mark.parametrize(("entry", "pooler"), [(SIMCSE_UNSUP, "cls"), (SIMCSE_SUP, "cls"), (SIMCSE_UNSUP, "avg")])
def test_sentence_transformers_opens_what_was_trained(tmp_path, entry, pooler):
    """With CLS, and the head where it belongs to evaluation; `bench run` reads the folder the same way."""
    from sentence_transformers import SentenceTransformer

    backbone, data = folder_and_data(tmp_path, entry)
    spec = specification(entry, backbone=backbone, data=data, dev="mini", batch_size=8, max_steps=2, pooler=pooler)
    context = Context(cache_dir=tmp_path / "cache", offline=True)
    folder = train_spec(spec, context, TrainingOptions(output=tmp_path / "out")).folder
    expected = embed(spec.build(context), TEXTS)
    assert np.allclose(SentenceTransformer(str(folder), device="cpu").encode(TEXTS), expected, atol=1e-5)
    again = build(f"hf:{folder}", context)
    assert again.pooling == spec.build(context).pooling and np.allclose(embed(again, TEXTS), expected, atol=1e-6)
    (folder / "card.json").unlink()
    assert np.allclose(embed(build(f"hf:{folder}", context), TEXTS), expected, atol=1e-5)


def test_modules_that_somebody_changed_are_what_counts(tmp_path):
    backbone, data = folder_and_data(tmp_path, SIMCSE_UNSUP)
    spec = specification(SIMCSE_UNSUP, backbone=backbone, data=data, dev="none", batch_size=8, max_steps=2)
    context = Context(cache_dir=tmp_path / "cache", offline=True)
    folder = train_spec(spec, context, TrainingOptions(output=tmp_path / "out")).folder
    modules = json.loads((folder / "modules.json").read_text())
    added = {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"}
    (folder / "modules.json").write_text(json.dumps([*modules, added]))
    assert np.allclose(np.linalg.norm(embed(build(f"hf:{folder}", context), TEXTS), axis=1), 1.0, atol=1e-5)


def test_a_trained_folder_says_what_it_is(tmp_path):
    backbone, data = folder_and_data(tmp_path, SIMCSE_UNSUP)
    spec = specification(
        SIMCSE_UNSUP, backbone=backbone, data=data, dev="mini", batch_size=8, max_steps=2, eval_every=1
    )
    context = Context(cache_dir=tmp_path / "cache", offline=True)
    told = train_spec(spec, context, TrainingOptions(output=tmp_path / "out"))
    text = (told.folder / "README.md").read_text()
    assert f"# simcse-unsup on {backbone.name}\n" in text
    assert f"- training text: data.txt, 40 examples, sha256 {told.card['data']['sha256']}\n" in text
    assert f"the best on mini dev with a Spearman correlation of {100 * told.dev_spearman:.2f} (x 100)\n" in text
    assert "| batch_size | 8 |\n" in text and "- licence: " in text and "bench run --models hf:FOLDER" in text
    again = export(build(f"hf:{told.folder}", context), tmp_path / "again", "sentence-transformers")
    assert (
        f"- training text: data.txt, 40 examples, sha256 {told.card['data']['sha256']}\n"
        in (again / "README.md").read_text()
    )
    tensors = load_file(told.folder / "model.safetensors")
    changed = shutil.copytree(told.folder, tmp_path / "changed")
    save_file({k: v * 1.5 for k, v in tensors.items()}, changed / "model.safetensors", metadata={"format": "pt"})
    other = export(build(f"hf:{changed}", context), tmp_path / "other", "sentence-transformers")
    assert "training text" not in (other / "README.md").read_text()  # the card is of other weights
    for folder in (told.folder, again):
        written = [path for path in folder.rglob("*") if path.is_file()]
        assert len(written) > 5 and not [path for path in written if str(tmp_path).encode() in path.read_bytes()]


def test_settings_of_a_plain_name_are_the_published_ones():
    for entry in (SIMCSE_UNSUP, SIMCSE_SUP):
        for backbone in ("bert-base-uncased", "roberta-large", "tiny"):
            method = SimcseUnsup if entry is SIMCSE_UNSUP else SimcseSup
            asked = specification(entry, backbone=backbone)
            assert asked.parameters == method(backbone=backbone) and set(asked.spec.given) <= {"backbone"}
    changed = published(specification(SIMCSE_UNSUP, learning_rate=1e-4, train_tokens=64, dropout=0.2).parameters)
    assert changed == replace(published(SimcseUnsup()), learning_rate=1e-4, train_tokens=64, dropout=0.2)


@pytest.mark.parametrize(
    ("given", "released"),
    [
        ({}, True),
        ({"max_tokens": 64}, True),
        ({"weights": "trained"}, False),
        ({"seed": 1}, False),
        ({"backbone": "tiny"}, False),
        ({"backbone": "roberta-large", "weights": "released"}, True),
    ],
)
def test_released_weights_are_for_the_published_run_alone(given, released):
    asked = specification(SIMCSE_UNSUP, **given)
    assert encoders._wants_release(asked.spec, asked.parameters) is released


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"weights": "released", "seed": 1},
            "simcse-unsup[weights=released,seed=1]: weights=released goes with no training parameter, found seed; "
            "drop one",
        ),
        (
            {"weights": "released", "backbone": "tiny"},
            "simcse-unsup[backbone=tiny,weights=released]: released are the backbones bert-base-uncased, "
            "bert-large-uncased, roberta-base, roberta-large, found tiny; use weights=trained",
        ),
    ],
)
def test_what_was_not_released(given, message):
    with pytest.raises(UsageError) as caught:
        specification(SIMCSE_UNSUP, **given).build(Context(cache_dir=Path()))
    assert str(caught.value) == message


def test_what_was_released_is_trained_under_the_name_that_finds_it(tmp_path, monkeypatch):
    jobs = []

    def make_job(settings, context, options):
        jobs.append(settings)
        return encoders.Job(settings=settings, backbone=None, corpus=None, dev=None, folder=options.output)

    card = {"steps": 1, "selected": {"step": 1, "dev_spearman": None}, "data": {"rows": 2, "blank": 0}}
    monkeypatch.setattr(encoders, "make_job", make_job)
    monkeypatch.setattr(encoders, "train", lambda job: card)
    context = Context(cache_dir=tmp_path / "cache")
    given = {name: specification(SIMCSE_UNSUP, **changes) for name, changes in (("plain", {}), ("seed", {"seed": 1}))}
    options = TrainingOptions(output=tmp_path / "out")
    told = {name: train_spec(spec, context, options).model for name, spec in given.items()}
    assert told == {"plain": "simcse-unsup[weights=trained]", "seed": "simcse-unsup[seed=1]"}
    assert [(settings.weights, settings.seed) for settings in jobs] == [("trained", 42), ("auto", 1)]
    assert not (tmp_path / "out").exists()  # the lock is beside the folder
    with pytest.raises(UsageError) as caught:
        train_spec(specification(SIMCSE_UNSUP, weights="released"), context, TrainingOptions())
    assert str(caught.value) == (
        "simcse-unsup[weights=released]: released weights are not trained here; drop weights=released"
    )


@pytest.mark.parametrize(("entry", "pooling"), [(SIMCSE_UNSUP, "cls_before_pooler"), (SIMCSE_SUP, "cls")])
def test_the_release_is_loaded_with_its_pooling(tmp_path, monkeypatch, entry, pooling):
    asked = []

    def find(repository, *, offline):
        asked.append(repository)
        return random_bert(tmp_path / "bert")

    monkeypatch.setattr(encoders, "find_checkpoint", find)
    encoder = specification(entry, backbone="roberta-base").build(Context(cache_dir=tmp_path))
    assert encoder.pooling == pooling
    assert asked == [f"princeton-nlp/{entry.name.removeprefix('simcse-')}-simcse-roberta-base"]
