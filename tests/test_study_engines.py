"""A study on several workers: the same numbers as one process gives, nothing twice and nothing lost."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

from harness.cli.main import app
from harness.results.store import read_all
from harness.studies import engines
from harness.studies.cells import Board, cells_of
from harness.studies.engines import ENGINES
from harness.studies.study import load_study

METHODS = """
suites = ["mini"]
backbone = "tiny"
seeds = "0-2"
device = "cpu"
[[models]]
model = "bert-flow"
fit = "mini-nli"
[[models]]
model = "simcse-unsup"
max_steps = 10
[[models]]
model = "simcse-sup"
max_steps = 5
[slurm]
cluster = "local"
timeout_min = 10
[ray]
num_cpus = 1
"""
_COMMAND = [sys.executable, "-m", "harness", "study", "study.toml", "-q"]
CONTROLS = """
tasks = ["mini-sts"]
device = "cpu"
[[models]]
model = "random"
seeds = "0-3"
[[models]]
model = "bag-of-words"
dim = [8, 16]
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(text):
        (tmp_path / "study.toml").write_text(text, encoding="utf-8")
        return load_study(tmp_path / "study.toml", tmp_path / "cache")

    return write


def scores(folder):
    results, problems = read_all(folder)
    assert not problems
    return {(one.encoder.name, one.task): dict(one.scores) for one in results}


def bench(*arguments):
    done = CliRunner().invoke(app, ["study", "study.toml", "-q", *map(str, arguments)])
    assert done.exit_code == 0, done.output


def records(folder):
    return [json.loads(path.read_bytes()) for path in (folder / ".study").glob("*.json")]


@pytest.mark.slow
def test_two_processes_give_what_one_gives_and_each_cell_is_done_once(write, tmp_path):
    write(CONTROLS)
    for workers in (1, 2):
        bench("--workers", workers, "--results-dir", f"r{workers}", "--cache-dir", f"c{workers}")
        assert [one["attempts"] for one in records(tmp_path / f"r{workers}")] == [1, 1]
    assert scores(tmp_path / "r2") == scores(tmp_path / "r1")


@pytest.fixture(scope="module")
def one_process(tmp_path_factory, shared):
    """Three methods with three seeds on sts-dev and mini, done by one process; the folder, and the scores."""
    folder = tmp_path_factory.mktemp("study")
    text = METHODS.replace('["mini"]', f'["sts-dev", "mini"]\ndata_dir = "{shared / "data/senteval"}"')
    (folder / "study.toml").write_text(text, encoding="utf-8")
    subprocess.run([*_COMMAND, "--results-dir", "one", "--cache-dir", "c-one"], cwd=folder, check=True)
    expected = scores(folder / "one")
    assert len(expected) == 9 * 6
    return folder, expected


@pytest.mark.slow
def test_two_processes_one_of_which_is_killed_lose_nothing_and_do_nothing_twice(one_process):
    folder, expected = one_process
    arguments = ["--workers", "2", "--results-dir", "pool", "--cache-dir", "c-pool"]
    pool = subprocess.Popen([*_COMMAND, *arguments], cwd=folder)
    killed = _kill_one(folder / "pool", pool)
    assert pool.wait() == 0
    assert scores(folder / "pool") == expected
    attempts = {one["label"]: one["attempts"] for one in records(folder / "pool")}
    assert attempts == {label: 2 if label == killed else 1 for label in attempts}


@pytest.mark.slow
@pytest.mark.parametrize(("engine", "package"), [("ray", "ray"), ("slurm", "submitit")])
def test_every_engine_gives_the_same_numbers(one_process, engine, package):
    pytest.importorskip(package)
    folder, expected = one_process
    arguments = ["--engine", engine, "--workers", "2", "--results-dir", engine, "--cache-dir", f"c-{engine}"]
    subprocess.run([*_COMMAND, *arguments], cwd=folder, check=True)
    assert scores(folder / engine) == expected
    assert {one["attempts"] for one in records(folder / engine)} == {1}


def _slurm_has_a_node():
    return shutil.which("sinfo") and bool(subprocess.run(["sinfo", "-h"], capture_output=True, check=False).stdout)


@pytest.mark.slow
@pytest.mark.skipif(not _slurm_has_a_node(), reason="no Slurm answers here")
def test_jobs_of_a_real_slurm_one_of_which_is_killed_lose_nothing(one_process):
    pytest.importorskip("submitit")
    folder, expected = one_process
    text = (folder / "study.toml").read_text(encoding="utf-8").replace('cluster = "local"\n', "")
    (folder / "slurm.toml").write_text(text, encoding="utf-8")
    command = [*_COMMAND[:-2], "slurm.toml", "-q", "--engine", "slurm", "--workers", "2"]
    jobs = subprocess.Popen([*command, "--results-dir", "jobs", "--cache-dir", "c-jobs"], cwd=folder)
    killed = _kill_one(folder / "jobs", jobs)
    assert jobs.wait() == 0
    assert scores(folder / "jobs") == expected
    attempts = {one["label"]: one["attempts"] for one in records(folder / "jobs")}
    assert attempts == {label: 2 if label == killed else 1 for label in attempts}


def _kill_one(folder, pool):
    """Kill a worker that is in the middle of a cell; the cell's label."""
    while pool.poll() is None:
        running = [one for one in records(folder) if one["state"] == "running"] if folder.exists() else []
        if len(running) == 2:
            time.sleep(1)
            host_and_process = running[0]["worker"]
            os.kill(int(host_and_process.rpartition(":")[2]), signal.SIGKILL)
            return running[0]["label"]
        time.sleep(0.1)
    raise AssertionError("the pool ended before a worker could be killed")


@pytest.mark.slow
def test_a_ray_cluster_of_two_nodes_does_a_study_and_loses_a_node(write, tmp_path):
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    study = write(CONTROLS.replace("mini-sts", "mini-mr"))
    node = {"num_cpus": 1, "object_store_memory": 100 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    second = cluster.add_node(**node)
    try:
        ray.init(address=cluster.address, log_to_driver=False, logging_level="error")
        board = Board(study, cells_of(study))
        board.open()
        with ENGINES["ray"](study, 2) as alive:
            _wait(lambda: "running" in board.states().values())
            cluster.remove_node(second, allow_graceful=False)
            _wait(lambda: not board.open_cells(board.states()) or not alive())
        assert set(board.states().values()) == {"done"}
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert len(scores(tmp_path / "results")) == 6


def _wait(until, seconds=240):
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.3)


@pytest.mark.slow
def test_jobs_of_slurm_are_as_many_as_workers(write, monkeypatch):
    submitit = pytest.importorskip("submitit")
    study = write(CONTROLS + '[slurm]\ncluster = "debug"\n')
    started = []
    monkeypatch.setattr(engines, "work", started.append)
    monkeypatch.setattr(submitit.core.utils.CommandFunction, "__call__", lambda self: None)
    with ENGINES["slurm"](study, 3) as alive:
        assert alive() == 0  # the debug executor does its jobs when they are asked for
    assert started == [study] * 3


def test_a_job_near_its_limit_leaves_its_cell_for_its_next_start(write, monkeypatch):
    """Submitit raises SystemExit wherever the work is, once it has queued the job again."""
    study = write(CONTROLS)
    board = Board(study, cells_of(study))

    def near(number, frame):
        raise SystemExit(-1)

    def encode(sentences):
        os.kill(os.getpid(), signal.SIGUSR2)
        raise AssertionError("the signal comes first")

    before = signal.signal(signal.SIGUSR2, near)
    try:
        with monkeypatch.context() as patch:
            patch.setattr("harness.encoders.registry.RandomEncoder.encode", lambda self, sentences: encode(sentences))
            board.open()
            with pytest.raises(SystemExit):
                engines._Job()(study)
        assert "running" not in board.states().values()
        assert {board.record(cell).attempts for cell in board.cells} == {0}
    finally:
        signal.signal(signal.SIGUSR2, before)
