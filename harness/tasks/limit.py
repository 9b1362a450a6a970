"""A task on the first of its rows alone, to see a command work in seconds: its scores are no results of the task."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from harness.data.classification import ClassificationData, Examples
from harness.data.records import Pairs, SimilarityData
from harness.errors import UsageError
from harness.tasks.classification import ClassificationTask
from harness.tasks.geometry import GeometryTask
from harness.tasks.outcome import Prepared, Task
from harness.tasks.regression import RegressionTask
from harness.tasks.similarity import SimilarityTask


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitedTask:
    """The first rows of a task; see `limit_task`.

    Attributes:
        protocol: the task's own, with the number of rows: no result of the whole task has it.
        task: reads the first rows alone.
        flag: says so.
    """

    name: str
    protocol: str
    metric: str
    title: str
    bundled: bool
    seed: int | None
    task: Task
    flag: str

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
