"""Tables of scores on a terminal: at any width, every number and every name is there whole."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace

import pytest
from report_cases import MINILM, card, result, sts
from test_layers import ROOT

from harness.cli.console import Line, lay_out
from harness.cli.run import print_cells
from harness.reports.layouts import LAYOUTS
from harness.results import store
from harness.run import Cell
from harness.tasks.suites import TASKS

HEADS = [f"head-{i}" for i in range(13)]
LONG = "simcse-unsup[backbone=tiny,data=sentences-100k.txt,dev=sts-b,seed=0,augmentation=delete-one,dtype=bfloat16]"


def shown(width, lines, heads=HEADS):
    return [text for text, _ in lay_out(Line("encoder", heads), lines, width)]


@pytest.mark.parametrize("width", [10, 40, 60, 80, 120, 200])
def test_every_number_and_name_is_there_at_any_width(width):
    lines = [Line(name, [f"{row}{i:02}.25" for i in range(13)]) for row, name in enumerate(("random", LONG))]
    texts = shown(width, lines)
    words = " ".join(texts).split()
    blocks = words.count("encoder")
    assert [words.count(head) for head in HEADS] == [1] * 13
    assert all(words.count(cell) == 1 for line in lines for cell in line.cells)
    assert words.count(LONG) == words.count("random") == blocks
    if width >= 40:
        assert all(len(text) <= width for text in texts if text != LONG)
    assert (blocks == 1) == (width >= 120)


def test_a_name_too_long_has_a_line_of_its_own_and_digits_stay_below_each_other():
    texts = shown(30, [Line("random", ["5.73", "10.00†"]), Line("a" * 25, ["53.18†,‡", "-"])], ["STS12", "STS13"])
    assert texts == [
        "",
        "encoder  STS12     STS13",
        "─────────────────────────",
        "random    5.73     10.00†",
        "aaaaaaaaaaaaaaaaaaaaaaaaa",
        "         53.18†,‡      -",
    ]


def cells_of(encoder, flags, skipped=False):
    return [
        Cell(encoder=encoder, task=task, result=one, skipped=skipped)
        for task, own in flags.items()
        for one in [result(card(encoder), task, {"spearman/all/test": 0.5}, flags=own)]
    ]


def test_flags_are_said_once_below_the_table_of_a_run(capsys):
    fitted, other = "fitted on the evaluated sentences", "another copy of the data than the known one"
    cells = [
        *cells_of("random", {"STS12": (), "STSBenchmark": (other,)}),
        *cells_of("bert-whitening[fit=target]", {"STS12": (fitted,), "STSBenchmark": (fitted, other)}, skipped=True),
    ]
    print_cells(cells, [TASKS["STS12"], TASKS["STSBenchmark"]])
    assert capsys.readouterr().out.splitlines() == [
        "Main scores",
        "",
        "encoder                       STS12  STS-B",
        "───────────────────────────────────────────",
        "random                        50.00  50.00†",
        "bert-whitening[fit=target] ‡  50.00  50.00†",
        f"† {other}",
        f"‡ {fitted}",
    ]


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_reports_table_keeps_names_apart(tmp_path, width):
    names = [f"{LONG[:-1]},length_groups={i}]" for i in range(3)]
    for name in names:
        for one in sts(card(name), MINILM, flags=("a flag",)):
            store.write(one, tmp_path / "results")
    marked = replace(sts(card("minilm"), MINILM)[0], flags=("another flag",))
    for one in (marked, *sts(card("minilm"), MINILM)[1:]):
        store.write(one, tmp_path / "results")
    done = subprocess.run(
        [sys.executable, "-m", "harness", "report", "--results-dir", "results", "--output", "out", "--no-intervals"],
        cwd=tmp_path,
        env={**os.environ, "COLUMNS": str(width), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    table = done.stdout
    words = table.split()
    assert all(any(word.startswith(f"[length_groups={i}]") for word in words) for i in range(3))
    assert set(LAYOUTS[0].heads.values()) | {"Avg."} <= {*words}
    assert "…" not in table
    assert len([text for text in words if re.fullmatch(r"85\.39.?", text)]) >= 5  # one is the published number
    assert re.search(r"^² a flag$|^¹ a flag$", table, re.M) and re.search(r"^\S+ another flag$", table, re.M)


def test_a_failed_cell_is_named_by_its_full_specification(tmp_path):
    from typer.testing import CliRunner

    from harness.cli.main import app

    options = ["--results-dir", str(tmp_path), "--cache-dir", str(tmp_path / "c"), "--offline", "--backbone", "/nope"]
    arguments = ["run", "-t", "mini-sts", "-m", "bert,random", *options]
    done = CliRunner().invoke(app, [*arguments, "--json"])
    assert done.exit_code == 2
    assert [cell["encoder"] for cell in json.loads(done.stdout)] == ["bert[backbone=/nope]", "random"]
    assert "bert[backbone=/nope]" in CliRunner().invoke(app, arguments).stdout
