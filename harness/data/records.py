"""Data files: what is known of each, the reading that holds a file to it, and what loaders hand to tasks.

A file is read once as bytes; a wrong one is refused by name.
"""

import hashlib
import json
import logging
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path

from harness.data.locate import BUNDLED
from harness.errors import DataError
from harness.packaged import packaged

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFacts:
    """What is known of one file in SentEval's layout.

    Attributes:
        lines: physical lines, the same in every public copy.
        encoding: how the reference reads it.
        sha256: of the copy that the project's own numbers were measured on; None: measured on none yet.
        text_sha256: of its lines joined by line feeds; tells another way of ending lines from another copy.
        lines_sha256: of the same lines sorted; tells a reordered file from another copy.
        scored: lines with a gold score, the same in every public copy, in files where a line may be blank.
    """

    lines: int
    encoding: str
    sha256: str | None = None
    text_sha256: str | None = None
    lines_sha256: str | None = None
    scored: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetFacts:
    """A dataset: title, paper, licence, and its files by path in SentEval's layout."""

    name: str
    title: str
    paper: str
    licence: str
    files: Mapping[str, FileFacts]


# The datasets of tasks that have not their dataset's own name.
_DATASET = {
    **dict.fromkeys(("STSBenchmark-dev", "STSBenchmark.v2", "STSBenchmark.v2-dev"), "STSBenchmark"),
    **dict.fromkeys(("STSBenchmark-finetune", "geometry-stsb"), "STSBenchmark"),
    **dict.fromkeys(("SICKRelatedness", "SICKRelatedness-dev", "SICKRelatedness-full"), "SICK"),
    **dict.fromkeys(("SICKRelatedness-finetune", "SICKEntailment"), "SICK"),
    "mini-geometry": "mini-sts",
}


def dataset_of(task: str) -> str:
    """The name of the dataset that a task reads."""
    return _DATASET.get(task, task)


@cache
def datasets() -> Mapping[str, DatasetFacts]:
    """Every dataset that the harness knows, by name."""
    text = packaged("harness/data/manifest.json").read_text(encoding="utf-8")
    return {
        name: DatasetFacts(
            name=name,
            **{k: v for k, v in entry.items() if k != "files"},
            files={path: FileFacts(**facts) for path, facts in entry["files"].items()},
        )
        for name, entry in json.loads(text).items()
    }


@cache
def facts_of(path: str) -> FileFacts:
    """Facts of a file, by its path in SentEval's layout.

    Raises:
        DataError: if the manifest does not know the path.
    """
    for dataset in datasets().values():
        if path in dataset.files:
            return dataset.files[path]
    raise DataError(f"{path}: the manifest has no such file; add it with its line count and sha256")


class Copy(StrEnum):
    """Which copy of a file this is. Public copies differ in tokenisation, so another one is no error by itself."""

    KNOWN = "known"  # the known lines in the known order, however they end
    OTHER = "other"
    UNMEASURED = "unmeasured"  # the manifest has no checksum of this file


@dataclass(frozen=True, slots=True)
class TextFile:
    """A data file as read: path in SentEval's layout, its lines, the sha256 of its bytes, which copy it is."""

    path: str
    lines: list[str]
    sha256: str
    copy: Copy


def read_text_file(root: Path, path: str) -> TextFile:
    r"""Read `root/path` as the reference does, and hold it to the manifest.

    Lines end at any of the boundaries of `str.splitlines`, as in SentEval's loaders. A file with the known lines in
    the known order counts as the known copy whatever they end in (CR LF after a checkout on Windows, no end after the
    last), because nothing that is read differs; its sha256 is that of its own bytes all the same.

    Raises:
        DataError: if the file is missing, not in its encoding, has another number of lines, or is the known
            file with its lines in another order.
    """
    facts = facts_of(path)
    place = packaged(f"harness/data/mini/{path}") if root == BUNDLED else root / path
    content = _content(place)
    sha256 = _digest(content)
    lines = _decode(content, facts, place)
    _log.debug("%s: %d lines read", place, len(lines))
    if len(lines) != facts.lines:
        raise DataError(
            f"{place}: {len(lines)} lines, expected {facts.lines}; the file is damaged: delete it and get it again"
        )
    if facts.sha256 is None:
        return TextFile(path, lines, sha256, Copy.UNMEASURED)
    if sha256 == facts.sha256 or _digest("\n".join(lines).encode(facts.encoding)) == facts.text_sha256:
        return TextFile(path, lines, sha256, Copy.KNOWN)
    if _digest(b"\n".join(sorted(content.splitlines()))) == facts.lines_sha256:
        raise DataError(
            f"{place}: the known lines in another order, so scores and sentences would not match; get the file again"
        )
    return TextFile(path, lines, sha256, Copy.OTHER)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _content(place: Path) -> bytes:
    try:
        content = place.read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"{place}: cannot be read ({error.strerror}); `bench data fetch` gets the files") from error
    except OSError as error:
        raise DataError(
            f"{place}: cannot be read ({error.strerror}); mend its permissions or the disk, or get the file again"
        ) from error
    except MemoryError as error:
        raise DataError(f"{place}: there is too little memory to read its {place.stat().st_size:,} bytes") from error
    if content.startswith(b"version https://git-lfs.github.com/"):
        raise DataError(f"{place}: holds a pointer of Git LFS, expected the file itself; run `git lfs pull` there")
    return content


def _decode(content: bytes, facts: FileFacts, place: Path) -> list[str]:
    try:
        text = content.decode(facts.encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(
            f"{place}:{line}: byte 0x{content[error.start]:02x} is not {facts.encoding}, which this file is in; "
            "get the file again"
        ) from error
    # Latin-1 files hold bytes such as 0x85 that `str.splitlines` would take for line ends once decoded.
    if facts.encoding == "utf-8":
        return text.splitlines()
    return text.replace("\r\n", "\n").removesuffix("\n").split("\n")


@dataclass(frozen=True, slots=True)
class Pairs:
    """Scored sentence pairs of one subset, in file order: n sentences left, n right, n gold scores."""

    name: str
    left: list[str]
    right: list[str]
    gold: list[float]


@dataclass(frozen=True, slots=True)
class SimilarityData:
    """Subsets of a similarity task, sha256 per file read, and the files that are another copy than the known one."""

    subsets: tuple[Pairs, ...]
    files: Mapping[str, str]
    other_copies: tuple[str, ...]


def provenance(read: Collection[TextFile]) -> tuple[dict[str, str], tuple[str, ...]]:
    """(path -> sha256, paths that are another copy than the manifest's) of the files read."""
    return {f.path: f.sha256 for f in read}, tuple(f.path for f in read if f.copy is Copy.OTHER)


def parse_gold(text: str, *, where: str, low: float, high: float) -> float:
    """Read one gold score. `where` is "file:line", so that the reader can open the place.

    Raises:
        DataError: if it is not a number from `low` to `high`.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not low <= value <= high:  # also false for nan
        raise DataError(f"{where}: gold score is {text!r}, expected a number from {low:g} to {high:g}")
    return value


def parse_fields(line: str, *, where: str, count: int) -> list[str]:
    """Split a line on tabs, with no quoting: quotes are ordinary characters in these files.

    Raises:
        DataError: if there are fewer than `count` fields.
    """
    fields = line.split("\t")
    if len(fields) < count:
        raise DataError(f"{where}: {len(fields)} tab-separated fields, expected {count}")
    return fields
