"""A command is killed before a change of files: the same command then ends with the same, and leaves nothing over."""

import io
import os
import random
import shutil
import sys
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.data.locate import BUNDLED
from harness.files import sha256

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))
from commands import TRAIN, scores, start
from hub_server import HubServer

pytestmark = pytest.mark.slow

_KILLS = 4
_LEFT_OVER = ("*.tmp", "*.new", "*.partial", "*.incomplete", ".training", "draft")


@dataclass(frozen=True)
class Victim:
    """A command line, to which a folder's paths are added, and what counts of what it leaves there."""

    words: Callable[[Path], tuple[object, ...]]
    outcome: Callable[[Path], object]
    prepared: bool = False  # results are there already


def contents(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): sha256(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def weights(folder: Path) -> str:
    return sha256(folder / "model" / "model.safetensors")


RUN = ("run", "-t", "mini-sts", "-m", "bert-whitening[backbone=tiny,fit=mini-wiki]")
VICTIMS = {
    "run": Victim(lambda f: (*RUN, "--results-dir", f / "results"), lambda f: scores(f / "results")),
    "train": Victim(lambda f: ("train", TRAIN, "--output", f / "model"), weights),
    "report": Victim(
        lambda f: ("report", "--results-dir", f / "results", "--output", f / "report"),
        lambda f: contents(f / "report"),
        prepared=True,
    ),
    "plot": Victim(
        lambda f: ("plot", "scores", "--table", "mini", "--results-dir", f / "results", "--output", f / "plot"),
        lambda f: contents(f / "plot"),
        prepared=True,
    ),
    "export": Victim(
        lambda f: ("export", "model", "bert[backbone=tiny,pooling=avg]", "--output", f / "model"),
        lambda f: contents(f / "model"),
    ),
    "fetch": Victim(lambda f: ("data", "fetch", "sts"), lambda f: contents(next(f.glob("cache/senteval-*/")))),
}


def left_over(folder: Path) -> list[Path]:
    return [path for pattern in _LEFT_OVER for path in folder.rglob(pattern)]


def begin(victim: Victim, folder: Path, kill_at: int | None = None):
    environment = {"HF_ENDPOINT": os.environ.get("HF_ENDPOINT", "http://127.0.0.1:9")}
    return start(*victim.words(folder), "-q", below=folder, kill_at=kill_at, environment=environment)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    begin(VICTIMS["run"], folder).finished()
    return folder / "results"


@pytest.fixture
def hub(monkeypatch):
    """A hub that has the mini suite as SentEval's archive."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        tar.add(BUNDLED, "SentEval/downstream")
    with HubServer("princeton-nlp/datasets-for-simcse", {"senteval.tar": packed.getvalue()}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
        yield server


@pytest.mark.parametrize("name", VICTIMS)
def test_a_killed_command_ends_with_the_same_the_next_time(tmp_path, results, hub, monkeypatch, name):
    victim = VICTIMS[name]

    def place(kind: object) -> Path:
        folder = tmp_path / f"{kind}"
        folder.mkdir()
        if victim.prepared:
            shutil.copytree(results, folder / "results")
        return folder

    whole = place("whole")
    undisturbed = begin(victim, whole)
    undisturbed.finished()
    expected, changes = victim.outcome(whole), undisturbed.changes.value
    assert left_over(whole) == []
    for number in sorted(random.Random(0).sample(range(changes), min(_KILLS, changes))):
        folder = place(number)
        assert begin(victim, folder, kill_at=number).ended() == -9
        begin(victim, folder).finished()
        assert victim.outcome(folder) == expected, number
        assert left_over(folder) == [], number
