"""The architecture as a table: who may import whom, and what must not be imported at all."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

_GROUND = {"errors", "names", "files", "packaged", "derived", "progress"}
_ENGINE = _GROUND | {"data", "encoders", "tasks", "results"}
MAY_IMPORT = {
    "errors": set(),
    "names": {"errors"},
    "files": {"errors"},
    "packaged": {"errors", "files"},
    "derived": {"errors", "files"},
    "progress": set(),
    "storage": {"errors", "files"},
    "data": _GROUND,
    "encoders": _GROUND | {"data"},
    "tasks": _GROUND | {"data", "encoders", "results"},
    "results": _GROUND,
    "reports": _GROUND | {"results"},
    "run": _ENGINE,
    "integrations": _ENGINE | {"reports"},
    "verify": _ENGINE | {"integrations"},
    "explanation": _ENGINE,
    "studies": _ENGINE | {"reports", "run"},
    "doctor": _GROUND | {"data", "results", "storage"},
    "paper": _ENGINE | {"reports", "run", "studies"},
    "plot": _GROUND | {"results", "reports"},
    "api": _ENGINE | {"reports", "run", "explanation"},
    "cli": _ENGINE
    | {"integrations", "reports", "run", "verify", "explanation", "paper", "storage", "doctor", "studies"},
    "__main__": {"cli"},
}


def imports_of(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]  # `from harness import tasks` names a layer
            yield from names if node.module in ("harness", "baselines.simcse") else [node.module or ""]


def harness_files():
    return sorted((ROOT / "harness").rglob("*.py"))


@pytest.mark.parametrize("path", harness_files(), ids=lambda p: p.relative_to(ROOT).as_posix())
def test_imports_go_one_way(path):
    parts = path.relative_to(ROOT / "harness").parts
    layer = parts[0].removesuffix(".py")
    if layer == "__init__":
        return  # the face of the package: it imports nothing when it is imported, as the next test holds
    assert layer in MAY_IMPORT, f"{layer}: no such layer; add it to the table or find its place"
    for name in imports_of(path):
        assert not name.startswith("baselines"), f"{path} imports {name}: the harness finds baselines by entry point"
        if name.startswith("harness."):
            imported = name.split(".")[1]
            allowed = {layer, "__version__"} | MAY_IMPORT[layer]
            assert imported in allowed, f"{path} may not import {name}"


# SimCSE's files by floor: each imports from the floors below it alone.
SIMCSE = (
    {"settings", "ablations", "devices"},
    {"data", "checkpoint"},
    {"recipe"},
    {"encoders"},
)


def test_simcse_stands_on_four_floors():
    folder = ROOT / "baselines" / "simcse"
    assert {path.stem for path in folder.glob("*.py")} == {"__init__"}.union(*SIMCSE)
    for number, floor in enumerate(SIMCSE):
        below = set().union(*SIMCSE[:number])
        for path in (folder / f"{name}.py" for name in floor):
            for name in imports_of(path):
                if name.startswith("baselines.simcse"):
                    own = name.split(".")[2:]
                    assert own and own[0] in below, f"{path} may not import {name}"


def test_every_way_to_import_a_layer_is_seen(tmp_path):
    path = tmp_path / "module.py"
    path.write_text("import harness.run\nfrom harness import tasks, cli as c\nfrom harness.data.sts import semeval\n")
    assert list(imports_of(path)) == ["harness.run", "harness.tasks", "harness.cli", "harness.data.sts"]


@pytest.mark.parametrize(
    "module", ["harness", "harness.cli.main", "harness.reports.report", "harness.results.store", "harness.names"]
)
def test_help_and_reports_import_no_torch(module):
    code = f"import sys, {module}; print(sorted({{'torch', 'transformers', 'scipy', 'pandas'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_models_are_listed_and_completed_without_torch():
    code = """
import sys
from typer.testing import CliRunner
from harness.cli.main import app
from harness.cli.completion import MODELS, some_of

for words in (["list", "models"], ["list", "models", "bert-flow"], ["run", "--help"]):
    assert CliRunner().invoke(app, words).exit_code == 0, words
heavy = {"torch", "transformers", "scipy", "sklearn", "pandas"}
print(some_of(MODELS)(None, "minilm,bert-w"), sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['minilm,bert-whitening'] []"


def test_nothing_is_pickled():
    for path in [*harness_files(), *sorted((ROOT / "baselines").rglob("*.py"))]:
        assert not {"pickle", "dill", "cloudpickle", "joblib"} & set(imports_of(path)), path
