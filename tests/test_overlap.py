"""Pairs that the test sets of STS share with each other and with STS-B dev."""

import pytest

from harness.data.records import Pairs, SimilarityData
from harness.data.sts import selection_flag, semeval, shared_pairs, sts_benchmark


def test_shared_pairs_count_in_either_order_and_whatever_the_punctuation():
    def data(*pairs: tuple[str, str]) -> SimilarityData:
        left, right = (list(side) for side in zip(*pairs, strict=True))
        return SimilarityData((Pairs("all", left, right, [0.0] * len(pairs)),), {}, ())

    ours = data(("A man.", "A dog"), ("a cat", "a cow"), ("x", "y"))
    assert shared_pairs(ours, [data(("a dog", "a man")), data(("x", "z"))]) == (1, 3)


@pytest.mark.shared
def test_most_of_sts_b_is_in_sts12_to_sts16(shared):
    root = shared / "data" / "senteval"
    assert selection_flag(root) == "selected on STS-B dev, of whose 1,500 pairs 1,131 are in the test sets of STS12-16"
    years = [semeval(root, year=f"STS{year}") for year in range(12, 17)]
    assert shared_pairs(sts_benchmark(root, splits=("test",)), years) == (1007, 1379)
