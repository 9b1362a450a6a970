"""A paper's tables as data: every published number once, cells matched to results, the paper's layout, the command."""

import csv
import io
from collections import Counter
from dataclasses import asdict, replace

import pytest
from report_cases import card, result

from baselines.simcse.settings import SimcseSup, SimcseUnsup
from baselines.simcse.settings import published as published_settings
from harness.encoders.context import Context
from harness.encoders.registry import resolve
from harness.errors import UsageError
from harness.reports import published
from harness.reports.claims import judge
from harness.reports.paper import coverage, fill, fill_words
from harness.reports.renderers import latex, markdown, tidy_csv
from harness.reports.table import notes_below, numbered, texts
from harness.reports.targets import PAPERS, Choice, filler_of, load_paper
from harness.tasks.suites import TASKS

SIMCSE = load_paper("simcse")
STS = ("STS12", "STS13", "STS14", "STS15", "STS16", "STSBenchmark", "SICKRelatedness")
TINY = Choice(backbone="tiny")


def encoder(name, **parameters):
    return card(name, parameters=parameters)


def dev(name, value, **parameters):
    return result(encoder(name, **parameters), "STSBenchmark-dev", {"spearman/all/dev": value})


def rows(table, kind):
    numbers = numbered(table.table)
    return [tuple(texts(row, table.table, numbers)) for row in table.table.rows if row.kind == kind]


def numbers_of(target):
    for row in target.rows:
        yield from (cell.published for cell in row.cells if cell is not None and cell.published is not None)
        if row.average is not None:
            yield row.average


def test_every_table_and_figure_of_the_paper_is_there():
    assert list(SIMCSE.targets) == [
        *(f"table-{n}" for n in (1, 2, 3, 4, 5, 6, 7, 8, "A.1", "B.1", "B.2", "B.3", "C.1", "D.1", "D.2", "E.1")),
        *(f"figure-{n}" for n in (2, 3, "F.1", "G.1")),
    ]
    assert tuple(PAPERS) == ("simcse",)


def test_every_published_number_is_in_one_cell():
    for name, target in SIMCSE.targets.items():
        kind, _, number = name.partition("-")
        expected = [n.value for n in published.load("simcse") if n.table == number and kind == "table"]
        if kind == "table":
            assert Counter(numbers_of(target)) == Counter(expected), name


def test_a_figure_has_the_averages_that_the_paper_prints_in_its_table():
    """Table 5's, of the rows that are points of Figure 3; the paper prints 63.1 for Next3Sent in the figure alone."""
    found = fill(SIMCSE.targets["figure-3"], SIMCSE, Choice(), []).published
    assert found == {
        "Avg. BERT": 56.70,
        "BERT-flow": 66.55,
        "BERT-whitening": 66.28,
        "Unsup. SimCSE": 76.25,
        "SBERT": 74.89,
        "SBERT-flow": 76.60,
        "SBERT-whitening": 77.00,
        "SimCSE": 81.57,
    }


def test_cells_stand_where_the_paper_has_them():
    table = fill(SIMCSE.targets["table-3"], SIMCSE, Choice(), [])
    assert [column.head for column in table.table.columns] == "0.0|0.01|0.05|0.1|0.15|0.2|0.5|Fixed 0.1".split("|")
    assert rows(table, "published") == [("STS-B", "71.1", "72.6", "81.1", "82.5", "81.4", "80.5", "71.0", "43.6")]
    pooling = fill(SIMCSE.targets["table-6"], SIMCSE, Choice(), [])
    assert [found[1:] for found in rows(pooling, "published")] == [
        ("81.7", "86.2"), ("82.5", "85.8"), ("80.9", "86.2"), ("81.2", "86.1")
    ]  # fmt: skip
    crop = rows(fill(SIMCSE.targets["table-1"], SIMCSE, Choice(), []), "published")[1]
    assert crop == ("Crop", "-", "77.8", "71.4", "63.6")
    flow = rows(fill(SIMCSE.targets["table-5"], SIMCSE, Choice(), []), "published")[2]
    assert flow == (
        "BERT-base-flow", "58.40", "67.10", "60.85", "75.16", "71.22", "68.66", "64.47", "66.55"
    )  # fmt: skip


def test_table_a1_is_what_training_does_by_default():
    batch, rate = SIMCSE.targets["table-A.1"].texts
    own = [
        published_settings(kind(backbone=backbone))
        for kind, backbones in (
            (SimcseUnsup, ("bert-base-uncased", "bert-large-uncased", "roberta-base", "roberta-large")),
            (SimcseSup, ("bert-base-uncased", "bert-large-uncased")),
        )
        for backbone in backbones
    ]
    assert [int(text) for text in batch[1:]] == [settings.batch_size for settings in own]
    assert [float(text) for text in rate[1:]] == [settings.learning_rate for settings in own]


@pytest.mark.parametrize("choice", [Choice(), TINY], ids=["paper", "tiny"])
def test_every_cell_names_an_encoder_and_a_task_that_exist(choice, tmp_path):
    missing = {one for target in SIMCSE.targets.values() for one in coverage(target, SIMCSE, choice, []).missing}
    assert missing
    for name in {one.encoder for one in missing}:
        resolve(name, Context(cache_dir=tmp_path))
    assert {one.task for one in missing} <= {*TASKS, "geometry-stsb"}
    assert {one.protocol for one in missing} == {
        "sts", "senteval[mode=test]", "senteval[mode=dev]", "geometry[alpha=2,t=2]"
    }  # fmt: skip


def named(target, choice):
    return {one.encoder for one in coverage(SIMCSE.targets[target], SIMCSE, choice, []).missing}


def test_a_backbone_fills_its_own_rows_and_any_other_stands_in_for_the_first():
    assert named("table-5", Choice(backbone="roberta-large")) == {
        "simcse-unsup[backbone=roberta-large]", "simcse-sup[backbone=roberta-large]",
        "avg-glove[backbone=glove.840B.300d]",
    }  # fmt: skip
    assert named("table-5", TINY) == {
        "avg-glove[backbone=tiny]", "bert[backbone=tiny,pooling=avg_static_last]",
        "bert-flow[backbone=tiny,fit=mini-nli]", "bert-whitening[backbone=tiny,fit=mini-nli]",
        "simcse-unsup[backbone=tiny]", "simcse-sup[backbone=tiny]",
    }  # fmt: skip
    other = Choice(backbone="some/folder", seeds=(0, 1), texts={"nli": "my.csv"})
    assert named("table-7", other) >= {
        "simcse-sup[backbone=some/folder,data=my.csv,seed=1]",
        "simcse-sup[backbone=some/folder,data=my.csv,hard_negatives=none,seed=0]",
    }
    assert not named("table-4", TINY) & {"simcse-sup[backbone=tiny,positives=captions,hard_negatives=none]"}
    with_captions = Choice(backbone="tiny", texts={"captions": "c.tsv"})
    assert "simcse-sup[backbone=tiny,data=c.tsv,positives=captions,hard_negatives=none]" in named(
        "table-4", with_captions
    )


@pytest.mark.parametrize(
    ("name", "parameters", "expected"),
    [
        ("simcse-unsup[backbone=tiny]", {"backbone": "tiny", "seed": 42, "dropout": None}, True),
        ("simcse-unsup[backbone=tiny,seed=7]", {"backbone": "tiny", "seed": 7}, True),
        ("simcse-unsup[backbone=tiny,epochs=2.0]", {"backbone": "tiny", "seed": 42, "epochs": 2.0}, False),
        ("simcse-unsup", {"backbone": "bert-base-uncased", "seed": 42}, False),
        ("simcse-sup[backbone=tiny]", {"backbone": "tiny", "seed": 42}, False),
    ],
)
def test_a_result_counts_if_it_is_the_cells_encoder_with_any_seed(name, parameters, expected):
    cell = SIMCSE.targets["table-3"].rows[0].cells[3]
    assert filler_of(cell, SIMCSE, TINY).fits(encoder(name, **parameters)) is expected


def test_values_are_compared_by_their_type():
    fixed, half = (SIMCSE.targets["table-3"].rows[0].cells[i] for i in (7, 6))
    own = {"backbone": "google-bert/bert-base-uncased", "seed": 42}
    name = "simcse-unsup[backbone=google-bert/bert-base-uncased,{}]"
    assert filler_of(fixed, SIMCSE, Choice()).fits(encoder(name.format("fixed_mask=true"), fixed_mask=True, **own))
    assert filler_of(half, SIMCSE, Choice()).fits(encoder(name.format("dropout=0.5"), dropout=0.5, **own))
    assert not filler_of(half, SIMCSE, Choice()).fits(encoder(name.format("dropout=0.05"), dropout=0.05, **own))


def test_seeds_are_summarised_and_a_rerun_says_what_it_is():
    found = [
        dev("simcse-unsup[backbone=tiny]", 0.50, backbone="tiny", seed=42),
        dev("simcse-unsup[backbone=tiny,seed=1]", 0.60, backbone="tiny", seed=1),
        dev("simcse-unsup[backbone=tiny,dropout=0.0]", 0.40, backbone="tiny", seed=42, dropout=0.0),
        dev("minilm", 0.9),
    ]
    table = fill(SIMCSE.targets["table-3"], SIMCSE, TINY, found)
    # sd of 50 and 60 with n - 1: sqrt(2 * 25) = 7.07
    assert rows(table, "measured") == [("  measured on tiny", "40.0", "-", "-", "55.0 ± 7.1", "-", "-", "-", "-")]
    assert rows(table, "difference") == []
    assert table.table.title == ("SimCSE (Gao et al. 2021), Table 3: Dropout probabilities (small-scale rerun on tiny)")
    assert table.table.caption.endswith(
        "2 of 8 cells measured. Measured rows are a small-scale rerun with the backbone tiny, not the paper's setting: "
        "compare them with each other only. ±: standard deviation over seeds."
    )
    assert coverage(SIMCSE.targets["table-3"], SIMCSE, TINY, found).measured == 2
    one_seed = fill(SIMCSE.targets["table-3"], SIMCSE, Choice(backbone="tiny", seeds=(1,)), found)
    assert rows(one_seed, "measured")[0][4] == "60.0"


RERUN = Choice(
    backbone="tiny",
    texts={"wiki": "sentences-100k.txt", "nli": "pairs.csv"},
    fit="snli",
    settings={"dev": "sts-b", "dtype": "bfloat16", "length_groups": "4", "bert-flow:dropout": "false"},
)
RERUN_OPTIONS = (
    "--backbone", "tiny", "--wiki", "sentences-100k.txt", "--nli", "pairs.csv", "--fit", "snli", "--set", "dev=sts-b",
    "--set", "dtype=bfloat16", "--set", "length_groups=4", "--set", "bert-flow:dropout=false",
)  # fmt: skip


def rerun(name, seeds=(None,)):
    """Cards as the registry writes them: of every seed, with the parameters of the rerun."""
    trained = "dev=sts-b,dtype=bfloat16,length_groups=4"
    given = {
        "simcse-unsup": f"data=sentences-100k.txt,{trained}", "simcse-sup": f"data=pairs.csv,{trained}",
        "bert-flow": "fit=snli,dropout=false", "bert-whitening": "fit=snli", "bert": "pooling=avg_static_last",
    }  # fmt: skip
    method, _, added = name.partition(",")
    for seed in seeds:
        parts = ["backbone=tiny", given.get(method, ""), added, "" if seed is None else f"seed={seed}"]
        asked = resolve(f"{method}[{','.join(filter(None, parts))}]", Context(cache_dir=None))
        values = asdict(asked.parameters)
        trained = "text@1" if method.startswith("simcse") else None
        fitted = "text@1" if method.startswith("bert-") else None
        yield card(
            str(asked.spec),
            parameters=values,
            backbone="tiny",
            seed=values.get("seed"),
            trained_on=trained,
            fitted_on=fitted,
        )


def rerun_results():
    """Five seeds of trained encoders, 50 to 54 points; three of the flow; one of what has none."""
    found = []
    for added in ("", ",dropout=0.0", ",augmentation=crop-10"):
        for seed, one in enumerate(rerun(f"simcse-unsup{added}", range(5))):
            found.append(result(one, "STSBenchmark-dev", {"spearman/all/dev": 0.50 + seed / 100}))
    for method in ("simcse-unsup", "simcse-sup"):
        for seed, one in enumerate(rerun(method, range(5))):
            found += [result(one, task, {"spearman/all/test": 0.50 + seed / 100}) for task in STS]
    rest = [*rerun("bert-flow", (None, 1, 2)), *rerun("bert-whitening"), *rerun("bert"), *rerun("avg-glove")]
    return found + [result(one, task, {"spearman/all/test": 0.4}) for one in rest for task in STS]


def test_a_rerun_with_other_texts_and_settings_fills_the_tables():
    found = rerun_results()
    # sd of 50, ..., 54 with n - 1: sqrt(10 / 4) = 1.58
    one, three, five = (fill(SIMCSE.targets[f"table-{n}"], SIMCSE, RERUN, found) for n in (1, 3, 5))
    assert [found[1:] for found in rows(one, "measured")] == [
        ("52.0 ± 1.6", "-", "-", "-"),
        ("-", "52.0 ± 1.6", "-", "-"),
    ]
    assert rows(three, "measured")[0][1:6] == ("52.0 ± 1.6", "-", "-", "52.0 ± 1.6", "-")
    assert [texts[-1] for texts in rows(five, "measured")] == [
        "40.00", "40.00", "40.00 ± 0.00", "40.00", "52.00 ± 1.58", "52.00 ± 1.58",
    ]  # fmt: skip
    assert coverage(SIMCSE.targets["table-5"], SIMCSE, RERUN, found).missing == ()
    assert rows(five, "difference") == []
    two = fill(SIMCSE.targets["table-5"], SIMCSE, replace(RERUN, seeds=(0, 4)), found)
    assert rows(two, "measured")[-1][-1] == "52.00 ± 2.83"  # of 50 and 54


@pytest.mark.parametrize(
    "change",
    [
        {"settings": {}},
        {"settings": {**RERUN.settings, "length_groups": "2"}},
        {"texts": {"nli": "pairs.csv"}},
        {"texts": {"wiki": "sentences-100k.txt", "nli": "snli"}},
    ],
)
def test_encoders_of_other_texts_and_settings_stay_out(change):
    done = coverage(SIMCSE.targets["table-5"], SIMCSE, replace(RERUN, **change), rerun_results())
    assert done.measured < done.fillable


def test_a_caption_names_the_settings_that_its_table_is_made_with():
    note = "Measured rows are a small-scale rerun with the backbone tiny, {}, not the paper's setting:"
    five = fill(SIMCSE.targets["table-5"], SIMCSE, RERUN, []).table.caption
    assert (
        note.format(
            "sentences-100k.txt for the corpus wiki, pairs.csv for the corpus nli, snli to fit on, dev=sts-b, "
            "dtype=bfloat16, length_groups=4 and bert-flow:dropout=false"
        )
        in five
    )
    fitted = fill(SIMCSE.targets["table-C.1"], SIMCSE, RERUN, []).table.caption
    assert note.replace("tiny, {}", "tiny, snli to fit on and bert-flow:dropout=false") in fitted
    own = Choice(settings={"epochs": "2"})
    assert not own.comparable(SIMCSE)
    assert fill(SIMCSE.targets["table-5"], SIMCSE, own, []).table.title.endswith("(rerun with other settings)")
    untouched = fill(SIMCSE.targets["table-B.2"], SIMCSE, own, []).table
    assert untouched.title.endswith("two aggregations")


def test_what_a_cell_sets_wins_over_a_setting():
    choice = Choice(backbone="tiny", settings={"dropout": "0.3", "simcse-unsup:epochs": "2"})
    assert named("table-3", choice) >= {
        "simcse-unsup[backbone=tiny,dropout=0.5,epochs=2]",
        "simcse-unsup[backbone=tiny,dropout=0.3,epochs=2]",
    }


def test_claims_are_checked_on_the_same_rerun():
    findings = {one.claim.name: one for one in judge("simcse", rerun_results(), RERUN)}
    better = findings["unsup-above-post-processing"]
    assert (better.verdict, better.backbone) == ("holds", "tiny")
    assert better.evidence[1].startswith(
        "sts: simcse-unsup 52.00 (5 seeds) against bert-flow[fit=nli] 40.00 (3 seeds), "
    )
    assert findings["sup-above-unsup"].verdict == "undecided"
    one_seed = {one.claim.name: one for one in judge("simcse", rerun_results(), replace(RERUN, seeds=(4,)))}
    assert "simcse-sup 54.00 (1 seed, with the spread of" in one_seed["sup-above-unsup"].evidence[0]
    for other in (replace(RERUN, backbone="other"), replace(RERUN, texts={"wiki": "wiki"})):
        assert {one.claim.name: one.verdict for one in judge("simcse", rerun_results(), other)}[
            "unsup-above-post-processing"
        ] == "not measured"


def test_a_caption_names_the_texts_that_its_table_is_made_with():
    choice = Choice(texts={"nli": "folder/my.csv", "captions": "c.tsv"})
    assert "with my.csv for the corpus nli, not" in fill(SIMCSE.targets["table-5"], SIMCSE, choice, []).table.caption
    assert fill(SIMCSE.targets["table-3"], SIMCSE, choice, []).table.caption.endswith("0 of 8 cells measured.")


def test_the_papers_own_setting_is_held_against_the_paper():
    own = {"backbone": "bert-base-uncased", "seed": 42}
    scores = dict(zip(STS, (0.684, 0.8241, 0.7438, 0.8091, 0.7856, 0.7685, 0.7223), strict=True))
    found = [
        result(encoder("simcse-unsup", **own), task, {"spearman/all/test": value + 0.01})
        for task, value in scores.items()
    ]
    table = fill(SIMCSE.targets["table-5"], SIMCSE, Choice(), found)
    assert rows(table, "difference") == [("  difference", *["+1.00"] * 7, "+1.00")]
    assert rows(table, "measured")[0][-1] == "77.25"
    assert table.table.title.endswith("Sentence embeddings on STS tasks")
    lines = list(csv.DictReader(io.StringIO(tidy_csv(table.table))))
    assert [float(line["value"]) for line in lines if line["source"] == "simcse-unsup" and line["task"] == "STS12"] == [
        pytest.approx(69.4, abs=1e-9)
    ]


def test_aggregations_and_means_of_tasks_come_from_their_own_scores():
    whitened = encoder("bert-whitening[backbone=tiny,fit=mini-nli]", backbone="tiny", fit="mini-nli")
    pools = {"spearman/all/test": 0.5, "spearman/wmean/test": 0.6, "spearman/subset:x/test": 0.6}
    found = [result(whitened, task, pools, flags=("a flag",)) for task in STS]
    table = fill(SIMCSE.targets["table-B.2"], SIMCSE, TINY, found)
    assert [found[-1] for found in rows(table, "measured")] == ["50.00", "60.00"]
    assert list(notes_below(table.table)) == [("¹", "a flag"), ("²", "number from Su et al. 2021")]
    sup = encoder("simcse-sup[backbone=tiny]", backbone="tiny", seed=42)
    transfer = ("MR", "CR", "SUBJ", "MPQA", "SST2", "TREC", "MRPC")
    half = [result(sup, task, {"accuracy/dev": 0.5 + i / 100}, protocol="senteval[mode=dev]") for i, task in
            enumerate(transfer)]  # fmt: skip
    done = fill(SIMCSE.targets["table-D.2"], SIMCSE, TINY, half)
    assert rows(done, "measured")[0][1:] == ("-", "53.0")
    partly = fill(SIMCSE.targets["table-D.2"], SIMCSE, TINY, half[1:])
    assert rows(partly, "measured") == []
    assert len([one for one in coverage(SIMCSE.targets["table-D.2"], SIMCSE, TINY, half[1:]).missing
                if one.encoder == "simcse-sup[backbone=tiny]"]) == 2  # fmt: skip


def test_markdown_and_latex_of_every_target():
    for target in SIMCSE.targets.values():
        table = fill(target, SIMCSE, TINY, [])
        assert markdown(table.table).startswith(f"## SimCSE (Gao et al. 2021), {target.label}: ")
        tex = latex(table.table)
        assert tex.isascii() and tex.count("{") == tex.count("}"), target.name


def test_captions_found_stand_under_the_papers():
    found = {1: [f"caption {i}" for i in range(6)]}
    table = fill_words(SIMCSE.targets["table-8"], SIMCSE, Choice(backbone="tiny", texts={"captions": "c"}), found)
    assert rows(table, "measured") == [("  measured", "-", f"caption {i}") for i in range(6)]


def test_a_search_leaves_the_query_out(tmp_path):
    from harness.data.named_texts import find_text
    from harness.encoders.registry import build
    from harness.paper import nearest

    (tmp_path / "c.tsv").write_text(
        "image\tcaption\n1\tA dog runs .\n2\tA cat sleeps\n3\tA dog runs far\n3\tA cat sleeps\n"
    )
    captions = find_text(str(tmp_path / "c.tsv"), Context(cache_dir=tmp_path)).distinct()
    assert captions == ["A dog runs .", "A cat sleeps", "A dog runs far"]
    words = build("bag-of-words", Context(cache_dir=tmp_path))
    assert nearest(words, ["a dog runs."], captions, 2) == [["A dog runs far", "A cat sleeps"]]


def test_an_unknown_paper():
    with pytest.raises(UsageError) as caught:
        load_paper("simsce")
    assert str(caught.value) == "no paper is named 'simsce'; did you mean 'simcse'?"
