"""The study file: models with grids and seeds, tasks, folders, tables and figures wanted; each error has its line.

    title = "Three methods on tiny"
    suites = ["mini"]
    backbone = "tiny"

    [[models]]
    model = "bert"
    pooling = ["avg", "cls_before_pooler"]

    [[models]]
    model = "simcse-unsup"
    seeds = "0-2"
    max_steps = 20

Every other key of a model is one of its parameters; a list of values is an axis of a grid. Paths are relative to the
folder that the command runs in.
"""

import json
import re
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import product
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harness import files
from harness.encoders.context import Context, torch_device
from harness.encoders.entry import declared
from harness.encoders.registry import resolve
from harness.errors import BenchError, UsageError
from harness.names import Spec, Value, nearest, pick
from harness.progress import Progress, silent
from harness.reports import published
from harness.reports.layouts import LAYOUTS
from harness.reports.report import FORMATS
from harness.tasks.outcome import Task
from harness.tasks.probes import MODES
from harness.tasks.suites import CLASSIFIERS, select

FIGURES = ("alignment-uniformity", "spectrum", "similarity-density", "scores", "heat-map", "trajectory")

_Seeds = str | list[Annotated[int, Field(ge=0)]]
_HEADER = re.compile(r"\s*\[+\s*([\w.-]+)\s*\]+")
_KEY = re.compile(r"\s*[\"']?([\w-]+)[\"']?\s*=")
_MODE = re.compile(r"mode=(\w+)")
_RANGE = re.compile(r"(\d+)-(\d+)")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Models(BaseModel):
    """One entry of `[[models]]`; its further keys are parameters."""

    model_config = ConfigDict(extra="allow", strict=True)

    model: str
    seeds: _Seeds | None = None
    suites: list[str] | None = None
    tasks: list[str] | None = None
    mode: str | None = None
    classifier: str | None = None


class ReportWanted(_Strict):
    """The table `[report]`: what `--report` writes, as the options of `bench report`, and figures of `bench plot`."""

    output: str = "reports"
    formats: tuple[str, ...] = Field(default=("md", "latex", "csv"), strict=False)
    tables: tuple[str, ...] = Field(default=(), strict=False)
    figures: tuple[str, ...] = Field(default=(), strict=False)
    published: tuple[str, ...] = Field(default=(), strict=False)
    each_seed: bool = False


class _File(_Strict):
    title: str = ""
    suites: list[str] = []
    tasks: list[str] = []
    mode: str = "test"
    classifier: str = "senteval"
    seeds: _Seeds | None = None
    backbone: str | None = None
    device: str = "auto"
    dtype: str = "float32"
    results_dir: str = "results"
    data_dir: str | None = None
    cache_dir: str | None = None
    models: list[_Models] = Field(min_length=1)
    report: ReportWanted = ReportWanted()
    ray: dict[str, Any] = {}
    slurm: dict[str, Any] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scoring:
    """What an encoder is scored on."""

    suites: tuple[str, ...] = ()  # of tasks
    tasks: tuple[str, ...] = ()  # further tasks
    mode: str = "test"  # of the probes
    classifier: str = "senteval"  # of the probes

    def chosen(self) -> list[Task]:
        """The tasks, those of the suites first."""
        how = {"mode": self.mode, "classifier": self.classifier}
        groups = (
            select(self.suites, (), **how) if self.suites else [],
            select((), self.tasks, **how) if self.tasks else [],
        )
        return _distinct(task for group in groups for task in group)


def _distinct(tasks: Iterable[Task]) -> list[Task]:
    return list({f"{task.name}@{task.protocol}": task for task in tasks}.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """What is to be measured, and where: all that a worker needs."""

    title: str  # for people
    models: tuple[tuple[str, Scoring], ...]  # full specifications of the encoders, in order, and what each is scored on
    device: str  # `auto`, `cpu`, `cuda`, ...
    dtype: str  # of the forward pass
    results_dir: Path  # result files, and beside them what workers tell each other
    data_dir: Path | None  # in SentEval's layout, or None
    cache_dir: Path  # embeddings, fits, trained models; workers on several machines share it
    offline: bool = False  # never use the network
    report: ReportWanted = field(default_factory=ReportWanted)  # tables and figures wanted
    # Options of the engines `ray` and `slurm`, which have the tables of these names.
    engines: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def specs(self) -> list[str]:
        """Each encoder once."""
        return list(dict.fromkeys(spec for spec, _ in self.models))

    def context(self, *, offline: bool | None = None, progress: Progress = silent) -> Context:
        """The settings that encoders are built with."""
        return Context(
            cache_dir=self.cache_dir,
            data_dir=self.data_dir,
            device=torch_device(self.device),
            dtype=self.dtype,
            offline=self.offline if offline is None else offline,
            progress=progress,
        )

    def chosen_tasks(self) -> list[Task]:
        """All tasks that an encoder is scored on."""
        return _distinct(task for scoring in dict.fromkeys(own for _, own in self.models) for task in scoring.chosen())


def load_study(path: Path, default_cache: Path) -> Study:
    """Read a study file, which may leave the cache folder to a default.

    Raises:
        UsageError: if it cannot be read, is no TOML, has an unknown key or a wrong value, names nothing to measure, or
            names a model, parameter or task that does not exist. The message has the line and the key.
    """
    try:
        text = path.read_text(encoding="utf-8")
        document = tomllib.loads(text)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}), expected a study file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: is not TOML ({error}); see docs/studies.md for an example") from error
    place = _Place(path, text)
    try:
        found = _File.model_validate(document)
    except ValidationError as error:
        raise place.refusal(error) from error
    models: list[tuple[str, Scoring]] = []
    for number, entry in enumerate(found.models):
        scoring = _scoring(place, number, entry, found)
        models += [(str(spec), scoring) for spec in _specs(place, number, entry, found)]
    study = Study(
        title=found.title or path.stem,
        models=tuple(dict.fromkeys(models)),
        device=found.device,
        dtype=found.dtype,
        results_dir=Path(found.results_dir),
        data_dir=None if found.data_dir is None else Path(found.data_dir),
        cache_dir=default_cache if found.cache_dir is None else Path(found.cache_dir),
        report=found.report,
        engines={"ray": found.ray, "slurm": found.slurm},
    )
    _check_report(place, study.report)
    return study


@dataclass(frozen=True, slots=True)
class _Place:
    """Where in the file a key stands, for errors."""

    path: Path
    text: str

    def error(self, where: tuple[str | int, ...], what: str) -> UsageError:
        """A sentence that begins as `study.toml:7: models.pooling:` does."""
        key = ".".join(str(part) for part in where if isinstance(part, str))
        return UsageError(f"{self.path}:{self._line(where)}: {key}: {what}")

    @contextmanager
    def at(self, where: tuple[str | int, ...]) -> Iterator[None]:
        """Say of an error where in the file it comes from."""
        try:
            yield
        except BenchError as error:
            raise self.error(where, str(error)) from error

    def refusal(self, error: ValidationError) -> UsageError:
        """One sentence on the first thing that pydantic refuses."""
        first = error.errors()[0]
        where = first["loc"]
        if first["type"] == "extra_forbidden":
            known = ReportWanted if where[0] == "report" else _File
            return self.error(where, f"there is no such key; {nearest(str(where[-1]), known.model_fields)}")
        if first["type"] == "missing":
            return self.error(where, "is missing; every study has models, and each of them names its model")
        return self.error(where, f"{first['input']!r} cannot be used: {first['msg'][:1].lower()}{first['msg'][1:]}")

    def _line(self, where: tuple[str | int, ...]) -> int:
        """The line of a key, else of its table, else the first: tables of a list are counted."""
        number = next((part for part in where if isinstance(part, int)), 0)
        names = [part for part in where if isinstance(part, str)]
        seen: dict[str, int] = {}
        table, best = "", 1
        for at, line in enumerate(self.text.splitlines(), start=1):
            if header := _HEADER.fullmatch(line.partition("#")[0].rstrip()):
                table = header[1]
                seen[table] = seen.get(table, -1) + 1
                if names[:1] == [table] and seen[table] == number:
                    best = at
            elif (key := _KEY.match(line)) and (table in ("", *names[:1])) and seen.get(table, number) == number:
                if [*filter(None, (table,)), key[1]] == names[: 1 + bool(table)]:
                    return at
        return best


def _specs(place: _Place, number: int, entry: _Models, file: _File) -> Iterator[Spec]:
    """The full specifications of one entry: its grid, each with every seed."""
    with place.at(("models", number, "model")):
        base = Spec.parse(entry.model)
    axes = {key: _axis(place, number, key, value) for key, value in (entry.model_extra or {}).items()}
    if clash := next((key for key in axes if key in base.given), None):
        raise place.error(("models", number, clash), f"{entry.model} gives it too; keep one")
    seeds = _numbers(place, ("models", number, "seeds"), entry.seeds)
    general = _numbers(place, ("seeds",), file.seeds) if entry.seeds is None else []
    context = Context(cache_dir=Path(), backbone=file.backbone)
    for values in product(*axes.values()):
        spec = base.replaced(**dict(zip(axes, values, strict=True)))
        with place.at(("models", number, "model")):
            seeded = any(one.name == "seed" for one in declared(resolve(spec, context).entry))
            own = seeds or (general if seeded and "seed" not in spec.given else [])
            for each in [spec.replaced(seed=seed) for seed in own] or [spec]:
                yield resolve(each, context).spec


def _axis(place: _Place, number: int, key: str, value: Any) -> list[Value]:
    values = value if isinstance(value, list) else [value]
    if not values:
        raise place.error(("models", number, key), "the list is empty, so nothing would be measured; give values")
    if not all(isinstance(one, str | int | float) for one in values):
        raise place.error(("models", number, key), f"{value!r} cannot be used: expected a value, or a list of values")
    return values


def _numbers(place: _Place, where: tuple[str | int, ...], seeds: _Seeds | None) -> list[int]:
    if seeds is None:
        return []
    if isinstance(seeds, str):
        parts = [part.strip() for part in seeds.split(",")]
        ends = [_RANGE.fullmatch(part if "-" in part else f"{part}-{part}") for part in parts]
        seeds = [n for end in ends if end for n in range(int(end[1]), int(end[2]) + 1)] if all(ends) else []
    if not seeds:
        raise place.error(where, 'expected seeds such as [0, 1, 2] or "0-4", at least one')
    return seeds


def _scoring(place: _Place, number: int, entry: _Models, file: _File) -> Scoring:
    """What an entry is scored on: what it names itself, else what the study names."""
    own = entry.suites is not None or entry.tasks is not None
    suites, tasks = (entry.suites or [], entry.tasks or []) if own else (file.suites, file.tasks)
    mode, classifier = entry.mode or file.mode, entry.classifier or file.classifier
    if not (suites or tasks):
        raise place.error(("suites",), "there are neither suites nor tasks, so nothing would be measured; name some")
    checks: Mapping[str, Callable[[], object]] = {
        "mode": lambda: pick("mode", MODES, mode),
        "classifier": lambda: pick("classifier", CLASSIFIERS, classifier),
        "suites": lambda: suites and select(suites, ()),
        "tasks": lambda: tasks and select((), tasks),
    }
    for key, check in checks.items():
        with place.at(("models", number, key) if getattr(entry, key) else (key,)):
            check()
    return Scoring(suites=tuple(suites), tasks=tuple(tasks), mode=mode, classifier=classifier)


def _check_report(place: _Place, report: ReportWanted) -> None:
    """Refuse now what would fail after everything is measured."""
    tables = dict.fromkeys(layout.name for layout in LAYOUTS)
    checks: Mapping[str, Callable[[str], object]] = {
        "formats": partial(pick, "format", FORMATS),
        "tables": lambda name: pick("table", tables, name.partition("@")[0]),
        "figures": partial(pick, "figure", dict.fromkeys(FIGURES)),
        "published": published.load,
    }
    for key, check in checks.items():
        for name in getattr(report, key):
            with place.at(("report", key)):
                check(name)


def study_of(title: str, wanted: Iterable[tuple[str, str, str]], context: Context, results_dir: Path) -> Study:
    """The study that measures these results, each an encoder, a task and a protocol, and no others.

    Raises:
        UsageError: if nothing is wanted, or there is no such encoder, task or protocol.
    """
    tasks: dict[tuple[str, str], dict[str, str]] = {}  # protocols by task, for an encoder and a mode of its probes
    for encoder, task, protocol in wanted:
        mode = found[1] if (found := _MODE.search(protocol)) else "test"
        tasks.setdefault((str(resolve(encoder, context).spec), mode), {})[task] = protocol
    if not tasks:
        raise UsageError(f"{title}: there is no study of it, nothing is missing")
    models = [(spec, Scoring(tasks=tuple(own), mode=mode)) for (spec, mode), own in tasks.items()]
    for (_, scoring), own in zip(models, tasks.values(), strict=True):
        known = {f"{task.name} ({task.protocol})": task for task in scoring.chosen()}
        for task, protocol in own.items():
            pick("task", known, f"{task} ({protocol})")
    return Study(
        title=title,
        models=tuple(models),
        device=context.device,
        dtype=context.dtype,
        results_dir=results_dir,
        data_dir=context.data_dir,
        cache_dir=context.cache_dir,
        offline=context.offline,
    )


def write_study(path: Path, study: Study) -> None:
    """Write what a study measures, where its results are to be, and in which arithmetic; the rest is the machine's.

    Raises:
        WriteError: if the file cannot be written.
    """
    ((general, _),) = Counter(scoring for _, scoring in study.models).most_common(1)
    facts = {"title": study.title, "results_dir": str(study.results_dir), "dtype": study.dtype}
    blocks = [facts | _changed(general, Scoring())]
    blocks += [{"model": spec} | _changed(scoring, general) for spec, scoring in study.models]
    texts = [
        "".join(f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in one.items()) for one in blocks
    ]
    files.replace(path, "\n[[models]]\n".join(texts).encode())


def _changed(scoring: Scoring, base: Scoring) -> dict[str, object]:
    """The keys of a study file that make one of the other."""
    return {key: value for key, value in asdict(scoring).items() if value != getattr(base, key)}
