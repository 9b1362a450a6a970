"""Which published row stands beside which encoder."""

import csv
from pathlib import Path

import pytest
from report_cases import MINILM, STS, card, sts

from harness.encoders.registry import resolve
from harness.names import EncoderCard, ScoreKey
from harness.reports import published
from harness.reports.layouts import LAYOUTS, SPEARMAN
from harness.reports.match import Match
from harness.reports.published import AVERAGE
from harness.reports.suite import build
from harness.reports.table import notes_below

SHARED = Path(__file__).parents[2] / "shared" / "published"


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
    found = published.counterpart(encoder, published.candidates(SPEARMAN))
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
    found = published.counterpart(encoder, published.candidates(place.key._replace(split="test")))
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
    "encoder",
    [
        over("bert-whitening[dim=64]", fit="nli", dim=64),
        over("bert-whitening[fit=snli]", fit="snli"),
        card("sbert"),
    ],
    ids=["set", "other", "method"],
)
def test_what_a_specification_leaves_out_is_at_its_default(encoder):
    assert Match.parse(WHITENING).fits(over(WHITENING, fit="nli"))
    assert not Match.parse(WHITENING).fits(encoder) and not Match.parse("").fits(encoder)


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
    found = published.counterpart(upper, published.candidates(SPEARMAN))
    assert found is not None and found.model == "hf:sentence-transformers/all-MiniLM-L12-v2"


def test_minilm_is_found_by_its_weights_wherever_they_lie():
    own = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
    here = card("hf:/models/mine", method="hf", backbone="mine", pooling="avg", weights_sha256=own)
    other = card("hf:/models/mine", method="hf", backbone="mine", pooling="avg", weights_sha256="ab")
    fitted = card("bert-whitening[backbone=/models/mine]", pooling="avg", weights_sha256=own, fitted_on="nli ab")
    candidates = published.candidates(SPEARMAN)
    assert published.counterpart(here, candidates).model == "minilm"
    assert published.counterpart(other, candidates) is None
    assert published.counterpart(fitted, candidates) is None


def test_every_published_row_of_a_repository_can_be_matched():
    for repository in ("all-MiniLM-L6-v2", "all-MiniLM-L12-v2", "all-mpnet-base-v2"):
        name = f"sentence-transformers/{repository}"
        found = published.counterpart(
            card(f"hf:{name}", method="hf", backbone=name, pooling="avg"),
            published.candidates(SPEARMAN),
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
        for r in published.rows("diffcse", "notebook output", SPEARMAN)
        if r.backbone == "roberta-base" and r.model == "diffcse"
    )
    assert (row.values["Avg"], published.source(row)) == (78.21, "DiffCSE notebook output")
    names = {row.model for row in published.rows("rankcse", None, SPEARMAN)}
    assert names == {"rankcse-listnet", "rankcse-listmle"}


@pytest.mark.parametrize(("table", "metric", "aggregation"), [("5", "spearman", "all"), ("E.1", "accuracy", "")])
def test_published_averages_are_the_mean_of_their_row(table, metric, aggregation):
    for row in published.rows("simcse", table, ScoreKey(metric, aggregation, "test")):
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
