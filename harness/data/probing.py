"""Loaders of the ten probing tasks, from the user's own copy of SentEval's files.

Source: SentEval (5d6dc11) senteval/probing.py; Conneau et al. 2018, https://aclanthology.org/P18-1198/.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from harness.data.classification import ClassificationData, Examples
from harness.data.files import read_text_file
from harness.data.records import parse_fields, provenance
from harness.errors import DataError

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
