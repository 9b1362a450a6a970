"""What verifying digests costs a warm `bench run`: CPU seconds inside it, and of runs with and without it in turn.

    python benchmarks/digests.py --models minilm --suite sts --data-dir DIR --repeats 5

One run that is not counted fills the cache. Each run after it is a process of its own with a new results folder. In a
run without verification files of data, weights and the package have the digests that the first run found, and nothing
is read for them; the rows of the cache are not held to their checksum. One thread; medians.
"""

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from types import SimpleNamespace

from harness import files, packaged
from harness.cli.main import app
from harness.data import records as data_files
from harness.encoders import store

_of_file = files.sha256


class Verification:
    """The functions that verify, timed; or in their place what gives the digests that an earlier run noted."""

    def __init__(self, known: dict[str, str] | None) -> None:
        """Take the digests of an earlier run; None: compute them."""
        self.computes = known is None
        self.known = known or {}
        self.inside = 0.0
        self._contents = count()

    def of_file(self, path: Path) -> str:
        return self._digest(str(path), lambda: _of_file(path))

    def of_content(self, content: bytes) -> SimpleNamespace:
        """In place of `hashlib.sha256` in the reader of data files, which reads them in a fixed order."""
        digest = self._digest(f"content {next(self._contents)}", lambda: hashlib.sha256(content).hexdigest())
        return SimpleNamespace(hexdigest=lambda: digest)

    def checksum(self, body: memoryview) -> int:
        """In place of `zlib.crc32` in the cache of embeddings, whose files end with it."""
        if not self.computes:
            return int.from_bytes(bytes(body.obj[-4:]), "little")
        with self._timed():
            return zlib.crc32(body)

    def _digest(self, place: str, compute: Callable[[], str]) -> str:
        if self.computes:
            with self._timed():
                self.known[place] = compute()
        return self.known[place]

    @contextmanager
    def _timed(self) -> Iterator[None]:
        start = time.thread_time()
        yield
        self.inside += time.thread_time() - start


def one_run(words: list[str], mode: str, found: Path) -> dict[str, float]:
    """Run the command in this process; CPU seconds in all and inside verification."""
    verification = Verification(json.loads(found.read_text()) if mode == "without" else None)
    if mode != "cold":
        files.sha256 = packaged.sha256 = verification.of_file  # type: ignore[attr-defined]
        data_files.hashlib = SimpleNamespace(sha256=verification.of_content)  # type: ignore[attr-defined]
        store.zlib = SimpleNamespace(crc32=verification.checksum)  # type: ignore[attr-defined]
    begun = time.process_time()
    app(words, standalone_mode=False)
    seconds = time.process_time() - begun
    if mode == "with":
        found.write_text(json.dumps(verification.known))
    return {"seconds": seconds, "inside": verification.inside}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="minilm")
    parser.add_argument("--suite", default="sts")
    parser.add_argument("--data-dir")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    words = ["run", "-q", "--suite", chosen.suite, "--models", chosen.models, "--offline"]
    words += ["--data-dir", chosen.data_dir] if chosen.data_dir else []
    if chosen.one:
        mode, folder, number = chosen.one
        words += ["--cache-dir", f"{folder}/cache", "--results-dir", f"{folder}/results-{number}"]
        print(json.dumps(one_run(words, mode, Path(folder, "digests.json"))))
        return
    measured: dict[str, list[dict[str, float]]] = {"with": [], "without": []}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(2 * chosen.repeats + 1):
            mode = ("with", "without")[number % 2 == 0] if number else "cold"
            command = [sys.executable, __file__, *sys.argv[1:], "--one", mode, folder, str(number)]
            environment = os.environ | {"OMP_NUM_THREADS": "1"}
            done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
            if number:
                measured[mode].append(json.loads(done.stdout.splitlines()[-1]))
    whole = statistics.median(one["seconds"] for one in measured["with"])
    inside = statistics.median(one["inside"] for one in measured["with"])
    without = statistics.median(one["seconds"] for one in measured["without"])
    print(f"a warm run           {whole:.3f} s CPU")
    print(f"inside verification  {inside:.3f} s, {inside / whole:.1%}")
    print(f"without it           {without:.3f} s, a difference of {(whole - without) / without:.1%}")


if __name__ == "__main__":
    main()
