"""Training runs that something happens to: divergence, damaged files of our own, a full disk, a changed backbone."""

import errno
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from simcse_models import SETTINGS, make_job, random_bert, sentences
from typer.testing import CliRunner

from baselines.simcse import SIMCSE_UNSUP, checkpoint, encoders
from baselines.simcse.ablations import Masked, masked_loss, vocabulary_layer
from baselines.simcse.checkpoint import RunFolder, fingerprint
from baselines.simcse.data import DevScore, open_corpus
from baselines.simcse.recipe import train
from harness.cli.main import app
from harness.data.text import open_text
from harness.encoders.checkpoint import load_tokenizer
from harness.encoders.context import Context
from harness.encoders.registry import fill
from harness.encoders.repository import find_checkpoint
from harness.errors import EncoderError, ResultError, UsageError, WriteError
from harness.progress import silent

SHORT = replace(SETTINGS, max_steps=12, eval_every=5)


@pytest.fixture
def job(tmp_path):
    return make_job(tmp_path, SHORT, log_every=1, checkpoint_seconds=0.0)


def stopped(job, *, at=8):
    """The folder of a run that was interrupted in step `at`."""
    with pytest.raises(ZeroDivisionError):
        train(replace(job, progress=lambda what, done, total, *_: 1 / (done < at)))
    return job.folder / ".training"


def test_weights_that_are_not_finite_are_neither_evaluated_nor_saved(job):
    with pytest.raises(EncoderError) as caught:
        train(replace(job, settings=replace(SHORT, max_steps=1, eval_every=1, learning_rate=1e38)))
    assert str(caught.value) == (
        "step 1: the weights are not finite at learning rate 1e+38, expected a number; lower the learning rate or "
        "raise the temperature; last good checkpoint: none was written yet"
    )
    assert [path.name for path in (job.folder / ".training").iterdir()] == ["fingerprint"]
    assert not (job.folder / "model.safetensors").exists()


def test_an_undefined_dev_score_is_never_the_best(job, monkeypatch):
    undefined = DevScore(spearman=float("nan"), alignment=0.0, uniformity=0.0)
    monkeypatch.setattr(job.dev, "score", lambda model: undefined)
    with pytest.raises(EncoderError, match=r"^step 5: the score on made up dev is undefined at .* \(step 4"):
        train(job)


def test_the_log_is_json_whatever_is_undefined(tmp_path):
    RunFolder(tmp_path, {}).log({"step": 3, "dev_alignment": float("nan")})
    assert json.loads((tmp_path / "log.jsonl").read_text()) == {"step": 3, "dev_alignment": None}


def test_damaged_lines_of_the_log_are_cut(tmp_path):
    log = tmp_path / "log.jsonl"
    log.write_bytes(b'{"step": 1}\ngarbage\n[1]\nnull\n{}\n\xff\xfe\n{"step": 2}\n{"step": 9}\n{"step": 2')
    RunFolder(tmp_path, {}).cut_log(2)
    assert log.read_bytes() == b'{"step": 1}\n{"step": 2}\n'


DAMAGES = {
    "zeros": lambda content: content[:-100] + bytes(100),
    "cut": lambda content: content[:200],
    "another step": lambda content: content.replace(b'{\\"step\\": 8', b'{\\"step\\": 6'),
}


@pytest.mark.parametrize("how", DAMAGES)
def test_after_a_damaged_checkpoint_training_starts_anew(job, how, caplog):
    whole = replace(job, folder=job.folder.with_name("whole"))
    expected = train(whole)
    path = stopped(job) / "checkpoint.safetensors"
    content = path.read_bytes()
    assert DAMAGES[how](content) != content
    path.write_bytes(DAMAGES[how](content))
    found = train(job)
    (warning,) = caplog.messages
    assert warning.startswith(f"{path}: the checkpoint is damaged (") and warning.endswith("; training starts anew")
    assert found["files"] == expected["files"] and found["selected"] == expected["selected"]
    assert (job.folder / "log.jsonl").read_text().count("\n") == 13


@pytest.mark.parametrize("name", [None, "model.safetensors", "tokenizer.json", "selected.json"])
@pytest.mark.parametrize("late", [False, True])
def test_after_damaged_best_weights_training_starts_anew(job, name, late, caplog, monkeypatch):
    """Whether the damage is there when training goes on, or comes until it ends."""
    expected = train(replace(job, folder=job.folder.with_name("whole")))
    work = stopped(job)
    (best,) = work.glob("best-*")
    settle, done = RunFolder.settle, []

    def spoil():
        done.append(True)
        (damaged,) = work.glob("best-*")
        if name is None:
            shutil.rmtree(damaged)
        else:
            content = (damaged / name).read_bytes()
            (damaged / name).write_bytes(content[:-20].replace(b"5", b"6") + bytes(20))

    def settle_spoilt(folder, *arguments):
        if not done:
            spoil()
        return settle(folder, *arguments)

    if late:
        monkeypatch.setattr(RunFolder, "settle", settle_spoilt)
    else:
        spoil()
    assert train(job)["files"] == expected["files"]
    (warning,) = caplog.messages
    assert warning.startswith(str(work if name is None else best / name)[: len(str(work))])
    assert name is None or name in warning
    assert warning.endswith("; training starts anew")


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "card.json"])
@pytest.mark.parametrize("gone", [False, True])
def test_a_damaged_model_is_trained_anew_in_the_cache_and_refused_elsewhere(job, name, gone, caplog):
    expected = train(job)
    path = job.folder / name
    if gone:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes().replace(b"1", b"2"))
    with pytest.raises((ResultError, UsageError)) as caught:
        train(job)
    assert str(caught.value).startswith(f"{job.folder if gone and name == 'card.json' else path}: ")
    cached = replace(job, in_cache=True)
    assert train(cached)["files"] == expected["files"]
    (warning,) = caplog.messages
    assert warning.startswith(f"{path}: ") and warning.endswith("; the model is trained anew")
    assert train(cached)["files"] == expected["files"] and len(caplog.messages) == 1


def test_a_card_without_digests_is_not_believed(job, caplog):
    expected = train(job)
    card = {name: value for name, value in expected.items() if name not in ("files", "sha256")}
    (job.folder / "card.json").write_text(json.dumps(card))
    weights = job.folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-20] + bytes(20))
    with pytest.raises(ResultError):
        train(job)
    assert train(replace(job, in_cache=True))["files"] == expected["files"]
    assert caplog.messages == [
        f"{job.folder}/card.json: damaged or not ours, expected what the training wrote; the model is trained anew"
    ]


def test_an_unfinished_run_belongs_to_its_settings_before_its_first_checkpoint(job):
    late = replace(job, checkpoint_seconds=1e9)
    work = stopped(late, at=2)
    assert not (work / "checkpoint.safetensors").exists()
    with pytest.raises(UsageError) as caught:
        train(replace(late, settings=replace(SHORT, learning_rate=2e-3)))
    assert str(caught.value) == (
        f"{work}: an unfinished run of another backbone, data or settings, expected this run's; name another folder, "
        "or delete it"
    )
    train(late)


def test_a_finished_folder_without_its_weights_is_refused_and_one_with_left_overs_is_cleaned(job):
    train(job)
    (job.folder / ".training").mkdir()
    (job.folder / ".training" / "left").write_text("by a kill between the card and the cleaning")
    train(job)
    assert not (job.folder / ".training").exists()
    (job.folder / "model.safetensors").unlink()
    with pytest.raises(ResultError) as caught:
        train(job)
    assert str(caught.value) == (
        f"{job.folder / 'model.safetensors'}: cannot be read (No such file or directory), expected what the training "
        "wrote; mend it, name another folder, or train again in an empty one"
    )


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (SafetensorError("Error while serializing: No space left"), "Error while serializing: No space left"),
    ],
)
def test_a_full_disk_is_one_sentence(job, monkeypatch, error, reason):
    def save(*arguments, **named):
        raise error

    monkeypatch.setattr(checkpoint, "save_model", save)
    with pytest.raises(WriteError) as caught:
        train(job)
    assert str(caught.value) == (
        f"{job.folder}: cannot be written ({reason}); make room or give write permission, or name another folder"
    )


def test_a_disk_that_is_full_when_the_best_weights_are_copied_is_one_sentence(job, monkeypatch):
    def copy(source, target, *arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device", str(source))

    monkeypatch.setattr("shutil.copyfile", copy)
    with pytest.raises(WriteError, match=r"cannot be written \(No space left on device\); make room"):
        train(job)
    monkeypatch.undo()
    assert train(job)["files"]


def reopened(job, tmp_path, name="text.txt"):
    return open_corpus(open_text(tmp_path / name), load_tokenizer(job.backbone), SHORT, tmp_path / "cache", silent)


@pytest.mark.parametrize("how", ["empty", "cut", "changed"])
def test_a_damaged_file_of_token_ids_is_named_and_made_again(job, tmp_path, how, caplog):
    (path,) = (tmp_path / "cache" / "tokenized").iterdir()
    whole = path.read_bytes()
    damaged = {"empty": b"", "cut": whole[:-40], "changed": whole[:-4] + bytes([whole[-4] ^ 1]) + whole[-3:]}
    expected = job.corpus.gather(np.arange(60), 0)[0].tolist()
    path.unlink()
    path.write_bytes(damaged[how])
    assert reopened(job, tmp_path).gather(np.arange(60), 0)[0].tolist() == expected
    (warning,) = caplog.messages
    assert str(path) in warning and "it is made anew" in warning
    assert path.read_bytes() == whole


def test_the_same_bytes_under_another_ending_are_read_anew(job, tmp_path):
    text = "sentence\n" + "".join(f'"{a}, {b}"\n' for a, b in zip(sentences(9), sentences(9, seed=2), strict=True))
    for name in ("same.txt", "same.csv"):
        (tmp_path / name).write_text(text)
    assert len(reopened(job, tmp_path, "same.txt")) == 10
    assert len(reopened(job, tmp_path, "same.csv")) == 9


def test_the_configuration_of_a_folder_is_part_of_the_run_and_its_spelling_is_not(job, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = ("backbone", "./backbone", str(tmp_path / "backbone"))
    jobs = [replace(job, backbone=find_checkpoint(name, offline=True)) for name in names]
    assert len({fingerprint(one.identity()) for one in jobs}) == 1
    config = json.loads((tmp_path / "backbone" / "config.json").read_text())
    (tmp_path / "backbone" / "config.json").write_text(json.dumps(config | {"hidden_act": "relu"}))
    changed = replace(job, backbone=find_checkpoint("backbone", offline=True))
    assert fingerprint(changed.identity()) != fingerprint(jobs[0].identity())


def test_no_selected_token_still_gives_every_weight_a_gradient(tmp_path):
    from transformers import AutoModel

    backbone = random_bert(tmp_path / "backbone")
    model, layer = AutoModel.from_pretrained(backbone.folder, add_pooling_layer=False), vocabulary_layer(backbone)
    ids, none = torch.tensor([[2, 6, 7, 3]]), torch.zeros(0, dtype=torch.long)
    loss = masked_loss(model, layer, Masked(ids, torch.ones_like(ids), none, none))
    loss.backward()
    assert loss.item() == 0.0
    assert all(p.grad is not None and not p.grad.any() for m in (model, layer) for p in m.parameters())


@pytest.mark.parametrize("probability", [0.02, 0.3])
def test_a_resumed_run_with_the_auxiliary_loss_is_the_uninterrupted_one(job, probability):
    settings = replace(SHORT, mlm_weight=0.5, mlm_probability=probability, batch_size=2)
    whole, again = (replace(job, settings=settings, dev=None, folder=job.folder / name) for name in ("whole", "again"))
    train(whole)
    stopped(again, at=7)
    train(again)
    a, b = (load_file(one.folder / "model.safetensors") for one in (whole, again))
    assert all(torch.equal(a[key], b[key]) for key in a)


def job_of(tmp_path, **given):
    (tmp_path / "words.txt").write_text("\n".join(sentences(20)))
    changes = {"backbone": tmp_path / "bert", "data": tmp_path / "words.txt", "dev": "none", "batch_size": 4, **given}
    asked = fill(SIMCSE_UNSUP, {name: str(value) for name, value in changes.items()})
    return encoders.make_job(asked.parameters, Context(cache_dir=tmp_path / "cache", offline=True))


def test_a_length_beyond_the_models_is_refused(tmp_path):
    random_bert(tmp_path / "bert")
    with pytest.raises(UsageError) as caught:
        job_of(tmp_path, train_tokens=41)
    assert str(caught.value) == f"train_tokens=41: {tmp_path / 'bert'} reads 40 at the most; lower it"
    assert job_of(tmp_path, train_tokens=40).settings.train_tokens == 40


def test_a_backbone_without_a_tokenizer_is_refused(tmp_path):
    folder = random_bert(tmp_path / "bert").folder
    for path in [*folder.glob("tokenizer*"), folder / "vocab.txt"]:
        path.unlink(missing_ok=True)
    with pytest.raises(EncoderError) as caught:
        job_of(tmp_path)
    assert str(caught.value) == (
        f"{folder}: no tokenizer, expected one of tokenizer.json, vocab.txt, vocab.json, sentencepiece.bpe.model, "
        "spiece.model, tokenizer.model, spm.model, source.spm; copy the tokenizer's files there"
    )


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", "{", "config.json: damaged (Expecting property name"),
        ("config.json", "[]", "config.json: holds a list, expected an object of settings; copy it again"),
        ("model.safetensors", "no weights", "model.safetensors: damaged (Error while deserializing header"),
    ],
)
def test_a_damaged_backbone_is_one_sentence(tmp_path, name, content, message):
    folder = random_bert(tmp_path / "bert").folder
    (folder / name).write_text(content)
    with pytest.raises((UsageError, EncoderError)) as caught:
        train(job_of(tmp_path))
    assert message in str(caught.value) and "\n" not in str(caught.value)


def bench(tmp_path, *arguments):
    random_bert(tmp_path / "bert")
    (tmp_path / "text.txt").write_text("\n".join(sentences(40)))
    given = ["--backbone", tmp_path / "bert", "--data", tmp_path / "text.txt", "--cache-dir", tmp_path / "cache"]
    quick = ["--batch-size", "8", "--max-steps", "2", "--set", "dev=none", "--json"]
    return CliRunner().invoke(app, [str(a) for a in ["train", "simcse-unsup", *given, *quick, *arguments]])


def test_of_several_processes_the_first_one_prints(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    result = bench(tmp_path)
    assert (result.exit_code, result.stdout) == (0, "")


@pytest.mark.parametrize(("world", "rank"), [("2", None), ("many", "0")])
def test_half_of_torchruns_variables(tmp_path, monkeypatch, world, rank):
    monkeypatch.setenv("WORLD_SIZE", world)
    if rank is None:
        monkeypatch.delenv("RANK", raising=False)
    else:
        monkeypatch.setenv("RANK", rank)
    result = bench(tmp_path)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        f"bench: the environment has WORLD_SIZE={world} and RANK={rank or 'nothing'}, expected numbers as torchrun "
        "sets them; start with torchrun, or unset WORLD_SIZE\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "batch_size=5"], "--set batch_size=5: batch_size is given twice; drop one of them"),
        (["--seeds", "2", "--set", "seed=7"], "--set seed=7: seed is given twice; drop one of them"),
    ],
)
def test_what_is_given_twice_is_refused(tmp_path, arguments, message):
    result = bench(tmp_path, *arguments)
    assert (result.exit_code, result.stderr) == (2, f"bench: {message}\n")


def test_a_cache_that_cannot_be_made(tmp_path):
    (tmp_path / "cache").write_text("a file")
    result = bench(tmp_path)
    assert result.exit_code == 2
    place, refusal = result.stderr.removeprefix("bench: ").split(": ", 1)
    assert place.startswith(str(tmp_path / "cache" / "trained"))
    assert refusal == (
        "cannot be written (Not a directory); make room or give write permission, or name another folder\n"
    )


def test_a_folder_of_another_run_is_refused(tmp_path):
    train(make_job(tmp_path))
    with pytest.raises(UsageError) as caught:
        train(make_job(tmp_path, replace(SETTINGS, seed=3)))
    assert str(caught.value) == (
        f"{tmp_path / 'run'}: holds the finished run of another settings, expected this run's or nothing; name another "
        "folder"
    )


def test_a_checkpoint_of_another_backbone_is_refused(tmp_path):
    stopped = make_job(tmp_path, checkpoint_seconds=0.0, progress=lambda what, done, total, *_: 1 / (done < 20))
    with pytest.raises(ZeroDivisionError):
        train(stopped)
    random_bert(tmp_path / "backbone", seed=5)
    job = make_job(tmp_path)
    other = replace(job, backbone=random_bert(tmp_path / "other", seed=5))
    with pytest.raises(UsageError) as caught:
        train(other)
    assert str(caught.value) == (
        f"{tmp_path / 'run' / '.training'}: an unfinished run of another backbone, data or settings, expected this "
        "run's; name another folder, or delete it"
    )


def test_a_loss_that_is_not_a_number_stops_with_step_rate_and_checkpoint(tmp_path):
    job = make_job(tmp_path, replace(SETTINGS, temperature=1e-45, similarity="dot"), dev=False)
    with pytest.raises(EncoderError) as caught:
        train(job)
    assert str(caught.value) == (
        "step 1: the loss is nan at learning rate 0.001, expected a number; lower the learning rate or raise the "
        "temperature; last good checkpoint: none was written yet"
    )


@pytest.mark.parametrize("text", ["{bad", "{}", "[]"])
def test_a_card_that_is_not_ours(tmp_path, text):
    job = make_job(tmp_path)
    job.folder.mkdir()
    (job.folder / "card.json").write_text(text)
    with pytest.raises(ResultError) as caught:
        train(job)
    assert str(caught.value) == (
        f"{job.folder / 'card.json'}: damaged or not ours, expected what the training wrote; mend it, name another "
        "folder, or train again in an empty one"
    )


def test_a_folder_of_other_files_and_a_file_are_left_alone(tmp_path):
    job = make_job(tmp_path)
    job.folder.mkdir()
    (job.folder / "notes.txt").write_text("mine")
    with pytest.raises(UsageError) as caught:
        train(job)
    assert str(caught.value) == (
        f"{job.folder}: holds other files, expected a new folder or one of this run; name another with --output"
    )
    assert [path.name for path in job.folder.iterdir()] == ["notes.txt"]
    file = tmp_path / "text.txt"
    for folder in (file, file / "seed-0"):
        with pytest.raises(UsageError) as caught:
            train(replace(job, folder=folder))
        assert str(caught.value) == f"{file}: a file, expected a folder for the model; name another with --output"
