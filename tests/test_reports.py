from dataclasses import replace

from report_cases import MINILM, STS, card, lines, result, seeds, sts

from harness.reports.suite import Shown, build
from harness.reports.table import MOST_NOTES, Cell, Column, Row, Table, notes_below, numbered


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
