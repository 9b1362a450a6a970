"""The classification tasks, triplets and unlabelled sentences of the mini suite keep what their README promises."""

import csv
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline

MINI = Path(__file__).parents[1] / "harness" / "data" / "mini"
REVIEWS = {label: MINI / "downstream" / "MINIMR" / f"mini.{label}" for label in ("pos", "neg")}
PARAPHRASES = {split: MINI / "downstream" / "MINIMRPC" / f"msr_paraphrase_{split}.txt" for split in ("train", "test")}
TRIPLETS = MINI / "nli" / "nli_for_simcse.csv"
CORPUS = MINI / "corpus.txt"
BOM = b"\xef\xbb\xbf"


def read_lines(path: Path, prefix: bytes = b"") -> list[str]:
    data = path.read_bytes()
    assert data.startswith(prefix), path
    text = data[len(prefix) :].decode("ascii")
    assert text.endswith("\n"), path
    return text.removesuffix("\n").split("\n")


def reviews(label: str) -> list[str]:
    return read_lines(REVIEWS[label])


def paraphrases(split: str) -> list[list[str]]:
    return [line.split("\t") for line in read_lines(PARAPHRASES[split], BOM)[1:]]


def triplets() -> list[list[str]]:
    return list(csv.reader(read_lines(TRIPLETS)))[1:]


def tokenised() -> dict[str, list[str]]:
    pairs = {split: [text for row in paraphrases(split) for text in row[3:]] for split in PARAPHRASES}
    return {label: reviews(label) for label in REVIEWS} | pairs | {"nli": [text for row in triplets() for text in row]}


def everything() -> list[str]:
    return [text for texts in tokenised().values() for text in texts] + read_lines(CORPUS)


def word_set(sentence: str) -> set[str]:
    return set(re.findall(r"[a-z0-9]+", sentence.lower()))


def overlap_f1(left: str, right: str) -> float:
    """F1 of the two sets of lower-cased words, punctuation left out."""
    a, b = word_set(left), word_set(right)
    return 2 * len(a & b) / (len(a) + len(b))


def bag_of_words_accuracy(texts: list[str], labels: list[int], folds: np.ndarray) -> float:
    model = make_pipeline(CountVectorizer(binary=True, token_pattern=r"\S+"), LogisticRegression(max_iter=1000))
    splits = [(np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)) for fold in np.unique(folds)]
    return float(cross_val_score(model, texts, labels, cv=splits).mean())


def test_counts() -> None:
    counts = {name: len(texts) for name, texts in tokenised().items()}
    assert counts == {"pos": 264, "neg": 264, "train": 2 * 161, "test": 2 * 82, "nli": 3 * 340}
    assert len(read_lines(CORPUS)) == 1661


def test_every_sentence_has_4_to_30_words() -> None:
    lengths = {text: sum(any(c.isalnum() for c in token) for token in text.split()) for text in everything()}
    assert {text: n for text, n in lengths.items() if n < 4 or len(text.split()) > 30} == {}


def test_no_sentence_occurs_twice_in_any_of_the_files() -> None:
    counts = Counter(" ".join(re.findall(r"[a-z0-9]+", text.lower())) for text in everything())
    assert [text for text, n in counts.items() if n > 1] == []


def test_sentences_have_single_spaces_and_no_tabs() -> None:
    assert [text for text in everything() if text != " ".join(text.split())] == []


def test_punctuation_stands_alone_in_the_tokenised_files() -> None:
    glued = re.compile(r"\w[,;:?!]( |$)|\w\.$|\w'(s|re|ve|ll|d|m)\b|(?<! )n't\b")
    assert [text for texts in tokenised().values() for text in texts if glued.search(text)] == []


def test_reviews_are_lower_case() -> None:
    assert [text for label in REVIEWS for text in reviews(label) if text != text.lower()] == []


@pytest.mark.parametrize("split", ["train", "test"])
def test_paraphrase_files_have_the_layout_of_mrpc(split: str) -> None:
    assert read_lines(PARAPHRASES[split], BOM)[0] == "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String"
    assert {len(row) for row in paraphrases(split)} == {5}
    assert {row[0] for row in paraphrases(split)} == {"0", "1"}


def test_paraphrase_ids_are_unique_integers() -> None:
    ids = [int(number) for split in PARAPHRASES for row in paraphrases(split) for number in row[1:3]]
    assert len(set(ids)) == len(ids) == 2 * (161 + 82)


@pytest.mark.parametrize("split", ["train", "test"])
def test_about_three_fifths_of_the_pairs_are_paraphrases(split: str) -> None:
    rows = paraphrases(split)
    assert sum(row[0] == "1" for row in rows) / len(rows) == pytest.approx(0.6, abs=0.03)


@pytest.mark.parametrize("split", ["train", "test"])
def test_word_overlap_does_not_tell_paraphrases_apart(split: str) -> None:
    rows = paraphrases(split)
    auc = roc_auc_score([int(row[0]) for row in rows], [overlap_f1(row[3], row[4]) for row in rows])
    assert auc == pytest.approx(0.5, abs=0.05)


def test_triplets_have_the_layout_of_simcse() -> None:
    rows = list(csv.reader(read_lines(TRIPLETS)))
    assert rows[0] == ["sent0", "sent1", "hard_neg"]
    assert {len(row) for row in rows} == {3}


def test_word_overlap_alone_does_not_order_the_triplets() -> None:
    wins = [overlap_f1(row[0], row[1]) > overlap_f1(row[0], row[2]) for row in triplets()]
    assert 0.5 < np.mean(wins) < 0.7


def test_the_hypothesis_alone_hardly_tells_entailed_from_contradicting() -> None:
    rows = triplets()
    texts = [row[1] for row in rows] + [row[2] for row in rows]
    folds = np.tile(np.arange(len(rows)) % 10, 2)
    assert bag_of_words_accuracy(texts, [1] * len(rows) + [0] * len(rows), folds) < 0.7


def test_sentiment_cannot_be_read_from_single_words() -> None:
    texts, labels = reviews("pos") + reviews("neg"), [1] * 264 + [0] * 264
    folds = np.tile(np.arange(264) % 10, 2)
    assert bag_of_words_accuracy(texts, labels, folds) < 0.65
