import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from result_cases import CARD, FULL, ITEMS, RESULT, RUN, contents, edit, pairs

from harness.errors import ResultError
from harness.results import documents, record, store
from harness.results.collection import Results
from harness.results.store import find_problems

ROOT = Path(__file__).parents[1]


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
    folders = [documents.encoder_folder(tmp_path, card) for card in cards]
    assert len(set(folders)) == len(methods)
    tasks = ["STS12", "SICKRelatedness-finetune", "probing: a/b", "y" * 100, "y" * 99 + "z", "..", "A.b"]
    protocols = ["sts", "senteval[mode=test]", "geometry[alpha=2,t=2]", "senteval-regressor"]
    places = [documents.result_file(folders[0], task, protocol) for task in tasks for protocol in protocols]
    assert len(set(places)) == len(tasks) * len(protocols)
    items = [documents.items_file(tmp_path, task, protocol, "ab" * 32) for task in tasks for protocol in protocols]
    names = [path.name for path in [*folders, *places, *map(documents.scores_file, places), *items]]
    assert max(map(len, names)) <= 60
    assert all(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", name) for name in names)
    assert all(name == name.lower() for name in names[: len(folders)])
    assert documents.result_file(folders[0], "MR", "senteval[mode=test]").name == "MR.senteval-mode-test.json"


def test_two_protocols_of_a_task_live_side_by_side(tmp_path):
    for mode in ("test", "fasttest"):
        store.write(replace(RESULT, protocol=f"senteval[mode={mode}]"), tmp_path)
    results, problems = store.read_all(tmp_path)
    assert [r.protocol for r in results] == ["senteval[mode=fasttest]", "senteval[mode=test]"]
    assert problems == []


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
    expected = f"{tmp_path}: holds results of an earlier layout, which is not read any more; measure them again"
    assert store.read_all(tmp_path) == ([], [expected])


def test_a_kill_between_result_and_index_is_mended_when_the_result_is_found(tmp_path):
    store.write(FULL, tmp_path)
    index = tmp_path / "index.csv"
    whole = index.read_text()
    index.write_text(whole.splitlines(keepends=True)[0])  # as before the result was written
    (tmp_path / ".bench-0123456789abcdef.tmp").write_text("half an index")
    assert store.finished(tmp_path, FULL.task, FULL.protocol, CARD, FULL.data) is not None
    assert index.read_text() == whole
    assert find_problems(tmp_path) == []


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


def test_provenance_names_versions_and_no_place():
    run = record.provenance(
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
    root = Path(record.__file__).parents[2]
    found = subprocess.run(["git", "-C", root, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    expected = found.stdout.strip() if (root / ".git").exists() and found.returncode == 0 else None
    assert record.checkout()[0] == expected


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_no_commit_is_taken_from_a_checkout_that_holds_the_installation(tmp_path, monkeypatch):
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    package = tmp_path / "site-packages" / "harness" / "__init__.py"
    package.parent.mkdir(parents=True)
    monkeypatch.setattr(record.harness, "__file__", str(package))
    assert record.checkout.__wrapped__() == (None, None)


@pytest.mark.skipif(not (ROOT / "results" / "index.csv").exists(), reason="an installed package has no results")
def test_the_committed_results_are_whole():
    assert find_problems(ROOT / "results") == []
