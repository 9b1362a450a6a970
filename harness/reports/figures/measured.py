"""What figures are drawn from: the geometry results of some encoders, their points, and their average STS score."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from shlex import quote
from statistics import fmean, stdev

import numpy as np
from numpy.typing import NDArray

from harness.errors import ResultError
from harness.names import STS, EncoderCard
from harness.reports.match import recipe_of
from harness.results.items import SeriesItems
from harness.results.record import Result
from harness.results.store import read_all

PROTOCOL = "geometry[alpha=2,t=2]"
POSITIVES = {"gt4": "gold > 4", "ge4": "gold ≥ 4", "eq5": "gold = 5"}
SENTENCES = {"unique": "unique sentences", "occurrences": "sentences, repeated ones included"}
SPLITS = ("test", "dev", "train", "all")
DATA = {"geometry-stsb": "STS-B", "mini-geometry": "mini pairs"}

COLOUR_TASKS = {task: ("mini-sts",) if task == "mini-geometry" else STS for task in DATA}
COLOUR_NAMES = {task: "mini-STS" if task == "mini-geometry" else "average STS" for task in DATA}
_COLOUR_KEY = "spearman/all/test"


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """Which of the measured variants is drawn; all of it is said on the axes."""

    task: str = "geometry-stsb"  # a key of `DATA`
    positives: str = "gt4"  # a key of `POSITIVES`
    sentences: str = "unique"  # a key of `SENTENCES`
    split: str = "test"  # one of `SPLITS`, measured by the task

    @property
    def alignment(self) -> str:
        return f"alignment/{self.positives}/{self.split}"

    @property
    def uniformity(self) -> str:
        return f"uniformity/{self.sentences}/{self.split}"

    @property
    def data(self) -> str:
        return f"{DATA[self.task]} {self.split}"

    @property
    def suffix(self) -> str:
        """For file names: whatever is not the default, so that variants do not overwrite each other."""
        given = (self.task, self.split, self.positives, self.sentences)
        usual = ("geometry-stsb", "test", "gt4", "unique")
        return "".join(f"-{value}" for value, default in zip(given, usual, strict=True) if value != default)


@dataclass(frozen=True)
class Measured:
    """One encoder's geometry, or that of several seeds of one recipe."""

    results: tuple[Result, ...]  # of the geometry task, one a seed
    # Spearman x 100, averaged over the tasks that give the colour, and over seeds; None unless all of them were scored
    sts: float | None
    label: str = ""  # what a figure calls it; "" for its name, made short
    published: float | None = None  # the average STS score that a paper prints for it, or None

    @property
    def result(self) -> Result:
        """Of the first seed: curves are drawn of that one."""
        return self.results[0]

    @property
    def card(self) -> EncoderCard:
        return self.result.encoder

    def score(self, key: str) -> float:
        """Of that key, the mean over seeds.

        Raises:
            ResultError: if the result has none, because the task measures other splits or variants.
        """
        return fmean(_score(result, key) for result in self.results)

    def ends(self, key: str) -> tuple[float, float]:
        """Of the 95 % interval over items; of several seeds, one standard deviation either side of their mean."""
        if len(self.results) == 1:
            return _score(self.result, f"{key}/low"), _score(self.result, f"{key}/high")
        middle, spread = self.score(key), stdev(_score(result, key) for result in self.results)
        return middle - spread, middle + spread

    def series(self, name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The points (x, y) of a series of the first seed's per-item scores, e.g. `spectrum/test`.

        Raises:
            ResultError: if the per-item file is missing or damaged, or has no such series.
        """
        items = self.result.items()
        x, y = items.points(name) if isinstance(items, SeriesItems) else (np.empty(0), np.empty(0))
        if not x.size:
            raise ResultError(
                f"{self.result.file}: its per-item file has no series {name}; choose another --split or --task"
            )
        return x, y


def _score(result: Result, key: str) -> float:
    if key not in result.scores:
        known = sorted({name.split("/")[2] for name in result.scores})
        raise ResultError(
            f"{result.file}: has no score {key}, it covers the split(s) {', '.join(known)}; choose one of "
            "them, or another --task"
        )
    return result.scores[key]


def together(runs: Sequence[Measured]) -> Measured:
    """Seeds of one recipe as one point."""
    known = [one.sts for one in runs if one.sts is not None]
    mean = fmean(known) if len(known) == len(runs) else None
    return replace(runs[0], results=tuple(result for one in runs for result in one.results), sts=mean)


@dataclass(frozen=True, slots=True)
class Found:
    """Measured encoders in the order they were named, the names without a result, and unreadable files."""

    measured: tuple[Measured, ...]
    missing: tuple[str, ...]
    problems: tuple[str, ...]


def find(results_dir: Path, task: str, names: Sequence[str] = ()) -> Found:
    """The geometry results of the named encoders, or of all.

    Args:
        results_dir: where result files are.
        task: a key of `DATA`.
        names: full names as results hold them; none: every encoder that has a result of the task, seeds together.
    """
    results, problems = read_all(results_dir)
    geometry = {r.encoder.name: r for r in results if r.task == task and r.protocol == PROTOCOL}
    scores = {(r.encoder.name, r.task): r.scores[_COLOUR_KEY] for r in results if _COLOUR_KEY in r.scores}
    wanted = list(dict.fromkeys(names or sorted(geometry)))
    measured = [Measured((geometry[name],), _average(scores, name, task)) for name in wanted if name in geometry]
    missing = tuple(name for name in wanted if name not in geometry)
    return Found(tuple(measured if names else _folded(measured)), missing, tuple(problems))


def _folded(measured: Sequence[Measured]) -> list[Measured]:
    """Each recipe once, its seeds together."""
    groups: dict[object, list[Measured]] = {}
    for one in measured:
        groups.setdefault((recipe_of(one.card), tuple(sorted(one.result.data.items()))), []).append(one)
    return [together(runs) for runs in groups.values()]


def _average(scores: Mapping[tuple[str, str], float], name: str, task: str) -> float | None:
    known = [scores[name, other] for other in COLOUR_TASKS[task] if (name, other) in scores]
    return 100 * sum(known) / len(known) if len(known) == len(COLOUR_TASKS[task]) else None


def gaps(found: Found, definition: Definition, results_dir: Path, *, colour: bool) -> list[str]:
    """One sentence for each encoder that is not drawn, or is drawn without its colour."""
    task, lacking = definition.task, ",".join(COLOUR_TASKS[definition.task])
    sentences = [f"left out: {problem}" for problem in found.problems]
    sentences += [
        f"{name}: not drawn, {results_dir} has no result of {task}; `bench run -t {task} -m {quote(name)}`"
        for name in found.missing
    ]
    return sentences + [
        f"{one.card.name}: drawn hollow, because it lacks a result of {lacking}; "
        f"`bench run -t {lacking} -m {quote(one.card.name)}`"
        for one in found.measured
        if colour and one.sts is None
    ]
