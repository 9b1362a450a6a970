import csv
import io
import json
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from harness.encoders.registry import resolve
from harness.errors import ResultError, UsageError
from harness.names import EncoderCard
from harness.reports import provenance, published
from harness.reports.layouts import LAYOUTS
from harness.reports.match import Match
from harness.reports.modelcard import model_cards
from harness.reports.numbers import AVERAGE
from harness.reports.plain import latex_text, width
from harness.reports.renderers import grid, latex, markdown, terminal, tidy_csv, tidy_json
from harness.reports.report import ReportOptions, _usable, report
from harness.reports.suite import Shown, build
from harness.reports.table import MOST_NOTES, Cell, Column, Row, Table, notes_below, numbered, texts
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
    numbers = numbered(table)
    return [tuple(texts(row, table, numbers)) for row in table.rows if row.kind == kind]


def test_measured_rows_stand_above_what_was_published_for_them():
    table = build(sts(card("minilm"), MINILM))[0]
    heads = ["STS12", "STS13", "STS14", "STS15", "STS16", "STS-B", "SICK-R", "Avg."]
    assert [column.head for column in table.columns] == heads
    assert lines(table, "section") == []  # no published row has a backbone that was measured
    assert lines(table, "measured") == [
        ("minilm", "72.37", "80.60", "75.59", "85.39", "78.99", "82.03", "77.15", "78.87")
    ]
    # MTEB's SICK-R is over other pairs, so it is not in this table and its row has no average
    reproduced = ("72.37 =", "80.60 =", "75.59 =", "85.39 =", "78.99 =", "82.03 =")
    assert lines(table, "published") == [("  MTEB", *reproduced, "-", "-")]
    assert table.caption == (
        "Spearman correlation × 100 over all pairs of a task at once (aggregation all), test sets; protocol sts; "
        "1 encoder measured. A published number marked = is reproduced, ≠ is not, and with ? the seeds do not tell."
    )


def test_published_rows_are_those_of_a_measured_backbone_or_of_a_paper_that_was_asked_for():
    bert = card("bert", backbone="bert-base-uncased", pooling="avg_static_last")
    table = build(sts(bert, MINILM))[0]
    assert [label for label, *_ in lines(table, "section")] == ["Published, unsupervised", "Published, supervised"]
    shown = [row.label for row in table.rows if row.kind == "published" and not row.below]
    assert "simcse-unsup, bert-base-uncased" in shown
    assert not any("roberta" in label for label in shown)
    asked = build(sts(card("minilm"), MINILM), shown=Shown(published=("diffcse", "rankcse")))[0]
    labels = [row.label for row in asked.rows if row.kind == "published"]
    assert "diffcse, bert-base-uncased (DiffCSE)" in labels and "rankcse-listnet, roberta-base (RankCSE)" in labels


def test_sick_r_over_all_pairs_has_a_table_of_its_own():
    tables = build([result(card("minilm"), "SICKRelatedness-full", {"spearman/all/full": 0.77582})])
    assert [table.name for table in tables] == ["sickr-full"]
    assert lines(tables[0], "measured") == [("minilm", "77.58")]
    assert lines(tables[0], "published")[0][0] == "  MTEB"


def seeds(values, **rest):
    return [
        one
        for seed, value in enumerate(values)
        for one in sts(
            card(
                f"simcse-unsup[backbone=tiny,data=my.txt,seed={seed}]",
                backbone="tiny",
                seed=seed,
                trained_on="my.txt ab",
                weights_sha256=f"{seed:02d}",
                **rest,
            ),
            dict.fromkeys(STS, value),
        )
    ]


def test_seeds_are_one_row_with_their_mean_and_spread_and_can_be_unfolded():
    table = build(seeds((0.5, 0.52, 0.54)))[0]
    assert lines(table, "measured") == [
        ("simcse-unsup [backbone=tiny, data=my.txt], 3 seeds".replace("backbone=tiny, data=my.txt", "")
         .replace(" []", ""), *["52.00"] * 8, "sd 2.00")
    ]  # fmt: skip
    assert "`backbone=tiny`, `data=my.txt`" in table.caption
    unfolded = build(seeds((0.5, 0.52, 0.54)), shown=Shown(each_seed=True))[0]
    assert [texts[0] for texts in lines(unfolded, "measured")][1:] == [f"  simcse-unsup [seed={i}]" for i in range(3)]


def test_a_release_equal_weights_and_other_data_are_no_replicates():
    released = sts(card("simcse-unsup[backbone=tiny,data=my.txt]", backbone="tiny", seed=42), dict.fromkeys(STS, 0.9))
    assert len(lines(build([*seeds((0.5, 0.52)), *released])[0], "measured")) == 2
    same = [replace(one, encoder=replace(one.encoder, weights_sha256="ab")) for one in seeds((0.5, 0.52))]
    table = build(same)[0]
    assert len(lines(table, "measured")) == 2
    assert "has the weights of another seed, so it is no replicate of it" in [note for _, note in notes_below(table)]
    other = [replace(one, data={"other.txt": "ff"}) for one in seeds((0.5, 0.52))[7:]]
    assert len(lines(build([*seeds((0.5,)), *other])[0], "measured")) == 2


def test_there_are_ten_notes_at_most_and_one_mark_a_cell():
    rows = tuple(
        Row(kind="measured", label=f"e{i}", name=f"e{i}", cells=(Cell(value=1.0, marks=("a", f"b{i}")),))
        for i in range(14)
    )
    table = Table(name="t", title="T", caption="C", columns=(Column(head="h"),), rows=rows)
    notes = list(notes_below(table))
    assert len(notes) == MOST_NOTES
    assert notes[0] == ("¹", "a; b0") and notes[-1][0] == "¹⁰"
    assert [text for _, text in lines(table, "measured")][9:] == ["1.00¹⁰"] * 5


def test_a_missing_cell_is_a_dash_and_its_row_has_no_average():
    rest = {task: value for task, value in MINILM.items() if task != "STS14"}
    assert lines(build(sts(card("minilm"), rest))[0], "measured")[0][1:] == (
        "72.37", "80.60", "-", "85.39", "78.99", "82.03", "77.15", "-"
    )  # fmt: skip


def test_the_average_is_taken_before_rounding():
    values = dict.fromkeys(STS, 0.500049)  # 50.0049: shown as 50.00; the mean of the shown values would be 50.00
    values["STS12"] = 0.500449  # mean 50.0106
    found = lines(build(sts(card("random"), values))[0], "measured")[0]
    assert found[1:] == ("50.04", *["50.00"] * 6, "50.01")


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
    assert {name: (found[1], found[6]) for name, found in shown.items()} == {
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
    assert [(table.name, lines(table, "measured")[0][1:3]) for table in tables] == [
        ("transfer", ("80.00", "-")),
        ("transfer@senteval-mode=fasttest", ("-", "80.00")),
    ]
    asked = Shown(published=("simcse",))
    results = [result(card("minilm"), "MR", accuracy, protocol=f"senteval[mode={m}]") for m in ("test", "fasttest")]
    usual, other = build(results, shown=asked)
    assert len(lines(usual, "published")) == 21
    assert lines(other, "published") == []  # the paper used the other protocol


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
    measured = next(one for one in lines(table, "measured") if one[0].startswith("bert-whitening"))
    notes = {note: mark for mark, note in notes_below(table)}
    stray = notes["2 zero vectors; scored on data files that differ from those of most rows of this column"]
    assert measured[0] == f"bert-whitening [fit=target]{notes[flag]}"
    assert measured[1:3] == ("60.00", f"60.00{stray}")
    assert table.notes[-1] == (
        "2 result files were left out as unreadable, edited or repeated; the report names each under “Left out”."
    )


def test_a_row_of_two_encoders_under_one_name_is_marked_and_has_no_average():
    half = dict(list(MINILM.items())[:3])
    rest = dict(list(MINILM.items())[3:])
    table = build([*sts(card("hf:x"), half), *sts(card("hf:x", weights_sha256="99ff"), rest)])[0]
    assert lines(table, "measured")[0][-1] == "-"
    (note,) = numbered(table)
    assert note == "the cells of this row were made by encoders that differ in weights_sha256, so it has no average"


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
    assert (None if found is None else found.values[AVERAGE]) == average


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


def test_the_digest_of_a_file_may_be_left_out():
    mine = card("simcse-unsup[backbone=tiny,data=my.txt@ab12]", parameters={"backbone": "tiny", "data": "my.txt@ab12"})
    for text, expected in (("my.txt", True), ("folder/my.txt", True), ("my.txt@ab12", True), ("my.txt@cd", False)):
        assert Match.parse(f"simcse-unsup[backbone=tiny,data={text}]").fits(mine) is expected


def test_of_two_rows_for_one_encoder_the_one_that_it_repeats_is_shown():
    """Table 5 has SBERT from its authors and Table B.2 as measured anew; they differ on STS-B."""
    anew = dict(zip(STS, (0.7097, 0.7653, 0.7319, 0.7909, 0.7430, 0.7698, 0.7291), strict=True))
    sbert = card("sbert", backbone=SBERT, pooling="avg")
    for value, table, other in ((0.7698, "B.2", "5"), (0.7703, "5", "B.2")):
        shown = build(sts(sbert, {**anew, "STSBenchmark": value}))[0]
        (row,) = [row for row in shown.rows if row.below]
        assert row.label == f"SimCSE Table {table}"
        assert {cell.verdict.outcome for cell in row.cells} == {"reproduced"}
        assert any(mark.startswith(f"printed otherwise in Table {other}, of which ") for mark in row.marks)


def test_a_repository_is_the_same_in_any_case():
    upper = card("hf:Sentence-Transformers/all-minilm-l12-v2", method="hf", pooling="avg")
    found = published.counterpart(upper, published.candidates("spearman", "all", "test"))
    assert found is not None and found.model == "hf:sentence-transformers/all-MiniLM-L12-v2"


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


def test_a_guess_about_a_published_row_is_said_beside_it():
    shown = build(sts(card("avg-glove", parameters={"backbone": "glove.840B.300d"}), MINILM))[0]
    assert any("glove.840B.300d is a guess" in note for _, note in notes_below(shown))


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
        values = [value for task, value in row.values.items() if task != AVERAGE]
        assert len(values) == 7
        own_slip = (
            {"sbert": 0.03}.get(row.model, 0) if table == "5" else 0
        )  # 74.89 is printed beside cells with mean 74.86
        average = sum(values) / 7 + own_slip
        assert row.values[AVERAGE] == pytest.approx(average, abs=0.0151), published.label(row)


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
    assert summary.problems == (
        f"{bad}: is not JSON (Expecting value: line 1 column 1 (char 0)); run its task again with --force",
    )
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
    listing = (("Encoder", "Backbone"), [("x", "<b>x|`y")])
    assert "| `x` | &lt;b>x\\|\\`y |" in " ".join(provenance._grid(listing, 2).split())
