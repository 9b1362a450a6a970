"""Facts about the data files: lines, encoding, checksums, licence, paper. Code asserts them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from harness.errors import DataError
from harness.packaged import packaged


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
def _by_path() -> Mapping[str, FileFacts]:
    return {path: facts for dataset in datasets().values() for path, facts in dataset.files.items()}


def facts_of(path: str) -> FileFacts:
    """Facts of a file, by its path in SentEval's layout.

    Raises:
        DataError: if the manifest does not know the path.
    """
    if path not in _by_path():
        raise DataError(f"{path}: the manifest has no such file; add it with its line count and sha256")
    return _by_path()[path]
