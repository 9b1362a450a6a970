"""Loaders of STS12-16, STS-B and SICK-R in SentEval's layout, and which pairs two of them share.

Source: SentEval (5d6dc11) senteval/sts.py and senteval/sick.py as changed in SimCSE (49fa580), re-implemented from
their behaviour. Lines with a blank gold score were not annotated and are dropped; STS13 has no SMT subset (licence).
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

from harness.data.records import (
    Copy,
    Pairs,
    SimilarityData,
    TextFile,
    facts_of,
    parse_fields,
    parse_gold,
    provenance,
    read_text_file,
)
from harness.errors import DataError

SEMEVAL_SUBSETS = {
    "STS12": ("MSRpar", "MSRvid", "SMTeuroparl", "surprise.OnWN", "surprise.SMTnews"),
    "STS13": ("FNWN", "headlines", "OnWN"),
    "STS14": ("deft-forum", "deft-news", "headlines", "images", "OnWN", "tweet-news"),
    "STS15": ("answers-forums", "answers-students", "belief", "headlines", "images"),
    "STS16": ("answer-answer", "headlines", "plagiarism", "postediting", "question-question"),
    "MINI": ("captions", "headlines", "answers"),
}

SMT_INPUT = "downstream/STS/STS13-en-test/STS.input.SMT.txt"  # its scores lie beside it
YEARS = ("STS12", "STS13", "STS14", "STS15", "STS16")
SICK_FILES = {"train": "SICK_train.txt", "dev": "SICK_trial.txt", "test": "SICK_test_annotated.txt"}


def semeval(root: Path, *, year: str, blank_gold: float | None = None) -> SimilarityData:
    """All subsets of one SemEval year ("STS12".."STS16"), or of the bundled "MINI" set; gold is 0..5.

    Args:
        root: the folder that contains `downstream/`.
        year: see above.
        blank_gold: the score of lines with a blank gold score; None: they are dropped.

    Raises:
        DataError: if a file is missing or damaged, a line is not what it should be, or other lines are annotated than
            in the known files: then the score would be over other pairs.
    """
    read: list[TextFile] = []
    subsets = []
    for subset in SEMEVAL_SUBSETS[year]:
        folder = f"downstream/STS/{year}-en-test"
        sentences = read_text_file(root, f"{folder}/STS.input.{subset}.txt")
        gold = read_text_file(root, f"{folder}/STS.gs.{subset}.txt")
        if len(sentences.lines) != len(gold.lines):
            raise DataError(
                f"{root / gold.path}: {len(gold.lines)} scores for {len(sentences.lines)} pairs; get both files again"
            )
        read += [sentences, gold]
        subsets.append(_semeval_subset(root, subset, sentences, gold, blank_gold))
        scored, expected = len(subsets[-1].gold), facts_of(gold.path).scored
        if scored != expected and blank_gold is None:
            raise DataError(
                f"{root / gold.path}: {scored} of its lines have a score, expected {expected}, and a score over other "
                "pairs compares with none; get the file again"
            )
    return SimilarityData(tuple(subsets), *provenance(read))


def smt_of_sts13(root: Path) -> Pairs | None:
    """STS13's fourth subset, 750 pairs of machine translation, from files that its licence keeps out of SentEval.

    Returns:
        Its pairs, or None where the file of sentences is not there.

    Raises:
        DataError: if the two files do not fit each other, or a line is not what it should be.
    """
    places = [SMT_INPUT, SMT_INPUT.replace(".input.", ".gs.")]
    if not all((root / place).is_file() for place in places):
        return None
    sentences, gold = (
        TextFile(place, (root / place).read_text(encoding="utf-8").splitlines(), "", Copy.UNMEASURED)
        for place in places
    )
    if len(sentences.lines) != len(gold.lines):
        raise DataError(f"{root / gold.path}: {len(gold.lines)} scores for {len(sentences.lines)} pairs")
    return _semeval_subset(root, "SMT", sentences, gold, None)


def _semeval_subset(root: Path, name: str, sentences: TextFile, gold: TextFile, blank_gold: float | None) -> Pairs:
    pairs = Pairs(name, [], [], [])
    input_place, gold_place = root / sentences.path, root / gold.path  # joined once: a path a line is slow
    for number, (line, score) in enumerate(zip(sentences.lines, gold.lines, strict=True), start=1):
        if score == "" and blank_gold is None:
            continue
        fields = parse_fields(line, where=f"{input_place}:{number}", count=2)
        pairs.left.append(fields[0])
        pairs.right.append(fields[1])
        given = str(blank_gold) if score == "" else score
        pairs.gold.append(parse_gold(given, where=f"{gold_place}:{number}", low=0, high=5))
    return pairs


def sts_benchmark(root: Path, *, splits: tuple[str, ...], folder: str = "STSBenchmark") -> SimilarityData:
    """Splits ("train", "dev", "test") of STS-B, one subset each; gold is 0..5.

    The files are tab-separated despite their name and have no header.

    Raises:
        DataError: if a file is missing or damaged, or a line is not what it should be.
    """
    files = {split: f"downstream/STS/{folder}/sts-{split}.csv" for split in splits}
    return _tables(root, files, gold=4, left=5, low=0)


def sts_benchmark_v2(root: Path, *, split: str) -> SimilarityData:
    """STS-B without the evaluation pairs that were seen elsewhere: mteb's STSBenchmark.v2, 1,485 dev and 1,362 test.

    Dropped is every pair of "dev" or "test" that, in either order of its sentences, occurs more than once in its split
    or in another split.

    Raises:
        DataError: if a file is missing or damaged, or a line is not what it should be.

    Source: the data set that mteb evaluates on, https://huggingface.co/datasets/mteb/stsbenchmark-sts, by its counts.
    """
    data = sts_benchmark(root, splits=("train", "dev", "test"))
    seen = Counter(pair for subset in data.subsets for pair in _unordered(subset))
    subset = next(subset for subset in data.subsets if subset.name == split)
    kept = [row for row, pair in enumerate(_unordered(subset)) if seen[pair] == 1]
    pairs = Pairs(
        split,
        [subset.left[row] for row in kept],
        [subset.right[row] for row in kept],
        [subset.gold[row] for row in kept],
    )
    return replace(data, subsets=(pairs,))


def _unordered(subset: Pairs) -> Iterator[tuple[str, ...]]:
    return (tuple(sorted(pair)) for pair in zip(subset.left, subset.right, strict=True))


def sick_relatedness(root: Path, *, splits: tuple[str, ...]) -> SimilarityData:
    """Splits ("train", "dev", "test") of SICK, one subset each: a header line, then tab-separated; gold is 1..5.

    Raises:
        DataError: if a file is missing or damaged, or a line is not what it should be.
    """
    files = {split: f"downstream/SICK/{SICK_FILES[split]}" for split in splits}
    return _tables(root, files, gold=3, left=1, low=1, header=1)


def _tables(
    root: Path, files: Mapping[str, str], *, gold: int, left: int, low: float, header: int = 0
) -> SimilarityData:
    """A subset of each file: columns `left` and the next are sentences, `gold` is the score, `low` to 5."""
    read = {split: read_text_file(root, path) for split, path in files.items()}
    subsets = []
    for split, file in read.items():
        pairs, place = Pairs(split, [], [], []), root / file.path
        for number, line in enumerate(file.lines[header:], start=header + 1):
            where = f"{place}:{number}"
            fields = parse_fields(line.strip(), where=where, count=max(gold, left + 1) + 1)
            pairs.left.append(fields[left])
            pairs.right.append(fields[left + 1])
            pairs.gold.append(parse_gold(fields[gold], where=where, low=low, high=5))
        subsets.append(pairs)
    return SimilarityData(tuple(subsets), *provenance(read.values()))


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
