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
from harness.errors import DataError

TREC_LABELS = {"ABBR": 0, "DESC": 1, "ENTY": 2, "HUM": 3, "LOC": 4, "NUM": 5}
SICK_LABELS = {"CONTRADICTION": 0, "NEUTRAL": 1, "ENTAILMENT": 2}
_BINARY = {"0": 0, "1": 1}
_FIVE = {str(k): k for k in range(5)}
_PARTS = {"tr": "train", "va": "dev", "te": "test"}

PROBING_FILES = {
    "Length": "sentence_length",
    "WordContent": "word_content",
    "Depth": "tree_depth",
    "TopConstituents": "top_constituents",
    "BigramShift": "bigram_shift",
    "Tense": "past_present",
    "SubjNumber": "subj_number",
    "ObjNumber": "obj_number",
    "OddManOut": "odd_man_out",
    "CoordinationInversion": "coordination_inversion",
}


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


def two_files(root: Path, *, paths: Mapping[str, int]) -> ClassificationData:
    """A file per label, one sentence a line: MR, CR, SUBJ, MPQA. The file named first comes first.

    Raises:
        DataError: if a file is missing or damaged.
    """
    read = [read_text_file(root, path) for path in paths]
    first = [line for file in read for line in file.lines]
    labels = [label for file, label in zip(read, paths.values(), strict=True) for _ in file.lines]
    return ClassificationData({"all": Examples(first, None, labels)}, *provenance(read))


def parts(root: Path, *, paths: Mapping[str, str], parse: "Parse", header: int = 0) -> ClassificationData:
    """A file per part: `paths` maps `train`, `dev`, `test` to files, `parse` reads one line.

    Raises:
        DataError: if a file is missing or damaged, or a line is not what it should be.
    """
    read = {part: read_text_file(root, path) for part, path in paths.items()}
    examples = {part: _parse_file(root, file, parse, header) for part, file in read.items()}
    return ClassificationData(examples, *provenance(list(read.values())))


Line = tuple[str, str | None, int]
Parse = Callable[[str, str], Line]  # line and "file:line" to first sentence, second sentence, label


def _parse_file(root: Path, file: TextFile, parse: Parse, header: int) -> Examples:
    lines = [parse(line.strip(), f"{root / file.path}:{n}") for n, line in enumerate(file.lines, 1) if n > header]
    second = [line[1] for line in lines if line[1] is not None]
    return Examples([line[0] for line in lines], second if second else None, [line[2] for line in lines])


def _label(text: str, known: Mapping[str, int], where: str) -> int:
    if text not in known:
        raise DataError(f"{where}: label is {text!r}, expected one of {', '.join(known)}")
    return known[text]


def parse_sst2(line: str, where: str) -> Line:
    """Sentence, tab, 0 or 1."""
    sentence, label = parse_fields(line, where=where, count=2)[:2]
    return sentence, None, _label(label, _BINARY, where)


def parse_sst5(line: str, where: str) -> Line:
    """0..4, space, sentence."""
    label, _, sentence = line.partition(" ")
    return sentence, None, _label(label, _FIVE, where)


def parse_trec(line: str, where: str) -> Line:
    """`COARSE:fine sentence`; only the coarse class counts."""
    label, colon, rest = line.partition(":")
    if not colon:
        raise DataError(f"{where}: no colon, expected COARSE:fine and a question")
    return rest.partition(" ")[2], None, _label(label, TREC_LABELS, where)


def parse_mrpc(line: str, where: str) -> Line:
    """Label, two ids, two sentences, separated by tabs; 1 is a paraphrase."""
    fields = parse_fields(line, where=where, count=5)
    return fields[3], fields[4], _label(fields[0], _BINARY, where)


def parse_sick(line: str, where: str) -> Line:
    """Id, two sentences, relatedness, entailment label, separated by tabs."""
    fields = parse_fields(line, where=where, count=5)
    return fields[1], fields[2], _label(fields[4], SICK_LABELS, where)


def _pos_neg(folder: str, positive: str, negative: str) -> Callable[[Path], ClassificationData]:
    return partial(two_files, paths={f"downstream/{folder}/{positive}": 1, f"downstream/{folder}/{negative}": 0})


def _mrpc(folder: str) -> Callable[[Path], ClassificationData]:
    paths = {part: f"downstream/{folder}/msr_paraphrase_{part}.txt" for part in ("train", "test")}
    return partial(parts, paths=paths, parse=parse_mrpc, header=1)


def _sst(kind: str, parse: Parse) -> Callable[[Path], ClassificationData]:
    paths = {part: f"downstream/SST/{kind}/sentiment-{part}" for part in ("train", "dev", "test")}
    return partial(parts, paths=paths, parse=parse)


LOADERS: Mapping[str, Callable[[Path], ClassificationData]] = {
    "MR": _pos_neg("MR", "rt-polarity.pos", "rt-polarity.neg"),
    "CR": _pos_neg("CR", "custrev.pos", "custrev.neg"),
    # SentEval's SUBJ counts OBJECTIVE sentences as the positive class, and reads them first.
    "SUBJ": _pos_neg("SUBJ", "subj.objective", "subj.subjective"),
    "MPQA": _pos_neg("MPQA", "mpqa.pos", "mpqa.neg"),
    "SST2": _sst("binary", parse_sst2),
    "SST5": _sst("fine", parse_sst5),
    "TREC": partial(
        parts,
        paths={"train": "downstream/TREC/train_5500.label", "test": "downstream/TREC/TREC_10.label"},
        parse=parse_trec,
    ),
    "MRPC": _mrpc("MRPC"),
    "SICKEntailment": partial(
        parts,
        paths={
            "train": "downstream/SICK/SICK_train.txt",
            "dev": "downstream/SICK/SICK_trial.txt",
            "test": "downstream/SICK/SICK_test_annotated.txt",
        },
        parse=parse_sick,
        header=1,
    ),
    "mini-mr": _pos_neg("MINIMR", "mini.pos", "mini.neg"),
    "mini-mrpc": _mrpc("MINIMRPC"),
}


def probing(root: Path, *, file: str) -> ClassificationData:
    """Partition, label, ..., sentence, separated by tabs; labels are numbered in the order of their text.

    Raises:
        DataError: if the file is missing or damaged, or a label occurs outside the training part only.
    """
    read = read_text_file(root, f"probing/{file}.txt")
    rows: dict[str, list[tuple[str, str]]] = {part: [] for part in _PARTS.values()}
    for number, line in enumerate(read.lines, start=1):
        where = f"{root / read.path}:{number}"
        fields = parse_fields(line.rstrip(), where=where, count=3)
        if fields[0] not in _PARTS:
            raise DataError(f"{where}: partition is {fields[0]!r}, expected tr, va or te")
        rows[_PARTS[fields[0]]].append((fields[-1], fields[1]))
    known = {label: number for number, label in enumerate(sorted({label for _, label in rows["train"]}))}
    for part, found in rows.items():
        unknown = sorted({label for _, label in found} - known.keys())
        if unknown:
            raise DataError(f"{root / read.path}: label {unknown[0]!r} is in the {part} part only; get the file again")
    parts = {part: Examples([s for s, _ in found], None, [known[y] for _, y in found]) for part, found in rows.items()}
    return ClassificationData(parts, *provenance([read]))


PROBING_LOADERS: Mapping[str, Callable[[Path], ClassificationData]] = {
    name: partial(probing, file=file) for name, file in PROBING_FILES.items()
}
