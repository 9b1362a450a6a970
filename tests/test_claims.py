import json

import pytest
from test_compare import card, record
from typer.testing import CliRunner

from harness.cli.main import app
from harness.errors import UsageError
from harness.reports.choice import Choice
from harness.reports.claims import judge, load
from harness.results import store

DEV = "spearman/all/dev"


def dev(name: str, value: float, backbone: str = "tiny", **parameters: object):
    encoder = card(name, backbone=backbone, parameters=parameters, seed=1)
    return record(encoder, "STSBenchmark-dev", {DEV: value})


def finding(name: str, results):
    (found,) = [one for one in judge("simcse", results) if one.claim.name == name]
    return found


def collapse(without: float, fixed: float):
    return [
        dev("simcse-unsup[backbone=tiny]", 0.70),
        dev("simcse-unsup[backbone=tiny,dropout=0.0]", without, dropout=0.0),
        dev("simcse-unsup[backbone=tiny,fixed_mask=true]", fixed, fixed_mask=True),
    ]


def test_a_claim_holds_if_all_its_checks_pass():
    found = finding("dropout-prevents-collapse", collapse(0.60, 0.30))
    assert (found.verdict, found.backbone) == ("holds", "tiny")
    assert found.evidence == (
        "stsb-dev: simcse-unsup 70.00 - simcse-unsup[dropout=0.0] 60.00 = +10.00, expected > 5",
        "stsb-dev: simcse-unsup 70.00 - simcse-unsup[fixed_mask=true] 30.00 = +40.00, expected > 5",
    )


def test_a_claim_with_one_failing_check_does_not_hold():
    found = finding("dropout-prevents-collapse", collapse(0.68, 0.30))
    assert found.verdict == "does not hold"
    assert found.evidence[0].endswith("= +2.00, expected > 5")


def test_what_is_missing_is_named():
    found = finding("dropout-prevents-collapse", collapse(0.6, 0.3)[:2])
    assert (found.verdict, found.evidence) == (
        "not measured",
        ("missing: simcse-unsup[fixed_mask=true] on stsb-dev",),
    )
    nothing = finding("dropout-prevents-collapse", [])
    assert (nothing.verdict, nothing.backbone, len(nothing.evidence)) == ("not measured", None, 3)


def test_seeds_count_with_their_mean():
    results = [*collapse(0.6, 0.3), dev("simcse-unsup[backbone=tiny,seed=2]", 0.60)]
    assert (
        finding("dropout-prevents-collapse", results)
        .evidence[0]
        .startswith("stsb-dev: simcse-unsup 65.00 (2 seeds) - ")
    )


def test_backbones_are_judged_apart_and_a_paper_number_on_its_own_backbone_only():
    both = collapse(0.6, 0.3) + [
        dev(one.encoder.name.replace("tiny", "other"), one.scores[DEV], "other", **one.encoder.parameters)
        for one in collapse(0.69, 0.3)
    ]
    found = [one for one in judge("simcse", both) if one.claim.name == "dropout-prevents-collapse"]
    assert [(one.backbone, one.verdict) for one in found] == [("other", "does not hold"), ("tiny", "holds")]
    assert finding("unsup-average", both).backbone == "bert-base-uncased"
    assert finding("unsup-average", both).verdict == "not measured"


def test_other_parameters_make_another_model():
    results = collapse(0.6, 0.3)
    results[0] = dev("simcse-unsup[backbone=tiny,temperature=0.1]", 0.70, temperature=0.1)
    assert finding("dropout-prevents-collapse", results).evidence == ("missing: simcse-unsup on stsb-dev",)


def test_the_papers_average_is_compared_with_a_margin():
    encoder = card("simcse-unsup", backbone="google-bert/bert-base-uncased", seed=42)
    tasks = load("simcse")[0]["sts"].tasks
    near = [record(encoder, task, {"spearman/all/test": 0.755}) for task in tasks]
    assert finding("unsup-average", near).verdict == "holds"
    assert finding("unsup-gain", near).evidence == ("sts: simcse-unsup 75.50 - 72.05 = +3.45, expected 4.2 ± 1.69",)
    far = [record(encoder, task, {"spearman/all/test": 0.70}) for task in tasks]
    assert finding("unsup-average", far).verdict == "does not hold"


def test_every_claim_is_well_formed():
    scores, claims = load("simcse")
    assert len({claim.name for claim in claims}) == len(claims) > 20
    for claim in claims:
        for check in claim.checks:
            assert check.score in scores
            assert (check.above is not None) != (check.margin > 0), claim.name
    with pytest.raises(UsageError, match="no paper is named 'simsce'; did you mean 'simcse'"):
        load("simsce")


def test_the_command_prints_verdicts_or_json(tmp_path):
    for result in collapse(0.6, 0.3):
        store.write(result, tmp_path)
    runner = CliRunner()
    done = runner.invoke(app, ["claims", "simcse", "--results-dir", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert done.stderr.startswith("1 holds, ")
    rows = json.loads(runner.invoke(app, ["claims", "--results-dir", str(tmp_path), "--json"]).stdout)
    assert [row["claim"]["name"] for row in rows if row["verdict"] == "holds"] == ["dropout-prevents-collapse"]


def test_encoders_of_other_training_data_are_no_seeds():
    results = [*collapse(0.6, 0.3), dev("simcse-unsup[backbone=tiny,data=other.txt,seed=2]", 0.60, data="other.txt")]
    found = finding("dropout-prevents-collapse", results)
    assert (found.verdict, found.evidence) == (
        "not measured",
        (
            "ambiguous: simcse-unsup on stsb-dev may be simcse-unsup[backbone=tiny,data=other.txt] or "
            "simcse-unsup[backbone=tiny]; choose with --wiki",
        ),
    )
    (chosen,) = (
        one.evidence[0]
        for one in judge("simcse", results, Choice(texts={"wiki": "other.txt"}))
        if one.claim.name == "dropout-prevents-collapse"
    )
    assert chosen == "missing: simcse-unsup[dropout=0.0] on stsb-dev"
