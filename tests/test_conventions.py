"""Habits of the field: parts of a run for arrays of jobs, published schemas, results as other libraries' tables."""

import json
from pathlib import Path

import jsonschema
import pytest
from typer.testing import CliRunner

import harness
from harness.cli.main import app
from harness.data.locate import BUNDLED
from harness.results.documents import schemas
from harness.tasks.suites import TASKS

RESULTS = Path(__file__).parents[1] / "results"
MODELS = [f"random[seed={seed}]" for seed in range(1, 4)]


def test_every_committed_result_satisfies_the_schema():
    validators = {kind: jsonschema.Draft202012Validator(schema) for kind, schema in schemas().items()}
    files = sorted(RESULTS.glob("*/*.json"))
    assert len(files) > 500
    for file in files:
        kind = "encoder" if file.name == "encoder.json" else "result"
        assert not [*validators[kind].iter_errors(json.loads(file.read_bytes()))], file


@pytest.mark.parametrize("kind", ["result", "encoder"])
def test_the_schema_is_printed_and_refuses_what_is_no_such_file(kind):
    printed = json.loads(CliRunner().invoke(app, ["schema", kind]).stdout)
    assert [*jsonschema.Draft202012Validator(printed).iter_errors({"task": 3, "extra": 1})]


def run(tmp_path, models, shard):
    words = ["run", "-t", "mini-sts", "-m", models, "--results-dir", str(tmp_path), "--offline", "--quiet", "--json"]
    return CliRunner().invoke(app, [*words, "--shard", shard])


def test_shards_are_disjoint_and_together_the_whole_in_any_order(tmp_path):
    done = [run(tmp_path, ",".join(models), f"{i}/2") for i, models in ((1, MODELS), (2, MODELS[::-1]))]
    parts = [{cell["encoder"] for cell in json.loads(one.stdout)} for one in done]
    assert parts[0] | parts[1] == set(MODELS) and not parts[0] & parts[1]


@pytest.mark.parametrize("shard", ["0/2", "3/2", "1", "a/b"])
def test_a_shard_that_is_none_is_one_sentence(tmp_path, shard):
    done = run(tmp_path, "random", shard)
    assert done.exit_code == 2
    assert done.stderr == f"bench: --shard {shard}: expected I/N with I from 1 to N, for instance --shard 1/4\n"


def test_seeds_make_an_encoder_of_each_that_takes_one(tmp_path):
    words = ["run", "-t", "mini-sts", "--results-dir", str(tmp_path), "--offline", "-q", "--json"]
    done = CliRunner().invoke(app, [*words, "-m", "random,random[seed=7]", "--seeds", "0-2"])
    names = [cell["encoder"] for cell in json.loads(done.stdout)]
    assert names == ["random", "random[seed=1]", "random[seed=2]", "random[seed=7]"]
    done = CliRunner().invoke(app, [*words, "-m", "minilm", "--seeds", "0-2"])
    assert done.stderr == "bench: --seeds 0-2: none of minilm takes a seed; name one, or drop the option\n"


def limited_run(tmp_path, *more):
    words = ("run", "-m", "random", "--limit", "40", "--results-dir", str(tmp_path), "--offline", "--quiet", *more)
    return CliRunner().invoke(app, words)


def test_a_limited_run_scores_the_first_rows_and_says_so(tmp_path):
    done = limited_run(tmp_path, "-t", "mini-sts,mini-mr,mini-mrpc,mini-geometry", "--mode", "fasttest", "--json")
    cells = {cell["task"]: cell["result"] for cell in json.loads(done.stdout)}
    flag = "no result of the task: limited to the first 40 rows of each part"
    assert {name: flag in cell["flags"] for name, cell in cells.items()} == dict.fromkeys(cells, True)
    assert cells["mini-mr"]["protocol"] == "senteval[limit=40,mode=fasttest]"
    assert (cells["mini-mr"]["counts"]["rows/all"], cells["mini-mr"]["counts"]["classes"]) == (40, 2)
    data = TASKS["mini-sts"].load(BUNDLED)
    counted = {f"pairs/{subset.name}": min(40, len(subset.gold)) for subset in data.subsets}
    assert counted.items() <= cells["mini-sts"]["counts"].items()


def test_a_limited_result_stands_beside_the_whole_one_and_in_no_table(tmp_path):
    limited_run(tmp_path, "-t", "mini-sts")
    assert [*harness.load_results(tmp_path)] == []
    whole = harness.evaluate("random", tasks=["mini-sts"], results_dir=tmp_path, offline=True)
    assert [r.as_dict() for r in harness.load_results(tmp_path)] == [r.as_dict() for r in whole]
    assert len([*tmp_path.glob("*/mini-sts.sts*.json")]) == 2
    assert CliRunner().invoke(app, ["results", "check", "--results-dir", str(tmp_path)]).exit_code == 0


def test_a_part_is_not_compared_with_published_numbers(tmp_path):
    done = limited_run(tmp_path, "-t", "mini-sts", "--published", "simcse")
    assert done.exit_code == 2
    assert done.stderr == (
        "bench: --limit: a score of some rows is not compared with published ones; drop --published\n"
    )


def test_results_as_a_dataset():
    pytest.importorskip("datasets")
    results = harness.evaluate("random", tasks=["mini-sts"], offline=True)
    assert results.dataset().to_pandas()["score"].tolist() == results.frame()["score"].tolist()
