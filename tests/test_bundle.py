"""A bundle: what is packed, that it is verified, and that a study runs from it without a socket."""

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from test_studies import bench, study  # noqa: F401  a fixture

from harness.results.store import read_all
from harness.studies import bundle

NO_SOCKETS = """
import socket, sys
def refuse(*_, **__):
    raise AssertionError("a socket was opened")
socket.socket.__init__ = socket.create_connection = socket.getaddrinfo = refuse
from harness.cli.main import main
sys.argv = ["bench", *sys.argv[1:]]
main()
"""
STUDY = """
tasks = ["mini-sts"]
[[models]]
model = "hf:org/model"
pooling = "avg"
[[models]]
model = "bert-whitening"
backbone = "own/model"
fit = "my-text"
dim = 2
[[models]]
model = "simcse-unsup"
backbone = "tiny"
data = "own/lines.txt"
batch_size = 4
max_steps = 2
dev = "mini"
"""


def command(*arguments, cwd, code=None, **environment):
    start = [sys.executable, "-c", code] if code else [sys.executable, "-m", "harness"]
    done = subprocess.run(
        [*start, *arguments], cwd=cwd, env=os.environ | environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.fixture
def packed(study, tmp_path, bert_folder):  # noqa: F811
    """A study with a checkpoint of the hub, one of the user's, a text with a name and one by path; and its bundle."""
    snapshot = tmp_path / "hub/models--org--model/snapshots" / ("0" * 40)
    shutil.copytree(bert_folder, snapshot)
    (tmp_path / "hub/models--org--model/refs").mkdir()
    (tmp_path / "hub/models--org--model/refs/main").write_text("0" * 40)
    shutil.copytree(bert_folder, tmp_path / "own/model")
    lines = [f"a man {verb} the {what}" for verb in ("plays", "sees", "has") for what in ("guitar", "dog", "rain")]
    (tmp_path / "own/lines.txt").write_text("\n".join(lines) + "\n")
    (tmp_path / "text.txt").write_text("\n".join(reversed(lines * 2)) + "\n")
    here = {"BENCH_CACHE_DIR": str(tmp_path / "cache"), "HF_HUB_CACHE": str(tmp_path / "hub")}
    study(STUDY.replace("my-text", "mini-nli"))  # the name is given only now
    command("data", "add", "my-text", "text.txt", cwd=tmp_path, **here)
    (tmp_path / "study.toml").write_text(STUDY)
    said = command("pack", "study.toml", "--output", "study.tar", "--offline", cwd=tmp_path, **here)
    assert said.startswith("study.tar: ")
    return tmp_path


@pytest.mark.slow
def test_a_study_runs_from_its_bundle_and_opens_no_socket(packed):
    here = {"BENCH_CACHE_DIR": str(packed / "cache"), "HF_HUB_CACHE": str(packed / "hub")}
    command("study", "study.toml", "-q", "--offline", cwd=packed, **here)
    there = packed / "there"
    there.mkdir()
    shutil.move(packed / "study.tar", there)
    for name in ("hub", "own", "text.txt", "cache"):
        (packed / name).rename(packed / f"gone-{name}")
    said = command("unpack", "study.tar", cwd=there)
    assert said.splitlines()[1].strip() == (
        "cd study/bundle && HF_HUB_CACHE=$PWD/hub bench study study.toml --offline --cache-dir cache"
    )
    folder = there / "study/bundle"
    arguments = ["study", "study.toml", "--offline", "--cache-dir", "cache", "-q"]
    command(*arguments, cwd=folder, code=NO_SOCKETS, HF_HUB_CACHE=str(folder / "hub"))
    ours, theirs = (
        {(one.encoder.name, one.task): dict(one.scores) for one in read_all(root / "results")[0]}
        for root in (packed, folder)
    )
    assert ours == theirs
    assert len(ours) == 3


@pytest.mark.slow
def test_a_bundle_has_what_is_read_and_the_same_bytes_each_time(packed):
    with tarfile.open(packed / "study.tar") as tar:
        names = [member.name for member in tar]
        assert all(member.isfile() and member.mtime == 0 and not member.uname for member in tar)
        manifest = json.load(tar.extractfile("bundle/manifest.json"))
    assert {f"bundle/{name}" for name in manifest["files"]} == {*names} - {"bundle/manifest.json"}
    assert {
        "study.toml",
        "hub/models--org--model/refs/main",
        f"hub/models--org--model/snapshots/{'0' * 40}/model.safetensors",
        "own/model/tokenizer.json",
        "own/lines.txt",
        "texts/my-text/text.txt",
    } <= set(manifest["files"])
    assert not any(name.startswith("cache/") for name in manifest["files"])
    first = (packed / "study.tar").read_bytes()
    here = {"BENCH_CACHE_DIR": str(packed / "cache"), "HF_HUB_CACHE": str(packed / "hub")}
    command("pack", "study.toml", "--output", "again.tar", "--offline", cwd=packed, **here)
    assert (packed / "again.tar").read_bytes() == first


def repacked(source: Path, target: Path, change) -> Path:
    with tarfile.open(source) as old, tarfile.open(target, "w") as new:
        for member in old:
            content = change(member, old.extractfile(member).read())
            if content is not None:
                member.size = len(content)
                new.addfile(member, io.BytesIO(content))
    return target


def small_bundle(study, tmp_path):  # noqa: F811
    study('tasks = ["mini-sts"]\n[[models]]\nmodel = "random"\n')
    assert bench("pack", "study.toml", "--output", "s.tar", "--offline").exit_code == 0
    return tmp_path / "s.tar"


def test_a_changed_file_is_named(study, tmp_path):  # noqa: F811
    whole = small_bundle(study, tmp_path)
    edited = repacked(whole, tmp_path / "e.tar", lambda m, c: c + b"\n" if m.name.endswith("study.toml") else c)
    done = bench("unpack", edited, "--output", "e")
    assert (done.exit_code, done.stderr) == (
        2,
        f"bench: {edited}: study.toml has another sha256 than its manifest says; copy the archive again\n",
    )
    assert not (tmp_path / "e").exists()
    lost = repacked(whole, tmp_path / "l.tar", lambda m, c: None if m.name.endswith("study.toml") else c)
    assert "study.toml is only in its manifest; pack again" in bench("unpack", lost, "--output", "l").stderr


def test_a_bundle_appears_when_every_file_is_verified(study, tmp_path, monkeypatch):  # noqa: F811
    whole, seen = small_bundle(study, tmp_path), []
    verify = bundle._verify

    def watched(*given):
        seen.append((tmp_path / "here").exists())
        verify(*given)

    monkeypatch.setattr(bundle, "_verify", watched)
    assert bench("unpack", whole, "--output", "here").exit_code == 0
    assert seen == [False] and [path.name for path in (tmp_path / "here").iterdir()] == ["bundle"]


def test_a_bundle_is_unpacked_into_a_new_folder_and_nowhere_else(study, tmp_path):  # noqa: F811
    whole = small_bundle(study, tmp_path)
    assert bench("unpack", whole, "--output", "here").exit_code == 0
    assert "exists already, expected a new folder" in bench("unpack", whole, "--output", "here").stderr

    def climb(member, content):
        member.name = member.name.replace("bundle/study.toml", "bundle/../../study.toml")
        return content

    done = bench("unpack", repacked(whole, tmp_path / "c.tar", climb), "--output", "out")
    assert done.exit_code == 2
    assert "climbs out through '..'" in done.stderr
    assert "of a bundle's size; do not trust this file, nothing of it was kept: pack the study again" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_file_outside_the_folder_cannot_be_packed(study, tmp_path, bert_folder):  # noqa: F811
    study(f'tasks = ["mini-sts"]\n[[models]]\nmodel = "bert"\nbackbone = "{bert_folder}"\npooling = "avg"\n')
    done = bench("pack", "study.toml", "--offline")
    assert done.exit_code == 2
    assert done.stderr.startswith(f"bench: {bert_folder}: lies outside this folder, so the study would not find it")
