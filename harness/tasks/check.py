"""Check data files as the tasks read them: present, readable, complete, in order, and which copy they are."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.data.records import Copy, dataset_of, datasets, read_text_file
from harness.errors import BenchError
from harness.tasks.outcome import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What was found of one file, of one task's reading, or of a dataset that is not there.

    Attributes:
        dataset: its name in the manifest.
        file: path in SentEval's layout; empty where the finding is not about one readable file.
        lines: how many the file has.
        copy: which copy of the file it is.
        sha256: of the file's bytes.
        problem: one sentence; empty where all is well.
        absent: none of the dataset's files is there.
    """

    dataset: str
    file: str = ""
    lines: int = 0
    copy: Copy | None = None
    sha256: str = ""
    problem: str = ""
    absent: bool = False


def check_data(root: Path, tasks: Sequence[Task]) -> list[Finding]:
    """Read every file of the tasks' datasets, and then the data of each task as `bench run` does.

    Tasks share files, and one damage is one finding.

    Args:
        root: the folder with `downstream/`.
        tasks: rows of `harness.TASKS`.
    """
    by_dataset: dict[str, list[Task]] = {}
    for task in tasks:
        by_dataset.setdefault(dataset_of(task.name), []).append(task)
    findings: dict[Finding, None] = {}
    for name, readers in by_dataset.items():
        paths = datasets()[name].files
        if not any(_is_there(root / path) for path in paths):
            findings[Finding(dataset=name, absent=True)] = None
            continue
        for path in paths:
            findings[_read(name, root, path)] = None
        for task in readers:
            try:
                task.prepare(root)
            except BenchError as error:
                findings[Finding(dataset=name, problem=str(error))] = None
    return list(findings)


def _is_there(path: Path) -> bool:
    """A file that may not be looked at counts as there, so that reading it says why it cannot be read."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def _read(dataset: str, root: Path, path: str) -> Finding:
    try:
        file = read_text_file(root, path)
    except BenchError as error:
        return Finding(dataset=dataset, problem=str(error))
    return Finding(dataset=dataset, file=path, lines=len(file.lines), copy=file.copy, sha256=file.sha256)
