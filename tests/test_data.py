"""Loaders: what is kept and dropped, and one clear sentence for each kind of damage."""

import hashlib
import json
import shutil
from dataclasses import replace

import pytest
from conftest import as_ordinary_user
from typer.testing import CliRunner

from harness.cli.main import app
from harness.data import locate, records, sts
from harness.data.classification import LOADERS
from harness.data.locate import BUNDLED, data_root
from harness.data.records import (
    Copy,
    FileFacts,
    dataset_of,
    datasets,
    facts_of,
    parse_fields,
    parse_gold,
    read_text_file,
)
from harness.data.sts import sts_benchmark_v2
from harness.errors import DataError, UsageError
from harness.tasks import suites
from harness.tasks.inputs import check_data
from harness.tasks.suites import TASKS, find_task

INPUT = "downstream/STS/MINI-en-test/STS.input.captions.txt"
GOLD = "downstream/STS/MINI-en-test/STS.gs.captions.txt"


@pytest.fixture
def mini(tmp_path):
    shutil.copytree(BUNDLED, tmp_path / "mini")
    return tmp_path / "mini"


def refused(function, *arguments, **named):
    with pytest.raises(DataError) as caught:
        function(*arguments, **named)
    return str(caught.value)


@pytest.mark.parametrize("text", ["5,2", "", "nan", "5.01", "-1", " "])
def test_bad_gold_names_place_value_and_range(text):
    assert refused(parse_gold, text, where="STS.gs.belief.txt:412", low=0, high=5) == (
        f"STS.gs.belief.txt:412: gold score is {text!r}, expected a number from 0 to 5"
    )


def test_quotes_are_ordinary_characters():
    assert parse_fields('a "b\tc" d', where="x:1", count=2) == ['a "b', 'c" d']
    assert refused(parse_fields, "only one", where="x:1", count=2) == "x:1: 1 tab-separated fields, expected 2"


def test_the_bundled_files_are_the_known_copy():
    for name, dataset in datasets().items():
        if name.startswith("mini-"):
            for path in dataset.files:
                assert read_text_file(BUNDLED, path).copy is Copy.KNOWN


def test_a_missing_file(mini):
    (mini / GOLD).unlink()
    assert refused(sts.semeval, mini, year="MINI") == (
        f"{mini / GOLD}: cannot be read (No such file or directory); `bench data fetch` gets the files"
    )


def test_a_truncated_file(mini):
    lines = (mini / INPUT).read_text().splitlines(keepends=True)
    (mini / INPUT).write_text("".join(lines[:-1]))
    assert refused(sts.semeval, mini, year="MINI") == (
        f"{mini / INPUT}: {len(lines) - 1} lines, expected {len(lines)}; the file is damaged: "
        "delete it and get it again"
    )


def test_a_wrongly_encoded_file(mini):
    lines = (mini / INPUT).read_bytes().splitlines(keepends=True)
    (mini / INPUT).write_bytes(b"".join([*lines[:2], b"caf\xe9 " + lines[2], *lines[3:]]))
    assert refused(sts.semeval, mini, year="MINI") == (
        f"{mini / INPUT}:3: byte 0xe9 is not utf-8, which this file is in; get the file again"
    )


def test_a_reordered_file(mini):
    lines = (mini / GOLD).read_text().splitlines(keepends=True)
    (mini / GOLD).write_text("".join(sorted(lines)))
    assert refused(sts.semeval, mini, year="MINI") == (
        f"{mini / GOLD}: the known lines in another order, so scores and sentences would not match; get the file again"
    )


@pytest.mark.parametrize(
    ("path", "encoding"),
    [(INPUT, "utf-8"), (GOLD, "utf-8"), ("downstream/MINIMR/mini.neg", "latin-1")],
)
@pytest.mark.parametrize(
    "rewritten",
    [
        pytest.param(lambda content: content.replace(b"\n", b"\r\n"), id="CR LF"),
        pytest.param(lambda content: content.removesuffix(b"\n"), id="no end of the last line"),
    ],
)
def test_how_lines_end_makes_no_other_copy(mini, path, encoding, rewritten):
    known = read_text_file(mini, path)
    content = rewritten((mini / path).read_bytes())
    (mini / path).write_bytes(content)
    found = read_text_file(mini, path)
    assert found.lines == known.lines == content.decode(encoding).replace("\r\n", "\n").rstrip("\n").split("\n")
    assert found.copy is Copy.KNOWN
    assert found.sha256 == hashlib.sha256(content).hexdigest() != known.sha256


def test_a_reordered_file_is_refused_however_its_lines_end(mini):
    lines = (mini / GOLD).read_bytes().splitlines()
    (mini / GOLD).write_bytes(b"\r\n".join(sorted(lines)))
    assert "the known lines in another order" in refused(read_text_file, mini, GOLD)


def test_a_gold_value_out_of_range_names_file_and_line(mini):
    lines = (mini / GOLD).read_text().splitlines()
    lines[6] = "7.5"
    (mini / GOLD).write_text("\n".join(lines) + "\n")
    assert refused(sts.semeval, mini, year="MINI") == (
        f"{mini / GOLD}:7: gold score is '7.5', expected a number from 0 to 5"
    )


def test_another_copy_is_read_and_named(mini):
    text = (mini / INPUT).read_text()
    (mini / INPUT).write_text(text.replace(" .", " !", 1))
    data = sts.semeval(mini, year="MINI")
    assert data.other_copies == (INPUT,)
    assert set(data.files) == {p for p in datasets()["mini-sts"].files if "MINI-en" in p}


def blank_the_first_score(mini):
    lines = (mini / GOLD).read_text().splitlines()
    lines[0] = ""
    (mini / GOLD).write_text("\n".join(lines) + "\n")


def test_a_blank_gold_line_is_not_scored(mini, monkeypatch):
    known = sts.semeval(mini, year="MINI").subsets[0]
    blank_the_first_score(mini)
    monkeypatch.setattr(
        sts, "facts_of", lambda path: replace(facts_of(path), scored=facts_of(path).scored - (path == GOLD))
    )
    found = sts.semeval(mini, year="MINI").subsets[0]
    assert (found.left, found.right, found.gold) == (known.left[1:], known.right[1:], known.gold[1:])


def test_scores_that_are_missing(mini):
    blank_the_first_score(mini)
    assert refused(sts.semeval, mini, year="MINI") == (
        f"{mini / GOLD}: 111 of its lines have a score, expected 112, and a score over other pairs compares with none; "
        "get the file again"
    )


def test_every_gold_file_with_blank_lines_has_a_known_number_of_scores():
    scored = {
        name: [facts.scored for facts in dataset.files.values() if facts.scored is not None]
        for name, dataset in datasets().items()
    }
    assert {name: (len(numbers), sum(numbers)) for name, numbers in scored.items() if numbers} == {
        "STS12": (5, 3108),
        "STS13": (3, 1500),
        "STS14": (6, 3750),
        "STS15": (5, 3000),
        "STS16": (5, 1186),
        "mini-sts": (3, 336),
    }


def verified(*arguments):
    return CliRunner().invoke(app, ["data", "check", *map(str, arguments)])


def test_verify_reads_the_files_as_tasks_do(mini, monkeypatch):
    monkeypatch.setattr(locate, "BUNDLED", mini)
    assert verified("--suite", "mini").exit_code == 0
    lines = (mini / GOLD).read_text().splitlines()
    lines[6] = "7.5"
    (mini / GOLD).write_text("\n".join(lines) + "\n")
    done = verified("--suite", "mini")  # two tasks read the file, and the damage is one
    assert (done.exit_code, done.stderr) == (
        2,
        f"bench: {mini / GOLD}:7: gold score is '7.5', expected a number from 0 to 5\n",
    )


def test_verify_shows_short_digests_to_people_and_whole_ones_to_programs():
    (row, *_) = json.loads(verified("--suite", "mini", "--json").stdout)
    assert (row["file"], row["copy"]) == (INPUT, "known")
    assert row["sha256"] == hashlib.sha256((BUNDLED / INPUT).read_bytes()).hexdigest()
    shown = next(line for line in verified("--suite", "mini").stdout.splitlines() if "STS.input.captions.txt" in line)
    assert shown.split()[-2] == row["sha256"][:12]


@pytest.fixture
def sick_alone(tmp_path):
    """A data folder with SICK and nothing else: another copy than the known one, with nothing wrong in it."""
    for path, facts in datasets()["SICK"].files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("\n".join(["header", *["1\tA b\tA c\t3.5\tNEUTRAL"] * (facts.lines - 1)]))
    return tmp_path


def test_verify_names_the_datasets_that_are_not_there(sick_alone):
    done = verified("--data-dir", sick_alone)
    absent = [name for name in datasets() if name != "SICK" and not name.startswith("mini-")]
    assert done.exit_code == 0
    (notice,) = done.stderr.splitlines()
    names = notice.removeprefix(f"{sick_alone}: no files of ").removesuffix(", so these were not checked")
    assert sorted(names.split(", ")) == sorted(absent)
    assert verified("--data-dir", sick_alone, "--quiet").stderr == ""


def test_verify_of_a_suite_misses_what_the_suite_needs(sick_alone):
    done = verified("--data-dir", sick_alone, "--suite", "sts-dev")
    assert (done.exit_code, done.stderr) == (
        2,
        f"bench: {sick_alone}: no files of STSBenchmark, expected those of --suite sts-dev; get them with "
        "`bench data fetch`, or name another folder with --data-dir\n",
    )
    assert "SICK_trial.txt" in done.stdout
    assert verified("--suite", "stss").stderr == "bench: no suite is named 'stss'; did you mean 'sts'?\n"


def test_every_task_reads_a_dataset_of_the_manifest():
    assert {dataset_of(task) for task in TASKS} == set(datasets())


def test_a_label_outside_the_convention(mini):
    path = "downstream/MINIMRPC/msr_paraphrase_test.txt"
    lines = (mini / path).read_text(encoding="utf-8").splitlines()
    lines[4] = "2" + lines[4][1:]
    (mini / path).write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert refused(LOADERS["mini-mrpc"], mini) == f"{mini / path}:5: label is '2', expected one of 0, 1"


def test_the_data_folder_is_looked_up_in_order(mini, tmp_path, monkeypatch):
    assert data_root(mini, tmp_path, offline=True, progress=False) == mini
    assert data_root(mini / "downstream", tmp_path, offline=True, progress=False) == mini
    monkeypatch.setenv("BENCH_DATA_DIR", str(mini))
    assert data_root(None, tmp_path, offline=True, progress=False) == mini


def test_a_folder_of_another_layout(tmp_path):
    assert refused(data_root, tmp_path / "no", tmp_path, offline=True, progress=False) == (
        f"--data-dir {tmp_path / 'no'}: no such folder; name one that contains downstream/STS, downstream/SICK, ..."
    )
    assert refused(data_root, tmp_path, tmp_path, offline=True, progress=False) == (
        f"--data-dir {tmp_path}: no folder downstream/ in it, expected SentEval's layout (downstream/STS/...); "
        "name its parent, or run `bench data fetch`"
    )


@pytest.mark.shared
def test_pairs_of_the_real_sets(shared):
    root = shared / "data" / "senteval"
    expected = {"STS12": 3108, "STS13": 1500, "STS14": 3750, "STS15": 3000, "STS16": 1186}
    for year, pairs in expected.items():
        assert sum(len(subset.gold) for subset in sts.semeval(root, year=year).subsets) == pairs
    splits = ("train", "dev", "test")
    assert [len(s.gold) for s in sts.sts_benchmark(root, splits=splits).subsets] == [5749, 1500, 1379]
    assert [len(s.gold) for s in sts.sick_relatedness(root, splits=splits).subsets] == [4500, 500, 4927]


@pytest.mark.shared
def test_rows_of_the_real_classification_sets(shared):
    root = shared / "data" / "senteval"
    rows = {
        name: {part: (len(e.labels), sum(label == 1 for label in e.labels)) for part, e in load(root).parts.items()}
        for name, load in LOADERS.items()
        if not name.startswith("mini-")
    }
    assert rows["MR"] == {"all": (10662, 5331)}
    assert rows["CR"] == {"all": (3775, 2407)}
    assert rows["SUBJ"] == {"all": (10000, 5000)}
    assert rows["MPQA"] == {"all": (10606, 3312)}
    assert rows["MRPC"] == {"train": (4076, 2753), "test": (1725, 1147)}
    assert [n for n, _ in rows["SST2"].values()] == [67349, 872, 1821]
    assert [n for n, _ in rows["SST5"].values()] == [8544, 1101, 2210]
    assert [n for n, _ in rows["TREC"].values()] == [5452, 500]
    assert [n for n, _ in rows["SICKEntailment"].values()] == [4500, 500, 4927]


@pytest.mark.shared
def test_scored_subsets_of_sts15_and_sts16(shared):
    root = shared / "data" / "senteval"
    kept = {s.name: len(s.gold) for year in ("STS15", "STS16") for s in sts.semeval(root, year=year).subsets}
    assert kept == {
        "answers-forums": 375,
        "answers-students": 750,
        "belief": 375,
        "headlines": 249,  # of STS16; the 750 of STS15 come first
        "images": 750,
        "answer-answer": 254,
        "plagiarism": 230,
        "postediting": 244,
        "question-question": 209,
    }


def test_pairs_that_were_seen_elsewhere_are_not_in_the_second_version(tmp_path, monkeypatch):
    rows = {
        "train": [("a", "b"), ("c", "d")],
        "dev": [("e", "f"), ("f", "e"), ("g", "h"), ("i", "j")],
        "test": [("b", "a"), ("j", "i"), ("k", "l"), ("a", "c")],
    }
    for split, pairs in rows.items():
        path = tmp_path / f"downstream/STS/STSBenchmark/sts-{split}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"genre\tfile\tyear\t{n}\t{n}.5\t{a}\t{b}\n" for n, (a, b) in enumerate(pairs)))
    lines = {f"downstream/STS/STSBenchmark/sts-{split}.csv": len(pairs) for split, pairs in rows.items()}
    monkeypatch.setattr(records, "facts_of", lambda path: FileFacts(lines=lines[path], encoding="utf-8"))
    (dev,) = sts_benchmark_v2(tmp_path, split="dev").subsets
    assert (dev.left, dev.right, dev.gold) == (["g"], ["h"], [2.5])
    (test,) = sts_benchmark_v2(tmp_path, split="test").subsets
    assert (test.left, test.right, test.gold) == (["k", "a"], ["l", "c"], [2.5, 3.5])


@pytest.mark.shared
def test_the_second_version_has_mtebs_counts(shared):
    root = shared / "data" / "senteval"
    counts = {split: len(sts_benchmark_v2(root, split=split).subsets[0].gold) for split in ("dev", "test")}
    assert counts == {"dev": 1485, "test": 1362}
    assert TASKS["STSBenchmark.v2"].metric == "spearman/all/test"


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("STSBenchmark", "STSBenchmark"),
        ("sts-b", "STSBenchmark"),
        ("STSB", "STSBenchmark"),
        ("STS-B dev", "STSBenchmark-dev"),
        ("STSBenchmark.v2", "STSBenchmark.v2"),
        ("SICK-R", "SICKRelatedness"),
        ("sickr", "SICKRelatedness"),
        ("SICK-R (all)", "SICKRelatedness-full"),
        ("SICK-E", "SICKEntailment"),
        ("sts12", "STS12"),
        ("SST-2", "SST2"),
        ("mrpc", "MRPC"),
    ],
)
def test_tasks_are_found_by_the_names_that_others_use(name, task):
    assert find_task(name).name == task


def test_an_unknown_task_is_refused_with_the_nearest_name():
    with pytest.raises(UsageError, match="no task is named 'STS99'; did you mean 'STS"):
        find_task("STS99")


def test_aliases_name_tasks_and_hide_none():
    assert set(suites._ALIASES.values()) <= set(TASKS)
    assert all(find_task(name) is task for name, task in TASKS.items())


def test_data_of_another_scheme_are_refused():
    task = replace(TASKS["mini-mr"], scheme="folds, test")
    with pytest.raises(DataError) as caught:
        task.prepare(BUNDLED)
    assert str(caught.value) == (
        "mini-mr: its data have the parts all, expected train, test for the scheme 'folds, test'; mend the row of the "
        "task"
    )


def test_findings_name_each_file_each_damage_and_what_is_absent(mini):
    (mini / GOLD).write_text("4\n")
    findings = check_data(mini, [TASKS[name] for name in ("mini-sts", "mini-geometry", "STS12")])
    assert [finding.dataset for finding in findings if finding.absent] == ["STS12"]
    assert len([finding for finding in findings if finding.problem]) == 1  # two tasks read the file
    assert {finding.copy for finding in findings if finding.file} == {Copy.KNOWN}


def test_a_folder_that_may_not_be_read_is_not_called_empty(tmp_path):
    (tmp_path / "data" / "downstream").mkdir(parents=True)
    (tmp_path / "data").chmod(0)
    with as_ordinary_user(), pytest.raises(DataError) as caught:
        data_root(tmp_path / "data", tmp_path, offline=True, progress=False)
    (tmp_path / "data").chmod(0o755)
    assert str(caught.value) == (
        f"--data-dir {tmp_path / 'data'}: cannot be read (Permission denied), expected a folder that contains "
        "downstream/; give read permission, or name another folder"
    )


def test_a_pointer_of_git_lfs_is_called_one(mini):
    (mini / GOLD).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n")
    assert refused(TASKS["mini-sts"].load, mini) == (
        f"{mini / GOLD}: holds a pointer of Git LFS, expected the file itself; run `git lfs pull` there"
    )
