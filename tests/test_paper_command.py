"""`bench paper`: what it lists, runs, renders and draws, and what it refuses."""

import csv
import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
from report_cases import result
from test_paper import RERUN_OPTIONS, STS, dev, rerun, rerun_results
from typer.testing import CliRunner

from harness.cli.main import app
from harness.encoders.context import Context
from harness.encoders.registry import known_encoders
from harness.names import nearest
from harness.paper import Places, measure
from harness.reports.figures import canvas
from harness.reports.paper import Wanted
from harness.results import store
from harness.results.items import SeriesItems

bench = CliRunner()


def call(tmp_path, *arguments):
    folders = ["--results-dir", tmp_path / "results", "--cache-dir", tmp_path / "cache", "--offline"]
    return bench.invoke(app, [str(a) for a in ["paper", "simcse", *arguments, *folders]])


def test_the_commands_find_a_rerun_by_its_options(tmp_path):
    for one in rerun_results():
        store.write(one, tmp_path / "results")
    dry = call(tmp_path, "--table", "5", *RERUN_OPTIONS, "--dry-run", "--json")
    assert json.loads(dry.stdout) == []
    folders = ["--results-dir", str(tmp_path / "results"), "--json"]
    found = json.loads(bench.invoke(app, ["claims", "simcse", *RERUN_OPTIONS, *folders]).stdout)
    verdicts = {one["claim"]["name"]: one["verdict"] for one in found}
    assert verdicts["unsup-above-post-processing"] == "holds"
    done = call(tmp_path, "--table", "5", *RERUN_OPTIONS, "--output", tmp_path / "out", "--format", "json,csv", "-q")
    assert done.exit_code == 0, done.stderr
    records = json.loads((tmp_path / "out" / "simcse-table-5@tiny.json").read_text())
    lines = list(csv.DictReader((tmp_path / "out" / "simcse-table-5@tiny.csv").open()))
    assert [{key: "" if value is None else str(value) for key, value in one.items()} for one in records] == lines
    label, head = "SimCSE-BERT-base", "STS12"
    (mean, _) = (one for one in records if one["encoder"] == label and one["task"] == head and one["seeds"])
    assert (mean["value"], mean["seeds"]) == (52.0, 5)
    assert "seed=1" in mean["source"]


def test_the_command_lists_and_names_what_is_missing(tmp_path):
    listed = {row["target"]: row for row in json.loads(call(tmp_path, "--list", "--json").stdout)}
    assert listed["Table 5"]["numbers"] == 161
    assert listed["Figure 3"]["to fill"] == 27
    dry = json.loads(call(tmp_path, "--table", "B.2", "--backbone", "tiny", "--dry-run", "--json").stdout)
    assert len(dry) == 14
    assert dry[0] == {"model": "bert-whitening[backbone=tiny,fit=mini-nli]", "task": "STS12", "protocol": "sts"}
    assert not (tmp_path / "reports").exists()


def test_the_command_finds_what_is_measured_without_options(tmp_path):
    for one in rerun_results():
        store.write(one, tmp_path / "results")
    listed = {row["target"]: row for row in json.loads(call(tmp_path, "--list", "--json").stdout)}
    assert listed["Table 5"]["filled"] == 35  # all rows but bert-flow's, whose dropout=false only an option names
    assert call(tmp_path, "--table", "5", "--no-run", "-o", tmp_path).exit_code == 0
    assert "52.00 ± 1.58" in (tmp_path / "simcse-table-5@tiny.md").read_text()


def test_the_command_runs_renders_and_keeps_what_failed_as_an_exit_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    unsup = dev("simcse-unsup[backbone=tiny]", 0.5, backbone="tiny", seed=42)
    store.write(unsup, tmp_path / "results")
    done = call(tmp_path, "--table", "3", "--backbone", "tiny", "--data-dir", tmp_path / "nothing")
    assert done.exit_code == 2
    assert len(set(done.stderr.splitlines())) == len(done.stderr.splitlines())
    assert not list(tmp_path.rglob("trained"))  # nothing is trained for scores that have no data
    written = tmp_path / "reports" / "paper"
    assert sorted(path.name for path in written.iterdir()) == [f"simcse-table-3@tiny.{e}" for e in ("csv", "md", "tex")]
    assert "| ↳ measured on tiny |" in (written / "simcse-table-3@tiny.md").read_text()


def test_what_is_missing_is_measured_as_studies(tmp_path):
    missing = [
        Wanted(encoder=encoder, task=task, protocol=protocol)
        for encoder, task, protocol in (
            ("random", "mini-sts", "sts"),
            ("random", "mini-mrpc", "senteval[mode=fasttest]"),
            ("bag-of-words", "mini-sts", "sts"),
            ("bag-of-words", "mini-sts", "no such"),
            ("nothing", "mini-sts", "sts"),
            ("hf:no/such", "mini-sts", "sts"),
        )
    ]
    told, scored = [], []
    context = Context(cache_dir=tmp_path / "cache", offline=True)
    places = Places(results_dir=tmp_path / "results", context=context, tell=told.append)
    assert measure(missing, places, lambda cell: scored.append((cell.encoder, cell.task))) == 2
    assert scored == [("random", "mini-sts"), ("random", "mini-mrpc")]
    assert len(told) == len({sentence[:40] for sentence in told}) == 3  # one for each encoder that has an error
    run = ["run", "--tasks", "mini-sts", "--models", "random", "--results-dir", str(tmp_path / "run"), "-q"]
    assert bench.invoke(app, run).exit_code == 0
    (ours,), _ = store.read_all(tmp_path / "run")
    (one,) = (one for one in store.read_all(tmp_path / "results")[0] if one.task == "mini-sts")
    assert one.scores == ours.scores
    assert measure(missing[:2], places, lambda cell: scored.append(cell)) == 0
    assert len(scored) == 2  # nothing is measured twice


def test_no_run_renders_what_is_measured(tmp_path):
    store.write(dev("simcse-unsup[backbone=tiny]", 0.5, backbone="tiny", seed=42), tmp_path / "results")
    output = tmp_path / "paper"
    done = call(tmp_path, "--table", "3", "--backbone", "tiny", "--no-run", "-o", output, "-f", "md")
    assert done.exit_code == 0
    assert "1 of 8 cells measured" in (output / "simcse-table-3@tiny.md").read_text()


GEOMETRY = {
    "alignment/gt4/test": 0.2, "alignment/gt4/test/low": 0.1, "alignment/gt4/test/high": 0.3,
    "uniformity/unique/test": -2.0, "uniformity/unique/test/low": -2.1, "uniformity/unique/test/high": -1.9,
    "effective-rank/unique/test": 20.0, "effective-rank-centred/unique/test": 21.0, "average-cosine/unique/test": 0.5,
}  # fmt: skip
SERIES = SeriesItems(
    series=["spectrum/test"] * 3 + ["pairs/test"] * 20,
    x=np.array([1.0, 2.0, 3.0, *(i / 4 for i in range(20))]),
    y=np.array([1.0, 0.5, 0.1, *(i / 40 for i in range(20))]),
)


def write_geometry(folder, cards, counts):
    for one in cards:
        geometry = result(one, "geometry-stsb", GEOMETRY, protocol="geometry[alpha=2,t=2]", counts=counts)
        store.write(geometry.with_items(SERIES), folder)
        for task in STS:
            store.write(result(one, task, {"spearman/all/test": 0.5}), folder)


@pytest.mark.parametrize(
    ("number", "kind", "drawn"),
    [
        ("3", "alignment-uniformity", ["Avg. BERT", "Unsup. SimCSE"]),
        ("F.1", "spectrum", ["Avg. BERT", "Unsup. SimCSE"]),
        ("G.1", "similarity-density", ["Avg. BERT", "Unsup. SimCSE"]),
    ],
)
def test_a_figure_is_drawn_of_the_rows_that_are_measured(tmp_path, monkeypatch, number, kind, drawn):
    monkeypatch.setattr(canvas, "_FORMATS", {})
    monkeypatch.setattr("harness.paper.measure", lambda *_: 0)
    counts = {"positives/gt4/test": 5, "sentences/unique/test": 9}
    write_geometry(tmp_path / "results", [*rerun("bert"), *rerun("simcse-unsup", (1, 2))], counts)
    done = call(tmp_path, "--figure", number, *RERUN_OPTIONS, "--output", tmp_path / "out", "-q")
    assert done.exit_code == 1
    name = f"simcse-figure-{number}@tiny-{kind}"
    lines = list(csv.DictReader((tmp_path / "out" / f"{name}.csv").open()))
    assert sorted({line["label"] for line in lines}) == drawn
    assert {line["model"] for line in lines if line["label"] == "Unsup. SimCSE"} == {
        next(rerun("simcse-unsup", (1,))).name  # the first of its seeds
    }
    assert f"bench: {name}: BERT-whitening is not drawn, nothing is measured for it" in done.stderr.splitlines()
    assert "SBERT" not in done.stderr  # no row of this backbone


def test_trajectories_are_drawn_from_the_logs_of_the_runs_that_made_the_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(canvas, "_FORMATS", {})
    monkeypatch.setattr("harness.paper.measure", lambda *_: 0)
    folder = tmp_path / "cache" / "trained" / "abc"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "card.json").write_text("{}")
    entry = {"step": 125, "dev_alignment": 0.2, "dev_uniformity": -1.5, "dev_spearman": 0.6}
    (folder / "log.jsonl").write_text(json.dumps(entry) + "\n")
    unsup, without = next(rerun("simcse-unsup")), next(rerun("simcse-unsup,dropout=0.0"))
    ours = replace(unsup, weights_sha256=hashlib.sha256(b"weights").hexdigest())
    write_geometry(tmp_path / "results", [ours, without], {})
    done = call(tmp_path, "--figure", "2", *RERUN_OPTIONS, "--output", tmp_path / "out", "-q")
    assert done.exit_code == 1
    lines = list(csv.DictReader((tmp_path / "out" / "simcse-figure-2@tiny-trajectory.csv").open()))
    assert [(line["run"], line["step"], line["dev"]) for line in lines] == [("Unsupervised SimCSE", "125", "60.0")]
    assert done.stderr.splitlines() == [
        "bench: simcse-figure-2@tiny-trajectory: Fixed 0.1 is not drawn, nothing is measured for it",
        "bench: simcse-figure-2@tiny-trajectory: Delete one word is not drawn, nothing is measured for it",
        f"bench: No dropout: not drawn, no training log in {tmp_path / 'cache' / 'trained'} is of the weights of "
        f"{without.name}; `bench plot trajectory --runs NAME=FOLDER` draws a run that is elsewhere",
    ]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ("--table", "9"),
            "no table is named '9'; known: 1, 2, 3, 4, 5, 6, 7, 8, A.1, B.1, B.2, B.3, C.1, D.1, D.2, E.1",
        ),
        (("--figure", "4"), "no figure is named '4'; known: 2, 3, F.1, G.1"),
        (("--table", "5", "--seeds", "0-"), "--seeds 0-: '0-' is neither a number nor a range; write 0,1,2 or 0-4"),
        (("--table", "5", "--format", "html"), "no format is named 'html'; known: md, latex, csv, json"),
        (
            ("--table", "5", "--set", "dev"),
            "--set dev: expected name=value or METHOD:name=value, for instance --set dev=sts-b",
        ),
        (("--table", "5", "--seeds", "4-0"), "--seeds 4-0: '4-0' counts down; write 0-4"),
        (("--table", "5", "--format", ""), "--format: '' names nothing; write names, separated by commas"),
        (
            ("--table", "5", "--set", "nomethod:foo=1"),
            f"--set nomethod:foo=1: no method is named 'nomethod'; {nearest('nomethod', known_encoders())}",
        ),
        (
            ("--table", "5", "--set", "drpout=0.1", "--dry-run"),
            "--set drpout=0.1: model 'simcse-unsup' has no parameter 'drpout'; did you mean 'dropout'?",
        ),
        (("--table", "5", "--set", "seed=1"), "--set seed=1: seed has an option of its own; use --seeds"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_for(tmp_path, arguments, sentence):
    done = call(tmp_path, *arguments)
    assert done.exit_code == 2
    assert done.stderr == f"bench: {sentence}\n"
