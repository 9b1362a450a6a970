import csv
import io
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.encoders.registry import resolve
from harness.errors import ResultError, UsageError
from harness.names import EncoderCard
from harness.reports import published
from harness.reports.layouts import LAYOUTS
from harness.reports.match import Match
from harness.reports.render import escape, grid, latex, markdown, tidy_csv, tidy_json
from harness.reports.report import report
from harness.reports.tables import Table, build, text
from harness.results import store
from harness.results.record import Result, Run

SHARED = Path(__file__).parents[2] / "shared" / "published"
STS = ("STS12", "STS13", "STS14", "STS15", "STS16", "STSBenchmark", "SICKRelatedness")
MINILM = dict(
    zip(STS, (0.72371353, 0.80603222, 0.75589128, 0.85389669, 0.78989453, 0.82032467, 0.77146939), strict=True)
)


def card(name: str, **values: object) -> EncoderCard:
    blank = dict(
        method=name.partition("[")[0],
        parameters={},
        backbone=None,
        revision=None,
        weights_sha256="53aa",
        pooling=None,
        dim=384,
        max_tokens=256,
        dtype="float32",
        normalized=False,
        fitted_on=None,
        trained_on=None,
        seed=None,
        content={"name": name},
    )
    return EncoderCard(name=name, **(blank | values))


def result(encoder: EncoderCard, task: str, scores: dict[str, float], **values: object) -> Result:
    run = Run(
        started="2026-01-02T03:04:05+00:00",
        seconds=1.5,
        encoding_seconds=0.5,
        machine={"processor": "A", "cores": 2, "memory_gib": 8, "system": "Linux 6"},
        packages={"numpy": "2.4"},
        commit="c" * 40,
        dirty=True,
        device="cpu",
        threads=2,
    )
    blank = dict(protocol="sts", metric=next(iter(scores)), counts={}, data={f"{task}.txt": "ab"}, flags=(), seed=None)
    return Result(task=task, scores=scores, encoder=encoder, run=run, **(blank | values))


def sts(encoder: EncoderCard, values: dict[str, float], **rest: object) -> list[Result]:
    return [result(encoder, task, {"spearman/all/test": value}, **rest) for task, value in values.items()]


def lines(table: Table, kind: str) -> list[tuple[str, ...]]:
    return [texts for k, texts in text(table).rows if k == kind]


def test_measured_rows_stand_beside_the_papers_table_and_what_was_published_for_them():
    table = build(sts(card("minilm"), MINILM))[0]
    assert text(table).header == (
        "Encoder", "Source", "STS12", "STS13", "STS14", "STS15", "STS16", "STS-B", "SICK-R", "Avg."
    )  # fmt: skip
    assert len(lines(table, "published")) == 23
    assert [texts[0] for texts in lines(table, "section")] == [
        "Published, unsupervised",
        "Published, supervised",
        "Measured",
    ]
    assert lines(table, "measured") == [
        ("minilm", "measured", "72.37", "80.60", "75.59", "85.39", "78.99", "82.03", "77.15", "78.87")
    ]
    # MTEB's SICK-R is over other pairs, so it is not in this table and its row has no average
    assert lines(table, "counterpart")[0][1:] == (
        "published (MTEB)", "72.37", "80.60", "75.59", "85.39", "78.99", "82.03", "-", "-"
    )  # fmt: skip
    assert lines(table, "difference")[0][2:] == ("0.00", "0.00", "0.00", "0.00", "0.00", "0.00", "-", "-")
    assert table.caption == (
        "Spearman correlation × 100 over all pairs of a task at once (aggregation all), test sets; protocol sts; "
        "1 encoder measured. A difference is measured minus published."
    )


def test_sick_r_over_all_pairs_has_a_table_of_its_own():
    tables = build([result(card("minilm"), "SICKRelatedness-full", {"spearman/all/full": 0.77582})])
    assert [table.name for table in tables] == ["sickr-full"]
    assert lines(tables[0], "measured") == [("minilm", "measured", "77.58")]
    assert lines(tables[0], "counterpart")[0][2:] == ("77.58",)


def test_a_difference_has_its_sign_and_comes_from_full_precision():
    off = MINILM | {"STS12": 0.72368999 + 0.00104, "STS13": 0.80603167 - 0.00106}
    found = lines(build(sts(card("minilm"), off))[0], "difference")[0]
    assert found[2:4] == ("+0.10", "-0.11")


def test_a_missing_cell_is_a_dash_and_its_row_has_no_average():
    rest = {task: value for task, value in MINILM.items() if task != "STS14"}
    assert lines(build(sts(card("minilm"), rest))[0], "measured")[0][2:] == (
        "72.37", "80.60", "-", "85.39", "78.99", "82.03", "77.15", "-"
    )  # fmt: skip


def test_the_average_is_taken_before_rounding():
    values = dict.fromkeys(STS, 0.500049)  # 50.0049: shown as 50.00; the mean of the shown values would be 50.00
    values["STS12"] = 0.500449  # mean 50.0106
    found = lines(build(sts(card("random"), values))[0], "measured")[0]
    assert found[2:] == ("50.04", *["50.00"] * 6, "50.01")


def test_aggregations_never_share_a_table_and_single_sets_have_one_score():
    full = {
        "spearman/all/test": 0.1,
        "spearman/mean/test": 0.2,
        "spearman/wmean/test": 0.3,
        "spearman/subset:x/test": 0,
    }
    tables = build(
        [
            result(card("random"), "STS12", full),
            result(card("random"), "STSBenchmark", {"spearman/all/test": 0.4}),
        ]
    )
    shown = {table.name: lines(table, "measured")[0] for table in tables}
    assert {name: (texts[2], texts[7]) for name, texts in shown.items()} == {
        "sts-all": ("10.00", "40.00"),
        "sts-wmean": ("30.00", "40.00"),
        "sts-mean": ("20.00", "40.00"),
    }


def test_a_task_with_subsets_but_without_the_aggregation_is_a_dash():
    scores = {"spearman/all/test": 0.1, "spearman/subset:x/test": 0.5}
    assert [table.name for table in build([result(card("random"), "STS12", scores)])] == ["sts-all"]


def test_protocols_never_share_a_table():
    accuracy = {"accuracy/test": 0.8}
    tables = build(
        [
            result(card("minilm"), "MR", accuracy, protocol="senteval[mode=test]"),
            result(card("minilm"), "CR", accuracy, protocol="senteval[mode=fasttest]"),
        ]
    )
    assert [(table.name, lines(table, "measured")[0][2:4]) for table in tables] == [
        ("transfer", ("80.00", "-")),
        ("transfer@senteval-mode=fasttest", ("-", "80.00")),
    ]
    assert len(lines(tables[0], "published")) == 21
    assert lines(tables[1], "published") == []  # the paper used the other protocol


def test_footnotes_name_flags_other_data_and_files_left_out():
    whitened = card("bert-whitening[fit=target]")
    flag = "fitted on the evaluated sentences"
    table = build(
        [
            *sts(card("minilm"), {"STS12": 0.7, "STS13": 0.7}),
            *sts(card("random"), {"STS12": 0.1, "STS13": 0.1}),
            *sts(whitened, {"STS12": 0.6}, flags=(flag,)),
            *sts(whitened, {"STS13": 0.6}, flags=(flag, "2 zero vectors"), data={"STS13.txt": "cd"}),
        ],
        left_out=2,
    )[0]
    measured = lines(table, "measured")[0]
    notes = {note.partition(" ")[2]: note.partition(" ")[0] for note in text(table).footnotes}
    stray = notes["scored on data files that differ from those of the other rows in this column"]
    assert measured[0] == f"bert-whitening[fit=target] {notes[flag]}"
    assert measured[2:4] == ("60.00", f"60.00{notes['2 zero vectors']},{stray}")
    assert text(table).footnotes[-1] == (
        "2 result files were left out as unreadable, edited or repeated; the report names each under “Left out”."
    )


def test_a_row_of_two_encoders_under_one_name_is_marked_and_has_no_average():
    half = dict(list(MINILM.items())[:3])
    rest = dict(list(MINILM.items())[3:])
    table = build([*sts(card("hf:x"), half), *sts(card("hf:x", weights_sha256="99ff"), rest)])[0]
    assert lines(table, "measured")[0][-1] == "-"
    assert (
        text(table)
        .footnotes[-1]
        .endswith("the cells of this row were made by encoders that differ in weights_sha256, so it has no average")
    )


@pytest.mark.parametrize(
    ("encoder", "expected"),
    [
        (card("minilm"), ("mteb", "minilm")),
        (card("minilm[pooling=cls]", pooling="cls"), None),
        (card("simcse-unsup[backbone=bert-base-uncased]", backbone="bert-base-uncased"), ("simcse", "simcse-unsup")),
        (card("simcse-unsup[seed=3]", backbone="google-bert/bert-base-uncased"), ("simcse", "simcse-unsup")),
        (card("simcse-unsup[dropout=0.2]", backbone="bert-base-uncased"), None),
        (card("simcse-unsup[backbone=tiny]", backbone="tiny"), None),
        (
            card("bert-whitening", backbone="bert-base-uncased", parameters={"fit": "nli"}),
            ("simcse", "bert-whitening"),
        ),
        (card("bert-whitening[dim=64]", backbone="bert-base-uncased", parameters={"fit": "nli"}), None),
        (
            card("bert[pooling=avg_static_last]", backbone="bert-base-uncased", pooling="avg_static_last"),
            ("simcse", "bert"),
        ),
        (card("bert[pooling=avg_first_last]", backbone="bert-base-uncased", pooling="avg_first_last"), None),
        (card("hf:princeton-nlp/sup-simcse-roberta-base[pooling=cls]", pooling="cls"), ("simcse", "simcse-sup")),
        (card("hf:princeton-nlp/sup-simcse-roberta-base[pooling=avg]", pooling="avg"), None),
    ],
    ids=lambda value: value.name if isinstance(value, EncoderCard) else "",
)  # fmt: skip
def test_only_the_same_method_backbone_and_variant_is_a_counterpart(encoder, expected):
    found = published.counterpart(encoder, published.candidates("spearman", "all", "test"))
    assert (None if found is None else (found.paper, found.model)) == expected


BERT, ROBERTA = "bert-base-uncased", "roberta-base"
SBERT, SROBERTA = (f"sentence-transformers/{name}-nli-mean-tokens" for name in ("bert-base", "roberta-base"))


def released(kind: str, backbone: str, name: str = "") -> EncoderCard:
    """As the registry names the authors' weights: the checkpoint's backbone is its repository."""
    pooling = "cls_before_pooler" if kind == "unsup" else "cls"
    repository = f"princeton-nlp/{kind}-simcse-{backbone}"
    name = name or f"simcse-{kind}[backbone={backbone}]"
    parameters = {"backbone": backbone, "dev": "auto", "seed": 42} if "princeton" not in name else {}
    method = "hf" if name.startswith("hf:") else name.partition("[")[0]
    return card(name, method=method, backbone=repository, pooling=pooling, parameters=parameters)


def over(name: str, backbone: str = BERT, **parameters: object) -> EncoderCard:
    """An encoder on a named backbone, pretrained or somebody's."""
    pooling = str(parameters.get("pooling", "avg_first_last"))
    return card(name, backbone=backbone, pooling=pooling, parameters={"backbone": backbone, **parameters})


@pytest.mark.parametrize(
    ("encoder", "layout", "average"),
    [
        (over("bert", pooling="avg_static_last"), "sts-all", 56.70),
        (over("bert[pooling=avg_first_last]", pooling="avg_first_last"), "sts-wmean", 63.69),
        (over("bert[pooling=avg]", pooling="avg"), "transfer", 84.94),
        (over("bert[pooling=cls_before_pooler]", pooling="cls_before_pooler"), "transfer", 84.66),
        (over("roberta", "FacebookAI/roberta-base", pooling="avg_static_last"), "sts-all", 56.57),
        (over("bert-whitening", fit="nli"), "sts-all", 66.28),
        (over("bert-whitening[fit=target]", fit="target"), "sts-all", 64.26),
        (over("bert-whitening", fit="nli"), "sts-wmean", 67.63),
        (over("bert-whitening[backbone=roberta-base]", ROBERTA, fit="nli"), "sts-all", 61.73),
        (over("bert-flow", fit="nli", dropout=True), "sts-all", 66.55),
        (over("bert-flow[fit=target]", fit="target"), "sts-all", 66.31),
        (over("bert-flow[seed=2]", fit="nli", seed=2), "sts-all", 66.55),
        (over(f"bert-flow[backbone={SBERT}]", SBERT, fit="nli"), "sts-all", 76.60),
        (over(f"bert-whitening[backbone={SBERT},fit=target]", SBERT, fit="target"), "sts-all", 72.64),
        (over(f"bert-whitening[backbone={SROBERTA}]", SROBERTA, fit="nli"), "sts-all", 76.60),
        (over(f"bert[backbone={SBERT},pooling=avg_first_last]", SBERT, pooling="avg_first_last"), "sts-wmean", 75.02),
        (card("sbert", backbone=SBERT, pooling="avg"), "sts-all", 74.89),
        (card("sbert", backbone=SBERT, pooling="avg"), "transfer", 87.41),
        (card(f"hf:{SBERT}", method="hf", backbone=SBERT, pooling="avg"), "sts-all", 74.89),
        (card(f"hf:{SROBERTA}[pooling=avg]", method="hf", backbone=SROBERTA, pooling="avg"), "sts-all", 74.21),
        (card("ct-bert", backbone="Contrastive-Tension/BERT-Base-CT", pooling="avg"), "sts-all", 72.05),
        (card("declutr", backbone="johngiorgi/declutr-base", pooling="avg"), "sts-all", 69.99),
        (card("avg-glove", backbone="glove.840B.300d", parameters={"backbone": "glove.840B.300d"}), "sts-all", 61.32),
        (released("unsup", BERT, "simcse-unsup"), "sts-all", 76.25),
        (released("unsup", ROBERTA), "sts-all", 76.57),
        (released("unsup", "roberta-large"), "sts-all", 78.90),
        (released("sup", BERT, "simcse-sup"), "sts-all", 81.57),
        (released("sup", ROBERTA), "sts-all", 82.52),
        (released("sup", "roberta-large"), "sts-all", 83.76),
        (released("sup", BERT, f"hf:princeton-nlp/sup-simcse-{BERT}[pooling=cls]"), "transfer", 86.51),
        (over("simcse-unsup[weights=trained,data=wiki]", data="wiki"), "sts-all", 76.25),
        (over("simcse-unsup[mlm_weight=0.1]", mlm_weight=0.1), "transfer", 86.64),
        (over("bert-whitening[fit=snli]", fit="snli"), "sts-all", None),
        (over("bert-flow[fit=snli]", fit="snli"), "sts-all", None),
        (over("bert-flow[dropout=false]", fit="nli", dropout=False), "sts-all", None),
        (over("bert-whitening[fit=mini-nli]", fit="mini-nli"), "sts-all", None),
        (over(f"bert[backbone={SBERT}]", SBERT, pooling="avg_static_last"), "sts-all", None),
        (over("simcse-unsup[data=nli]", data="nli"), "sts-all", None),
        (over("simcse-sup[data=wiki]", data="wiki"), "sts-all", None),
        (card("sbert[max_tokens=64]", backbone=SBERT, pooling="avg"), "sts-all", None),
        (card("avg-glove[backbone=tiny]", backbone="tiny", parameters={"backbone": "tiny"}), "sts-all", None),
    ],
    ids=lambda value: value.name if isinstance(value, EncoderCard) else str(value),
)  # fmt: skip
def test_the_published_row_beside_an_encoder(encoder, layout, average):
    (place,) = (one for one in LAYOUTS if one.name == layout)
    found = published.counterpart(encoder, published.candidates(place.metric, place.aggregation, "test"))
    assert (None if found is None else found.values[published.AVERAGE]) == average


@pytest.mark.parametrize("paper", published.sources())
def test_published_numbers_are_percentages_of_known_kinds(paper):
    for number in published.load(paper):
        assert 0 < number.value < 100 or number.metric in ("alignment", "uniformity")
        assert number.paper == paper
        assert number.supervision in ("unsupervised", "supervised", "not stated")
        assert (number.metric, number.aggregation) in {
            *((m, a) for m in ("spearman", "pearson") for a in ("all", "wmean", "mean", "")),
            *((m, "") for m in ("accuracy", "alignment", "uniformity", "")),  # nothing: where no source says it
        }


WHITENING = "bert-whitening[backbone=bert-base-uncased,fit=nli]"


@pytest.mark.parametrize(
    ("encoder", "reason"),
    [
        (
            over("bert-whitening[dim=64]", fit="nli", dim=64),
            f"bert-whitening[dim=64] sets dim=64, which {WHITENING} leaves at its default",
        ),
        (over("bert-whitening[fit=snli]", fit="snli"), "bert-whitening[fit=snli] has fit=snli, not nli"),
        (card("sbert"), "sbert is sbert, not bert-whitening"),
    ],
    ids=["set", "other", "method"],
)  # fmt: skip
def test_a_match_says_why_not(encoder, reason):
    assert Match.parse(WHITENING).why_not(encoder) == reason
    assert Match.parse("").why_not(encoder) == "no encoder of this project makes this row"


def test_minilm_is_found_by_its_weights_wherever_they_lie():
    own = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
    here = card("hf:/models/mine", method="hf", backbone="mine", pooling="avg", weights_sha256=own)
    other = card("hf:/models/mine", method="hf", backbone="mine", pooling="avg", weights_sha256="ab")
    fitted = card("bert-whitening[backbone=/models/mine]", pooling="avg", weights_sha256=own, fitted_on="nli ab")
    candidates = published.candidates("spearman", "all", "test")
    assert published.counterpart(here, candidates).model == "minilm"
    assert published.counterpart(other, candidates) is None
    assert published.counterpart(fitted, candidates) is None


def test_every_published_row_of_a_repository_can_be_matched():
    for repository in ("all-MiniLM-L6-v2", "all-MiniLM-L12-v2", "all-mpnet-base-v2"):
        name = f"sentence-transformers/{repository}"
        found = published.counterpart(
            card(f"hf:{name}", method="hf", backbone=name, pooling="avg"),
            published.candidates("spearman", "all", "test"),
        )
        assert found.paper == "mteb" and found.origin.startswith(name)


def test_every_specification_of_a_published_row_is_known():
    specs = {spec for paper in published.sources() for n in published.load(paper) for spec in Match.parse(n.spec).specs}
    assert len(specs) > 100
    for spec in specs:
        if not spec.name.startswith(("hf:", "weights:")):
            resolve(spec)


def test_later_papers_are_packaged_as_data():
    assert len(published.sources()) == 77
    assert sum(len(published.load(paper)) for paper in published.sources()) == 647 + 42 + 1800 + 2783
    (row,) = (
        r
        for r in published.rows("diffcse", "notebook output", "spearman", "all", "test")
        if r.backbone == "roberta-base" and r.model == "diffcse"
    )
    assert (row.values["Avg"], published.source(row)) == (78.21, "DiffCSE notebook output")
    names = {row.model for row in published.rows("rankcse", None, "spearman", "all", "test")}
    assert names == {"rankcse-listnet", "rankcse-listmle"}


@pytest.mark.parametrize(("table", "metric", "aggregation"), [("5", "spearman", "all"), ("E.1", "accuracy", "")])
def test_published_averages_are_the_mean_of_their_row(table, metric, aggregation):
    for row in published.rows("simcse", table, metric, aggregation, "test"):
        values = [value for task, value in row.values.items() if task != published.AVERAGE]
        assert len(values) == 7
        own_slip = (
            {"sbert": 0.03}.get(row.model, 0) if table == "5" else 0
        )  # 74.89 is printed beside cells with mean 74.86
        average = sum(values) / 7 + own_slip
        assert row.values[published.AVERAGE] == pytest.approx(average, abs=0.0151), published.label(row)


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared")
def test_packaged_numbers_are_those_of_the_sources():
    def source(name: str) -> list[dict[str, str]]:
        with (SHARED / name).open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    assert [float(row["value"]) for row in source("simcse.csv")] == [n.value for n in published.load("simcse")]
    expected = [
        float(row[f"cosine_{metric}"]) * 100 for row in source("mteb.csv") for metric in ("spearman", "pearson")
    ]
    assert [n.value for n in published.load("mteb")] == expected
    averages = [n.value for n in published.load("simple-simcse") if n.task == "Avg"]
    assert averages == [float(row["avg"]) for row in source("simple_simcse_50_seeds.csv")]


def test_markdown_columns_are_aligned_and_bars_escaped():
    assert grid(("Name", "x"), [("a|b", "1.00"), ("c", "-")], left=1) == (
        "| Name |    x |\n| :--- | ---: |\n| a\\|b | 1.00 |\n| c    |    - |"
    )
    table = build(sts(card("bert[pooling=avg_top2]"), MINILM, flags=("a flag",)))[0]
    page = markdown(table)
    rows = [line for line in page.splitlines() if line.startswith("|")]
    assert len({len(line) for line in rows}) == 1
    assert any(line.startswith("| `bert[pooling=avg_top2]` ¶ ") for line in rows)


def test_latex_escapes_and_is_balanced():
    assert escape("a_b & 5% #1 $x {y} ~^\\ [z] <|>") == (
        r"a\_b \& 5\% \#1 \$x \{y\} \textasciitilde{}\textasciicircum{}\textbackslash{} {[}z{]} "
        r"\textless{}\textbar{}\textgreater{}"
    )
    table = build(sts(card("minilm"), MINILM | {"STS12": 0.7}))[0]
    tex = latex(table)
    body = tex.partition(r"\toprule")[2].partition(r"\bottomrule")[0]
    rows = [line for line in body.splitlines() if line.endswith(r"\\") and r"\multicolumn" not in line]
    assert {len(re.findall(r"(?<!\\)&", line)) for line in rows} == {9}
    assert len(rows) == 1 + 23 + 4
    assert r"\quad difference &  & $-$2.37 & 0.00" in tex
    assert tex.count("{") == tex.count("}")
    assert tex.isascii()


def test_csv_is_tidy_and_at_full_precision():
    table = build(sts(card("minilm"), MINILM))[0]
    rows = list(csv.DictReader(io.StringIO(tidy_csv(table))))
    assert list(rows[0]) == ["model", "source", "task", "protocol", "score", "value", "half_width", "sd"]
    measured = {row["task"]: float(row["value"]) for row in rows if row["source"] == "measured"}
    assert measured == {task: 100 * value for task, value in MINILM.items()} | {
        "Avg": sum(100 * value for value in MINILM.values()) / 7
    }
    assert [row["task"] for row in rows if row["source"] == "published (MTEB)"] == list(STS[:6])
    assert all(row["model"] == "minilm" for row in rows if row["source"] == "published (MTEB)")
    records = json.loads(tidy_json(table))
    assert [{key: "" if value is None else str(value) for key, value in one.items()} for one in records] == rows
    assert {type(one["value"]) for one in records} == {float}


def test_a_report_has_all_formats_and_names_what_it_left_out(tmp_path):
    for one in [*sts(card("minilm"), MINILM), result(card("minilm"), "uniformity", {"uniformity": -3.8})]:
        store.write(one, tmp_path / "results")
    (bad,) = tmp_path.glob("results/minilm_*/STS12.sts.json")
    bad.write_text("")
    summary = report(tmp_path / "results", tmp_path / "out")
    names = [table.name for table in summary.tables]
    assert names[0] == "sts-all"
    expected = ["report.md", *(f"{name}.{kind}" for name in names for kind in ("tex", "csv"))]
    assert [path.name for path in summary.paths] == expected
    assert all(path.stat().st_size for path in summary.paths)
    assert summary.n_results == 7
    assert summary.problems == (
        f"{bad}: is not JSON (Expecting value: line 1 column 1 (char 0)); run its task again with --force",
    )
    page = summary.paths[0].read_text()
    assert f"## Left out\n\nResult files not used: 1.\n\n- {summary.problems[0]}\n" in page
    assert "## Measured, but in no table\n\n- uniformity (sts)\n" in page
    assert "- A, 2 cores, 8 GiB, Linux 6; device cpu, 2 threads; commit cccccccccccc with changes: 7 results" in page
    first = {path: path.read_bytes() for path in summary.paths}
    assert {path: path.read_bytes() for path in report(tmp_path / "results", tmp_path / "out").paths} == first
    assert [p.name for p in report(tmp_path / "results", tmp_path / "md", ["md"]).paths] == ["report.md"]
    as_json = report(tmp_path / "results", tmp_path / "json", ["json"]).paths
    assert [path.name for path in as_json] == [f"{name}.json" for name in names]


def test_nothing_to_report_and_unknown_formats_are_sentences(tmp_path):
    with pytest.raises(ResultError) as caught:
        report(tmp_path / "results", tmp_path / "out")
    assert str(caught.value) == (
        f"{tmp_path / 'results'}: nothing to report, found no result files; run `bench run` first"
    )
    with pytest.raises(UsageError) as wrong:
        report(tmp_path, tmp_path / "out", ["cvs"])
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
