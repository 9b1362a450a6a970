"""Studies: the file and its errors, cells and their order, records and locks, and runs on one process."""

import errno
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.cli.main import app
from harness.cli.plot import plot_app
from harness.encoders.context import Context
from harness.encoders.registry import resolve
from harness.errors import UsageError
from harness.reports.figures import canvas
from harness.results.store import read_all
from harness.studies.cells import MOST_ATTEMPTS, Board, Cell, Record, cells_of
from harness.studies.plan import simulate
from harness.studies.study import FIGURES, load_study, study_of

CONTROLS = """
tasks = ["mini-sts"]
[[models]]
model = "random"
seeds = "0-1"
[[models]]
model = "bag-of-words"
dim = [8, 16]
"""


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Writes a study file into an empty folder, which is the working folder from then on."""
    monkeypatch.chdir(tmp_path)

    def study(text):
        (tmp_path / "study.toml").write_text(text, encoding="utf-8")
        return load_study(tmp_path / "study.toml", tmp_path / "cache")

    return study


def bench(*arguments):
    return CliRunner().invoke(app, [str(one) for one in arguments])


def test_a_grid_is_every_combination_with_every_seed(study):
    found = study(
        'suites = ["mini"]\nseeds = [3, 4]\nbackbone = "tiny"\n'
        '[[models]]\nmodel = "bert"\npooling = ["cls", "avg"]\n'
        '[[models]]\nmodel = "simcse-unsup[max_steps=5]"\ntemperature = [0.05, 0.1]\n'
        '[[models]]\nmodel = "simcse-unsup[max_steps=5]"\ntemperature = 0.1\nseeds = "4"\n'
    )
    assert found.specs == [
        "bert[backbone=tiny,pooling=cls]",
        "bert[backbone=tiny,pooling=avg]",
        "simcse-unsup[backbone=tiny,seed=3,max_steps=5]",
        "simcse-unsup[backbone=tiny,seed=4,max_steps=5]",
        "simcse-unsup[backbone=tiny,seed=3,max_steps=5,temperature=0.1]",
        "simcse-unsup[backbone=tiny,seed=4,max_steps=5,temperature=0.1]",
    ]
    assert [task.name for task in found.chosen_tasks()] == ["mini-sts", "mini-mr", "mini-mrpc", "mini-geometry"]


_MODEL = '[[models]]\nmodel = "random"\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f'suite = ["mini"]\n{_MODEL}', "1: suite: there is no such key; did you mean 'suites'?"),
        (
            f'suites = ["mini"]\n{_MODEL}[report]\nformat = ["md"]\n',
            "5: report.format: there is no such key; did you mean 'formats'?",
        ),
        (
            f'suites = ["mini"]\n{_MODEL}[report]\noutput = "o"\nfigures = ["spectrum", "heatmap"]\n',
            "6: report.figures: no figure is named 'heatmap'; did you mean 'heat-map'?",
        ),
        (
            f'suites = ["mini"]\n{_MODEL}[report]\ntables = ["stss-all"]\n',
            "5: report.tables: no table is named 'stss-all'; did you mean 'sts-all'?",
        ),
        ('suites = ["mini"]\n', "1: models: is missing; every study has models, and each of them names its model"),
        (
            f'suites = ["mini"]\n{_MODEL}[[models]]\ndim = 3\n',
            "4: models.model: is missing; every study has models, and each of them names its model",
        ),
        (
            f'suites = ["mini"]\n{_MODEL}dim = []\n',
            "4: models.dim: the list is empty, so nothing would be measured; give values",
        ),
        (
            f'suites = ["mini"]\n{_MODEL}seeds = []\n',
            '4: models.seeds: expected seeds such as [0, 1, 2] or "0-4", at least one',
        ),
        (
            f'suites = ["mini"]\nseeds = "x"\n{_MODEL}',
            '2: seeds: expected seeds such as [0, 1, 2] or "0-4", at least one',
        ),
        (
            f'suites = ["mini"]\n{_MODEL}[[models]]\nmodel = "bert"\npoling = "avg"\n',
            "5: models.model: model 'bert' has no parameter 'poling'; did you mean 'pooling'?",
        ),
        (
            f'suites = ["mini"]\n{_MODEL}# again\n[[models]]\nmodel = "brt"\n',
            "6: models.model: no model is named 'brt'; did you mean 'bert'?",
        ),
        (
            f'suites = ["mini"]\n{_MODEL}mode = "devv"\n',
            "4: models.mode: no mode is named 'devv'; did you mean 'dev'?",
        ),
        (f'suites = ["minni"]\n{_MODEL}', "1: suites: no suite is named 'minni'; did you mean 'mini'?"),
        (
            f"offline = true\n{_MODEL}",
            "1: offline: there is no such key; known: title, suites, tasks, mode, classifier, seeds, backbone, device, "
            "dtype, results_dir, data_dir, cache_dir, models, report, ray, slurm",
        ),
        (_MODEL, "1: suites: there are neither suites nor tasks, so nothing would be measured; name some"),
        (
            f'suites = "mini"\n{_MODEL}',
            "1: suites: 'mini' cannot be used: input should be a valid list",
        ),
        (
            'suites = ["mini"]\n[[models]]\nmodel = "bert[pooling=avg]"\npooling = "cls"\n',
            "4: models.pooling: bert[pooling=avg] gives it too; keep one",
        ),
    ],
)
def test_an_error_names_line_and_key(study, tmp_path, text, said):
    with pytest.raises(UsageError) as caught:
        study(text)
    assert str(caught.value) == f"{tmp_path / 'study.toml'}:{said}"


def test_what_is_no_toml_is_refused(study):
    with pytest.raises(UsageError, match=r"is not TOML \(.*line 1, column"):
        study("suites = ]\n")


def test_poolings_of_one_backbone_are_one_cell_and_trainings_come_first(study):
    found = study(
        'suites = ["mini"]\nbackbone = "tiny"\nseeds = [0, 1]\n'
        '[[models]]\nmodel = "bert"\npooling = ["cls", "avg"]\n'
        '[[models]]\nmodel = "bert-whitening"\nfit = "mini-nli"\ndim = [8, 16]\n'
        '[[models]]\nmodel = "bert-flow"\nfit = "mini-nli"\n'
        '[[models]]\nmodel = "simcse-unsup"\nmax_steps = 1\n'
    )
    cells = cells_of(found)
    assert [(cell.kind, len(cell.specs), len(cell.needs)) for cell in cells] == [
        ("train", 1, 0),
        ("train", 1, 0),
        ("fit", 2, 0),  # both read the same vectors
        ("fit", 1, 0),  # with dropout, each computes its own
        ("fit", 1, 0),
        ("score", 2, 0),
        ("score", 4, 3),
        ("score", 1, 1),
        ("score", 1, 1),
    ]
    keys = [cell.key for cell in cells]
    assert len(set(keys)) == len(keys)
    assert all(keys.index(need) < keys.index(cell.key) for cell in cells for need in cell.needs)


def test_a_study_is_measured_once(study, tmp_path):
    study(CONTROLS)
    done = bench("study", "study.toml")
    assert done.exit_code == 0, done.output
    results, problems = read_all(tmp_path / "results")
    assert not problems
    assert sorted(one.encoder.name for one in results) == [
        "bag-of-words[dim=16]",
        "bag-of-words[dim=8]",
        "random",
        "random[seed=1]",
    ]
    before = {one.file: one.run.started for one in results}
    again = bench("study", "study.toml")
    assert "cells: 2 done" in again.stderr
    assert {one.file: one.run.started for one in read_all(tmp_path / "results")[0]} == before
    said = json.loads(bench("study", "study.toml", "--status", "--json").stdout)
    assert [(one["cell"], one["state"]) for one in said] == [
        ("score random and 1 more", "done"),
        ("score bag-of-words[dim=8] and 1 more", "done"),
    ]
    assert not bench("results", "check", "--results-dir", tmp_path / "results").exit_code
    assert bench("study", "study.toml", "--report").exit_code == 0
    assert (tmp_path / "reports/report.md").is_file()


def test_a_log_file_says_how_far_the_study_is(study, monkeypatch):
    monkeypatch.setattr("harness.progress._SECONDS_BETWEEN_LINES", 0)
    study(CONTROLS)
    said = bench("study", "study.toml").stderr
    assert "bench: cells: 0 of 2, 0 running, 0 failed\n" in said
    assert "bench: cells: 1 of 2, 0 running, 0 failed, less than a minute left\n" in said


def test_a_report_draws_the_figures_that_the_study_wants(study, tmp_path, monkeypatch):
    monkeypatch.setattr(canvas, "_FORMATS", {})
    assert [*FIGURES] == [one.name for one in plot_app.registered_commands]
    wanted = [*FIGURES]
    text = CONTROLS.replace("mini-sts", 'mini-sts", "mini-geometry') + f"[report]\nfigures = {wanted}\n"
    study(text.replace('model = "random"\nseeds = "0-1"', 'model = "random"'))
    assert bench("study", "study.toml").exit_code == 0
    done = bench("study", "study.toml", "--report", "--cache-dir", "cache")
    assert done.exit_code == 1
    assert "bench: trajectory: cache/trained: nothing to draw, found no finished training of this study" in done.stderr
    drawn = {path.name for path in (tmp_path / "reports/figures").glob("*.csv")}
    geometry = {f"{name}-mini-geometry.csv" for name in ("alignment-uniformity", "spectrum", "similarity-density")}
    assert drawn == {*geometry, "scores-mini.csv", "heat-map-mini.csv"}
    study(text.replace(", 'trajectory'", "") + 'tables = ["mini"]\n')
    assert bench("study", "study.toml", "--report").exit_code == 0


def test_what_was_measured_without_a_study_counts(study):
    assert bench("run", "--tasks", "mini-sts", "--models", "random,random[seed=1]").exit_code == 0
    board = Board(found := study(CONTROLS), cells_of(found))
    assert list(board.states().values()) == ["done", "waiting"]


def test_missing_data_fail_their_cells_and_a_later_start_tries_again(study):
    study(CONTROLS.replace("mini-sts", "STS12"))
    done = bench("study", "study.toml", "--offline")
    assert done.exit_code == 2
    assert "SentEval's data was not downloaded before and the network is switched off" in done.output
    said = json.loads(bench("study", "study.toml", "--status", "--json").stdout)
    assert {one["state"] for one in said} == {"failed"}
    assert bench("study", "study.toml", "--offline").exit_code == 2


def test_nothing_is_fitted_for_scores_that_have_no_data(study, tmp_path):
    text = 'tasks = ["STS12", "CR"]\n[[models]]\nmodel = "bert-whitening[backbone=tiny,fit=mini-wiki]"\n'
    study(text)
    words = ("study", "study.toml", "--offline", "--cache-dir", tmp_path / "cache")
    assert bench(*words).exit_code == 2
    assert not (tmp_path / "cache" / "fits").exists()
    study(text.replace('"STS12", "CR"', '"mini-mr"'))
    assert bench(*words).exit_code == 0
    assert [one.task for one in read_all(tmp_path / "results")[0]] == ["mini-mr"]
    assert [*(tmp_path / "cache" / "fits").iterdir()]


def test_a_cell_is_held_by_one_and_free_again_when_its_holder_is_killed(study, tmp_path):
    board = Board(found := study(CONTROLS), cells_of(found))
    board.open()
    cell = board.cells[0]
    with board.claim(cell) as record:
        assert record is not None
        assert board.record(cell).state == "running"
        with Board(found, board.cells).claim(cell) as other:
            assert other is None
        assert board.is_held(cell)
    code = (  # takes the cell and dies without a word
        "import os, signal, sys; from pathlib import Path\n"
        "from harness.studies.cells import Board, cells_of; from harness.studies.study import load_study\n"
        "study = load_study(Path('study.toml'), Path('cache')); board = Board(study, cells_of(study))\n"
        "with board.claim(board.cells[0]): os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False).returncode == -9
    assert board.record(cell).state == "running"
    assert not board.is_held(cell)
    with board.claim(cell) as record:
        assert record is not None
        assert record.attempts == 3  # this test's, the killed one's, and this
        board.write(cell, replace(record, state="done"))
    with board.claim(cell) as record:
        assert record is None


def test_a_cell_that_kills_its_workers_is_given_up(study):
    board = Board(found := study(CONTROLS), cells_of(found))
    board.open()
    cell = board.cells[0]
    board.write(cell, Record(state="running", label=cell.label, worker="a:1", attempts=MOST_ATTEMPTS))
    with board.claim(cell) as record:
        assert record is None
    assert board.record(cell).error == (
        "score random and 1 more: 3 workers were killed while they did it, the last one a:1; give it more memory or "
        "time, or fewer workers, and run the study again"
    )
    assert cell not in board.open_cells(board.states())


def test_what_needs_a_failed_cell_is_not_begun(study):
    found = study('suites = ["mini"]\nbackbone = "tiny"\n[[models]]\nmodel = "simcse-unsup"\nmax_steps = 1\n')
    board = Board(found, cells_of(found))
    board.open()
    train, score = board.cells
    board.write(train, Record(state="failed", label=train.label, error="no", exit_code=1))
    assert board.open_cells(board.states()) == []
    said = json.loads(bench("study", "study.toml", "--status", "--json", "--cache-dir", "cache").stdout)
    assert [one["state"] for one in said] == ["failed", "blocked"]
    board.open()
    assert board.open_cells(board.states()) == [train, score]


def test_deleted_results_are_measured_again(study, tmp_path):
    study(CONTROLS)
    bench("study", "study.toml")
    next((tmp_path / "results").glob("random_*/mini-sts*.json")).unlink()
    board = Board(found := study(CONTROLS), cells_of(found))
    assert list(board.states().values()) == ["waiting", "done"]


def test_a_file_that_has_changed_makes_another_cell(study, tmp_path):
    (tmp_path / "my.txt").write_text("A man is playing.\nA dog runs.\n")
    text = 'tasks = ["mini-sts"]\nbackbone = "tiny"\n[[models]]\nmodel = "bert-whitening"\nfit = "my.txt"\n'
    first = [cell.key for cell in cells_of(study(text))]
    os.utime(tmp_path / "my.txt", (0, 0))  # as on a machine that has a copy
    assert [cell.key for cell in cells_of(study(text))] == first
    (tmp_path / "my.txt").write_text("A man is playing.\nA dog runs fast.\n")
    assert not set(first) & {cell.key for cell in cells_of(study(text))}


def test_an_error_is_told_once(study):
    study('tasks = ["mini-sts"]\n[[models]]\nmodel = "bert"\nbackbone = "./none"\n')
    done = bench("study", "study.toml", "--offline", "--cache-dir", "cache")
    assert done.exit_code == 2
    assert done.stderr.count("no such folder") == 1


def test_a_damaged_result_is_no_result(study, tmp_path):
    study(CONTROLS)
    bench("study", "study.toml")
    next((tmp_path / "results").glob("random_*/mini-sts*.json")).write_text("{")
    board = Board(found := study(CONTROLS), cells_of(found))
    assert list(board.states().values()) == ["waiting", "done"]
    done = bench("study", "study.toml")
    assert done.exit_code == 2
    assert "mini-sts" in done.stderr


def test_a_plan_counts_what_is_to_do_and_changes_nothing(study, tmp_path):
    study(
        'tasks = ["mini-sts", "STS12"]\nbackbone = "tiny"\nseeds = [0]\n'
        '[[models]]\nmodel = "bert"\npooling = ["cls", "avg"]\n'
        '[[models]]\nmodel = "simcse-unsup"\nmax_steps = 3\n'
        '[[models]]\nmodel = "bert-whitening"\nfit = "none.txt"\n'
        '[[models]]\nmodel = "bert"\nbackbone = "no/such"\n'
    )
    said = json.loads(bench("study", "study.toml", "--plan", "--json", "--offline", "--cache-dir", "cache").stdout)
    cells = {one["label"].partition("[")[0]: one for one in said["cells"]}
    assert (said["results"], said["measured"]) == (10, 0)
    assert cells["train simcse-unsup"]["steps"] == 3
    assert cells["train simcse-unsup"]["seconds"] is None  # nothing was measured here yet
    n = said["sentences"]
    both = said["cells"][2]
    assert (both["label"], both["sentences"], both["cached"]) == (
        "score bert[backbone=tiny,pooling=cls] and 1 more",
        n,
        0,
    )
    assert both["tokens"] > n
    assert any("none.txt: no such text" in sentence for sentence in said["missing"])
    assert any("no/such: not on this machine" in sentence for sentence in said["missing"])
    assert any("SentEval's data was not downloaded" in sentence for sentence in said["missing"])
    assert not (tmp_path / "results").exists()


def test_a_plan_counts_the_sentences_below_a_fitted_map(study):
    study('tasks = ["mini-sts"]\nbackbone = "tiny"\n[[models]]\nmodel = "bert-whitening"\nfit = "mini-wiki"\n')
    said = json.loads(bench("study", "study.toml", "--plan", "--json", "--cache-dir", "cache").stdout)
    (scoring,) = (one for one in said["cells"] if one["label"].startswith("score"))
    assert scoring["sentences"] == said["sentences"] > 100


def test_what_was_measured_tells_the_time_of_the_next_plan(study):
    study(CONTROLS)
    bench("study", "study.toml", "--cache-dir", "cache")
    study(CONTROLS.replace("0-1", "0-3"))
    said = json.loads(bench("study", "study.toml", "--plan", "--json", "-n", 2, "--cache-dir", "cache").stdout)
    assert said["unknown"] == 0
    assert 0 < said["seconds"]["2"] <= said["seconds"]["1"] < 60
    assert (said["results"], said["measured"]) == (6, 4)


def test_a_study_that_the_disk_cannot_hold_is_refused(study, monkeypatch):
    study('suites = ["mini"]\nbackbone = "tiny"\n[[models]]\nmodel = "bert"\n')
    monkeypatch.setattr("harness.studies.plan._free", lambda folder: 1000)
    paper = ("paper", "simcse", "--table", "5", "--backbone", "tiny")
    for command in (("study", "study.toml"), ("study", "study.toml", "--plan"), paper):
        done = bench(*command, "--cache-dir", "cache", "--offline")
        assert done.exit_code == 2
        assert "bench: cache: 0.0 GiB are free and the study needs about 0." in done.stderr


def test_workers_are_simulated_with_what_must_come_first():
    """Two trainings of 3 and 5, each with a score of 1, and a score of 4 that needs nothing."""
    cells = [
        *(Cell("train", (name,), (), name) for name in "ab"),
        Cell("score", ("c",), (), "c"),
        Cell("score", ("a",), ("a",), "sa"),
        Cell("score", ("b",), ("b",), "sb"),
    ]
    seconds = {"a": 3.0, "b": 5.0, "c": 4.0, "sa": 1.0, "sb": 1.0}
    assert simulate(cells, seconds, 1) == 14
    assert simulate(cells, seconds, 2) == 7  # a, c | b, sa, sb
    assert simulate(cells, seconds, 100) == 6  # the longest chain: b, sb


@pytest.mark.parametrize(
    ("command", "fault", "reason"),
    [
        (("study", "study.toml"), None, "a second lock is granted while the first is held"),
        (("study", "study.toml"), errno.ENOLCK, "No locks available"),
        (("study", "study.toml", "-n", "2"), errno.ENOSYS, "Function not implemented"),
        (("paper", "simcse", "--table", "5"), None, "a second lock is granted while the first is held"),
    ],
)
def test_a_results_folder_without_locks_is_refused(study, monkeypatch, command, fault, reason):
    def flock(*_):
        if fault:
            raise OSError(fault, os.strerror(fault))

    study(CONTROLS)
    monkeypatch.setattr("fcntl.flock", flock)
    done = bench(*command)
    assert done.exit_code == 2
    assert done.stderr.count("cannot be locked") == 1
    assert f"results/.study: files cannot be locked there ({reason}), expected a disk with locks" in done.stderr
    assert not [*Path("results").glob("*/*.json")]


@pytest.mark.parametrize(("engine", "package"), [("ray", "ray"), ("slurm", "submitit")])
def test_an_engine_that_is_not_installed_names_its_extra(study, monkeypatch, engine, package):
    study(CONTROLS)
    monkeypatch.setitem(sys.modules, package, None)
    done = bench("study", "study.toml", "--engine", engine)
    assert (done.exit_code, done.stderr) == (
        2,
        f"bench: --engine {engine}: the package {package} is not installed; install it with: pip install "
        f"'simcse-bench[{engine}]'\n",
    )


def test_a_whole_paper_is_one_study_of_what_it_lacks(study, tmp_path):
    study(CONTROLS)
    asked = ["paper", "simcse", "--table", "all", "--figure", "all", "--backbone", "tiny"]
    assert bench(*asked, "--study", "all.toml", "--dtype", "bfloat16").exit_code == 0
    found = load_study(tmp_path / "all.toml", tmp_path / "cache")
    missing = json.loads(bench(*asked, "--dry-run", "--json").stdout)
    assert {(spec, task.name, task.protocol) for spec, scoring in found.models for task in scoring.chosen()} == {
        (str(resolve(one["model"]).spec), one["task"], one["protocol"]) for one in missing
    }
    assert {one["protocol"] for one in missing} > {"senteval[mode=dev]", "senteval[mode=test]"}
    assert found.dtype == "bfloat16"
    assert {cell.kind for cell in cells_of(found)} == {"train", "fit", "score"}
    with pytest.raises(UsageError, match="nothing: there is no study of it, nothing is missing"):
        study_of("nothing", [], Context(cache_dir=tmp_path), tmp_path)


def test_a_model_may_have_tasks_and_a_mode_of_its_own(study):
    found = study(
        'suites = ["mini"]\n[[models]]\nmodel = "bag-of-words"\n'
        '[[models]]\nmodel = "bag-of-words"\ntasks = ["mini-mr"]\nmode = "dev"\n'
        '[[models]]\nmodel = "bag-of-words"\nsuites = ["mini"]\ndim = 8\n'
    )
    (mini, own) = cells_of(found)
    assert (mini.specs, len(mini.tasks())) == (("bag-of-words", "bag-of-words[dim=8]"), 4)
    assert (own.specs, [task.protocol for task in own.tasks()]) == (("bag-of-words",), ["senteval[mode=dev]"])
    assert bench("study", "study.toml", "--cache-dir", "cache", "-q").exit_code == 0
    said = json.loads(bench("study", "study.toml", "--plan", "--json", "--cache-dir", "cache").stdout)
    assert (said["results"], said["measured"]) == (9, 9)


def test_an_interrupted_cell_is_as_it_was(study):
    board = Board(found := study(CONTROLS), cells_of(found))
    board.open()
    with pytest.raises(KeyboardInterrupt), board.claim(board.cells[0]):
        raise KeyboardInterrupt
    assert board.record(board.cells[0]) == Record(label=board.cells[0].label)
