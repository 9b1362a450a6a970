"""Word vectors from text: seconds of the first load, of later ones, and of parsing word by word as gensim does.

    python benchmarks/vectors.py --words 400000 --dims 100 --scratch FOLDER

The text is made up, in GloVe's form, and deleted at the end. Each load runs in a process of its own, so that its peak
memory is its own too. A load ends with the average of 1000 sentences, so that it includes what mapping puts off.
"""

import argparse
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from baselines.glove import average
from baselines.vectors import open_vectors

BLOCK = 10_000


def write_text(path: Path, words: int, dims: int) -> None:
    rng = np.random.default_rng(0)
    with path.open("w", encoding="utf-8") as file:
        for start in range(0, words, BLOCK):
            values = rng.standard_normal((min(BLOCK, words - start), dims)) * 0.4
            form = "w%d " + " ".join(["%.5f"] * dims) + "\n"
            file.writelines(form % (row, *line) for row, line in enumerate(values.tolist(), start))


def sentences(words: int) -> list[list[str]]:
    rng = np.random.default_rng(1)
    return [[f"w{number}" for number in rng.integers(0, words, 12)] for _ in range(1000)]


def load(path: Path, cache: Path, words: int) -> None:
    average(open_vectors(path, cache), sentences(words))


def parse_word_by_word(path: Path, cache: Path, words: int) -> None:
    """What gensim's KeyedVectors.load_word2vec_format does for a text without a header: count, then read."""
    with path.open("rb") as file:
        count = sum(1 for _ in file)
    with path.open("rb") as file:
        dims = len(file.readline().split()) - 1
    table: dict[str, int] = {}
    matrix = np.zeros((count, dims), dtype=np.float32)
    with path.open(encoding="utf-8", errors="strict") as text:
        for line in text:
            word, *numbers = line.rstrip().split(" ")
            if word not in table:
                matrix[len(table)] = [np.float32(number) for number in numbers]
                table[word] = len(table)
    for sentence in sentences(words):
        matrix[[table[word] for word in sentence]].mean(axis=0)


def measure(action: Callable[[Path, Path, int], None], path: Path, cache: Path, words: int) -> tuple[float, float]:
    """Seconds, and the MiB that the process needed beyond what it began with."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    action(path, cache, words)
    return time.perf_counter() - start, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--words", type=int, default=400_000)
    parser.add_argument("--dims", type=int, default=100)
    parser.add_argument("--scratch", type=Path, required=True, help="folder with room for the text and its arrays")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as folder:
        path, cache = Path(folder) / "words.txt", Path(folder) / "cache"
        write_text(path, arguments.words, arguments.dims)
        print(f"{arguments.words} words x {arguments.dims}, {path.stat().st_size / 2**20:.0f} MiB of text")
        timed = {}
        for name, action in (("word by word", parse_word_by_word), ("first load", load), ("second load", load)):
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                timed[name], memory = pool.apply(measure, (action, path, cache, arguments.words))
            ratio = timed["word by word"] / timed[name]
            print(f"{name:<14} {timed[name]:8.3f} s, {ratio:6.1f} times word by word's speed, {memory:6.0f} MiB")


if __name__ == "__main__":
    main()
