"""What all commands have in common: variables of the environment, logs, and what shells complete."""

import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import harness
from harness.cli import completion
from harness.cli.main import app
from harness.errors import UsageError

# Options whose values are no choice: folders and files, numbers, and what a user writes.
FREE = {
    *("--output", "--results-dir", "--data-dir", "--cache-dir", "--track-dir", "--senteval", "--study", "--baseline"),
    *("--limit", "--shard", "--seeds", "--batch-size", "--lr", "--epochs", "--max-steps", "--margin", "--pairs"),
    *("--workers", "--score", "--max-drop", "--gain", "--power", "--verbose", "--set", "--captions", "--runs"),
    *("file", "archive", "run", "place", "results", "old", "new", "data add name", "import mteb --model"),
}


def parameters(name="", one=None):
    """Every option and argument of every command, with the command's name."""
    one = one or typer.main.get_command(app)
    for parameter in one.params:
        yield name, parameter
    for child, command in getattr(one, "commands", {}).items():
        yield from parameters(f"{name} {child}".strip(), command)


def long_name(parameter):
    return next((name for name in parameter.opts if name.startswith("--")), parameter.name)


def call(*words, env=None):
    return CliRunner().invoke(app, [*map(str, words)], env=env or {})


def test_every_option_that_commands_share_has_a_variable():
    meanings = defaultdict(list)
    for _, parameter in parameters():
        if parameter.param_type_name == "option":
            meanings[long_name(parameter), parameter.help].append(parameter.envvar)
    shared = {key: variables for key, variables in meanings.items() if len(variables) > 1}
    assert {name for (name, _), (variable, *_) in shared.items() if not variable} == set()
    for (name, _), variables in shared.items():
        assert len(set(variables)) == 1, name
        assert variables[0].startswith("BENCH_") and variables[0].endswith(name[2:].replace("-", "_").upper())
    assert {"--models", "--suite", "--tasks", "--mode", "--seeds", "--log-level"} <= {name for name, _ in shared}


def test_a_variable_means_the_same_wherever_it_is_read():
    names = defaultdict(set)
    for _, parameter in parameters():
        if parameter.param_type_name == "option" and parameter.envvar:
            names[parameter.envvar].add(long_name(parameter))
    assert {variable for variable, found in names.items() if len(found) > 1} == set()


def test_the_environment_names_encoders_and_tasks_and_what_is_typed_comes_before_it(tmp_path):
    env = {"BENCH_MODELS": "random", "BENCH_SUITE": "mini", "BENCH_RESULTS_DIR": str(tmp_path), "BENCH_OFFLINE": "1"}
    done = call("run", "--tasks", "mini-sts", "--json", "-q", env=env)
    assert [(cell["encoder"], cell["task"]) for cell in json.loads(done.stdout)] == [("random", "mini-sts")]
    done = call("run", "-m", "bag-of-words", "--json", "-q", env=env | {"BENCH_SUITE": "", "BENCH_TASKS": "mini-sts"})
    assert [cell["encoder"] for cell in json.loads(done.stdout)] == ["bag-of-words"]


def lines(tmp_path, *words):
    model = "bert[backbone=tiny,pooling=avg]"
    folders = ("--results-dir", tmp_path / "results", "--cache-dir", tmp_path / "cache")
    done = call("run", "-t", "mini-sts", "-m", model, "--offline", "--force", "-q", *folders, *words)
    assert done.exit_code == 0, done.stderr
    return [line.split(" ", 3) for line in done.stderr.splitlines()]


def test_a_log_says_what_was_read_found_computed_and_written(tmp_path):
    assert lines(tmp_path) == []
    first, again = lines(tmp_path / "new", "-v"), lines(tmp_path / "new", "--log-level", "info")
    for found, cached in ((first, 0), (again, 672)):
        assert {level for _, level, *_ in found} == {"INFO"}
        said = [f"{logger} {text}" for _, _, logger, text in found]
        assert any("mini-sts: 672 sentences read from" in line for line in said)
        assert (
            f"harness.encoders.cached: bert[backbone=tiny,pooling=avg]: {cached} of 672 sentences found in the cache"
            in said
        )
        assert any(line.endswith("mini-sts.sts.json: written") for line in said)
        assert any("weights loaded on cpu" in line for line in said) == (cached == 0)
    assert sum(text.endswith("112 lines read") for _, level, _, text in lines(tmp_path, "-vv") if level == "DEBUG") > 5


def test_a_level_that_is_none_is_one_sentence():
    assert call("run", "--log-level", "loud").stderr == (
        "bench: no level is named 'loud'; known: debug, info, warning, error\n"
    )


OFFERED = """
import json, sys
from test_options import long_name, parameters
offered = {}
for command, parameter in parameters():
    context = type("Context", (), {"params": {"results_dir": sys.argv[1]}})()
    offered[f"{command} {long_name(parameter)}"] = [one.value for one in parameter.shell_complete(context, "")]
print(json.dumps([offered, "torch" in sys.modules, "pandas" in sys.modules]))
"""


def test_every_choice_is_completed_and_without_torch(tmp_path):
    harness.evaluate("random", tasks=["mini-sts"], results_dir=tmp_path, offline=True)
    done = subprocess.run(
        [sys.executable, "-c", OFFERED, tmp_path], capture_output=True, text=True, check=True, cwd=Path(__file__).parent
    )
    offered, torch, pandas = json.loads(done.stdout)
    assert not torch and not pandas
    flags = {f"{c} {long_name(p)}" for c, p in parameters() if p.param_type_name == "option" and p.is_flag}
    silent = {name for name, values in offered.items() if not values} - flags
    assert {name for name in silent if not {name, name.rpartition(" ")[2]} & FREE} == set()
    assert offered["compare a"] == offered["power --encoder"] == ["random"]
    assert offered["paper --figure"] == ["all", "2", "3", "F.1", "G.1"]
    assert {"simcse", "mteb"} <= set(offered["report --published"])
    assert {"sts-all", "transfer"} <= set(offered["report --table"])


def test_choices_that_are_written_down_twice_are_the_same():
    from harness.encoders.export import FORMATS
    from harness.encoders.transformer import DTYPES
    from harness.results.documents import schemas
    from harness.studies.engines import ENGINES
    from harness.verify import open_upstream

    assert set(completion.ENGINES) == set(ENGINES)
    assert set(completion.MODEL_FORMATS) == set(FORMATS)
    assert set(completion.DTYPES) == set(DTYPES)
    assert set(schemas()) == {"result", "encoder"}
    with pytest.raises(UsageError) as caught:
        open_upstream("", None)
    assert str(caught.value).endswith("known: " + ", ".join(completion.OTHERS))


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("run --suite sts,tran", {"sts,transfer", "sts,transfer-extra"}),
        ("run --tasks STS12,mini-s", {"STS12,mini-sts"}),
        ("list publ", {"published"}),
        ("report --published simcse,simple-simcse-", {"simcse,simple-simcse-readme"}),
        ("paper --table simcse 5", set()),
        ("plot spectrum --width pa", {"page"}),
        ("log --track tensorboard,tr", {"tensorboard,trackio"}),
    ],
)
def test_a_shell_completes_the_last_of_several(typed, offered):
    variables = {"_BENCH_COMPLETE": "complete_bash", "COMP_WORDS": f"bench {typed}"}
    done = CliRunner().invoke(app, [], prog_name="bench", env=variables | {"COMP_CWORD": str(len(typed.split()))})
    assert set(done.stdout.split()) == offered
