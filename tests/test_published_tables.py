"""Published numbers of the user's own: tables, mteb's result files in their three shapes, and SimCSE's output."""

import json

import pytest
from report_cases import MINILM, card, sts
from typer.testing import CliRunner

from harness.cli.main import app
from harness.integrations.imports import read_mteb, read_simcse
from harness.names import EncoderCard
from harness.reports.layouts import SPEARMAN
from harness.reports.published import add_numbers, candidates, counterpart, find, load, read_numbers
from harness.reports.suite import Shown, build, verdicts_of

HEADER = "paper,model,task,value,spec\n"
ROW = "My paper,minilm,STS12,72.37,minilm\n"
NOW = {"cosine_spearman": 0.723715, "cosine_pearson": 0.8136, "main_score": 0.723715, "hf_subset": "default"}
ENTRY = NOW | {"languages": ["eng-Latn"], "mteb_version": "2.26.24"}
CURRENT = {"dataset_revision": "a0d5", "task_name": "STS12", "mteb_version": "2.26.24", "scores": {"test": [ENTRY]}}
MIDDLE = {**CURRENT, "mteb_version": "1.12.75", "scores": {"test": [NOW | {"languages": ["eng-Latn"]}]}}
OLD = {
    "dataset_revision": "a0d5",
    "mteb_dataset_name": "STS12",
    "mteb_version": "1.1.3.dev0",
    "test": {"cos_sim": {"spearman": 0.723715, "pearson": 0.8136}, "evaluation_time": 3.1},
}
MODEL = "sentence-transformers/all-MiniLM-L6-v2"
OUTPUT = """05-01 08:00 : loading
------ test ------
+-------+-------+-------+-------+-------+--------------+-----------------+-------+
| STS12 | STS13 | STS14 | STS15 | STS16 | STSBenchmark | SICKRelatedness |  Avg. |
+-------+-------+-------+-------+-------+--------------+-----------------+-------+
| 75.30 | 84.67 | 80.19 | 85.40 | 80.82 |    84.25     |      80.39      | 81.57 |
+-------+-------+-------+-------+-------+--------------+-----------------+-------+
+------+------+------+------+------+------+------+------+
|  MR  |  CR  | SUBJ | MPQA | SST2 | TREC | MRPC | Avg. |
+------+------+------+------+------+------+------+------+
| 81.5 | 0.00 | 0.00 | 0.00 | 0.00 | 0.00 | 0.00 | 11.6 |
+------+------+------+------+------+------+------+------+
"""


def bench(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def sentence(done):
    assert done.exit_code == 2 and done.stdout == "" and done.stderr.count("\n") == 1
    return done.stderr.removeprefix("bench: ").rstrip("\n")


def test_a_table_of_ones_own_needs_four_columns_and_takes_the_heads_of_tables(write):
    path = write("own.csv", "paper,model,task,value\nP,m,STS-B,80.1\nP,m,SICK-R dev,70\nP,m,MR,81.2\nP,m,Avg.,75\n")
    assert [(n.task, n.metric, n.aggregation, n.split) for n in load(str(path))] == [
        ("STSBenchmark", "spearman", "all", "test"),
        ("SICKRelatedness-dev", "spearman", "all", "dev"),
        ("MR", "accuracy", "", "test"),
        ("Avg", "spearman", "all", "test"),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("paper,model,task\nP,m,STS12\n", ": no column value, expected a header with paper, model, task, value and"),
        ("paper,model,task,value,metrik\n", ": unknown column 'metrik'; did you mean 'metric'?"),
        (HEADER, ": no numbers below the header, expected a line for each published number"),
        (HEADER + "P,m,STS21,70,\n", ":2: no task of a table is named 'STS21'; did you mean 'STS1"),
        (HEADER + "P,m,STS12,seventy,\n", ":2: value 'seventy' is no number, expected percent"),
        (HEADER + "P,m,STS12,nan,\n", ":2: nan on STS12, expected percent from -100 to 100"),
        (HEADER + "P,m,MR,-1,\n", ":2: -1.0 on MR, expected percent from 0 to 100"),
        (HEADER + "P,m,STS12,70\n", ":2: more or fewer fields than the header has; quote texts that hold a comma"),
        (HEADER + "P,m,STS12,70,bert[\n", ":2: model 'bert[' is not a specification;"),
        (HEADER + "P,,STS12,70,\n", ":2: no model, expected one in every line"),
        (
            "paper,model,task,value,split\nP,m,STS12,70,dev\n",
            ":2: split 'dev' of STS12, expected test; numbers of splits do not compare",
        ),
        ("paper,model,task,value,metric\nP,m,STS12,70,accuracy\n", ":2: accuracy of STS12, expected spearman"),
        ("paper,model,task,value,value\n", ": a column is twice in the header paper, model, task, value, value; keep"),
        ("paper,model,task,value,prefer\nP,m,STS12,70,yes\n", ":2: prefer is 'yes', expected 1 for the row to show"),
        (HEADER + ROW + ROW, ": spearman of minilm on STS12 is there twice (72.37 and 72.37, both from My paper,"),
    ],
)
def test_a_bad_line_is_one_sentence_and_nothing_is_imported(write, tmp_path, text, said):
    path = write("bad.csv", text)
    output = write("out.csv", HEADER + ROW)
    before = output.read_bytes()
    assert sentence(bench("import", "published", path, "--output", output)).startswith(f"{path}{said}")
    assert output.read_bytes() == before


def test_numbers_are_added_once(write, tmp_path):
    path, output = write("own.csv", HEADER + ROW), tmp_path / "all.csv"
    assert bench("import", "published", path, "--output", output).exit_code == 0
    assert read_numbers(output) == read_numbers(path)
    assert "on STS12 is there twice" in sentence(bench("import", "published", path, "--output", output))
    write("own.csv", HEADER + ROW.replace("STS12", "STS13"))
    done = bench("import", "published", path, "--output", output, "--json")
    assert json.loads(done.stdout) == {"file": str(output), "added": 1, "left_out": []}
    assert [n.task for n in read_numbers(output)] == ["STS12", "STS13"]


def test_own_rows_are_shown_judged_and_named_as_packaged_ones_are(write):
    path = write("own.csv", HEADER + ROW + "My paper,minilm,STS13,80.9,minilm\n")
    shown = Shown(published=(str(path),))
    table = build(sts(card("minilm"), MINILM), shown=shown)[0]
    assert [row.label for row in table.rows] == ["minilm", "My paper", "Published", "minilm (My paper)"]
    outcomes = {found["task"]: found["outcome"] for found in verdicts_of([table])}
    assert outcomes == {"STS12": "reproduced", "STS13": "not reproduced"}
    assert find(f"{path}::minilm")[0].values == {"STS12": 72.37, "STS13": 80.9}
    write("own.csv", HEADER + ROW)  # a table that has changed is read again
    assert find(f"{path}::minilm")[0].values == {"STS12": 72.37}


def test_report_and_run_take_a_table_by_its_path(write, tmp_path):
    path = write("own.csv", "paper,model,task,value,spec\nP,random,mini-sts,0.66,random\n")
    common = ["--results-dir", tmp_path / "results", "--published", path]
    done = bench("run", "--models", "random", "--tasks", "mini-sts", "--cache-dir", tmp_path / "cache", *common)
    assert done.exit_code == 0, done.output
    assert "mini-sts (mini)" in done.stdout and "reproduced: the one run" in " ".join(done.stdout.split())
    report = bench("report", "--output", tmp_path / "reports", *common)
    assert report.exit_code == 0 and "random (P)" in (tmp_path / "reports/report.md").read_text()
    write("own.csv", "paper,model\n")
    assert sentence(bench("run", "--models", "random", "--tasks", "mini-sts", *common)).startswith(f"{path}: no column")
    none = ["--published", tmp_path / "none.csv", "--results-dir", tmp_path / "results"]
    assert sentence(bench("report", *none)) == (
        f"{tmp_path / 'none.csv'}: cannot be read (No such file or directory), expected a CSV of published numbers"
    )


def mteb_file(folder, document, name="STS12", revision="8b3219a92973c328a8e22fadcfa821b5dc75636a"):
    path = folder / "results" / MODEL.replace("/", "__") / revision / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))
    return path


@pytest.mark.parametrize(("document", "made_by"), [(CURRENT, "2.26.24"), (MIDDLE, "1.12.75"), (OLD, "1.1.3.dev0")])
def test_three_shapes_of_mteb_files_give_one_row_that_minilm_makes(tmp_path, document, made_by):
    numbers = read_mteb(mteb_file(tmp_path, document)).numbers
    assert [(n.task, n.metric, n.aggregation, n.split, n.value) for n in numbers] == [
        ("STS12", "spearman", "all", "test", 72.3715),
        ("STS12", "pearson", "all", "test", 81.36),
    ]
    assert {n.origin for n in numbers} == {f"{MODEL} at 8b3219a92973, MTEB {made_by}"}
    add_numbers(tmp_path / "own.csv", numbers)
    own = candidates(SPEARMAN, (str(tmp_path / "own.csv"),), only=True)
    encoder = EncoderCard(name="minilm", method="minilm", dim=384)
    assert counterpart(encoder, own) is not None and own[0].decimals == 4


def test_a_folder_of_mteb_gives_our_tasks_and_names_the_others(tmp_path):
    scores = {"validation": [ENTRY], "test": [ENTRY]}
    mteb_file(tmp_path, {**CURRENT, "task_name": "STSBenchmark", "scores": scores}, "STSBenchmark")
    mteb_file(tmp_path, {**CURRENT, "task_name": "SICK-R"}, "SICK-R")
    mteb_file(tmp_path, {"anything": 1}, "BIOSSES")
    found = read_mteb(tmp_path)
    assert found.others == ("BIOSSES",)
    assert {n.task for n in found.numbers} == {"STSBenchmark", "STSBenchmark-dev", "SICKRelatedness-full"}
    assert {n.split for n in found.numbers} == {"test", "dev", "full"}


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({**CURRENT, "mteb_version": "3.0.0"}, "mteb_version '3.0.0', expected 0, 1 or 2 and so on;"),
        ({**CURRENT, "mteb_version": None}, "mteb_version None, expected"),
        ({**CURRENT, "task_name": "STS17"}, "task 'STS17' is none of ours, expected STS12, STS13,"),
        ({**CURRENT, "scores": {"train": [ENTRY]}}, "split 'train' of STS12, expected test; numbers of splits do not"),
        (
            {**CURRENT, "scores": {"test": [ENTRY | {"cosine_spearman": 72.4}]}},
            "cosine_spearman of split 'test' is 72.4, expected a number from -1 to 1",
        ),
        ({**CURRENT, "scores": {"test": [ENTRY, ENTRY]}}, "subset 'default' of split 'test' is there twice, expected"),
        ({**CURRENT, "scores": {"test": [ENTRY | {"hf_subset": "en-de"}]}}, "subset 'en-de' of split 'test' is not"),
        ({**CURRENT, "scores": {}}, "no scores, expected some for each split; download the file again"),
        ({**OLD, "test": None}, "no scores, expected some for each split; download the file again"),
        ({**CURRENT, "task_name": ["STS12"]}, "task ['STS12'] is none of ours, expected STS12"),
        ({**OLD, "test": {"cos_sim": {"spearman": 0.7}}}, "cosine_pearson of split 'test' is None, expected a number"),
    ],
)
def test_a_bad_file_of_mteb_is_one_sentence_and_nothing_is_imported(tmp_path, document, said):
    mteb_file(tmp_path, CURRENT | {"task_name": "STS13"}, "STS13")  # a good one beside it
    path = mteb_file(tmp_path, document, "STS14")
    output = tmp_path / "own.csv"
    assert sentence(bench("import", "mteb", tmp_path / "results", "--output", output)).startswith(f"{path}: {said}")
    assert not output.exists()


@pytest.mark.parametrize("key", ["experiment_kwargs", "loader_kwargs"])
def test_settings_of_a_model_that_are_no_object_are_one_sentence(tmp_path, key):
    beside = mteb_file(tmp_path, CURRENT, "STS12").parent / "model_meta.json"
    beside.write_text(json.dumps({"name": "org/model", key: ["dim"]}))
    assert sentence(bench("import", "mteb", tmp_path / "results")) == (
        f"{beside}: {key} is ['dim'], expected an object of settings; download the file again"
    )


def test_files_out_of_place_are_named(tmp_path):
    path = tmp_path / "STS12.json"
    path.write_text(json.dumps(CURRENT))
    assert "so its model is not known; name it with --model" in sentence(bench("import", "mteb", path))
    assert read_mteb(path, "org/model").numbers[0].spec == "hf:org/model | mteb:org/model"
    assert sentence(bench("import", "mteb", tmp_path / "none")) == f"{tmp_path / 'none'}: nothing is there"
    path.rename(tmp_path / "STS17.json")
    assert sentence(bench("import", "mteb", tmp_path)).startswith(f"{tmp_path}: none of its 1 JSON files is a task of")


def test_tables_that_simcse_prints_are_rows_of_known_origin(write):
    found = read_simcse(write("evaluation.log", OUTPUT), "simcse-unsup[backbone=bert-base-uncased]")
    assert {n.task: n.value for n in found.numbers} == {
        **dict(zip(MINILM, (75.30, 84.67, 80.19, 85.40, 80.82, 84.25, 80.39), strict=True)),
        "Avg": 81.57,
        "MR": 81.5,  # the others and their average were not run
    }
    assert {(n.metric, n.aggregation, n.split) for n in found.numbers} == {
        ("spearman", "all", "test"),
        ("accuracy", "", "test"),
    }
    assert {n.origin for n in found.numbers} == {"SimCSE's evaluation.py, evaluation.log"}
    fast = read_simcse(write("fast.log", OUTPUT.replace("- test -", "- fasttest -")), "m")
    assert len(fast.numbers) == 8 and fast.others == ("MR (fasttest)",)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("------ test ------", "test", "no line '------ test ------', expected the output of SimCSE's evaluation.py"),
        ("75.30", "7x.30", "'7x.30' on STS12 is no number, expected percent"),
        ("75.30", "175.3", "175.3 on STS12, expected percent from -100 to 100"),
        ("STS13 ", "STS12 ", "a task is twice in the head ['STS12', 'STS12',"),
        ("STS13 ", "STS23 ", "no task of a table is named 'STS23'; did you mean 'STS1"),
        ("| 81.5 | 0.00 ", "", "a table ends in the middle, expected a line of numbers below ['MR', 'CR',"),
    ],
)
def test_a_bad_table_of_simcse_is_one_sentence(write, tmp_path, old, new, said):
    path = write("evaluation.log", OUTPUT.replace(old, new))
    done = bench("import", "simcse", path, "--model", "m", "--output", tmp_path / "own.csv")
    assert sentence(done).startswith(f"{path}: {said}") and not (tmp_path / "own.csv").exists()


def test_a_table_needs_a_row_of_the_encoder_to_explain_it(bert_folder, write, tmp_path):
    path = write("own.csv", HEADER + "P,x,mini-sts,10,random\n")
    done = bench("explain", "--model", f"hf:{bert_folder}[pooling=avg]", "--published", path, "--offline")
    assert f"--published {path}: no row whose spec is hf:" in sentence(done)


def test_explain_compares_with_a_table_of_ones_own(bert_folder, write, tmp_path):
    from harness.encoders.context import Context
    from harness.encoders.registry import build as build_encoder

    name = build_encoder(f"hf:{bert_folder}[pooling=avg]", Context(cache_dir=tmp_path, offline=True)).card.name
    path = write("own.csv", f'paper,model,task,value,spec\nP,x,mini-sts,10,"{name}"\n')
    where = ["--cache-dir", tmp_path, "--offline", "--json", "--quiet"]
    done = bench("explain", "--model", f"hf:{bert_folder}[pooling=avg]", "--published", path, *where)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["published"] == 10
