"""Tries a wheel as a stranger would: installs it in an empty environment, without torch, and renders a report.

python tools/check_wheel.py dist/simcse_bench-0.1.0-py3-none-any.whl
"""

import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

MOST_BYTES = 60_000_000
ROOT = Path(__file__).parents[1]


def check_contents(wheel: Path) -> None:
    """The wheel is small, has what the package reads, and nothing that only makes the bundled models."""
    names = zipfile.ZipFile(wheel).namelist()
    assert wheel.stat().st_size < MOST_BYTES, f"{wheel}: {wheel.stat().st_size:,} bytes, expected under {MOST_BYTES:,}"
    for part in ("baselines/pretraining/", "tests/", "benchmarks/", "results/"):
        assert not [name for name in names if name.startswith(part)], f"{wheel}: holds {part}"
    for part in ("harness/py.typed", "baselines/py.typed", "baselines/assets/small/model.safetensors"):
        assert part in names, f"{wheel}: {part} is missing"
    print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB, {len(names)} files")


def try_reports(wheel: Path, folder: Path) -> None:
    """Without torch the wheel renders a report and a figure, and says what it lacks where torch is needed."""
    venv.create(folder / "venv", with_pip=True)
    python, bench = folder / "venv/bin/python", folder / "venv/bin/bench"
    _run(python, "-m", "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt", wheel)
    _run(python, "-c", "import importlib.util as u; assert u.find_spec('torch') is None")
    _run(bench, "--version")
    _run(folder / "venv/bin/simcse-bench", "list", "suites", "--json")
    results = ("--results-dir", ROOT / "results")
    _run(bench, "report", *results, "--output", folder / "report", "--format", "md,html,latex")
    _run(bench, "plot", "spectrum", *results, "--output", folder / "figures")
    said = subprocess.run(
        [bench, "run", "-s", "mini", "-m", "random"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert said.returncode == 2 and "simcse-bench[torch]" in said.stderr, said.stderr
    print(said.stderr.strip())


def _run(*words: object) -> None:
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(map(str, words))}: exit code {done.returncode}\n{done.stderr}"


if __name__ == "__main__":
    path = Path(sys.argv[1]).resolve()
    check_contents(path)
    with tempfile.TemporaryDirectory() as empty:
        try_reports(path, Path(empty))
    print("The wheel works in an empty environment.")
