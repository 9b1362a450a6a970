"""A results folder that is damaged, edited, refused by the disk, or written by several and killed."""

import multiprocessing
import os
import random
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from result_cases import CARD, FULL, RESULT, contents, edit, pairs, refusal

from harness import files
from harness.errors import ResultError, WriteError
from harness.results import documents, store
from harness.results.items import RowItems, columns, to_parquet
from harness.results.store import find_problems


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_undefined_score_is_refused_and_nothing_is_written(tmp_path, value):
    with pytest.raises(ResultError) as caught:
        store.write(replace(RESULT, scores={"spearman/all/test": value}), tmp_path)
    path = documents.result_file(documents.encoder_folder(tmp_path, CARD), "STS12", "sts")
    assert str(caught.value) == (
        f"{path}: score spearman/all/test is {value}, expected a finite number; "
        "nothing was written; look for a constant prediction or an empty set"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_sentence_and_leaves_the_old_result(tmp_path, monkeypatch):
    before = store.write(FULL, tmp_path)
    content = contents(tmp_path)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WriteError, match=r"cannot be written \(No space left on device\)"):
        store.write(RESULT.with_items(pairs((0.2, 0.3, 0.4))), tmp_path)
    assert contents(tmp_path) == content
    assert store.read(before.file) == before


def test_a_file_where_the_folder_should_be_is_one_sentence(tmp_path):
    (tmp_path / "results").write_text("")
    with pytest.raises(WriteError, match="cannot be written"):
        store.write(RESULT, tmp_path / "results")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_can_be_read_and_refuses_in_one_sentence(tmp_path):
    written = store.write(FULL, tmp_path)
    (tmp_path / ".lock").unlink()
    for folder in (written.file.parent, tmp_path):
        folder.chmod(0o500)
    try:
        assert store.read_all(tmp_path) == ([written], [])
        with pytest.raises(WriteError, match=r"cannot be written \(Permission denied\)"):
            store.write(FULL, tmp_path)
    finally:
        tmp_path.chmod(0o700)


def test_a_refused_lock_is_one_sentence(tmp_path, monkeypatch):
    (tmp_path / ".lock").mkdir()
    with pytest.raises(WriteError, match=r"\.lock: cannot be written"):
        store.write(FULL, tmp_path)


def test_what_is_wrong_with_a_file_is_named(tmp_path):
    path = store.write(RESULT, tmp_path).file
    good = path.read_text()
    edit(path, scores={"spearman/all/test": 0.99})
    assert refusal(path) == f"{path}: was edited after it was written; run its task again with --force"
    edit(path, honest=True, scores={"spearman/all/test": "0.99"})
    assert refusal(path) == (
        f"{path}: scores.spearman/all/test: Input should be a valid number; run its task again with --force"
    )
    edit(path, honest=True, scores={"spearman/all/test": float("nan")})
    assert refusal(path) == (
        f"{path}: score spearman/all/test is nan, expected a finite number; run its task again with --force"
    )
    path.write_text(good)
    edit(path, honest=True, surprise=1)
    assert refusal(path) == f"{path}: surprise: Unexpected keyword argument; run its task again with --force"
    edit(path, schema=3)
    assert refusal(path) == (f"{path}: schema is 3, this version reads 2; run its task again with --force")
    path.write_text(good[:100])
    assert refusal(path).startswith(f"{path}: is not JSON (")
    path.write_text("[" * 200_000)
    assert refusal(path).startswith(f"{path}: is not JSON (maximum recursion depth exceeded")
    path.write_text("[]")
    assert refusal(path) == f"{path}: holds no result but a list; move it out of the results folder"
    path.unlink()
    assert refusal(path) == (f"{path}: cannot be read (No such file or directory); check the path and its permissions")


def test_an_edited_score_is_refused_even_if_its_checksum_fits(tmp_path):
    path = store.write(FULL, tmp_path).file
    edit(path, honest=True, scores=FULL.scores | {"spearman/all/test": 0.99})
    assert refusal(path) == (
        f"{path}: score spearman/all/test is 0.99, but the per-item scores give 1.0; run STS12 again with --force"
    )
    results, problems = store.read_all(tmp_path)
    assert results == [] and problems == [refusal(path)]
    assert store.read(path, check=False).scores["spearman/all/test"] == 0.99


def test_random_cosines_under_right_scores_are_refused(tmp_path):
    """The cosines of another result, its checksum and digests made to fit."""
    path = store.write(FULL, tmp_path).file
    random_ = RESULT.with_items(pairs((0.9, 0.1, 0.2)))
    documents.scores_file(path).write_bytes(to_parquet(columns(random_.items(), own=True)))
    edit(path, honest=True, items_sha256=random_.items_sha256)
    assert "score spearman/all/test is 1.0, but the per-item scores give -0.5" in refusal(path)


def test_a_score_that_its_items_do_not_give_is_not_written(tmp_path):
    with pytest.raises(ResultError, match=r"score spearman/all/test is 1.0, but the per-item scores give -0.5"):
        store.write(RESULT.with_items(pairs((0.9, 0.1, 0.2))), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_accuracies_are_held_against_the_rows_up_to_their_rounding(tmp_path):
    rows = RowItems(first=["5f"] * 3, second=None, gold=np.array([0, 1, 1]), predicted=np.array([0, 1, 0]))
    made = replace(RESULT, metric="accuracy/test", scores={"accuracy/test": 0.6667}).with_items(rows)
    path = store.write(made, tmp_path).file
    edit(path, honest=True, scores={"accuracy/test": 0.6669})
    assert "score accuracy/test is 0.6669, but the per-item scores give 0.666" in refusal(path)
    edit(path, honest=True, counts={"rows/all": 3})
    assert store.read(path).scores == {"accuracy/test": 0.6669}  # folds of different sizes


@pytest.mark.parametrize("which", ["scores", "items"])
@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"PAR1"), None])
def test_damaged_items_are_named_and_the_result_is_not_finished(tmp_path, which, damage):
    written = store.write(FULL, tmp_path)
    (shared,) = tmp_path.glob("items/*")
    file = shared if which == "items" else documents.scores_file(written.file)
    other = pairs((0.1, 0.3, 0.9), gold=(1.0, 2.5, 4.5))  # the same correlation, other values
    damage = damage or (lambda path: path.write_bytes(to_parquet(columns(other, own=which == "scores"))))
    damage(file)
    assert refusal(written.file).startswith(f"{file}: ")
    assert store.finished(tmp_path, "STS12", "sts", CARD, RESULT.data) is None
    assert [problem for problem in find_problems(tmp_path) if problem.startswith(f"{file}: ")]
    store.write(FULL, tmp_path)
    assert store.read_all(tmp_path) == ([written], []) and find_problems(tmp_path) == []


def test_a_kill_between_the_two_writes_leaves_a_result_that_is_not_finished(tmp_path, monkeypatch):
    store.write(FULL, tmp_path)
    real = files.replace

    def killed(path: Path, content: bytes) -> None:
        if path.suffix == ".json":
            raise KeyboardInterrupt
        real(path, content)

    monkeypatch.setattr(files, "replace", killed)
    later = RESULT.with_items(pairs((0.2, 0.3, 0.4)))
    with pytest.raises(KeyboardInterrupt):
        store.write(later, tmp_path)
    monkeypatch.undo()
    assert store.finished(tmp_path, "STS12", "sts", CARD, RESULT.data) is None
    assert "is not the file that STS12.sts.json was written with" in store.read_all(tmp_path)[1][0]
    store.write(later, tmp_path)
    assert store.read_all(tmp_path)[0] == [later] and find_problems(tmp_path) == []


def write_for_ever(root: Path, seed: int) -> None:
    draw = random.Random(seed)
    while True:
        order = [draw.random() for _ in range(500)]
        made = replace(RESULT, counts={"seed": seed}).with_items(pairs(order, gold=order))
        store.write(made, root)


def test_scores_of_another_length_are_those_of_a_killed_writer(tmp_path):
    file = store.write(FULL, tmp_path / "one").file
    order = [0.1, 0.2, 0.3, 0.4, 0.5]
    longer = store.write(RESULT.with_items(pairs(order, gold=order)), tmp_path / "other").file
    scores = documents.scores_file(file)
    scores.write_bytes(documents.scores_file(longer).read_bytes())
    assert store.read_all(tmp_path / "one") == (
        [],
        [f"{scores}: is not the file that {file.name} was written with; run the task again"],
    )


def test_killed_writers_never_leave_a_result_that_is_wrong(tmp_path):
    scores = documents.scores_file(store.write(FULL, tmp_path).file)
    pause = random.Random(0)
    for round_ in range(10):
        before = scores.read_bytes()
        writers = [
            multiprocessing.get_context("fork").Process(target=write_for_ever, args=(tmp_path, 2 * round_ + i))
            for i in range(2)
        ]
        for writer in writers:
            writer.start()
        while scores.read_bytes() == before:
            time.sleep(0.001)
        time.sleep(0.05 * pause.random())
        for writer in writers:
            writer.kill()
            writer.join()
        results, problems = store.read_all(tmp_path)
        unfinished = [problem for problem in problems if "run the task again" in problem]
        assert len(results) + len(unfinished) == 1 and problems == unfinished
    store.write(FULL, tmp_path)
    assert store.read_all(tmp_path)[0] == [FULL]


def test_a_reader_beside_two_writers_always_sees_a_whole_result(tmp_path):
    file = store.write(FULL, tmp_path).file
    writers = [
        multiprocessing.get_context("fork").Process(target=write_for_ever, args=(tmp_path, seed)) for seed in (1, 2)
    ]
    for writer in writers:
        writer.start()
    try:
        seen = set()
        while len(seen) < 20:
            seen.add(store.read(file).items_sha256)
    finally:
        for writer in writers:
            writer.kill()
            writer.join()


def write_one(root: Path, number: int) -> None:
    for task in ("STS12", "STS13"):
        store.write(
            replace(FULL, task=task, encoder=replace(CARD, name=f"n{number}", weights_sha256=str(number))), root
        )


def test_writers_side_by_side_lose_nothing(tmp_path):
    writers = [multiprocessing.get_context("fork").Process(target=write_one, args=(tmp_path, i)) for i in range(6)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(store.read_all(tmp_path)[0]) == 12 and find_problems(tmp_path) == []
    assert len((tmp_path / "index.csv").read_text().splitlines()) == 13
