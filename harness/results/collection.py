"""A set of results as one object: look up a task, make a frame, show a table in a notebook."""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from harness.errors import UsageError
from harness.names import ScoreKey, Spec, nearest, short_task
from harness.results.record import Result
from harness.results.store import read_all

if TYPE_CHECKING:
    import datasets
    import pandas as pd

_COLUMNS = (
    *("encoder", "method", "backbone", "seed", "folder", "task", "protocol"),  # what was measured
    *("metric", "aggregation", "split", "bound", "score", "main", "flags", "identity", "started", "commit"),
)


class Failure(NamedTuple):
    """An encoder on a task that gave no score, and why."""

    encoder: str
    task: str
    reason: str


class TaskScores:
    """The scores of one encoder on one task.

    Attributes:
        result: the whole record: every score, the encoder's card, data digests, provenance.
    """

    def __init__(self, result: Result) -> None:
        self.result = result

    @property
    def score(self) -> float:
        """The main score, in its own unit (correlations -1..1, accuracies 0..1)."""
        return self.result.scores[self.result.metric]

    @property
    def spearman(self) -> float:
        """Spearman's correlation in the task's main aggregation and split, -1..1."""
        return self._of("spearman")

    @property
    def pearson(self) -> float:
        """Pearson's correlation in the task's main aggregation and split, -1..1."""
        return self._of("pearson")

    @property
    def accuracy(self) -> float:
        """Accuracy in the task's main split, 0..1."""
        return self._of("accuracy")

    @property
    def scores(self) -> dict[str, float]:
        """Every score by its key, e.g. `spearman/all/test`."""
        return dict(self.result.scores)

    def _of(self, metric: str) -> float:
        key = str(ScoreKey.parse(self.result.metric)._replace(metric=metric))
        if key not in self.result.scores:
            raise AttributeError(f"{self.result.task} has no {metric}; it has {', '.join(self.result.scores)}")
        return self.result.scores[key]

    def __repr__(self) -> str:
        return f"<{self.result.task}: {self.result.metric} {self.score:.4f}, {self.result.encoder.name}>"


class Results(Sequence[Result]):
    """Results of one or several encoders.

    `results["STS12"]` has the scores of that task where there is one encoder; `results["minilm", "STS12"]` names both.

    Attributes:
        folder: where the result files are.
        failures: what gave no score, and why.
        problems: one sentence for each file that was left out.
    """

    def __init__(
        self,
        results: Sequence[Result],
        folder: Path,
        *,
        failures: Sequence[Failure] = (),
        problems: Sequence[str] = (),
        temporary: "tempfile.TemporaryDirectory[str] | None" = None,
    ) -> None:
        self._results = tuple(results)
        self.folder = folder
        self.failures = tuple(failures)
        self.problems = tuple(problems)
        self._temporary = temporary  # holds the files of results that were saved nowhere, as long as this object lives

    def __len__(self) -> int:
        return len(self._results)

    def __iter__(self) -> Iterator[Result]:
        return iter(self._results)

    def __getitem__(self, key):  # type: ignore[no-untyped-def]  # an index, a task, or an encoder and a task
        if isinstance(key, int | slice):
            return self._results[key]
        encoder, task = key if isinstance(key, tuple) else (None, key)
        found = [r for r in self._results if r.task == task and encoder in (None, r.encoder.name)]
        if not found:
            known = dict.fromkeys(r.task for r in self._results)
            raise UsageError(f"no result of {task!r}{f' and {encoder!r}' if encoder else ''}; {nearest(task, known)}")
        if len(found) > 1:
            names = ", ".join(dict.fromkeys(r.encoder.name for r in found))
            raise UsageError(
                f"{task!r} has results of {names}; name one, as in results[{found[0].encoder.name!r}, {task!r}]"
            )
        return TaskScores(found[0])

    @property
    def encoders(self) -> tuple[str, ...]:
        """Names of the encoders, in order."""
        return tuple(dict.fromkeys(result.encoder.name for result in self._results))

    def of(self, encoder: str) -> "Results":
        """The results of one encoder; a name without its seed stands for all its seeds.

        Raises:
            UsageError: if there are none.
        """
        found = [
            r for r in self._results if encoder in (r.encoder.name, str(Spec.parse(r.encoder.name).without("seed")))
        ]
        if not found:
            raise UsageError(f"no result of {encoder!r}; {nearest(encoder, self.encoders)}")
        return Results(found, self.folder, temporary=self._temporary)

    def frame(self) -> "pd.DataFrame":
        """Every score, a row each.

        Returns:
            Columns: `encoder` (its full name), `method`, `backbone`, `seed` (the encoder's), `folder` (in the results
            folder, empty in memory), `task`, `protocol`; `metric`, `aggregation`, `split`, `bound` of the score's key;
            `score` at full precision (correlations -1..1, accuracies 0..1), `main` (whether tables show it), `flags`
            (joined by "; "), `identity` of the encoder, `started` (UTC) and `commit` of the run.
        """
        import pandas as pd  # takes half a second, and only frames need it

        return pd.DataFrame([row for result in self._results for row in _rows(result)], columns=list(_COLUMNS))

    def dataset(self) -> "datasets.Dataset":
        """The rows of `frame` as a `datasets.Dataset`.

        Raises:
            UsageError: if datasets is not installed.
        """
        try:
            from datasets import Dataset
        except ModuleNotFoundError as error:
            raise UsageError(f"{error.name} is not installed; install it with: pip install datasets") from error
        return Dataset.from_pandas(self.frame(), preserve_index=False)

    def table(self) -> "pd.DataFrame":
        """The main scores, times 100 where they are correlations or accuracies: an encoder a row, a task a column."""
        import pandas as pd

        rows: dict[str, dict[str, float]] = {}
        for result in self._results:
            scale = 1.0 if result.metric.startswith("uniformity") else 100.0
            rows.setdefault(result.encoder.name, {})[short_task(result.task)] = scale * result.scores[result.metric]
        return pd.DataFrame.from_dict(rows, orient="index")

    def __repr__(self) -> str:
        tasks = len({result.task for result in self._results})
        return f"<Results: {len(self)} results of {len(self.encoders)} encoders on {tasks} tasks>"

    def _repr_html_(self) -> str:
        """What a notebook shows: the main scores, and of many encoders the first and last ones."""
        return self.table().to_html(float_format="{:.2f}".format, max_rows=20, show_dimensions=True, na_rep="")


def load_results(folder: str | Path = "results", *, check: bool = True) -> Results:
    """Every readable result under a folder; `problems` names what is left out.

    Args:
        folder: of results.
        check: whether scores are held against their per-item scores; False only to save time.
    """
    results, problems = read_all(Path(folder), check=check)
    return Results(results, Path(folder), problems=problems)


def _rows(result: Result) -> Iterable[tuple[object, ...]]:
    card, run = result.encoder, result.run
    made = (card.name, card.method, card.backbone, card.seed, result.file.parent.name if result.file else "")
    marks = ("; ".join(result.flags), card.identity, run.started, run.commit)
    for text, score in result.scores.items():
        key = ScoreKey.parse(text)
        place = (result.task, result.protocol, key.metric, key.aggregation, key.split, key.bound)
        yield (*made, *place, score, text == result.metric, *marks)
