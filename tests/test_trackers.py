"""Trackers: what stands in a log or a result reaches them once, and changes nothing."""

import json
import logging
import sqlite3
import subprocess
import sys
from contextlib import closing

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


def mlflow_events(folder):
    """Every metric of the runs in a folder, as (tag, step, value)."""
    mlflow = pytest.importorskip("mlflow")
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
    metrics = [m for run in runs for tag in run.data.metrics for m in client.get_metric_history(run.info.run_id, tag)]
    return sorted((metric.key, metric.step, metric.value) for metric in metrics)


def trackio_events(folder):
    """Every number that trackio's database holds, as (tag, step, value)."""
    with closing(sqlite3.connect(folder / "trackio" / f"{trackers.PROJECT}.db")) as database:
        lines = database.execute("SELECT step, metrics FROM metrics").fetchall()
    return sorted((tag, step, value) for step, values in lines for tag, value in json.loads(values).items())


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


FOLLOW = """
import sys
from pathlib import Path
from harness.integrations.trackers import FollowedLog
tracker, folder, steps, card = sys.argv[1], Path(sys.argv[2]), *map(json.loads, sys.argv[3:])
log = folder / "log.jsonl"
log.write_text("".join(json.dumps({"step": step, "loss": step / 2, "gap": None}) + chr(10) for step in steps))
with FollowedLog([tracker], folder, card, log) as followed:
    print(followed.follow())
"""


@pytest.mark.slow
@pytest.mark.parametrize(("tracker", "read"), [("mlflow", mlflow_events), ("trackio", trackio_events)])
def test_one_run_of_a_database_goes_on_in_another_process(tmp_path, tracker, read):
    pytest.importorskip(tracker)  # which keeps its folder as long as the process lasts
    for steps, sent in (([0, 10], "2"), ([0, 10, 20], "1")):
        words = [sys.executable, "-c", f"import json{FOLLOW}", tracker, tmp_path, json.dumps(steps), json.dumps(CARD)]
        done = subprocess.run([*map(str, words)], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == sent  # trackers print nothing there
    assert read(tmp_path) == [("loss", step, step / 2) for step in (0, 10, 20)]


def test_a_tracker_that_fails_ends_no_training(tmp_path, monkeypatch, caplog):
    class Broken:
        def log(self, values, step):
            raise OSError("no room\nsee https://disk")

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


def test_a_folder_that_trackers_cannot_write_to_ends_no_work(tmp_path, caplog):
    folder = write(tmp_path / "log.jsonl", 0, 10) or tmp_path / "log.jsonl"  # a file in the folder's place
    with FollowedLog(["tensorboard"], folder, CARD, tmp_path / "log.jsonl") as log:
        assert log.follow() == 2
    said = [message.partition(": ")[2] for message in caplog.messages]
    assert [one.startswith(start) for one, start in zip(said, ("tensorboard failed", "cannot be written"), strict=True)]
    words = ("run", "-t", "mini-sts", "-m", "random", "--results-dir", tmp_path / "results")
    assert call(*words, "--track", "tensorboard", "--track-dir", folder).exit_code == 0


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
