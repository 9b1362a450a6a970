"""Studies on several workers: what a worker's start costs, what a second one saves, and what a hundred would.

    python benchmarks/studies.py pool study.toml       one process and a pool of two, each in new folders
    python benchmarks/studies.py simulate results      from the times of cells that a study has measured there

The simulation repeats the study's cells with more seeds and settings, and lets workers take them in the order in which
real ones do; a worker's start is added once. It knows nothing of a disk or a network that many workers share.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from harness.studies.cells import FOLDER, Cell
from harness.studies.plan import simulate

_WORKERS = (1, 2, 4, 8, 16, 32, 64, 100)
_COPIES = 20  # of the measured study: as many settings


def pool(study: Path) -> None:
    """Wall and CPU times of a worker's start, of one process, and of two."""
    _timed("a worker's start", [sys.executable, "-c", "import harness.studies.engines, torch"])
    for workers in (1, 2):
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "harness", "study", str(study.resolve()), "-q", "-n", str(workers)]
            folders = ["--results-dir", f"{folder}/results", "--cache-dir", f"{folder}/cache"]
            _timed(f"{workers} worker{'s' * (workers > 1)}", [*command, *folders])


def _timed(what: str, command: Sequence[str]) -> None:
    """CPU time is that of the command and all of its processes; load is of the machine, over the last minute."""
    before, started = os.times(), time.perf_counter()
    subprocess.run(command, check=True)
    after, wall = os.times(), time.perf_counter() - started
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    print(f"{what}: {wall:.1f} s, {cpu:.1f} s of CPU time, load {os.getloadavg()[0]:.1f}", flush=True)


def simulate_from(results: Path, start: float) -> None:
    """Times on more and more workers, and the longest chain of cells, below which no number of workers comes."""
    records = [json.loads(path.read_bytes()) for path in sorted((results / FOLDER).glob("*.json"))]
    made = {one["label"].partition(" ")[2]: one for one in records if not one["label"].startswith("score")}
    cells, seconds = [], {}
    for copy in range(_COPIES):
        for one in sorted(records, key=lambda one: one["label"].startswith("score")):
            kind, _, specs = one["label"].partition(" ")
            first = specs.partition(" and ")[0]
            needs = (f"{copy} {first}",) if kind == "score" and first in made else ()
            key = f"{copy} {specs}" if kind != "score" else f"{copy} score {specs}"
            cells.append(Cell(kind, (specs,), needs, key))
            seconds[key] = one["seconds"]
    total = sum(seconds.values())
    chain = max(seconds[cell.key] + max((seconds[need] for need in cell.needs), default=0) for cell in cells)
    print(f"{len(cells)} cells, {total:,.0f} s of work, longest chain {chain:,.0f} s, start of a worker {start:g} s")
    print("workers  minutes  speed-up  busy")
    for n in _WORKERS:
        wall = start + simulate(cells, seconds, n)
        print(f"{n:7} {wall / 60:8.1f} {(start + total) / wall:9.1f} {total / wall / n:5.0%}")


if __name__ == "__main__":
    if sys.argv[1] == "pool":
        pool(Path(sys.argv[2]))
    else:
        simulate_from(Path(sys.argv[2]), float(sys.argv[3]) if len(sys.argv) > 3 else 5.0)
