"""Other packages named `harness` or `baselines` in one environment: the scripts name them and run nothing of theirs."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = {
    "harness/__init__.py": "",
    "harness/cli/__init__.py": "",
    "harness/cli/main.py": "def main():\n    print('ours')\n",
    "baselines/__init__.py": "ENCODERS = ()\n",
}


def install(site, name, version, modules):
    """What pip does with a wheel: write its files over what is there, and a RECORD of them."""
    lines = []
    for place, text in modules.items():
        (site / place).parent.mkdir(parents=True, exist_ok=True)
        (site / place).write_text(text)
        lines.append(f"{place},,{len(text)}")
    info = site / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "RECORD").write_text("\n".join(lines) + "\n")


@pytest.fixture
def site(tmp_path):
    site = tmp_path / "site"
    site.mkdir()
    shutil.copy(ROOT / "simcse_bench.py", site)
    install(site, "simcse-bench", "0.1.0", MODULES)
    return site


def bench(site, *before):
    path = os.pathsep.join(map(str, [*before, site]))
    code = f"import sys; sys.path[:0] = {path.split(os.pathsep)}; from simcse_bench import main; main()"
    return subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False)


def test_alone_the_command_line_runs(site):
    done = bench(site)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ours\n", "")


def test_a_package_that_overwrote_a_module_is_named_and_not_run(site):
    install(site, "harness", "0.1.0", {"harness/cli/main.py": "def main():\n    print('a stranger runs')\n"})
    done = bench(site)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"bench: {site}/harness/cli/main.py: was replaced by harness 0.1.0, expected the file of simcse-bench; `pip "
        "uninstall harness` removes that, and `pip install --force-reinstall --no-deps simcse-bench` brings ours back\n"
    )


def test_a_module_that_somebody_changed_by_hand_runs(site):
    (site / "harness/cli/main.py").write_text("def main():\n    print('mine')\n")
    assert bench(site).stdout == "mine\n"


def test_what_its_removal_took_along_is_missing(site):
    (site / "harness/cli/main.py").unlink()
    done = bench(site)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"bench: {site}/harness/cli/main.py: is missing, expected the file of simcse-bench; "
        "`pip install --force-reinstall --no-deps simcse-bench` brings ours back\n"
    )


def test_a_package_that_is_found_first_is_named_and_not_run(site, tmp_path):
    other = tmp_path / "other"
    install(other, "baselines", "0.1.6", {"baselines/__init__.py": "print('a stranger runs')\n"})
    done = bench(site, other)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"bench: the package baselines is found in {other}/baselines, expected {site}/baselines; remove it, or run in "
        "another folder\n"
    )


@pytest.mark.parametrize(
    "way", ["from simcse_bench import main; os.name = 'nt'; main()", "os.name = 'nt'; import harness"]
)
def test_windows_is_refused_with_a_sentence(way):
    done = subprocess.run([sys.executable, "-c", f"import os; {way}"], capture_output=True, text=True, check=False)
    assert done.returncode in (1, 2) and "WSL 2, which is Linux" in done.stderr.splitlines()[-1]
    assert ("Traceback" in done.stderr) == ("import harness" in way)
