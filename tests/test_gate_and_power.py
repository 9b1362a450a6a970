"""`bench check`, `bench power` and `bench doctor`: exit codes, and numbers by a second route."""

import json
import shutil

import numpy as np
import pytest
from scipy import stats
from test_compare import card, similarity
from typer.testing import CliRunner

from harness import files
from harness.cli.main import app
from harness.errors import WriteError
from harness.names import STS
from harness.reports.comparison import check
from harness.reports.contrasts import Spread
from harness.reports.power import Noise, plan_power, runs_of
from harness.results.store import read_all


def bench(*arguments):
    return CliRunner().invoke(app, [str(one) for one in arguments])


def store(root, noise, *names, tasks=("STS12",), seed=1):
    for number, name in enumerate(names):
        for task in tasks:
            similarity(root, card(name, trained_on="wiki", seed=number), task, noise, seed + number)


def test_the_same_results_pass_and_a_clear_drop_does_not(tmp_path):
    store(tmp_path / "a", 0.2, "x")
    store(tmp_path / "b", 0.6, "x", seed=5)
    assert bench("check", tmp_path / "a", "--baseline", tmp_path / "a").exit_code == 0
    assert bench("check", tmp_path / "b", "--baseline", tmp_path / "a").exit_code == 1
    assert bench("check", tmp_path / "a", "--baseline", tmp_path / "b").exit_code == 0


def test_an_interval_that_contains_the_allowed_drop_is_undecided(tmp_path):
    store(tmp_path / "a", 0.5, "x")
    store(tmp_path / "b", 0.5, "x", seed=7)
    done = bench("check", tmp_path / "b", "--baseline", tmp_path / "a", "-q")
    assert done.exit_code == 2
    assert done.stderr == (
        "bench: not decided: of 1 intervals 1 contain the allowed drop of 0.3 points, and 0 results of the baseline "
        "have no counterpart\n"
    )
    assert bench("check", tmp_path / "b", "--baseline", tmp_path / "a", "--max-drop", 50).exit_code == 0


def test_a_mistake_has_the_exit_code_of_what_is_not_decided_and_says_so(tmp_path):
    store(tmp_path / "a", 0.5, "x")
    for wrong, said in (
        (["--max-drop", "-1"], "Invalid value for '--max-drop'"),
        (["--baseline", tmp_path / "none"], "none: no such folder"),
    ):
        done = bench("check", tmp_path / "a", "--baseline", tmp_path / "a", *wrong)
        assert done.exit_code == 2
        assert said in done.stderr
        assert "not decided" not in done.stderr


def test_a_damaged_baseline_is_told(tmp_path):
    store(tmp_path / "a", 0.2, "x", tasks=("STS12", "STS13"))
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    next((tmp_path / "a").glob("x*/STS13*")).write_text("{")
    done = bench("check", tmp_path / "b", "--baseline", tmp_path / "a")
    assert "bench: left out: " in done.stderr
    assert "STS13" in done.stderr


def test_a_result_that_is_gone_does_not_pass(tmp_path):
    store(tmp_path / "a", 0.2, "x", tasks=("STS12", "STS13"))
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    for path in (tmp_path / "b").glob("x*/STS13*"):
        path.unlink()
    done = bench("check", tmp_path / "b", "--baseline", tmp_path / "a", "--json")
    said = json.loads(done.stdout)
    assert (done.exit_code, said["outcome"]) == (2, "undecided")
    assert said["missing"] == ["x: STS13 (sts) is in the baseline alone"]


def test_seeds_are_paired_and_the_average_is_judged_too(tmp_path):
    names = [f"x[seed={n}]" for n in range(3)]
    store(tmp_path / "a", 0.3, *names, tasks=STS)
    store(tmp_path / "b", 0.3, *names, tasks=STS)  # the same runs: every difference is 0
    found = check(read_all(tmp_path / "a")[0], read_all(tmp_path / "b")[0], 0.3)
    assert [change.task for change in found.changes] == [*sorted(STS, key=lambda t: f"{t}.sts"), "average"]
    assert {(one.encoder, one.runs, one.low, one.high) for one in found.changes} == {("x", 3, 0.0, 0.0)}


def test_nothing_to_compare_is_said(tmp_path):
    store(tmp_path / "a", 0.2, "x")
    done = bench("check", tmp_path / "none", "--baseline", tmp_path / "a")
    assert (done.exit_code, done.stderr) == (
        2,
        f"bench: {tmp_path / 'none'}: no such folder, expected one of results; `bench run` makes one\n",
    )


@pytest.mark.parametrize(("gain", "deviation"), [(1.0, 0.84), (0.5, 0.84), (2.0, 1.5)])
def test_the_number_of_seeds_has_the_power_that_was_asked_for(gain, deviation):
    """By the noncentral t distribution of a two-sample test; the plan is exact to about one seed."""

    def power(n):
        freedom, shift = 2 * (n - 1), gain / deviation * np.sqrt(n / 2)
        return stats.nct.sf(stats.t.ppf(0.975, freedom), freedom, shift)

    n = Noise(spread=Spread(deviation, 49)).seeds_for(gain, 0.8)
    assert power(n + 1) >= 0.8 > power(n - 2)


def test_items_that_no_seed_removes_hide_a_small_gain():
    noise = Noise(spread=Spread(0.1, 9), between=1.0)
    assert noise.seeds_for(2.0, 0.8) is None
    assert noise.smallest(1000, 0.8) == pytest.approx(stats.norm.ppf(0.975) + stats.norm.ppf(0.8), rel=0.01)


def test_own_seeds_and_published_runs_tell_the_spread(tmp_path):
    published = runs_of("simcse-unsup", "", [], STS)
    assert plan_power(0.5, 0.8, published).noise.spread.deviation == pytest.approx(0.84, abs=0.01)
    store(tmp_path, 0.3, *(f"x[seed={n}]" for n in range(4)))
    results, _ = read_all(tmp_path)
    scores = [100 * one.scores[one.metric] for one in results]
    found = plan_power(0.5, 0.8, runs_of("x", "", results, ["STS12"]))
    assert found.noise.spread == Spread(pytest.approx(np.std(scores, ddof=1)), 3)
    assert (found.recipe, found.measured, found.published) == ("x", 4, 0)
    assert found.noise.within > 0


def test_power_without_a_known_spread_says_what_to_do(tmp_path):
    done = bench("power", "--gain", 0.5, "--encoder", "nothing", "--results-dir", tmp_path)
    assert done.exit_code == 2
    assert "expected two seeds at the least; measure more seeds with `bench run`" in done.stderr
    done = bench("power", "--gain", 0.5, "--encoder", "simcse-unsup", "--results-dir", tmp_path)
    assert "46 seeds of each method" in done.stdout


def test_the_doctor_names_what_stands_in_the_way(tmp_path):
    done = bench("doctor", "--offline", "--json", "--results-dir", tmp_path)
    assert done.exit_code == 0
    facts = {one["what"]: one["found"] for one in json.loads(done.stdout)}
    assert {"python", "torch", "machine", "threads", "cache", "results", "data", "hub"} <= set(facts)
    done = bench("doctor", "--offline", "--json", "--data-dir", tmp_path / "none")
    assert done.exit_code == 1
    assert [one["what"] for one in json.loads(done.stdout) if one["problem"]] == ["data"]


def test_a_disk_whose_locks_keep_nobody_out_is_refused(tmp_path, monkeypatch):
    files.check_locks(tmp_path)
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr("fcntl.flock", lambda *_: None)
    with pytest.raises(WriteError) as caught:
        files.check_locks(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path}: files cannot be locked there (a second lock is granted while")
