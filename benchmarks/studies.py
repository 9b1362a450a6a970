"""Studies on several workers: what a worker's start costs, what a second one saves, and what a hundred would.

    python benchmarks/studies.py pool study.toml       one process and a pool of two, each in new folders
    python benchmarks/studies.py simulate results      from the times of cells that a study has measured there

The simulation repeats the study's cells with more seeds and settings, and lets workers take them in the order in which
real ones do; a worker's start is added once. It knows nothing of a disk or a network that many workers share.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness.studies.cells import FOLDER, Cell
from harness.studies.plan import simulate

_WORKERS = (1, 2, 4, 8, 16, 32, 64, 100)
_COPIES = 20  # of the measured study: as many settings


def pool(study: Path) -> None:
    """Wall times of a worker's start, of one process, and of two."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import harness.studies.worker, torch"], check=True)
    print(f"a worker's start (interpreter, torch, this package): {time.perf_counter() - started:.1f} s")
    for workers in (1, 2):
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "harness", "study", str(study.resolve()), "-q", "-n", str(workers)]
            started = time.perf_counter()
            subprocess.run(
                [*command, "--results-dir", f"{folder}/results", "--cache-dir", f"{folder}/cache"], check=True
            )
            print(f"{workers} worker{'s' * (workers > 1)}: {time.perf_counter() - started:.1f} s")


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
