"""Runs the quick tests on every Python that is here, with the highest versions of all packages that are allowed.

On the oldest Python they run with the lowest versions too: later Pythons have no builds of those.

python tools/test_matrix.py [3.12 ...]
"""

import subprocess
import sys
from pathlib import Path

PYTHONS = ("3.11", "3.12", "3.13", "3.14")
UV = [sys.executable, "-m", "uv"]


def resolutions(python: str) -> tuple[str, ...]:
    """Which versions of the packages are tried on that Python, in uv's words."""
    return ("lowest-direct", "highest") if python == PYTHONS[0] else ("highest",)


def tested(python: str, resolution: str) -> bool | None:
    """Whether the quick tests pass there; None where that Python is not on this machine."""
    folder = Path("build/matrix") / f"{python}-{resolution}"
    if subprocess.run([*UV, "venv", "--quiet", "--clear", "--python", python, folder], check=False).returncode:
        return None
    inside = str(folder / "bin/python")
    install = [
        *UV,
        "pip",
        "install",
        "--quiet",
        "--python",
        inside,
        "--resolution",
        resolution,
        "-e",
        ".[offline,test]",
    ]
    if subprocess.run(install, check=False).returncode:
        return False
    return not subprocess.run([inside, "-m", "pytest", "-q", "-n", "2"], check=False).returncode


if __name__ == "__main__":
    pythons = sys.argv[1:] or PYTHONS
    pairs = [(python, resolution) for python in pythons for resolution in resolutions(python)]
    outcomes = {pair: tested(*pair) for pair in pairs}
    words = {True: "passed", False: "FAILED", None: "not on this machine"}
    for (python, resolution), outcome in outcomes.items():
        print(f"Python {python}, {resolution}: {words[outcome]}")
    sys.exit(False in outcomes.values())
