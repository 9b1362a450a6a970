"""A command runs three times at once, or has no room: the scores stay the same."""

import json
import resource
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

_TRAIN = "simcse-unsup[backbone=tiny,data=mini-wiki,batch_size=8,max_steps=4,eval_every=2,seed=1]"


def start(command, folder, **options):
    words = {
        "run trained": ("run", "-t", "mini-sts", "-m", _TRAIN, "--results-dir", folder / "results"),
        "train": ("train", _TRAIN, "--output", folder / "model"),
    }[command]
    main = "from harness.cli.main import main; main()"
    arguments = [sys.executable, "-c", main, *map(str, words), "-q", "--cache-dir", str(folder / "cache")]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def finished(process):
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    assert "Traceback" not in stderr


def outcome(folder):
    """Every score, and the digests of a trained model."""
    found = {path.name: json.loads(path.read_text())["scores"] for path in folder.glob("results/*/*.sts.json")}
    card = folder / "model" / "card.json"
    return found, json.loads(card.read_text())["files"] if card.exists() else None


def test_three_at_once_train_one_model_and_all_succeed(tmp_path):
    processes = [start("run trained", tmp_path) for _ in range(3)]
    for process in processes:
        finished(process)
    finished(start("run trained", tmp_path / "alone"))
    assert outcome(tmp_path) == outcome(tmp_path / "alone")


def test_a_disk_without_room_is_one_sentence_and_the_next_run_is_whole(tmp_path):
    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    full = start("train", tmp_path / "full", preexec_fn=limited)
    _, stderr = full.communicate(timeout=120)
    assert full.returncode == 2 and "Traceback" not in stderr
    assert "cannot be written" in stderr
    for name in ("full", "whole"):
        finished(start("train", tmp_path / name))
    assert outcome(tmp_path / "full") == outcome(tmp_path / "whole")
