"""What loaders hand to tasks, and the parsing of single fields with their place in the error."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from harness.data.manifest import Copy, TextFile
from harness.errors import DataError


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


def provenance(read: list[TextFile]) -> tuple[dict[str, str], tuple[str, ...]]:
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
