"""The options that several commands have, declared once, and what makes a function a command.

A command takes exactly the options that act in it. Every one that commands share can also be set by a variable of the
environment; what is typed comes before it.
"""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from functools import partial, wraps
from inspect import Parameter, Signature, cleandoc, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.completion import DEVICES, DTYPES, LEVELS, MODELS, SOURCES, SUITES, TASKS, Choices, one_of, some_of
from harness.cli.console import endings, notes, notice, talking
from harness.errors import UsageError
from harness.names import pick, split_names

if TYPE_CHECKING:
    from harness.encoders.context import Context
    from harness.results.record import Result
    from harness.tasks.outcome import Task

_log = logging.getLogger(__name__)


def option(*names: str, help: str, choices: Choices = (), several: bool = False, **more: Any) -> Any:
    """An option of a command.

    Args:
        names: the long one first; by default the parameter's name.
        help: what it does.
        choices: what shells complete.
        several: whether it takes a list of them, separated by commas.
        more: for `typer.Option`.
    """
    if choices:
        more["autocompletion"] = some_of(choices) if several else one_of(choices)
    return typer.Option(*names, help=help, **more)


def shared(*names: str, panel: str | None = None, group: str = "", **more: Any) -> Any:
    """An `option` that several commands have, and the variable of the environment that sets it in all of them.

    Args:
        names: the long one first; the variable is named after it.
        panel: of the help page that it stands in.
        group: of commands, where others have an option of that name that means something else.
        more: for `option`.
    """
    variable = "_".join(filter(None, ("BENCH", group, names[0].removeprefix("--")))).replace("-", "_").upper()
    return option(*names, rich_help_panel=panel, envvar=variable, show_envvar=True, **more)


def argument(*, help: str, choices: Choices = ()) -> Any:
    """An argument of a command; shells complete its choices."""
    return typer.Argument(help=help, autocompletion=one_of(choices) if choices else None)


_folder = partial(shared, panel="Folders")
_compute = partial(shared, panel="Computation")
_output = partial(shared, panel="Output")

DataDir = Annotated[
    Path | None, _folder("--data-dir", help="Folder with downstream/ (SentEval's layout); else cache, hub.")
]
ResultsDir = Annotated[Path, _folder("--results-dir", help="Folder of result files.")]
CacheDir = Annotated[
    Path | None, _folder("--cache-dir", help="Folder of embeddings, fits and downloads; else ~/.cache/bench.")
]
TrackDir = Annotated[Path, _folder("--track-dir", help="Folder that trackers write to.")]

Device = Annotated[str, _compute("--device", help="cpu, cuda, cuda:1, mps, or auto.", choices=DEVICES)]
Dtype = Annotated[
    str, _compute("--dtype", help="Arithmetic of the forward pass: float32, bfloat16 or float16.", choices=DTYPES)
]
Backbone = Annotated[
    str | None,
    _compute(
        "--backbone",
        help="Backbone of every model that has one: tiny, a hub name, or a folder.",
        choices="harness.reports.targets:BUNDLED",
    ),
]
Offline = Annotated[bool, _compute("--offline", help="Never use the network.")]

Models = Annotated[
    str,
    shared(
        "--models", "-m", help="Encoders, separated by commas: see `bench list models`.", choices=MODELS, several=True
    ),
]
Suite = Annotated[
    str, shared("--suite", "-s", help="Suites of tasks: see `bench list suites`.", choices=SUITES, several=True)
]
Tasks = Annotated[
    str, shared("--tasks", "-t", help="Single tasks instead: see `bench list tasks`.", choices=TASKS, several=True)
]
Mode = Annotated[
    str,
    shared(
        "--mode",
        help="Mode of the probes: test (10 folds), fasttest (5 folds), or dev.",
        choices="harness.tasks.probes:MODES",
    ),
]

Json = Annotated[bool, _output("--json", help="Print machine-readable output on stdout.")]
Quiet = Annotated[bool, _output("--quiet", "-q", help="Show no progress and no notices.")]
Verbose = Annotated[
    int,
    _output(
        *("--verbose", "-v"),
        count=True,
        show_default=False,
        help="Log on stderr what is read, downloaded, loaded, found in the cache and written; -vv: files and batches.",
    ),
]
LogLevel = Annotated[
    str,
    _output(
        "--log-level",
        help="Log on stderr from this level on: debug (as -vv), info (as -v), warning or error.",
        choices=LEVELS,
    ),
]
Track = Annotated[
    str,
    _output(
        "--track",
        help="Trackers that are told as well: tensorboard, wandb, mlflow, trackio; comma-separated.",
        choices="harness.integrations.trackers:TRACKERS",
        several=True,
    ),
]
Published = Annotated[
    str,
    _output(
        "--published",
        help="Papers to compare with (`bench list published`), and tables of your own as FILE.csv; comma-separated.",
        choices=SOURCES,
        several=True,
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Computation:
    """The options of where and how to compute; a command with a parameter of this type has all of them."""

    data_dir: DataDir = None
    cache_dir: CacheDir = None
    device: Device = "auto"
    dtype: Dtype = "float32"
    backbone: Backbone = None
    offline: Offline = False

    @contextmanager
    def context(self) -> "Iterator[Context]":
        """What encoders are built with, and progress bars while it lasts."""
        from harness.encoders.context import Context, torch_device
        from harness.progress import bars

        cache_dir, device = self.cache_dir or default_cache_dir(), torch_device(self.device)
        _log.info("computing on %s in %s; cache in %s", device, self.dtype, cache_dir)
        with bars(quiet=notes.quiet) as progress:
            yield Context(
                cache_dir=cache_dir,
                data_dir=self.data_dir,
                device=device,
                dtype=self.dtype,
                backbone=self.backbone,
                offline=self.offline,
                progress=progress,
            )


def default_cache_dir() -> Path:
    """`bench` below XDG_CACHE_HOME or ~/.cache; BENCH_CACHE_DIR is read by the option."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bench"


def names_in(text: str, name: str) -> tuple[str, ...]:
    """The names in an option's list; none where the option is not given."""
    return tuple(split_names(text, name)) if text else ()


def chosen_tasks(suite: str, tasks: str, mode: str = "test", classifier: str = "senteval") -> "list[Task]":
    """The tasks that --suite and --tasks name.

    Raises:
        UsageError: if a name is unknown, or not one of the two is given.
    """
    from harness.tasks.suites import select

    return select(names_in(suite, "--suite"), names_in(tasks, "--tasks"), mode=mode, classifier=classifier)


def parse_seeds(text: str) -> tuple[int, ...]:
    """Read `0,1,2` or `0-4`, ends included.

    Raises:
        UsageError: if it is something else.
    """
    numbers: list[int] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        first, dash, last = part.partition("-")
        if not (first.isdecimal() and (last.isdecimal() or not dash)):
            raise UsageError(f"--seeds {text}: {part!r} is neither a number nor a range; write 0,1,2 or 0-4")
        if last and int(last) < int(first):
            raise UsageError(f"--seeds {text}: {part!r} counts down; write {last}-{first}")
        numbers += range(int(first), int(last or first) + 1)
    return tuple(dict.fromkeys(numbers))


def parse_track(text: str) -> tuple[str, ...]:
    """The trackers that are named.

    Raises:
        UsageError: if one is unknown or not installed.
    """
    names = names_in(text, "--track")
    if names:
        from harness.integrations.trackers import check_trackers

        check_trackers(names)
    return names


def told_results(folder: Path) -> "list[Result]":
    """Every readable result of a folder; each that is left out is told."""
    from harness.results.store import read_all

    results, problems = read_all(folder)
    for problem in problems:
        notice(f"left out: {problem}")
    return results


def command(function: Callable[..., None], *, talks: bool = True) -> Callable[..., None]:
    """Make a function a command of typer, which ends as all commands do: see `endings`.

    A parameter whose type is a dataclass, such as `Computation`, becomes an option for each of its fields. The
    paragraphs of the help lose the line breaks of the source, so that they are wrapped once, to the terminal.

    Args:
        function: takes its parameters by name, and all of them are given.
        talks: whether it has the options that silence it or let it log.
    """
    asked = signature(function).parameters.values()
    groups: dict[str, Any] = {one.name: one.annotation for one in asked if is_dataclass(one.annotation)}

    @wraps(function)  # without the options of `talks` there is nothing to tell
    def wrapper(
        context: typer.Context, quiet: bool = True, verbose: int = 0, log_level: str = "warning", **given: Any
    ) -> None:
        with endings(), talking(_level(verbose, log_level), quiet=quiet):
            _let_typed_tasks_win(context, given)
            for name, group in groups.items():
                given[name] = group(**{field.name: given.pop(field.name) for field in fields(group)})
            function(**given)

    shown = [_parameter("context", typer.Context, Parameter.empty)]
    for one in asked:
        if one.name in groups:
            shown += [_parameter(field.name, field.type, field.default) for field in fields(one.annotation)]
        else:
            shown.append(_parameter(one.name, one.annotation, one.default))
    if talks:
        shown += [
            _parameter("quiet", Quiet, False),
            _parameter("verbose", Verbose, 0),
            _parameter("log_level", LogLevel, "warning"),
        ]
    wrapper.__signature__ = Signature(shown)  # type: ignore[attr-defined]  # what typer reads
    wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in shown}
    wrapper.__doc__ = "\n\n".join(" ".join(part.split()) for part in cleandoc(function.__doc__ or "").split("\n\n"))
    return wrapper


lookup = partial(command, talks=False)  # a command that prints what it finds, and has nothing to tell beside it


def _parameter(name: str, annotation: Any, default: Any) -> Parameter:
    return Parameter(name, Parameter.KEYWORD_ONLY, annotation=annotation, default=default)


def _level(verbose: int, named: str) -> int:
    """The level of `logging`: that of --log-level, or a lower one that -v asks for.

    Raises:
        UsageError: if there is no level of that name.
    """
    pick("level", dict.fromkeys(LEVELS), named)
    asked = {0: logging.CRITICAL, 1: logging.INFO}.get(verbose, logging.DEBUG)
    return min(asked, logging.getLevelNamesMapping()[named.upper()])


def _let_typed_tasks_win(context: typer.Context, given: dict[str, Any]) -> None:
    """Suites and tasks exclude each other: the one that is typed is meant, and not the environment's other."""
    sources = {key: source.name for key in ("suite", "tasks") if (source := context.get_parameter_source(key))}
    if set(sources.values()) == {"COMMANDLINE", "ENVIRONMENT"}:
        given[next(key for key, source in sources.items() if source == "ENVIRONMENT")] = ""
