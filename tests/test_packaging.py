"""The package as it is installed: one version, a core without torch, and a wheel that stays small."""

import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import harness
from harness import doctor

ROOT = Path(__file__).parents[1]

WITHOUT_TORCH = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "transformers", "tokenizers"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
"""


def without_torch(code, *arguments):
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH + code, *map(str, arguments)], capture_output=True, text=True, check=False
    )


def bench_without_torch(*arguments):
    return without_torch("from harness.cli.main import main; main()", *arguments)


def test_the_version_stands_in_one_place():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["dynamic"] == ["version"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "harness.__version__"}
    citation = (ROOT / "CITATION.cff").read_text()
    assert re.search(rf"^version: {re.escape(harness.__version__)}$", citation, re.MULTILINE)
    assert metadata.version("simcse-bench") == harness.__version__


def test_every_package_that_is_asked_for_is_pinned():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
    names = {re.split(r"[\[<>=! ]", line)[0].lower().replace("_", "-") for line in asked} - {"simcse-bench"}
    pinned = {
        line.split("==")[0].lower().replace("_", "-") for line in (ROOT / "constraints.txt").read_text().splitlines()
    }
    assert names <= pinned


def test_the_doctor_looks_for_every_extra_of_users():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(doctor.EXTRAS) == set(extras) - {"test", "docs", "dev"}


def test_reports_comparisons_and_figures_need_no_torch(tmp_path):
    results = tmp_path / "results"
    harness.evaluate(["random", "bag-of-words"], tasks=["mini-sts", "mini-geometry"], results_dir=results, offline=True)
    for words in (
        ("report", "--results-dir", results, "--output", tmp_path / "report", "--format", "md,html,latex,csv,json"),
        ("compare", "random", "bag-of-words", "--results-dir", results),
        ("claims", "simcse", "--results-dir", results),
        ("list", "tasks"),
        ("list", "models"),
        ("--version",),
    ):
        done = bench_without_torch(*words)
        assert done.returncode == 0, done.stderr
    loaded = without_torch("import harness, sys; print(len(harness.load_results(sys.argv[1]).frame()))", results)
    assert int(loaded.stdout) > 4, loaded.stderr


def test_what_needs_torch_says_how_to_get_it():
    done = bench_without_torch("run", "-s", "mini", "-m", "random")
    assert done.returncode == 2
    assert done.stderr == (
        "bench: torch is not installed, and encoders, probes and training need it; "
        "install it with: pip install 'simcse-bench[torch]'\n"
    )


def test_the_same_sentence_in_python():
    done = without_torch("import harness\ntry:\n    harness.evaluate\nexcept harness.errors.UsageError as e: print(e)")
    assert done.stdout.startswith("torch is not installed, "), done.stderr
