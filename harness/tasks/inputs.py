"""What tasks read: checked file by file, cut to the first rows, and found again by the digests of per-item scores."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.data.classification import ClassificationData, Examples
from harness.data.locate import BUNDLED
from harness.data.records import Copy, Pairs, SimilarityData, dataset_of, datasets, read_text_file
from harness.errors import BenchError, DataError, UsageError
from harness.names import STS
from harness.results.items import text_id
from harness.tasks.classification import ClassificationTask
from harness.tasks.geometry import GeometryTask
from harness.tasks.outcome import Prepared, Task
from harness.tasks.regression import RegressionTask
from harness.tasks.similarity import SimilarityTask, as_senteval_text
from harness.tasks.suites import TASKS


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What was found of one file, of one task's reading, or of a dataset that is not there."""

    dataset: str  # its name in the manifest
    file: str = ""  # path in SentEval's layout; empty where the finding is not about one readable file
    lines: int = 0
    copy: Copy | None = None  # which copy of the file it is
    sha256: str = ""  # of the file's bytes
    problem: str = ""  # one sentence; empty where all is well
    absent: bool = False  # none of the dataset's files is there


def check_data(root: Path, tasks: Sequence[Task]) -> list[Finding]:
    """Read every file of the tasks' datasets below `root`, and then the data of each task as `bench run` does.

    Tasks share files, and one damage is one finding.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitedTask:
    """The first rows of a task; see `limit_task`."""

    name: str
    protocol: str  # the task's own, with the number of rows: no result of the whole task has it
    metric: str
    title: str
    bundled: bool
    seed: int | None
    task: Task  # reads the first rows alone
    flag: str  # says so

    def prepare(self, root: Path) -> Prepared:
        """Read the data; see `Prepared`."""
        data = self.task.prepare(root)
        return replace(data, flags=(*data.flags, self.flag))


def limit_task(task: Task, rows: int) -> LimitedTask:
    """The task on the first rows of each of its parts.

    Args:
        task: similarity, geometry, classification or regression.
        rows: pairs of each subset of a similarity benchmark, rows of each split of the others. Of rows with classes
            the first of each class, then the second of each, and so on are taken, because files are sorted by class.

    Raises:
        UsageError: if it is of another kind.
    """
    head, bracket, parameters = task.protocol.rstrip("]").partition("[")
    return LimitedTask(
        name=task.name,
        protocol=f"{head}[limit={rows}{',' if bracket else ''}{parameters}]",
        metric=task.metric,
        title=task.title,
        bundled=task.bundled,
        seed=task.seed,
        task=_cut(task, rows),
        flag=f"no result of the task: limited to the first {rows} rows of each part",
    )


def _cut(task: Task, rows: int) -> Task:
    match task:
        case SimilarityTask():
            pairs, target = _first_pairs(task.load, rows), _first_pairs(task.load_target, rows)
            return replace(task, load=pairs, load_target=target)
        case GeometryTask():
            loads = {split: _first_pairs(load, rows) for split, load in task.loads.items()}
            return replace(task, loads=loads, load_target=_first_pairs(task.load_target, rows))
        case RegressionTask():
            return replace(task, load=_first_pairs(task.load, rows))
        case ClassificationTask():
            return replace(task, load=_first_examples(task.load, rows))
        case _:
            raise UsageError(f"--limit {rows}: {task.name} is a task of another kind, expected rows to choose from")


def _first_pairs(load: Callable[[Path], SimilarityData], rows: int) -> Callable[[Path], SimilarityData]:
    def first(subset: Pairs) -> Pairs:
        return Pairs(subset.name, subset.left[:rows], subset.right[:rows], subset.gold[:rows])

    def read(root: Path) -> SimilarityData:
        data = load(root)
        return replace(data, subsets=tuple(map(first, data.subsets)))

    return read


def _first_examples(load: Callable[[Path], ClassificationData], rows: int) -> Callable[[Path], ClassificationData]:
    def read(root: Path) -> ClassificationData:
        data = load(root)
        return replace(data, parts={name: _of_each_class(part, rows) for name, part in data.parts.items()})

    return read


def _of_each_class(part: Examples, rows: int) -> Examples:
    """The first of each class, the second of each, and so on, as many as `rows`, in the order of the file."""
    seen: Counter[int] = Counter()
    turns = []
    for number, label in enumerate(part.labels):
        turns.append((seen[label], number))
        seen[label] += 1
    kept = sorted(number for _, number in sorted(turns)[:rows])
    second = None if part.second is None else [part.second[i] for i in kept]
    return Examples([part.first[i] for i in kept], second, [part.labels[i] for i in kept])


def sentences_by_id(root: Path | None) -> tuple[Mapping[str, str], list[str]]:
    """The sentences of the similarity tasks by `text_id`, as encoders receive them, and what data cannot be read.

    Without a root, the folder with `downstream/`, they are those of the bundled mini suite alone.
    """
    found: dict[str, str] = {}
    problems: list[str] = []
    for name in ("mini-sts", *(STS if root is not None else ())):
        task = TASKS[name]
        assert isinstance(task, SimilarityTask)
        try:
            data = task.load_target(BUNDLED if task.bundled or root is None else root)  # all splits
        except DataError as error:
            problems.append(str(error))
            continue
        texts = (as_senteval_text(text) for subset in data.subsets for text in [*subset.left, *subset.right])
        found |= {text_id(text): text for text in texts}
    return found, problems
