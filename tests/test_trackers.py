"""Trackers: what stands in a log or a result reaches them once, and changes nothing."""

import json
import logging

import pytest
from typer.testing import CliRunner

from harness.cli.main import app
from harness.integrations import trackers
from harness.integrations.trackers import FollowedLog

pytest.importorskip("accelerate")
pytest.importorskip("tensorboard")

CARD = {
    "settings": {"method": "simcse-unsup", "seed": 0},
    "backbone": {"name": "tiny"},
    "data": {"name": "text"},
    "fingerprint": "0123456789",
}


def call(*words):
    return CliRunner().invoke(app, [*map(str, words)])


def events(folder):
    """Every scalar of the event files below a folder, as (tag, step, value)."""
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = []
    for file in folder.rglob("events.*"):
        read = accumulators.EventAccumulator(str(file))
        read.Reload()
        found += [(tag, e.step, e.value) for tag in read.Tags()["scalars"] for e in read.Scalars(tag)]
    return sorted(found)


def scalars(log):
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return sorted((tag, line["step"], pytest.approx(v)) for line in lines for tag, v in line.items() if tag != "step")


def train(tmp_path, name, *more):
    words = ("train", "simcse-unsup", "--backbone", "tiny", "--max-steps", 12, "--batch-size", 4, "--offline", "-q")
    done = call(*words, "--output", tmp_path / name, *more)
    assert done.exit_code == 0, done.stderr
    return tmp_path / name


def test_a_training_is_tracked_and_its_weights_are_the_same(tmp_path):
    pytest.importorskip("wandb")
    tracked = ("--track", "tensorboard,wandb", "--track-dir", tmp_path / "tracking")
    with_, without = train(tmp_path, "with", *tracked), train(tmp_path, "without")
    assert (with_ / "model.safetensors").read_bytes() == (without / "model.safetensors").read_bytes()
    assert (with_ / "log.jsonl").read_bytes() == (without / "log.jsonl").read_bytes()
    assert events(tmp_path / "tracking") == scalars(with_ / "log.jsonl") != []
    assert [*(tmp_path / "tracking/wandb").glob("offline-run-*/*.wandb")]
    assert "0 lines sent" in call("log", with_, *tracked).stderr


def write(log, *steps):
    log.write_text("".join(json.dumps({"step": step, "loss": step / 2, "gap": None}) + "\n" for step in steps))


def test_a_resumed_training_repeats_no_step(tmp_path):
    log, folder = tmp_path / "log.jsonl", tmp_path / "tracking"
    write(log, 0, 10)
    with FollowedLog(["tensorboard"], folder, CARD, log) as first:
        assert first.follow() == 2
        write(log, 0, 10, 20)
        assert first.follow() == 1
        write(log, 0)  # training starts anew
        assert first.follow() == 0
    write(log, 0, 10)  # what the checkpoint has of it
    with FollowedLog(["tensorboard"], folder, CARD, log) as second:
        assert second.follow() == 0
        write(log, 0, 10, 20, 30)
        assert second.follow() == 1
    assert events(folder) == [("loss", step, step / 2) for step in (0, 10, 20, 30)]


def test_a_tracker_that_fails_ends_no_training(tmp_path, monkeypatch, caplog):
    class Broken:
        def log(self, values, step):
            raise OSError("no room")

        finish = log

    monkeypatch.setitem(trackers.TRACKERS, "broken", lambda *given: Broken())
    write(tmp_path / "log.jsonl", 0, 10)
    with (
        FollowedLog(["broken", "tensorboard"], tmp_path / "t", CARD, tmp_path / "log.jsonl") as log,
        caplog.at_level(logging.WARNING),
    ):
        log.follow()
    run = "simcse-unsup-tiny-0-01234567"
    assert caplog.messages == [f"{run}: broken failed with OSError: no room; it is sent nothing more"]
    assert len(events(tmp_path / "t")) == 2


def test_an_evaluation_sends_its_main_scores(tmp_path):
    words = ("run", "-t", "mini-sts", "-m", "random", "--offline", "--json", "--results-dir", tmp_path / "results")
    done = call(*words, "--track", "tensorboard", "--track-dir", tmp_path / "t")
    score = json.loads(done.stdout)[0]["result"]["scores"]["spearman/all/test"]
    assert events(tmp_path / "t") == [("mini-sts.sts/spearman/all/test", 0, pytest.approx(score))]


def test_what_cannot_be_tracked_is_one_sentence(tmp_path, monkeypatch):
    assert call("log", tmp_path).stderr == (
        f"bench: {tmp_path}: holds no finished training, expected card.json and log.jsonl as training writes them\n"
    )
    assert (
        "no tracker is named 'tensorbord'"
        in call("run", "-t", "mini-sts", "-m", "random", "--track", "tensorbord").stderr
    )
    monkeypatch.setattr(trackers, "find_spec", lambda package: None)
    assert call("log", tmp_path, "--track", "wandb").stderr == (
        "bench: --track wandb: the package wandb is not installed; install it with: pip install 'simcse-bench[wandb]'\n"
    )
