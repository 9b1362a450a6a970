import json
from pathlib import Path

import numpy as np
import pytest
from test_compare import card, record
from typer.testing import CliRunner

from harness.cli.main import app
from harness.errors import UsageError
from harness.names import STS, Spec
from harness.reports import claims
from harness.reports.claims import judge, load
from harness.reports.targets import Choice
from harness.results import store
from harness.results.items import SeriesItems

DEV = "spearman/all/dev"


def dev(name: str, value: float, backbone: str = "tiny", seeds: int = 2, **parameters: object):
    """Results of several seeds whose scores are a point apart, about that value."""
    found = []
    for seed in range(seeds):
        full = Spec.parse(name).replaced(seed=seed)
        encoder = card(
            str(full), backbone=backbone, parameters=parameters | {"seed": seed}, seed=seed, trained_on="text@1",
            weights_sha256=f"{full}",
        )  # fmt: skip
        shift = 0.01 * (seed - (seeds - 1) / 2)
        found.append(record(encoder, "STSBenchmark-dev", {DEV: value + shift}))
    return found


def finding(name: str, results, **options):
    (found,) = [one for one in judge("simcse", results, **options) if one.claim.name == name]
    return found


def collapse(without: float, fixed: float, seeds: int = 2):
    return [
        *dev("simcse-unsup[backbone=tiny]", 0.70, seeds=seeds),
        *dev("simcse-unsup[backbone=tiny,dropout=0.0]", without, seeds=seeds, dropout=0.0),
        *dev("simcse-unsup[backbone=tiny,fixed_mask=true]", fixed, seeds=seeds, fixed_mask=True),
    ]


def test_a_claim_holds_if_the_intervals_of_all_its_checks_do():
    found = finding("dropout-prevents-collapse", collapse(0.50, 0.30))
    assert (found.verdict, found.backbone) == ("holds", "tiny")
    assert found.evidence[0].startswith(
        "stsb-dev: simcse-unsup 70.00 (2 seeds) against simcse-unsup[dropout=0.0] 50.00 (2 seeds), "
        "difference +20.00 points (95 % interval "
    )
    assert found.evidence[0].endswith("claimed is more than 5")


def test_a_difference_within_the_noise_of_seeds_is_undecided():
    """0.13 points against one seed rested once on nothing: it is no claim that holds."""
    assert finding("dropout-prevents-collapse", collapse(0.62, 0.30)).verdict == "undecided"
    near = [*dev("simcse-sup[backbone=tiny]", 0.7013), *dev("simcse-sup[backbone=tiny,hard_negatives=both]", 0.70)]
    assert "undecided" not in finding("contradictions-as-hard-negatives", near).verdict  # something is missing too
    two = [
        *dev("simcse-unsup[backbone=tiny]", 0.7013),
        *dev("simcse-unsup[backbone=tiny,towers=2]", 0.70, towers=2),
    ]
    assert finding("one-encoder", two).verdict == "undecided"


def test_one_failing_check_refutes_a_claim_even_if_others_are_missing():
    """The counterexample is shown beside what is missing."""
    results = [
        *dev("simcse-unsup[backbone=tiny]", 0.50),
        *dev("simcse-unsup[backbone=tiny,dropout=0.0]", 0.60, dropout=0.0),
    ]
    found = finding("dropout-prevents-collapse", results)
    assert found.verdict == "does not hold"
    assert "difference -10.00" in found.evidence[0]
    assert found.evidence[1] == "missing: simcse-unsup[fixed_mask=true] on stsb-dev"


def test_one_seed_says_nothing_where_the_noise_of_seeds_is_not_known():
    found = finding("dropout-prevents-collapse", collapse(0.50, 0.30, seeds=1))
    assert found.verdict == "undecided"
    assert found.evidence[0].endswith("; one seed, and the noise of seeds is not known")


def test_one_seed_borrows_the_noise_of_the_methods_other_recipes():
    results = [*collapse(0.50, 0.30)[:2], *dev("simcse-unsup[backbone=tiny,towers=2]", 0.40, seeds=1, towers=2)]
    assert finding("one-encoder", results).verdict == "holds"


def test_a_spread_that_is_borrowed_is_said():
    results = [*collapse(0.50, 0.30)[:2], *dev("simcse-unsup[backbone=tiny,towers=2]", 0.40, seeds=1, towers=2)]
    (sentence,) = finding("one-encoder", results).evidence
    assert "40.00 (1 seed, with the spread of the method's other settings)" in sentence


def test_a_difference_of_which_no_noise_is_known_decides_nothing():
    """Two encoders without seeds, whose results have no items."""
    results = [
        record(card(f"{name}[backbone=tiny]", backbone="tiny", **given), task, {"spearman/all/test": value})
        for name, given, value in (
            ("bert", {"pooling": "avg_static_last"}, 0.5),
            ("bert-whitening", {"parameters": {"fit": "nli"}}, 0.6),
        )
        for task in STS
    ]
    found = finding("flow-and-whitening-above-averages", results)
    assert found.evidence[1] == (
        "sts: bert-whitening[fit=nli] 60.00 against bert[pooling=avg_static_last] 50.00, difference +10.00 points "
        "(95 % interval +10.00 to +10.00), claimed is more than 0; no noise is known, neither of items nor of seeds"
    )
    assert found.verdict == "not measured"  # as the flow is missing, and this check alone is undecided


def test_a_number_of_the_paper_is_held_against_the_mean_of_ones_own_seeds_and_not_of_a_release():
    """The release gives the paper's average, and five seeds trained here are ten points lower."""
    release = card("simcse-unsup", backbone="bert-base-uncased", weights_sha256="released", parameters={"seed": 42})
    results = [record(release, task, {"spearman/all/test": 0.7625}) for task in STS]
    for seed in range(5):
        name = f"simcse-unsup[seed={seed}]"
        own = card(name, backbone="bert-base-uncased", seed=seed, trained_on="wiki@1", parameters={"seed": seed})
        results += [record(own, task, {"spearman/all/test": 0.6625 + 0.003 * (seed - 2)}) for task in STS]
    found = finding("unsup-average", results)
    # t = 2.776 with 4 degrees of freedom; the five averages have the deviation 0.3 sqrt(2.5) = 0.474.
    half = 2.776 * 0.474 / 5**0.5
    assert found.verdict == "does not hold"
    assert found.evidence == (
        f"sts: simcse-unsup 66.25 (5 seeds) points (95 % interval {66.25 - half:.2f} to {66.25 + half:.2f}), "
        "claimed is between 74.56 and 77.94",
    )


def test_every_interval_has_its_unit_and_level():
    for score in load("simcse")[0].values():
        assert score.unit
    (claim,) = [one for one in load("simcse")[1] if one.name == "sup-pooling-does-not-matter"]
    assert claim.checks[0].expected == "between -0.5 and 0.5"


def test_what_is_missing_is_named():
    found = finding("dropout-prevents-collapse", collapse(0.5, 0.3)[:4])
    assert found.verdict == "not measured"
    assert found.evidence[1] == "missing: simcse-unsup[fixed_mask=true] on stsb-dev"
    nothing = finding("dropout-prevents-collapse", [])
    assert (nothing.verdict, nothing.backbone) == ("not measured", None)


def test_backbones_are_judged_apart_and_a_paper_number_on_its_own_backbone_only():
    both = collapse(0.5, 0.3) + [
        one
        for name, value, given in (
            ("simcse-unsup[backbone=other]", 0.70, {}),
            ("simcse-unsup[backbone=other,dropout=0.0]", 0.75, {"dropout": 0.0}),
            ("simcse-unsup[backbone=other,fixed_mask=true]", 0.30, {"fixed_mask": True}),
        )
        for one in dev(name, value, "other", **given)
    ]
    found = [one for one in judge("simcse", both) if one.claim.name == "dropout-prevents-collapse"]
    assert [(one.backbone, one.verdict) for one in found] == [("other", "does not hold"), ("tiny", "holds")]
    assert finding("unsup-average", both).backbone == "bert-base-uncased"
    assert finding("unsup-average", both).verdict == "not measured"


def test_other_parameters_make_another_model():
    results = collapse(0.5, 0.3)
    results[:2] = dev("simcse-unsup[backbone=tiny,temperature=0.1]", 0.70, temperature=0.1)
    assert "missing: simcse-unsup on stsb-dev" in " ".join(
        finding("dropout-prevents-collapse", results).evidence
    ).replace("simcse-unsup[dropout=0.0]", "").replace("simcse-unsup and", "simcse-unsup on stsb-dev")


def test_settings_that_all_runs_share_need_no_option():
    """What the results of a backbone have is what is meant: here bfloat16 and a text of one's own."""
    given = {"data": "mine.txt", "dtype": "bfloat16"}
    name = "simcse-unsup[backbone=tiny,data=mine.txt,dtype=bfloat16{}]"
    results = [
        *dev(name.format(""), 0.70, **given),
        *dev(name.format(",dropout=0.0"), 0.5, dropout=0.0, **given),
        *dev(name.format(",fixed_mask=true"), 0.3, fixed_mask=True, **given),
    ]
    assert finding("dropout-prevents-collapse", results).verdict == "holds"


def geometry(name, alignment, uniformity, spectrum, seeds=(None,)):
    found = []
    for seed in seeds:
        full = name if seed is None else str(Spec.parse(name).replaced(seed=seed))
        given = {} if seed is None else {"seed": seed, "trained_on": "text@1"}
        parameters = {} if seed is None else {"seed": seed}
        pooling = "avg_static_last" if name.startswith("bert") else None
        encoder = card(full, backbone="tiny", parameters=parameters, pooling=pooling, weights_sha256=full, **given)
        shift = 0.001 * (seed or 0)
        scores = {"uniformity/unique/test": uniformity + shift, "alignment/gt4/test": alignment + shift}
        ends = {"low": -0.01, "high": 0.01}
        scores |= {f"{key}/{end}": score + by for key, score in scores.items() for end, by in ends.items()}
        items = SeriesItems(
            series=["spectrum/test"] * len(spectrum), x=np.arange(1.0, len(spectrum) + 1), y=np.array(spectrum) + shift
        )
        one = record(encoder, "geometry-stsb", scores, "geometry[alpha=2,t=2]")
        found.append(one.with_items(items))
    return found


def test_a_collapsed_encoder_is_not_better_for_its_alignment():
    """Alignment alone rewards collapse, so uniformity is tested with it."""
    averages = geometry("bert[backbone=tiny]", 0.12, -1.3, [4, 1, 1])
    post = [
        *geometry("bert-flow[backbone=tiny]", 0.5, -3.6, [1, 1, 1], (0, 1)),
        *geometry("bert-whitening[backbone=tiny]", 0.6, -3.7, [1, 1, 1]),
    ]
    collapsed = geometry("simcse-unsup[backbone=tiny]", 0.001, -0.002, [4, 0, 0], (0, 1, 2))
    found = finding("simcse-aligns-better-than-post-processing", [*averages, *post, *collapsed])
    assert found.verdict == "does not hold"


def test_the_spectrum_is_flat_by_its_largest_eigenvalue():
    """The entropy of singular values falls where the share of the top eigenvalue, which the paper bounds, falls too."""
    averages = geometry("bert[backbone=tiny]", 0.12, -1.3, [8, 2.3, 1.4, 0.9] + [0.5] * 60)
    flat = {
        name: geometry(f"{name}[backbone=tiny]", 0.2, -2.5, [5, 3.5, 2.5, 1.5] + [0.1] * 60, (0, 1))
        for name in ("simcse-unsup", "simcse-sup")
    }
    found = finding(
        "contrastive-training-flattens-the-spectrum", [*averages, *flat["simcse-unsup"], *flat["simcse-sup"]]
    )
    assert found.verdict == "holds"


def test_the_split_of_the_geometry_can_be_chosen():
    score = load("simcse")[0]["alignment"]
    assert score.on("all").key == "alignment/gt4/all"
    assert load("simcse")[0]["sts"].on("all").key == "spearman/all/test"


def test_what_cannot_be_measured_says_why():
    found = finding("entailment-above-qqp-and-paranmt", collapse(0.5, 0.3))
    assert found.verdict == "not measured" and "QQP" in found.evidence[0]


def test_every_claim_is_well_formed():
    scores, claims = load("simcse")
    assert len({claim.name for claim in claims}) == len(claims) > 40
    for claim in claims:
        assert bool(claim.checks) != bool(claim.reason), claim.name
        for check in claim.checks:
            assert check.score in scores
            assert (check.above is not None) != (check.margin > 0), claim.name
    with pytest.raises(UsageError, match="no paper is named 'simsce'; did you mean 'simcse'"):
        load("simsce")


def test_the_command_prints_verdicts_or_json(tmp_path):
    for result in collapse(0.5, 0.3):
        store.write(result, tmp_path)
    runner = CliRunner()
    done = runner.invoke(app, ["claims", "simcse", "--results-dir", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert done.stderr.startswith("1 holds, ")
    rows = json.loads(runner.invoke(app, ["claims", "--results-dir", str(tmp_path), "--json"]).stdout)
    assert [row["claim"]["name"] for row in rows if row["verdict"] == "holds"] == ["dropout-prevents-collapse"]


def test_encoders_of_other_training_data_are_no_seeds():
    other = dev("simcse-unsup[backbone=tiny,data=other.txt]", 0.60, seeds=1, data="other.txt")
    found = finding(
        "dropout-prevents-collapse", [*collapse(0.5, 0.3), *other], choice=Choice(texts={"wiki": "other.txt"})
    )
    assert found.evidence[0] == "missing: simcse-unsup[dropout=0.0] on stsb-dev"


def test_where_nothing_was_measured_the_backbone_with_the_fewest_missing_models_is_named():
    claim = claims.Claim(name="next", where="3", text="Next is worse.", checks=(claims.Check(score="sts", left="a"),))
    both = claims.Finding(
        claim=claim, backbone="bert-base-uncased", verdict="not measured", evidence=("missing: a and b on sts",)
    )
    one = claims.Finding(claim=claim, backbone="small", verdict="not measured", evidence=("missing: b on sts",))
    assert claims._nearest(claim, [both, one]) is one


def test_the_list_of_claims_is_a_markdown_page(tmp_path):
    runner, results = CliRunner(), str(Path(__file__).parents[1] / "results")
    page = tmp_path / "claims.md"
    done = runner.invoke(app, ["claims", "simcse", "--results-dir", results, "--output", str(page)])
    assert done.exit_code == 0
    rows = json.loads(runner.invoke(app, ["claims", "--results-dir", results, "--json"]).stdout)
    text = page.read_text()
    for row in rows:
        assert f"- *{row['verdict']}*: " in text
        assert row["claim"]["text"].split("[")[0] in text
    assert text.index("- *holds*") < text.index("- *undecided*") < text.index("- *not measured*")


def test_what_a_choice_leaves_open_is_named_in_the_order_of_the_specification():
    """It was in the order of a set once, so that two processes wrote two captions."""
    given = {"sentences": 100, "epochs": 2, "learning_rate": 1e-4, "warmup": 0.1, "eval_steps": 50, "dtype": "bfloat16"}
    results = dev(str(Spec("simcse-unsup", {"backbone": "tiny", **given})), 0.7, **given)
    assert list(claims.usual(results, Choice()).settings) == [f"simcse-unsup:{key}" for key in given]
