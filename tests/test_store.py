import hashlib
import json
import multiprocessing
import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from harness import files
from harness.errors import ResultError, WriteError
from harness.names import EncoderCard
from harness.results import layout, machine, store
from harness.results.collection import Results
from harness.results.items import PairItems, RowItems, columns, to_parquet
from harness.results.record import Result, Run
from harness.results.store import find_problems

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
    task="STS12",
    protocol="sts",
    metric="spearman/all/test",
    scores={"spearman/all/test": 1.0, "spearman/subset:MSRpar/test": 1.0, "other/all/test": 0.1 + 0.2},
    counts={"pairs": 3},
    data={"STS/STS12-en-test/STS.gs.MSRpar.txt": "ab" * 32},
    flags=("fitted on the evaluated sentences",),
    encoder=CARD,
    seed=None,
    run=RUN,
)


def pairs(cosine: Sequence[float] = (0.1, 0.2, 0.9), gold: Sequence[float] = (1.0, 2.0, 4.5)) -> PairItems:
    n = len(gold)
    return PairItems(
        subset=["MSRpar"] * n,
        left=["5f" * 8] * n,
        right=[f"{i:016x}" for i in range(n)],
        words=np.arange(n),
        overlap=np.zeros(n),
        gold=np.array(gold),
        cosine=np.array(cosine),
    )


ITEMS = pairs()
FULL = RESULT.with_items(ITEMS)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.*")) if path.is_file()}


def edit(path: Path, *, honest: bool = False, **changes: object) -> None:
    """Change a document; an honest forger makes the checksum fit."""
    document = json.loads(path.read_text()) | changes
    if honest:
        del document["checksum"]
        canonical = json.dumps(document, sort_keys=True, separators=(",", ":"))
        document["checksum"] = hashlib.sha256(canonical.encode()).hexdigest()
    path.write_text(json.dumps(document))


def refusal(path: Path, **options: bool) -> str:
    with pytest.raises(ResultError) as caught:
        store.read(path, **options)
    return str(caught.value)


def test_a_result_comes_back_as_it_was_with_its_items(tmp_path):
    written = store.write(FULL, tmp_path)
    again = store.read(written.file)
    assert written.file == tmp_path / f"bert_tiny_{CARD.identity[:8]}" / "STS12.sts.json"
    assert again == written == FULL
    for one in (written, again, store.read(written.file, check=False)):
        assert one.items() == ITEMS and one.items() != pairs((0.1, 0.2, 0.8))
    assert store.finished(tmp_path, "STS12", "sts", CARD, RESULT.data) == FULL


def test_the_layout_is_the_documented_one(tmp_path):
    store.write(FULL, tmp_path)
    folder = f"bert_tiny_{CARD.identity[:8]}"
    shared = f"STS12.sts.{FULL.shared_sha256[:12]}.parquet"
    assert set(contents(tmp_path)) == {
        ".lock",
        "index.csv",
        f"items/{shared}",
        f"{folder}/encoder.json",
        f"{folder}/STS12.sts.json",
        f"{folder}/STS12.sts.scores.parquet",
    }
    assert (tmp_path / "index.csv").read_text() == (
        f'encoder,folder,task,protocol,score,seed,commit\n"{CARD.name}",{folder},STS12,sts,1.0,,\n'
    )


def test_equal_results_give_equal_bytes(tmp_path):
    for name in "ab":
        store.write(FULL, tmp_path / name)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_the_items_of_a_task_are_there_once(tmp_path):
    for name in ("one", "two"):
        store.write(replace(FULL, encoder=replace(CARD, name=name, weights_sha256=name)), tmp_path)
    assert len(list(tmp_path.glob("items/*"))) == 1 and len(list(tmp_path.glob("*/*.scores.parquet"))) == 2
    first, second = store.read_all(tmp_path)[0]
    assert first.items().gold is second.items().gold


def test_items_that_no_result_needs_any_more_go(tmp_path):
    store.write(FULL, tmp_path)
    other = replace(FULL, encoder=replace(CARD, name="other", weights_sha256="99ff"))
    store.write(other, tmp_path)
    changed = RESULT.with_items(pairs(gold=(1.0, 2.0, 5.0)))
    store.write(changed, tmp_path)
    assert len(list(tmp_path.glob("items/*"))) == 2  # the other encoder still needs the first
    store.write(
        replace(other, shared_sha256=changed.shared_sha256, items_sha256=changed.items_sha256, held=changed.held),
        tmp_path,
    )
    assert len(list(tmp_path.glob("items/*"))) == 1
    store.write(RESULT, tmp_path)
    assert not list((tmp_path / f"bert_tiny_{CARD.identity[:8]}").glob("*.parquet"))
    assert find_problems(tmp_path) == []


def test_names_are_short_plain_and_distinct(tmp_path):
    methods = ["hf", "..", ".", "x" * 300, "a+b", "ü", "name with space", "Mine/2"]
    cards = [replace(CARD, method=method, backbone=f"org/{method}") for method in methods]
    folders = [layout.encoder_folder(tmp_path, card) for card in cards]
    assert len(set(folders)) == len(methods)
    tasks = ["STS12", "SICKRelatedness-finetune", "probing: a/b", "y" * 100, "y" * 99 + "z", "..", "A.b"]
    protocols = ["sts", "senteval[mode=test]", "geometry[alpha=2,t=2]", "senteval-regressor"]
    places = [layout.result_file(folders[0], task, protocol) for task in tasks for protocol in protocols]
    assert len(set(places)) == len(tasks) * len(protocols)
    items = [layout.items_file(tmp_path, task, protocol, "ab" * 32) for task in tasks for protocol in protocols]
    names = [path.name for path in [*folders, *places, *map(layout.scores_file, places), *items]]
    assert max(map(len, names)) <= 60
    assert all(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", name) for name in names)
    assert all(name == name.lower() for name in names[: len(folders)])
    assert layout.result_file(folders[0], "MR", "senteval[mode=test]").name == "MR.senteval-mode-test.json"


def test_two_protocols_of_a_task_live_side_by_side(tmp_path):
    for mode in ("test", "fasttest"):
        store.write(replace(RESULT, protocol=f"senteval[mode={mode}]"), tmp_path)
    results, problems = store.read_all(tmp_path)
    assert [r.protocol for r in results] == ["senteval[mode=fasttest]", "senteval[mode=test]"]
    assert problems == []


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_undefined_score_is_refused_and_nothing_is_written(tmp_path, value):
    with pytest.raises(ResultError) as caught:
        store.write(replace(RESULT, scores={"spearman/all/test": value}), tmp_path)
    path = layout.result_file(layout.encoder_folder(tmp_path, CARD), "STS12", "sts")
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
    assert refusal(path) == (
        f"{path}: schema is 3, this version reads 2; `bench results migrate` converts results of schema 1"
    )
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
    layout.scores_file(path).write_bytes(to_parquet(columns(random_.items(), own=True)))
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
    file = shared if which == "items" else layout.scores_file(written.file)
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


def test_a_folder_in_a_wrong_place_is_named_and_left_out(tmp_path):
    written = store.write(FULL, tmp_path)
    copy = tmp_path / "a copy"
    shutil.copytree(written.file.parent, copy)
    results, problems = store.read_all(tmp_path)
    assert results == [written]
    place = written.file.parent.name
    assert problems == [
        f"{copy}: is not the place of the results of {CARD.name}, expected {place}; rename or delete it "
        "(a copy is left out)"
    ]
    shutil.rmtree(copy)
    moved = written.file.with_name("STS13.sts.json")
    moved.write_bytes(written.file.read_bytes())
    assert store.read_all(tmp_path) == (
        [written],
        [f"{moved}: is not the place of the result of STS12, expected STS12.sts.json; rename or delete it"],
    )


def test_an_encoders_card_is_checked(tmp_path):
    path = store.write(FULL, tmp_path).file.with_name("encoder.json")
    good = path.read_bytes()
    edit(path, honest=True, weights_sha256="99ff")
    results, problems = store.read_all(tmp_path)
    assert results == []
    again = "run its task again with --force"
    assert problems == [f"{path}: was edited after it was written; {again} ({path.parent.name} is left out)"]
    path.write_bytes(good)
    other = store.write(replace(FULL, encoder=replace(CARD, name="other", weights_sha256="99ff")), tmp_path)
    path.with_name("STS12.sts.json").write_bytes(other.file.read_bytes())
    assert "belongs to another encoder than the card beside it" in store.read_all(tmp_path)[1][0]


def test_of_two_encoders_with_one_name_the_newest_counts(tmp_path):
    old = store.write(FULL, tmp_path)
    run = replace(RUN, started="2026-02-02T03:04:05+00:00")
    new = store.write(replace(FULL, encoder=replace(CARD, weights_sha256="99ff"), run=run), tmp_path)
    results, problems = store.read_all(tmp_path)
    assert results == [new]
    assert (
        problems
        == find_problems(tmp_path)
        == [
            f"{old.file.parent}: holds earlier results of {CARD.name}, made with other vectors than those in "
            f"{new.file.parent.name}; they are left out, delete one of the folders"
        ]
    )


def test_results_of_the_earlier_layout_are_named(tmp_path):
    (tmp_path / "minilm").mkdir()
    (tmp_path / "minilm" / "STS12@sts.json").write_text("{}")
    expected = f"{tmp_path}: holds results of an earlier layout; `bench results migrate {tmp_path} NEW` converts them"
    assert store.read_all(tmp_path) == ([], [expected])


def test_a_finished_result_is_one_of_the_same_data(tmp_path):
    assert store.finished(tmp_path, "STS12", "sts", CARD, RESULT.data) is None
    path = store.write(FULL, tmp_path).file
    assert store.finished(tmp_path, "STS12", "senteval", CARD, RESULT.data) is None
    assert store.finished(tmp_path, "STS12", "sts", replace(CARD, weights_sha256="99ff"), RESULT.data) is None
    with pytest.raises(ResultError) as caught:
        store.finished(tmp_path, "STS12", "sts", CARD, {"STS/STS12-en-test/STS.gs.MSRpar.txt": "cd"})
    assert str(caught.value) == (
        f"{path}: holds a result with another sha256 of STS/STS12-en-test/STS.gs.MSRpar.txt "
        f"({'ab' * 32!r}, now 'cd'); replace it with --force, or choose another --results-dir"
    )


def test_the_check_names_what_nobody_names(tmp_path):
    written = store.write(FULL, tmp_path)
    assert find_problems(tmp_path) == []
    folder = written.file.parent
    orphans = [
        tmp_path / "items" / f"STS13.sts.{'0' * 12}.parquet",
        folder / "STS13.sts.scores.parquet",
        folder / ".bench-x.tmp",
    ]
    for orphan in orphans:
        orphan.write_text("")
    index = tmp_path / "index.csv"
    index.write_text(index.read_text().replace("1.0", "0.9"))
    problems = find_problems(tmp_path)
    assert [problem.partition(": ")[0] for problem in problems] == sorted(map(str, [*orphans, index]))
    written.file.unlink()
    assert f"{folder}: holds an encoder's card and no result; delete it" in find_problems(tmp_path)


def test_a_lost_index_is_made_anew_and_never_believed(tmp_path):
    store.write(FULL, tmp_path)
    whole = (tmp_path / "index.csv").read_text()
    for damage in ("", "nonsense", whole[:-10], "encoder\n"):
        (tmp_path / "index.csv").write_text(damage)
        assert (store.read_all(tmp_path)[0][0], find_problems(tmp_path)[0].count("index.csv")) == (FULL, 1)
        store.write(replace(FULL, task="STS13"), tmp_path)
        assert len((tmp_path / "index.csv").read_text().splitlines()) == 3
        assert find_problems(tmp_path) == []


def test_a_frame_has_a_line_per_score(tmp_path):
    store.write(FULL, tmp_path)
    store.write(replace(RESULT, task="STS13", scores={"spearman/all/test": 0.5, "accuracy/dev": 0.25}), tmp_path)
    table = Results(store.read_all(tmp_path)[0], tmp_path).frame()
    assert len(table) == 5 and set(table["encoder"]) == {CARD.name}
    line = table[(table["task"] == "STS12") & table["main"]].iloc[0]
    assert (line["metric"], line["aggregation"], line["split"], line["score"]) == ("spearman", "all", "test", 1.0)
    assert table[table["metric"] == "accuracy"].iloc[0]["aggregation"] == ""
    assert set(Results([], tmp_path).frame().columns) == set(table.columns)


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
    scores = layout.scores_file(file)
    scores.write_bytes(layout.scores_file(longer).read_bytes())
    assert store.read_all(tmp_path / "one") == (
        [],
        [f"{scores}: is not the file that {file.name} was written with; run the task again"],
    )


def test_killed_writers_never_leave_a_result_that_is_wrong(tmp_path):
    scores = layout.scores_file(store.write(FULL, tmp_path).file)
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
