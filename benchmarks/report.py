"""`bench report` on 1,001 results: 143 encoders on seven tasks with as many pairs as STS has, without torch.

    python benchmarks/report.py

Prints the seconds of each format, wall clock and processor, start of Python included.
"""

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from harness.names import EncoderCard
from harness.results import store
from harness.results.items import PairItems, text_id
from harness.results.record import Result, Run

PAIRS = {
    "STS12": 3108,
    "STS13": 1500,
    "STS14": 3750,
    "STS15": 3000,
    "STS16": 1186,
    "STSBenchmark": 1379,
    "SICKRelatedness": 4927,
}
ENCODERS = 143
FORMATS = ("md,latex,csv", "md,latex,csv,html")
RUN = Run(
    started="2026-01-01T00:00:00+00:00",
    seconds=1.0,
    encoding_seconds=1.0,
    machine={},
    packages={},
    commit=None,
    dirty=None,
    device="cpu",
    threads=1,
)
WITHOUT_TORCH = "import sys; sys.modules['torch'] = None; from harness.cli.main import main; sys.exit(main())"


def write_results(root: Path) -> None:
    """Encoders of growing quality, with the items from which intervals and ties are computed."""
    rng = np.random.default_rng(0)
    for task, n in PAIRS.items():
        gold = rng.uniform(0, 5, n).round(1)
        left, right = ([text_id(f"{task} {side} {i // 2}") for i in range(n)] for side in ("left", "right"))
        for number in range(ENCODERS):
            name = f"hf:org/model-{number}[pooling=avg]"
            digest = f"{number:064x}"  # an encoder's identity is its content
            card = EncoderCard(name=name, method="hf", pooling="avg", dim=384, weights_sha256=digest)
            cosine = (gold / 5 + rng.normal(0, 0.1 + number / 100, n)).astype(np.float32)
            items = PairItems(
                subset=["all"] * n,
                left=left,
                right=right,
                words=np.full(n, 20),
                overlap=np.full(n, 0.5),
                gold=gold,
                cosine=cosine,
            )
            result = Result(
                task=task,
                protocol="sts",
                encoder=card,
                metric="spearman/all/test",
                scores={"spearman/all/test": _spearman(gold, cosine)},
                counts={},
                data={},
                flags=(),
                seed=None,
                run=RUN,
            )
            store.write(result.with_items(items), root)


def _spearman(gold: np.ndarray, cosine: np.ndarray) -> float:
    from scipy.stats import spearmanr

    return float(spearmanr(gold, cosine).statistic)


def main() -> None:
    """Write the results once, and time each format."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_results(root / "results")
        for formats in FORMATS:
            command = [sys.executable, "-c", WITHOUT_TORCH, "report", "--results-dir", root / "results"]
            command += ["--output", root / "out", "--format", formats, "--quiet"]
            before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            print(f"{formats}: {wall:.1f} s, {cpu:.1f} s of processor time, {after.ru_maxrss / 2**20:.2f} GiB at most")


if __name__ == "__main__":
    main()
