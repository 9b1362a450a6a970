"""The sentence pairs of the bundled mini suite keep what their README promises."""

import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from scipy.stats import spearmanr

MINI = Path(__file__).parents[1] / "harness" / "data" / "mini"
TEST = MINI / "downstream" / "STS" / "MINI-en-test"
DEV = MINI / "downstream" / "STS" / "MiniBenchmark" / "sts-dev.csv"
GENRES = {"captions": "main-captions", "headlines": "main-news", "answers": "main-forums"}  # subset -> dev genre


class Pair(NamedTuple):
    gold: float
    left: str
    right: str


def read_lines(path: Path) -> list[str]:
    text = path.read_bytes().decode("ascii")
    assert text.endswith("\n"), path
    return text.removesuffix("\n").split("\n")


def subset_pairs(subset: str) -> list[Pair]:
    golds = read_lines(TEST / f"STS.gs.{subset}.txt")
    inputs = [line.split("\t") for line in read_lines(TEST / f"STS.input.{subset}.txt")]
    return [Pair(float(gold), left, right) for gold, (left, right) in zip(golds, inputs, strict=True)]


def dev_rows() -> list[list[str]]:
    return [line.split("\t") for line in read_lines(DEV)]


def dev_pairs() -> list[Pair]:
    return [Pair(float(row[4]), row[5], row[6]) for row in dev_rows()]


def all_test_pairs() -> list[Pair]:
    return [pair for subset in GENRES for pair in subset_pairs(subset)]


def words(sentence: str) -> list[str]:
    return [token for token in sentence.split() if re.search(r"[a-z0-9]", token)]


def overlap_f1(pair: Pair) -> float:
    """F1 of the two sets of lower-cased tokens, punctuation left out."""
    left, right = set(words(pair.left)), set(words(pair.right))
    return 2 * len(left & right) / (len(left) + len(right))


def overlap_correlation(pairs: list[Pair]) -> float:
    return float(spearmanr([pair.gold for pair in pairs], [overlap_f1(pair) for pair in pairs]).statistic)


SPLITS = [pytest.param(subset_pairs(subset), id=subset) for subset in GENRES] + [pytest.param(dev_pairs(), id="dev")]
EVERY_PAIR = all_test_pairs() + dev_pairs()
EVERY_SENTENCE = [sentence for pair in EVERY_PAIR for sentence in (pair.left, pair.right)]


def test_overlap_f1_by_hand():
    pair = Pair(0.0, "the cat sat , the dog ran .", "a dog sat .")
    assert overlap_f1(pair) == pytest.approx(2 * 2 / (5 + 3))


def test_counts():
    assert {subset: len(subset_pairs(subset)) for subset in GENRES} == dict.fromkeys(GENRES, 112)
    assert Counter(row[0] for row in dev_rows()) == dict.fromkeys(GENRES.values(), 30)


def test_dev_rows_follow_the_layout_of_stsbenchmark():
    rows = dev_rows()
    assert {len(row) for row in rows} == {7}
    assert {tuple(row[1:3]) for row in rows} == {("mini", "2026")}
    assert [row[3] for row in rows] == [f"{number:04d}" for number in range(1, 91)]
    assert all(re.fullmatch(r"\d\.\d{3}", row[4]) for row in rows)


@pytest.mark.parametrize("subset", GENRES)
def test_gold_lines_have_one_decimal(subset):
    assert [line for line in read_lines(TEST / f"STS.gs.{subset}.txt") if not re.fullmatch(r"\d\.\d", line)] == []


@pytest.mark.parametrize("pairs", SPLITS)
def test_gold_covers_the_scale(pairs):
    gold = np.array([pair.gold for pair in pairs])
    shares = np.histogram(gold, bins=[0, 1, 2, 3, 4, 5])[0] / len(gold)
    assert gold.min() == 0.0
    assert 4.9 <= gold.max() <= 5.0
    assert 2.3 <= gold.mean() <= 2.7
    assert shares.min() >= 0.1


@pytest.mark.parametrize(
    "pairs", [*SPLITS, pytest.param(all_test_pairs(), id="all"), pytest.param(EVERY_PAIR, id="every")]
)
def test_word_overlap_does_not_give_the_gold_away(pairs):
    assert 0.2 < overlap_correlation(pairs) < 0.75


def test_lengths():
    outside = [text for text in EVERY_SENTENCE if len(words(text)) < 4 or len(text.split(" ")) > 30]
    assert outside == []


def test_no_sentence_occurs_twice():
    counts = Counter(" ".join(words(sentence)) for sentence in EVERY_SENTENCE)
    assert [sentence for sentence, count in counts.items() if count > 1] == []


def test_text_is_lower_cased_and_tokenised():
    token = re.compile(
        r"'[a-z]*"  # what an apostrophe splits off: 's, 't, 'd, and the bare one of a plural
        r"|[a-z0-9]+(?:-[a-z0-9]+)*"  # words and numbers, with hyphens inside
        r"|\d+(?:[.,]\d+)+"  # 6.3 and 120,000
        r"|[.,?!:;]"
    )
    strays = [text for text in EVERY_SENTENCE if not all(token.fullmatch(piece) for piece in text.split(" "))]
    assert strays == []
    assert all(sentence.endswith((" .", " ?", " !")) for sentence in EVERY_SENTENCE)


def test_readme_states_the_measured_overlap():
    readme = (MINI / "README.md").read_text(encoding="utf-8")
    measured = {subset: subset_pairs(subset) for subset in GENRES} | {"all test": all_test_pairs(), "dev": dev_pairs()}
    for name, pairs in measured.items():
        mean = np.mean([pair.gold for pair in pairs])
        assert f"| {name} | {len(pairs)} | {mean:.2f} | {overlap_correlation(pairs):.2f} |" in readme
