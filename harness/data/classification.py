"""Loaders of SentEval's transfer and probing data: single sentences or pairs with an integer label.

Source: SentEval (5d6dc11) senteval/{binary,sst,trec,mrpc,sick,probing}.py, re-implemented from their behaviour. The
probing tasks are those of Conneau et al. 2018, https://aclanthology.org/P18-1198/. Sentences come as they stand in the
file; splitting on whitespace and sorting are steps of the protocol and happen in the task.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from harness.data.records import TextFile, parse_fields, provenance, read_text_file
from harness.data.sts import SICK_FILES
from harness.errors import DataError

Loader = Callable[[Path], "ClassificationData"]
Line = tuple[str, str | None, int]  # first sentence, second sentence of a pair, label
Parse = Callable[[str, str], Line]  # of a line and "file:line"


@dataclass(frozen=True, slots=True)
class Examples:
    """One part of a task in file order: n sentences, the n second sentences of pairs (or None), n labels 0..C-1."""

    first: list[str]
    second: list[str] | None
    labels: list[int]


@dataclass(frozen=True, slots=True)
class ClassificationData:
    """Parts by name (`all`, or `train`, `dev`, `test`), sha256 per file, and the files that are another copy."""

    parts: Mapping[str, Examples]
    files: Mapping[str, str]
    other_copies: tuple[str, ...]


def two_files(root: Path, *, ones: str, zeros: str) -> ClassificationData:
    """A file of `downstream/` for each label, one sentence a line; those of label 1 come first.

    Raises:
        DataError: if a file is missing or damaged.
    """
    read = [read_text_file(root, f"downstream/{path}") for path in (ones, zeros)]
    labels = [label for file, label in zip(read, (1, 0), strict=True) for _ in file.lines]
    examples = Examples([line for file in read for line in file.lines], None, labels)
    return ClassificationData({"all": examples}, *provenance(read))


def parts(root: Path, *, folder: str, files: Mapping[str, str], parse: Parse, header: int = 0) -> ClassificationData:
    """A file for each part, an example a line.

    Args:
        root: the folder that contains `downstream/`.
        folder: below `downstream/`.
        files: by part (`train`, `dev`, `test`).
        parse: reads a line.
        header: lines before the first example.

    Raises:
        DataError: if a file is missing or damaged, or a line is not what it should be.
    """
    read = {part: read_text_file(root, f"downstream/{folder}/{file}") for part, file in files.items()}
    examples = {part: _parse_file(root, file, parse, header) for part, file in read.items()}
    return ClassificationData(examples, *provenance(read.values()))


def _parse_file(root: Path, file: TextFile, parse: Parse, header: int) -> Examples:
    lines = [parse(line.strip(), f"{root / file.path}:{n}") for n, line in enumerate(file.lines, 1) if n > header]
    second = [line[1] for line in lines if line[1] is not None]
    return Examples([line[0] for line in lines], second if second else None, [line[2] for line in lines])


def _label(text: str, known: Mapping[str, int], where: str) -> int:
    if text not in known:
        raise DataError(f"{where}: label is {text!r}, expected one of {', '.join(known)}")
    return known[text]


def parse_columns(
    line: str, where: str, *, first: int, second: int | None = None, label: int, known: Mapping[str, int]
) -> Line:
    """Fields between tabs, of which these are the sentences and the label."""
    fields = parse_fields(line, where=where, count=max(first, second or 0, label) + 1)
    return fields[first], None if second is None else fields[second], _label(fields[label], known, where)


def parse_sst5(line: str, where: str) -> Line:
    """0..4, space, sentence."""
    label, _, sentence = line.partition(" ")
    return sentence, None, _label(label, {str(k): k for k in range(5)}, where)


def parse_trec(line: str, where: str) -> Line:
    """`COARSE:fine sentence`; only the coarse class counts."""
    label, colon, rest = line.partition(":")
    if not colon:
        raise DataError(f"{where}: no colon, expected COARSE:fine and a question")
    return rest.partition(" ")[2], None, _label(label, _TREC_LABELS, where)


_BINARY = {"0": 0, "1": 1}
_TREC_LABELS = {"ABBR": 0, "DESC": 1, "ENTY": 2, "HUM": 3, "LOC": 4, "NUM": 5}
_SICK_LABELS = {"CONTRADICTION": 0, "NEUTRAL": 1, "ENTAILMENT": 2}
_SST = {part: f"sentiment-{part}" for part in ("train", "dev", "test")}
_TREC = {"train": "train_5500.label", "test": "TREC_10.label"}
_MRPC = {part: f"msr_paraphrase_{part}.txt" for part in ("train", "test")}

parse_sst2 = partial(parse_columns, first=0, label=1, known=_BINARY)  # sentence, 0 or 1
parse_mrpc = partial(parse_columns, first=3, second=4, label=0, known=_BINARY)  # two ids first; 1: a paraphrase
parse_sick = partial(parse_columns, first=1, second=2, label=4, known=_SICK_LABELS)  # id, two sentences, score, label

LOADERS: Mapping[str, Loader] = {
    "MR": partial(two_files, ones="MR/rt-polarity.pos", zeros="MR/rt-polarity.neg"),
    "CR": partial(two_files, ones="CR/custrev.pos", zeros="CR/custrev.neg"),
    # SentEval's SUBJ counts OBJECTIVE sentences as the positive class, and reads them first.
    "SUBJ": partial(two_files, ones="SUBJ/subj.objective", zeros="SUBJ/subj.subjective"),
    "MPQA": partial(two_files, ones="MPQA/mpqa.pos", zeros="MPQA/mpqa.neg"),
    "SST2": partial(parts, folder="SST/binary", files=_SST, parse=parse_sst2),
    "SST5": partial(parts, folder="SST/fine", files=_SST, parse=parse_sst5),
    "TREC": partial(parts, folder="TREC", files=_TREC, parse=parse_trec),
    "MRPC": partial(parts, folder="MRPC", files=_MRPC, parse=parse_mrpc, header=1),
    "SICKEntailment": partial(parts, folder="SICK", files=SICK_FILES, parse=parse_sick, header=1),
    "mini-mr": partial(two_files, ones="MINIMR/mini.pos", zeros="MINIMR/mini.neg"),
    "mini-mrpc": partial(parts, folder="MINIMRPC", files=_MRPC, parse=parse_mrpc, header=1),
}


def probing(root: Path, *, file: str) -> ClassificationData:
    """Partition, label, ..., sentence, separated by tabs; labels are numbered in the order of their text.

    Raises:
        DataError: if the file is missing or damaged, or a label occurs outside the training part only.
    """
    read = read_text_file(root, f"probing/{file}.txt")
    names = {"tr": "train", "va": "dev", "te": "test"}
    rows: dict[str, list[tuple[str, str]]] = {part: [] for part in names.values()}
    for number, line in enumerate(read.lines, start=1):
        where = f"{root / read.path}:{number}"
        fields = parse_fields(line.rstrip(), where=where, count=3)
        if fields[0] not in names:
            raise DataError(f"{where}: partition is {fields[0]!r}, expected tr, va or te")
        rows[names[fields[0]]].append((fields[-1], fields[1]))
    known = {label: number for number, label in enumerate(sorted({label for _, label in rows["train"]}))}
    for part, found in rows.items():
        unknown = sorted({label for _, label in found} - known.keys())
        if unknown:
            raise DataError(f"{root / read.path}: label {unknown[0]!r} is in the {part} part only; get the file again")
    parts = {part: Examples([s for s, _ in found], None, [known[y] for _, y in found]) for part, found in rows.items()}
    return ClassificationData(parts, *provenance([read]))


PROBING_LOADERS: Mapping[str, Loader] = {
    "Length": partial(probing, file="sentence_length"),
    "WordContent": partial(probing, file="word_content"),
    "Depth": partial(probing, file="tree_depth"),
    "TopConstituents": partial(probing, file="top_constituents"),
    "BigramShift": partial(probing, file="bigram_shift"),
    "Tense": partial(probing, file="past_present"),
    "SubjNumber": partial(probing, file="subj_number"),
    "ObjNumber": partial(probing, file="obj_number"),
    "OddManOut": partial(probing, file="odd_man_out"),
    "CoordinationInversion": partial(probing, file="coordination_inversion"),
}
