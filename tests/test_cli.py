"""The command line: exit codes, one sentence per mistake, data on stdout and everything else on stderr."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.cli.main import app
from harness.data.locate import BUNDLED

bench = CliRunner()


@pytest.fixture
def folders(tmp_path):
    return ["--results-dir", str(tmp_path / "results"), "--cache-dir", str(tmp_path / "cache"), "--offline"]


@pytest.fixture
def stored(folders):
    return folders[:2]  # of commands that compute nothing


@pytest.fixture
def cache(folders):
    return folders[2:4]


def call(*arguments):
    return bench.invoke(app, [str(a) for a in arguments])


def refused(code, sentence, *arguments):
    done = call(*arguments)
    assert done.stderr == f"bench: {sentence}\n"
    assert done.exit_code == code


def test_run_then_report(folders, stored, tmp_path):
    done = call("run", "--suite", "mini", "--tasks", "", "--models", "random bag-of-words", *folders)
    assert done.exit_code == 0
    assert "mini-sts" in done.stdout
    assert "kept" not in done.stderr
    assert "(kept)" in call("run", "-s", "mini", "-m", "random", *folders).stderr
    done = call("report", "--output", tmp_path / "reports", *stored)
    assert done.exit_code == 0
    assert "bag-of-words" in (tmp_path / "reports" / "report.md").read_text()


def test_json_is_all_there_is_on_stdout(folders):
    done = call("run", "-s", "mini", "-m", "random[dim=8]", "--json", *folders)
    cells = {cell["task"]: cell for cell in json.loads(done.stdout)}
    assert -1 < cells["mini-sts"]["result"]["scores"]["spearman/all/test"] < 1
    kept = json.loads(call("run", "-s", "mini", "-m", "random[dim=8]", "--json", *folders).stdout)
    assert [cell["result"]["scores"] for cell in kept] == [cell["result"]["scores"] for cell in cells.values()]
    assert json.loads(call("list", "suites", "--json").stdout)[0]["suite"] == "sts"


def test_a_folder_whose_name_looks_like_markup_is_named_as_it_is(tmp_path, cache):
    folder = tmp_path / "results[red]"
    done = call("run", "-t", "mini-sts", "-m", "random", "--results-dir", folder, *cache, "--offline")
    assert f"1 computed; results in {folder}, `bench report` makes the tables\n" in done.stderr


def test_quiet_says_nothing_on_stderr(folders):
    assert call("run", "-s", "mini", "-m", "random", "--quiet", *folders).stderr == ""


@pytest.mark.parametrize("what", ["models", "suites", "tasks"])
def test_list(what):
    assert call("list", what).exit_code == 0


def test_list_shows_the_parameters_of_a_checkpoint():
    rows = json.loads(call("list", "models", "hf:<repo-or-folder>", "--json").stdout)
    assert [row["parameter"] for row in rows] == ["pooling", "max_tokens", "prompt", "dim"]


def test_a_run_without_any_number_ends_with_its_error(folders):
    failed = call("run", "-s", "mini", "-m", "hf:no/such-model", "--offline", *folders)
    assert (failed.exit_code, failed.stdout) == (2, "")
    assert failed.stderr.startswith("bench: no/such-model: not on this machine")
    assert len(failed.stderr.splitlines()) == 1


def test_unknown_names_exit_with_2_and_the_nearest(folders):
    refused(2, "no suite is named 'stss'; did you mean 'sts'?", "run", "-s", "stss", "-m", "random", *folders)
    refused(2, "no task is named 'STS1'; did you mean 'STS16'?", "run", "-t", "STS1", "-m", "random", *folders)
    refused(2, "no model is named 'rndom'; did you mean 'random'?", "run", "-s", "mini", "-m", "rndom", *folders)
    refused(
        2,
        "model 'minilm': pooling=clss is unknown; did you mean 'cls'?",
        *("run", "-s", "mini", "-m", "minilm[pooling=clss]", *folders),
    )
    refused(
        2,
        "no model is named 'princeton-nlp/x-base'; a checkpoint on the hub or in a folder is hf:princeton-nlp/x-base",
        *("run", "-s", "mini", "-m", "princeton-nlp/x-base", *folders),
    )
    refused(2, "no list is named 'model'; did you mean 'models'?", "list", "model")
    refused(2, "no format is named 'pdf'; known: md, html, latex, csv, json, model-card", "report", "-f", "pdf")


def test_what_is_missing_is_said(folders, stored, tmp_path):
    refused(
        2,
        "--models: nothing to evaluate; name encoders, `bench list models` shows what there is",
        *("run", "-s", "mini", *folders),
    )
    done = call("run", "-m", "random", *folders)
    assert done.exit_code == 2
    assert done.stderr.startswith("bench: give either a suite (sts, ")
    refused(
        2,
        f"--data-dir {tmp_path}: no folder downstream/ in it, expected SentEval's layout (downstream/STS/...); "
        "name its parent, or run `bench data fetch`",
        *("run", "-s", "sts", "-m", "random", "--data-dir", tmp_path, *folders),
    )
    refused(
        2,
        f"{tmp_path / 'results'}: nothing to report, found no result files; run `bench run` first",
        *("report", *stored),
    )


def test_an_unusable_device(folders):
    done = call("run", "-s", "mini", "-m", "random", "--device", "quantum", *folders)
    assert done.exit_code == 2
    assert done.stderr.startswith("bench: --device quantum: not usable here (")


def test_check_names_every_damaged_file(tmp_path):
    shutil.copytree(BUNDLED, tmp_path / "data")
    folder = tmp_path / "data/downstream/SICK"
    folder.mkdir()
    (folder / "SICK_train.txt").write_text("short\n")
    done = call("data", "check", "--data-dir", tmp_path / "data")
    assert done.exit_code == 2
    assert done.stderr.splitlines()[0] == (
        f"bench: {folder / 'SICK_train.txt'}: 1 lines, expected 4501; the file is damaged: delete it and get it again"
    )
    assert len(done.stderr.splitlines()) == 4  # three files, and what is not there at all


def test_check_of_an_empty_folder(tmp_path):
    (tmp_path / "downstream").mkdir()
    refused(
        2,
        f"{tmp_path}: none of the known files is there, expected downstream/STS/..., downstream/SICK/...",
        *("data", "check", "--data-dir", tmp_path),
    )


def test_cache_info_shows_everything_and_clear_clears_what_can_be_made_anew(folders, cache, bert_folder, tmp_path):
    assert "holds nothing" in call("cache", "info", *cache).stdout
    call("run", "-s", "mini", "-m", f"hf:{bert_folder}[pooling=avg]", *folders)
    (tmp_path / "cache" / "trained" / "abc").mkdir(parents=True)
    (tmp_path / "cache" / "trained" / "abc" / "model.safetensors").write_bytes(bytes(100))
    (tmp_path / "words.txt").write_text("a sentence\nanother one\n")
    assert call("data", "add", "my-words", tmp_path / "words.txt", *cache).exit_code == 0
    listed = {row["name"]: row for row in json.loads(call("data", "list", "--json", *cache).stdout)}
    assert listed["my-words"]["file"] == str(tmp_path / "words.txt") and "wikipedia-1m" in listed
    info = json.loads(call("cache", "info", "--json", *cache).stdout)
    (row,) = info["encoders"]
    assert row["encoder"].startswith(f"hf:{bert_folder.name}@") and row["sentences"] > 600
    assert {"embeddings", "trained", "texts"} <= {kind["kind"] for kind in info["kinds"]}
    assert call("cache", "clear", *cache).exit_code == 0
    left = json.loads(call("cache", "info", "--json", *cache).stdout)
    assert left["encoders"] == [] and {kind["kind"] for kind in left["kinds"]} == {"trained", "texts"}
    assert call("cache", "clear", "--all", *cache).exit_code == 0
    assert [kind["kind"] for kind in json.loads(call("cache", "info", "--json", *cache).stdout)["kinds"]] == ["texts"]


def test_a_results_folder_that_cannot_be_written_is_said_before_any_work(tmp_path, folders, monkeypatch):
    (tmp_path / "results").write_text("a file where a folder should be")
    monkeypatch.setattr("harness.run.build_cached", lambda *_: pytest.fail("an encoder was built"))
    refused(
        2,
        f"{tmp_path / 'results'}: results cannot be written there (File exists); make room or give write permission, "
        "or name another --results-dir",
        *("run", "-s", "mini", "-m", "random", *folders),
    )


def test_finished_results_are_shown_from_a_folder_that_cannot_be_written(tmp_path, folders, monkeypatch):
    def refuse(**_):
        raise PermissionError(13, "Permission denied")

    assert call("run", "-t", "mini-sts", "-m", "random", *folders).exit_code == 0
    names = {path.name.partition("_")[0] for path in (tmp_path / "results").iterdir()}
    assert names == {".lock", "index.csv", "items", "random"}  # no trace of the check
    monkeypatch.setattr("harness.run.tempfile.TemporaryFile", refuse)
    assert call("run", "-t", "mini-sts", "-m", "random", *folders).exit_code == 0
    refused(
        2,
        f"{tmp_path / 'results'}: results cannot be written there (Permission denied); make room or give write "
        "permission, or name another --results-dir",
        *("run", "-t", "mini-sts", "-m", "random", "--force", *folders),
    )


def test_an_error_that_cells_share_is_said_once(folders):
    done = call("run", "-t", "mini-sts,mini-mr", "-m", "hf:no/such-model", "--offline", *folders)
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("bench: ")]
    assert "no/such-model" in line and line.endswith(" (2 cells)")


def test_help_keeps_what_is_in_brackets():
    assert "bench explain --model minilm[pooling=cls_before_pooler]" in " ".join(
        call("explain", "--help").stdout.split()
    )
    assert "source:table:model[:backbone[:variant]]" in call("explain", "--help").stdout


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (("report", "--device", "tpu"), "--device"),
        (("compare", "a", "b", "--data-dir", "x"), "--data-dir"),
        (("list", "--offline"), "--offline"),
        (("run", "--modle", "test"), "--modle"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(arguments, option):
    done = call(*arguments)
    assert done.exit_code == 2 and f"No such option: {option}" in done.stderr


def test_an_environment_variable_stands_for_an_option(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCH_RESULTS_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("BENCH_CACHE_DIR", str(tmp_path / "cache"))
    assert call("run", "-t", "mini-sts", "-m", "random", "--offline").exit_code == 0
    assert (tmp_path / "elsewhere").is_dir()


def bench_process(*arguments, **settings):
    return subprocess.run(
        [sys.executable, "-m", "harness", *map(str, arguments)],
        text=True,
        errors="replace",
        timeout=120,
        check=False,
        **settings,
    )


def test_a_notice_that_cannot_be_written_ends_no_work(tmp_path, folders):
    with Path("/dev/full").open("w") as full:
        done = bench_process(
            *("run", "-t", "mini-sts,mini-mrpc", "-m", "random", "--json", *folders),
            stdout=subprocess.PIPE,
            stderr=full,
        )
    assert done.returncode == 0
    assert [cell["error"] for cell in json.loads(done.stdout)] == [None, None]


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_that_cannot_be_written_is_one_sentence(unbuffered):
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    with Path("/dev/full").open("w") as full:
        done = bench_process("list", "suites", "--json", stdout=full, stderr=subprocess.PIPE, env=environment)
    assert done.returncode == 2
    assert done.stderr.startswith("bench: standard output: cannot be written (No space left on device); ")
    assert len(done.stderr.splitlines()) == 1


def test_a_closed_output_is_no_traceback():
    code = f"exec {sys.executable} -m harness list suites --json >&-"
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_an_output_of_another_encoding_gets_a_replacement_character(folders, stored, tmp_path, encoding):
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    models = "bag-of-words,bert-whitening[backbone=tiny,fit=target]"
    done = bench_process("run", "-q", "-t", "mini-sts", "-m", models, *folders, capture_output=True, env=environment)
    assert done.returncode == 0, done.stderr
    report = ("report", "--output", tmp_path / "out", "--no-intervals", *stored)
    done = bench_process(*report, capture_output=True, env=environment)
    assert done.returncode == 0, done.stderr


def test_a_notebooks_drawing_backend_does_not_end_a_plot(folders, tmp_path):
    environment = {**os.environ, "MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    call("run", "-q", "-t", "mini-sts,mini-geometry", "-m", "random", *folders)
    words = ("plot", "spectrum", "--task", "mini-geometry", "--output", tmp_path / "figures", *folders)
    done = bench_process(*words, capture_output=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "figures" / "spectrum-mini-geometry.png").exists()


def test_a_folder_name_that_is_too_long_is_one_sentence(folders):
    done = call("run", "-t", "mini-sts", "-m", "random", "--results-dir", "n" * 300, *folders[2:])
    assert done.exit_code == 2
    assert "File name too long" in done.stderr and len(done.stderr.splitlines()) == 1


def test_a_working_directory_that_is_gone_is_said(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    done = call("run", "-t", "mini-sts", "-m", "random")
    assert done.exit_code == 2
    assert done.stderr == (
        "bench: the working directory is gone, expected a folder that is there; change to another one\n"
    )
