"""A table in each format, names that act nowhere, and the files of a report."""

import csv
import io
import json
import re
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from report_cases import MINILM, STS, card, result, seeds, sts

from harness.errors import ResultError, UsageError
from harness.reports.modelcard import model_cards
from harness.reports.renderers import (
    grid,
    latex,
    latex_text,
    markdown,
    terminal,
    tidy_csv,
    tidy_json,
    width,
)
from harness.reports.report import ReportOptions, _grid, _usable, report
from harness.reports.suite import Shown, build
from harness.reports.table import Cell, Column, Row, Table
from harness.results import store

NASTY = ("<b>x", "back`tick", "$x_1$ & 50%", "a|b", "\x1b[31mred", "模型")


def nasty_table():
    rows = tuple(Row(kind="measured", label=name, name=name, cells=(Cell(value=1.5, marks=(name,)),)) for name in NASTY)
    formula = Row(kind="measured", label="=cmd", name="=cmd|'/c calc'!A1", cells=(Cell(value=-2.0),))
    columns = (Column(head="Score", task="STS12", key="spearman/all/test"),)
    return Table(name="t", title="A <i>title", caption="Of `<b>x`.", columns=columns, rows=(*rows, formula))


def test_markdown_is_aligned_and_names_are_code_wherever_they_stand():
    assert grid(("Name", "x"), [("a", "1.00"), ("c", "-")], {0}) == (
        "| Name |    x |\n| :--- | ---: |\n| a    | 1.00 |\n| c    |    - |"
    )
    page = markdown(nasty_table())
    assert "<" not in re.sub(r"(`+)[^`].*?\1", "", page)
    assert "| ``back`tick``" in page and r"| `a\|b`" in page and r"`\x1b[31mred`" in page
    assert r"- ² back\`tick" in page
    table = build(sts(card("bert[pooling=avg_top2]"), MINILM, flags=("a flag",)))[0]
    rows = [line for line in markdown(table).splitlines() if line.startswith("|")]
    assert len({len(line) for line in rows}) == 1
    assert any(line.startswith("| `bert [pooling=avg_top2]`¹ ") for line in rows)


def test_latex_escapes_aligns_numbers_at_their_point_and_is_balanced():
    assert latex_text("a_b & 5% #1 $x {y} ~^\\ [z] <|>") == (
        r"a\_b \& 5\% \#1 \$x \{y\} \textasciitilde{}\textasciicircum{}\textbackslash{} {[}z{]} "
        r"\textless{}\textbar{}\textgreater{}"
    )
    tex = latex(build(sts(card("minilm"), MINILM | {"STS12": 0.7}))[0])
    body = tex.partition(r"\toprule")[2].partition(r"\bottomrule")[0]
    rows = [line for line in body.splitlines() if line.endswith(r"\\") and r"\multicolumn" not in line]
    assert {len(re.findall(r"(?<!\\)&", line)) for line in rows} == {8}
    assert rows[2].startswith(r"\quad MTEB & 72.37{ $\neq$} & 80.60{ =} & ")
    assert r"\begin{tabular}{lS[table-format=2.2,table-space-text-post={ $\neq$}]" in tex
    assert r"\caption{" in tex and r"\label{tab:sts-all}" in tex
    assert tex.count("{") == tex.count("}")
    assert tex.isascii()
    assert "XeLaTeX or LuaLaTeX" in latex(nasty_table()) and "XeLaTeX" not in tex
    assert "\x1b" not in latex(nasty_table())


def test_the_best_number_is_bold_where_it_is_told_apart():
    cells = (Cell(value=2.0, best=True), Cell(value=1.0))
    row = Row(kind="measured", label="e", name="e", cells=cells)
    table = Table(name="t", title="T", caption="C", columns=(Column(head="a"), Column(head="b")), rows=(row,))
    assert "| `e`     | **2.00** | 1.00 |" in markdown(table)
    assert r"e & \bfseries 2.00 & 1.00 \\" in latex(table)


def test_csv_is_tidy_at_full_precision_and_no_formula():
    table = build(sts(card("minilm"), MINILM))[0]
    rows = list(csv.DictReader(io.StringIO(tidy_csv(table))))
    measured = {row["task"]: float(row["value"]) for row in rows if row["source"] == "measured"}
    average = sum(100 * value for value in MINILM.values()) / 7
    assert measured == {task: 100 * value for task, value in MINILM.items()} | {"Avg": pytest.approx(average)}
    assert [row["task"] for row in rows if row["source"] == "MTEB"] == list(STS[:6])
    assert {(row["encoder"], row["verdict"]) for row in rows if row["source"] == "MTEB"} == {("minilm", "reproduced")}
    records = json.loads(tidy_json(table))
    assert [{key: "" if value is None else str(value) for key, value in one.items()} for one in records] == rows
    assert {type(one["value"]) for one in records} == {float}
    nasty = list(csv.reader(io.StringIO(tidy_csv(nasty_table()))))
    assert [line[0] for line in nasty[5:]] == ["\\x1b[31mred", "模型", "'=cmd|'/c calc'!A1"]
    assert nasty[-1][5] == "-2.0"


def test_a_terminal_gets_no_code_of_a_name_and_no_broken_line():
    shown = "\n".join(text for text, _ in terminal(nasty_table(), 80))
    assert "\x1b" not in shown and r"\x1b[31mred" in shown
    table = build([*sts(card("minilm"), MINILM), *seeds((0.5, 0.52))])[0]
    lines_80 = [text for text, _ in terminal(table, 80)]
    assert all(width(text) <= 80 for text in lines_80[: 2 + len(table.rows)])
    assert lines_80[1].split() == ["Encoder", "STS12", "STS13", "STS14", "STS15", "STS16", "STS-B", "SICK-R", "Avg."]
    assert "95 %" in next(text for i, (text, _) in enumerate(terminal(table, 200)) if i == 1)


def test_one_odd_result_takes_no_report_away(tmp_path):
    odd = replace(sts(card("hf:a b[c"), {"STS12": 0.5})[0], file=tmp_path / "odd.json")
    endless = replace(sts(card("random"), {"STS12": float("nan")})[0], file=tmp_path / "nan.json")
    good, problems = _usable([*sts(card("minilm"), MINILM), odd, endless])
    assert len(good) == 7
    assert [problem.partition(": ")[0] for problem in problems] == [
        str(tmp_path / "odd.json"),
        str(tmp_path / "nan.json"),
    ]


def test_model_cards_are_read_by_the_hubs_own_library():
    import yaml
    from huggingface_hub import ModelCard

    encoder = card("hf:org/model[pooling=avg]", backbone="org/model", pooling="avg")
    results = [*sts(encoder, MINILM), result(encoder, "MR", {"accuracy/test": 0.8}, protocol="senteval[mode=test]")]
    written = model_cards([*results, result(encoder, "geometry-stsb", {"uniformity/unique/test": -2.0})])
    assert list(written) == ["hf_org_model_pooling=avg.md", "hf_org_model_pooling=avg.eval_results.yaml"]
    text, entries = written.values()
    read = ModelCard(text)
    found = {one.dataset_name: (one.metric_type, one.metric_value) for one in read.data.eval_results}
    assert found["STS-B"] == ("spearmanr", 82.0325) and found["MR"] == ("accuracy", 80.0)
    assert read.data.base_model == "org/model"
    hub = pytest.importorskip("huggingface_hub._eval_results")
    parsed = hub.parse_eval_result_entries(yaml.safe_load(entries))
    assert {(one.dataset_id, one.task_id): one.value for one in parsed} == {
        **{(f"mteb/sts{y}-sts", f"STS{y}_default_test"): round(100 * MINILM[f"STS{y}"], 4) for y in range(12, 17)},
        ("mteb/stsbenchmark-sts", "STSBenchmark_default_test"): 82.0325,  # SICK-R there is over other pairs
    }
    assert hub.eval_result_entries_to_yaml(parsed) == yaml.safe_load(entries)
    assert ModelCard(next(iter(model_cards(sts(card(NASTY[0]), MINILM)).values()))).data.model_name == "<b>x"


def test_a_report_has_all_formats_and_names_what_it_left_out(tmp_path):
    for one in [*sts(card("minilm"), MINILM), result(card("minilm"), "uniformity", {"uniformity": -3.8})]:
        store.write(one, tmp_path / "results")
    (bad,) = tmp_path.glob("results/minilm_*/STS12.sts.json")
    bad.write_text("")
    summary = report(tmp_path / "results", tmp_path / "out")
    names = [table.name for table in summary.tables]
    assert names[0] == "sts-all"
    pages = ["report.md", *(f"{name}.md" for name in names[1:]), "provenance.md"]
    expected = [*pages, *(f"{name}.{kind}" for name in names for kind in ("tex", "csv"))]
    assert [path.name for path in summary.paths] == expected
    assert all(path.stat().st_size for path in summary.paths)
    assert summary.n_results == 7
    assert summary.problems == [
        f"{bad}: is not JSON (Expecting value: line 1 column 1 (char 0)); run its task again with --force"
    ]
    page = summary.paths[0].read_text()
    assert f"## Left out\n\nResult files not used: 1.\n\n- {summary.problems[0]}\n" in page
    assert "## Measured, but in no table\n\n- uniformity (sts)\n" in page
    where = summary.paths[pages.index("provenance.md")].read_text()
    assert "- A, 2 cores, 8 GiB, Linux 6; device cpu, 2 threads; commit cccccccccccc with changes: 7 results" in where
    first = {path: path.read_bytes() for path in summary.paths}
    assert {path: path.read_bytes() for path in report(tmp_path / "results", tmp_path / "out").paths} == first
    assert [p.name for p in report(tmp_path / "results", tmp_path / "md", ReportOptions(formats=["md"])).paths] == pages
    as_json = report(tmp_path / "results", tmp_path / "json", ReportOptions(formats=["json"])).paths
    assert [path.name for path in as_json] == [f"{name}.json" for name in names]


def test_a_row_that_a_paper_prints_twice_is_shown_once():
    (table, *_) = build(sts(card("minilm"), MINILM), shown=Shown(published=("simcse",)))
    labels = [(row.label, tuple(cell.value for cell in row.cells)) for row in table.rows if row.kind == "published"]
    assert len(labels) == len(set(labels)) > 20


def test_only_the_tables_that_were_asked_for_are_written(tmp_path):
    store.write(result(card("minilm"), "STS12", {"spearman/all/test": 0.5, "spearman/mean/test": 0.4}), tmp_path)
    store.write(result(card("minilm"), "STSBenchmark-dev", {"spearman/all/dev": 0.5}), tmp_path)
    asked = ReportOptions(tables=("sts-mean",), intervals=False)
    summary = report(tmp_path, tmp_path / "out", asked)
    assert {path.name for path in summary.paths} == {"report.md", "provenance.md", "sts-mean.tex", "sts-mean.csv"}
    assert summary.n_results == 1 and "in no table" not in (tmp_path / "out" / "report.md").read_text()
    with pytest.raises(UsageError, match="no table is named 'sts'"):
        report(tmp_path, tmp_path / "out", replace(asked, tables=("sts",)))


def test_nothing_to_report_and_unknown_formats_are_sentences(tmp_path):
    with pytest.raises(ResultError) as caught:
        report(tmp_path / "results", tmp_path / "out")
    assert str(caught.value) == (
        f"{tmp_path / 'results'}: nothing to report, found no result files; run `bench run` first"
    )
    with pytest.raises(UsageError) as wrong:
        report(tmp_path, tmp_path / "out", ReportOptions(formats=["cvs"]))
    assert str(wrong.value) == "no format is named 'cvs'; did you mean 'csv'?"


@pytest.mark.slow
def test_a_thousand_results_take_less_than_ten_seconds(tmp_path):
    for i in range(143):
        for one in sts(card(f"hf:model-{i}[pooling=avg]"), MINILM):
            store.write(one, tmp_path / "results")
    start = time.perf_counter()
    assert report(tmp_path / "results", tmp_path / "out").n_results == 1001
    assert time.perf_counter() - start < 10


def test_a_report_needs_no_torch_and_nothing_that_measures(tmp_path):
    store.write(sts(card("minilm"), MINILM)[0], tmp_path / "results")
    program = (
        "import sys; sys.modules['torch'] = None\n"  # any import of it would now fail
        "from pathlib import Path\n"
        "from harness.reports.report import report\n"
        "report(Path(sys.argv[1]), Path(sys.argv[2]))\n"
        "print([m for m in sys.modules if m.startswith(('harness.data', 'harness.encoders', 'harness.tasks'))])\n"
        "print([m for m in ('transformers', 'scipy', 'pandas') if m in sys.modules])\n"
    )
    command = [sys.executable, "-c", program, tmp_path / "results", tmp_path / "out"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "[]"]


def test_no_cell_of_the_provenance_acts_as_markdown():
    assert "| `x` | &lt;b>x\\|\\`y |" in " ".join(_grid(("Encoder", "Backbone"), [("x", "<b>x|`y")]).split())
