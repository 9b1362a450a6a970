import hashlib
import json
import multiprocessing
import os
import random
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from harness.errors import ResultError, WriteError
from harness.names import EncoderCard
from harness.results import machine, store
from harness.results.items import RowItems
from harness.results.record import SCHEMA, Result, Run

CARD = EncoderCard(
    name="bert[pooling=avg,backbone=tiny]",
    method="bert",
    parameters={"pooling": "avg", "backbone": "tiny", "prompt": None, "lower": True, "tau": 0.05, "dim": 256},
    backbone="tiny",
    revision=None,
    weights_sha256="53aa",
    pooling="avg",
    dim=256,
    max_tokens=128,
    dtype="float32",
    normalized=False,
    fitted_on=None,
    trained_on=None,
    seed=None,
)
RUN = Run(
    started="2026-01-02T03:04:05+00:00",
    seconds=1.5,
    encoding_seconds=0.5,
    machine={"processor": "p", "cores": 2},
    packages={"numpy": "2.4"},
    commit=None,
    dirty=None,
    device="cpu",
    threads=2,
)
RESULT = Result(
    schema=SCHEMA,
    task="STS12",
    protocol="sts",
    metric="spearman/all/test",
    scores={"spearman/all/test": 0.1 + 0.2, "spearman/subset:MSRpar/test": -1 / 3},
    counts={"pairs": 3108},
    data={"STS/STS12-en-test/STS.gs.MSRpar.txt": "ab" * 32},
    flags=("fitted on the evaluated sentences",),
    encoder=CARD,
    seed=None,
    sidecar=None,
    run=RUN,
)


def items(gold: list[float]) -> RowItems:
    return RowItems(first=["5f"] * len(gold), second=None, gold=np.array(gold), predicted=np.zeros(len(gold)))


ITEMS = items([1.0, 4.5])


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def refusal(path: Path) -> str:
    with pytest.raises(ResultError) as caught:
        store.read(path)
    return str(caught.value)


def test_a_result_comes_back_as_it_was_with_its_items(tmp_path):
    path = store.write(RESULT, ITEMS, tmp_path)
    again = store.read(path)
    assert path == tmp_path / "bert[pooling=avg,backbone=tiny]" / "STS12@sts.json"
    assert replace(again, sidecar=None) == RESULT
    assert again.items() == ITEMS and again.items() != items([1.0, 4.0])
    assert again.sidecar == hashlib.sha256(store.sidecar_path(path, again.sidecar).read_bytes()).hexdigest()


def test_equal_results_give_equal_bytes(tmp_path):
    one, two = (store.write(RESULT, ITEMS, tmp_path / name) for name in "ab")
    assert one.read_bytes() == two.read_bytes()
    assert sorted(p.name for p in one.parent.iterdir()) == sorted(p.name for p in two.parent.iterdir())


def test_names_are_safe_and_distinct(tmp_path):
    names = ["hf:a/b", "hf:a%2Fb", "..", ".", "x" * 300, "x" * 299 + "y", "a+b", "a@b", "ü", "name with space"]
    paths = [store.cell_path(tmp_path, name, "MR", "senteval[mode=test]") for name in names]
    assert paths[0] == tmp_path / "hf%3Aa%2Fb" / "MR@senteval[mode=test].json"
    assert len({path.parent for path in paths}) == len(names)
    assert all(path.parent.parent == tmp_path and len(path.parent.name) <= 120 for path in paths)
    assert not any(path.parent.name.startswith(".") for path in paths)
    assert store.cell_path(tmp_path, "a", "MR", "senteval[mode=fasttest]") != paths[0].with_name("MR")


def test_two_protocols_of_a_task_live_side_by_side(tmp_path):
    for mode in ("test", "fasttest"):
        store.write(replace(RESULT, protocol=f"senteval[mode={mode}]"), None, tmp_path)
    results, problems = store.read_all(tmp_path)
    assert [r.protocol for r in results] == ["senteval[mode=fasttest]", "senteval[mode=test]"]
    assert problems == []


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_undefined_score_is_refused_and_nothing_is_written(tmp_path, value):
    with pytest.raises(ResultError) as caught:
        store.write(replace(RESULT, scores={"spearman/all/test": value}), ITEMS, tmp_path)
    path = store.cell_path(tmp_path, CARD.name, "STS12", "sts")
    assert str(caught.value) == (
        f"{path}: score spearman/all/test is {value}, expected a finite number; "
        "nothing was written; look for a constant prediction or an empty set"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_sentence_and_leaves_the_old_result(tmp_path, monkeypatch):
    path = store.write(RESULT, ITEMS, tmp_path)
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WriteError) as caught:
        store.write(replace(RESULT, counts={"pairs": 1}), None, tmp_path)
    assert str(caught.value) == (
        f"{path}: cannot be written (No space left on device); "
        "make room or give write permission, or name another folder"
    )
    assert path.read_bytes() == before
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_file_where_the_folder_should_be_is_one_sentence(tmp_path):
    (tmp_path / "results").write_text("")
    with pytest.raises(WriteError) as caught:
        store.write(RESULT, None, tmp_path / "results")
    path = store.cell_path(tmp_path / "results", CARD.name, "STS12", "sts")
    assert str(caught.value) == (
        f"{path}: cannot be written (Not a directory); make room or give write permission, or name another folder"
    )


def test_what_is_wrong_with_a_file_is_named(tmp_path):
    path = store.write(RESULT, None, tmp_path)
    good = path.read_text()
    edit(path, scores={"spearman/all/test": 0.99})
    assert refusal(path) == f"{path}: was edited after it was written; run its task again with --force"
    edit(path, scores={"spearman/all/test": "0.99"})
    assert refusal(path) == (
        f"{path}: scores.spearman/all/test: Input should be a valid number; run its task again with --force"
    )
    edit(path, scores={"spearman/all/test": float("nan")})
    assert refusal(path) == (
        f"{path}: score spearman/all/test is nan, expected a finite number; run its task again with --force"
    )
    path.write_text(good)
    edit(path, surprise=1)
    assert refusal(path) == f"{path}: surprise: Unexpected keyword argument; run its task again with --force"
    path.write_text(good)
    edit(path, encoder=asdict(CARD) | {"colour": "red"})
    assert refusal(path) == f"{path}: encoder.colour: Unexpected keyword argument; run its task again with --force"
    edit(path, schema=2)
    assert refusal(path) == (
        f"{path}: schema is 2, this version reads 1; "
        "read it with the version that wrote it, or run its task again with --force"
    )
    path.write_text(good[:100])
    assert refusal(path).startswith(f"{path}: is not JSON (")
    path.write_text("[" * 200_000)
    assert refusal(path) == (
        f"{path}: is not JSON (maximum recursion depth exceeded while decoding a JSON array from a unicode string); "
        "run its task again with --force"
    )
    path.write_text("[]")
    assert refusal(path) == f"{path}: holds no result but a list; move it out of the results folder"
    path.unlink()
    assert refusal(path) == (f"{path}: cannot be read (No such file or directory); check the path and its permissions")


def test_bad_files_are_named_and_left_out_and_the_copy_in_its_own_place_counts(tmp_path):
    path = store.write(RESULT, ITEMS, tmp_path)
    other = store.write(replace(RESULT, task="STS13"), ITEMS, tmp_path)
    other.write_text("{")
    copy = tmp_path / "a copy" / path.name
    copy.parent.mkdir()
    copy.write_bytes(path.read_bytes())
    results, problems = store.read_all(tmp_path)
    assert [replace(r, sidecar=None) for r in results] == [RESULT]
    assert problems == [
        f"{copy}: repeats the result in {path}; delete one of them",
        f"{other}: is not JSON (Expecting property name enclosed in double quotes: line 1 column 2 (char 1)); "
        "run its task again with --force",
    ]


def test_a_finished_cell_is_one_of_the_same_encoder_and_data(tmp_path):
    assert not store.finished(tmp_path, "STS12", "sts", CARD, RESULT.data)
    path = store.write(RESULT, ITEMS, tmp_path)
    assert store.finished(tmp_path, "STS12", "sts", CARD, RESULT.data)
    assert not store.finished(tmp_path, "STS12", "senteval", CARD, RESULT.data)
    with pytest.raises(ResultError) as caught:
        store.finished(tmp_path, "STS12", "sts", replace(CARD, weights_sha256="99ff"), RESULT.data)
    assert str(caught.value) == (
        f"{path}: holds a result with another weights_sha256 ('53aa', now '99ff'); "
        "replace it with --force, or choose another --results-dir"
    )
    with pytest.raises(ResultError) as caught:
        store.finished(tmp_path, "STS12", "sts", CARD, {"STS/STS12-en-test/STS.gs.MSRpar.txt": "cd"})
    assert str(caught.value) == (
        f"{path}: holds a result with another sha256 of STS/STS12-en-test/STS.gs.MSRpar.txt "
        f"({'ab' * 32!r}, now 'cd'); replace it with --force, or choose another --results-dir"
    )


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"PAR1")])
def test_a_cell_without_its_sidecar_is_not_finished(tmp_path, damage):
    path = store.write(RESULT, ITEMS, tmp_path)
    result = store.read(path)
    sidecar = store.sidecar_path(path, result.sidecar)
    damage(sidecar)
    assert not store.finished(tmp_path, "STS12", "sts", CARD, RESULT.data)
    with pytest.raises(ResultError) as caught:
        result.items()
    assert str(caught.value) == f"{sidecar}: is missing or not the file that STS12@sts.json names; run the task again"


def test_leftovers_are_swept_a_day_later_and_not_before(tmp_path):
    path = store.write(RESULT, ITEMS, tmp_path)
    first = store.sidecar_path(path, store.read(path).sidecar)
    old, young, foreign = (path.with_name(n) for n in (".old.tmp", ".young.tmp", f"STS13@sts-{'0' * 12}.parquet"))
    for leftover in (old, young, foreign):
        leftover.write_text("")
    for leftover in (old, first, foreign):
        os.utime(leftover, (time.time() - 90_000,) * 2)
    store.write(RESULT, items([2.0, 3.0]), tmp_path)
    assert not old.exists() and not first.exists()
    assert young.exists() and foreign.exists()


def write_for_ever(root: Path, seed: int) -> None:
    draw = random.Random(seed)
    while True:
        gold = [draw.random() for _ in range(2000)]
        store.write(replace(RESULT, scores={"spearman/all/test": gold[0]}), items(gold), root)


def assert_whole(root: Path) -> None:
    results, problems = store.read_all(root)
    assert problems == []
    for result in results:
        assert result.items().gold[0] == result.scores["spearman/all/test"]


def test_killed_writers_never_leave_a_half_written_cell(tmp_path):
    store.write(replace(RESULT, scores={"spearman/all/test": 0.5}), items([0.5]), tmp_path)
    pause = random.Random(0)
    for round_ in range(12):
        writers = [
            multiprocessing.get_context("fork").Process(target=write_for_ever, args=(tmp_path, 2 * round_ + i))
            for i in range(2)
        ]
        for writer in writers:
            writer.start()
        time.sleep(0.02 + 0.05 * pause.random())
        for writer in writers:
            writer.kill()
            writer.join()
        assert_whole(tmp_path)
    assert len(list(tmp_path.glob("*/*.parquet"))) > 12  # they did write


def test_a_reader_beside_two_writers_always_sees_a_whole_cell(tmp_path):
    store.write(replace(RESULT, scores={"spearman/all/test": 0.5}), items([0.5]), tmp_path)
    writers = [
        multiprocessing.get_context("fork").Process(target=write_for_ever, args=(tmp_path, seed)) for seed in (1, 2)
    ]
    for writer in writers:
        writer.start()
    try:
        seen = set()
        while len(seen) < 20:
            path = store.cell_path(tmp_path, CARD.name, "STS12", "sts")
            result = store.read(path)
            assert result.items().gold[0] == result.scores["spearman/all/test"]
            seen.add(result.sidecar)
    finally:
        for writer in writers:
            writer.kill()
            writer.join()


def test_provenance_names_versions_and_no_place():
    run = machine.provenance(
        started="2026-01-02T03:04:05+00:00", seconds=1.0, encoding_seconds=2.0, device="cpu", threads=1
    )
    assert run.packages["python"] == ".".join(map(str, sys.version_info[:3]))
    assert {"numpy", "torch", "transformers", "scipy"} <= set(run.packages)
    assert set(run.machine) == {"processor", "cores", "memory_gib", "system"}
    text = json.dumps(asdict(run))
    assert str(Path.home()) + "/" not in text
    assert os.uname().nodename not in json.dumps(run.machine["processor"])


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_the_commit_is_that_of_this_checkout_or_none():
    root = Path(machine.__file__).parents[2]
    found = subprocess.run(["git", "-C", root, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    expected = found.stdout.strip() if (root / ".git").exists() and found.returncode == 0 else None
    assert machine.checkout()[0] == expected


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_no_commit_is_taken_from_a_checkout_that_holds_the_installation(tmp_path, monkeypatch):
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    package = tmp_path / "site-packages" / "harness" / "__init__.py"
    package.parent.mkdir(parents=True)
    monkeypatch.setattr(machine.harness, "__file__", str(package))
    assert machine.checkout.__wrapped__() == (None, None)
