"""Pairs that two benchmarks share: what a model selected on one has seen of the other."""

from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from harness.data.records import SimilarityData
from harness.data.sts import semeval, sts_benchmark

YEARS = ("STS12", "STS13", "STS14", "STS15", "STS16")


def shared_pairs(data: SimilarityData, others: Iterable[SimilarityData]) -> tuple[int, int]:
    """How many pairs of some data are in others too, in either order of the two sentences; and how many there are.

    Sentences are the same if their letters and digits are, whatever their case, spaces and punctuation.
    """
    known = {pair for other in others for pair in _pairs(other)}
    pairs = list(_pairs(data))
    return sum(pair in known for pair in pairs), len(pairs)


@cache
def selection_flag(root: Path) -> str:
    """What a reader of STS12-16 must know of a model whose checkpoint was chosen on the STS-B development set.

    STS-B was put together from the pairs of STS12-17, so choosing on it looks at scored test pairs.

    Raises:
        DataError: if a file is missing or damaged.
    """
    shared, total = shared_pairs(sts_benchmark(root, splits=("dev",)), [semeval(root, year=year) for year in YEARS])
    return f"selected on STS-B dev, of whose {total:,} pairs {shared:,} are in the test sets of STS12-16"


def _pairs(data: SimilarityData) -> Iterator[tuple[str, ...]]:
    for subset in data.subsets:
        for pair in zip(subset.left, subset.right, strict=True):
            yield tuple(sorted("".join(filter(str.isalnum, sentence.lower())) for sentence in pair))
