"""The options that several commands have, declared once, and the end that all commands share.

A command takes exactly the options that act in it. Every one that commands share can also be set by a variable of the
environment; what is typed comes before it.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, fields
from functools import wraps
from inspect import Parameter, Signature, cleandoc, signature
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness import files
from harness.cli import completion
from harness.cli.completion import LEVELS, one_of, some_of
from harness.cli.console import err, log_lines
from harness.errors import BenchError, UsageError, missing_torch
from harness.names import pick, split_names

if TYPE_CHECKING:
    from harness.encoders.context import Context
    from harness.results.record import Result

_log = logging.getLogger(__name__)

_FOLDERS = "Folders"
_COMPUTE = "Computation"
_OUTPUT = "Output"
_PAPER = "Which encoders stand for the paper's"


def shared(*names: str, help: str, panel: str | None = None, group: str = "", **more: Any) -> Any:
    """An option that several commands have, and the variable of the environment that sets it in all of them.

    Args:
        names: the long one first; the variable is named after it.
        help: one text for all commands.
        panel: of the help page that it stands in.
        group: of commands, where others have an option of that name that means something else.
        more: for `typer.Option`.
    """
    variable = "_".join(filter(None, ("BENCH", group, names[0].removeprefix("--")))).replace("-", "_").upper()
    return typer.Option(*names, help=help, rich_help_panel=panel, envvar=variable, show_envvar=True, **more)


DataDir = Annotated[
    Path | None,
    shared("--data-dir", help="Folder with downstream/ (SentEval's layout); else cache, hub.", panel=_FOLDERS),
]
ResultsDir = Annotated[Path, shared("--results-dir", help="Folder of result files.", panel=_FOLDERS)]
CacheDir = Annotated[
    Path | None,
    shared("--cache-dir", help="Folder of embeddings, fits and downloads; else ~/.cache/bench.", panel=_FOLDERS),
]
Device = Annotated[
    str,
    shared(
        "--device",
        help="cpu, cuda, cuda:1, mps, or auto.",
        panel=_COMPUTE,
        autocompletion=one_of(completion.DEVICES),
    ),
]
Dtype = Annotated[
    str,
    shared(
        "--dtype",
        help="Arithmetic of the forward pass: float32, bfloat16 or float16.",
        panel=_COMPUTE,
        autocompletion=one_of(completion.DTYPES),
    ),
]
Backbone = Annotated[
    str | None,
    shared(
        "--backbone",
        help="Backbone of every model that has one: tiny, a hub name, or a folder.",
        panel=_COMPUTE,
        autocompletion=one_of("harness.reports.targets:BUNDLED"),
    ),
]
Offline = Annotated[bool, shared("--offline", help="Never use the network.", panel=_COMPUTE)]
Json = Annotated[bool, shared("--json", help="Print machine-readable output on stdout.", panel=_OUTPUT)]
Quiet = Annotated[bool, shared("--quiet", "-q", help="Show no progress and no notices.", panel=_OUTPUT)]
Verbose = Annotated[
    int,
    shared(
        *("--verbose", "-v"),
        count=True,
        show_default=False,
        help="Log on stderr what is read, downloaded, loaded, found in the cache and written; -vv: files and batches.",
        panel=_OUTPUT,
    ),
]
LogLevel = Annotated[
    str,
    shared(
        "--log-level",
        help="Log on stderr from this level on: debug (as -vv), info (as -v), warning or error.",
        panel=_OUTPUT,
        autocompletion=one_of(LEVELS),
    ),
]
Track = Annotated[
    str,
    shared(
        "--track",
        help="Trackers that are told as well: tensorboard, wandb, mlflow, trackio; comma-separated.",
        panel=_OUTPUT,
        autocompletion=some_of("harness.integrations.trackers:TRACKERS"),
    ),
]
TrackDir = Annotated[Path, shared("--track-dir", help="Folder that trackers write to.", panel=_FOLDERS)]


def parse_track(text: str) -> tuple[str, ...]:
    """The trackers that are named.

    Raises:
        UsageError: if one is unknown or not installed.
    """
    if not text:
        return ()
    from harness.integrations.trackers import check_trackers

    names = tuple(split_names(text, "--track"))
    check_trackers(names)
    return names


Models = Annotated[
    str,
    shared(
        *("--models", "-m"),
        help="Encoders, separated by commas: see `bench list models`.",
        autocompletion=some_of(completion.MODELS),
    ),
]
Suite = Annotated[
    str,
    shared(
        *("--suite", "-s"),
        help="Suites of tasks: see `bench list suites`.",
        autocompletion=some_of(completion.SUITES),
    ),
]
Tasks = Annotated[
    str,
    shared(
        *("--tasks", "-t"),
        help="Single tasks instead: see `bench list tasks`.",
        autocompletion=some_of(completion.TASKS),
    ),
]
Mode = Annotated[
    str,
    shared(
        "--mode",
        help="Mode of the probes: test (10 folds), fasttest (5 folds), or dev.",
        autocompletion=one_of("harness.tasks.probes:MODES"),
    ),
]
Published = Annotated[
    str,
    shared(
        "--published",
        help="Papers to compare with (`bench list published`), and tables of your own as FILE.csv; comma-separated.",
        panel=_OUTPUT,
        autocompletion=some_of(completion.SOURCES),
    ),
]

Seeds = Annotated[str, shared("--seeds", help="Seeds: 0,1,2 or 0-4, ends included.", panel=_PAPER)]
Nli = Annotated[
    str,
    shared(
        "--nli",
        help="Triplets to train and fit on, instead of the paper's.",
        panel=_PAPER,
        autocompletion=one_of(completion.TEXTS),
    ),
]
Wiki = Annotated[
    str,
    shared(
        "--wiki",
        help="Sentences to train on, instead of the paper's.",
        panel=_PAPER,
        autocompletion=one_of(completion.TEXTS),
    ),
]
Fit = Annotated[
    str,
    shared(
        "--fit",
        help="Text that post-processing is fitted on, instead of that of --nli.",
        panel=_PAPER,
        autocompletion=one_of(completion.TEXTS),
    ),
]
Set = Annotated[
    list[str] | None,
    shared(
        "--set",
        help="A parameter of every trained encoder as name=value, unless the table's cell sets it; of another method "
        "as METHOD:name=value, for instance bert-flow:dropout=false. Can be repeated.",
        panel=_PAPER,
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

    def context(self, *, quiet: bool) -> "AbstractContextManager[Context]":
        """What encoders are built with, and progress bars while it lasts."""
        return context_of(**{field.name: getattr(self, field.name) for field in fields(self)}, quiet=quiet)


COMPUTATION = Computation()  # the default of such a parameter


def default_cache_dir() -> Path:
    """`bench` below XDG_CACHE_HOME or ~/.cache; BENCH_CACHE_DIR is read by the option."""
    import os

    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bench"


@contextmanager
def context_of(  # the options that act wherever something is computed
    *,
    cache_dir: Path | None,
    data_dir: Path | None = None,
    device: str = "auto",
    dtype: str = "float32",
    backbone: str | None = None,
    offline: bool = False,
    quiet: bool = False,
) -> "Iterator[Context]":
    """The context that the options describe, with progress bars while it lasts."""
    from harness.encoders.context import Context, torch_device
    from harness.progress import bars

    cache_dir, device = cache_dir or default_cache_dir(), torch_device(device)
    _log.info("computing on %s in %s; cache in %s", device, dtype, cache_dir)
    with bars(quiet=quiet) as progress:
        yield Context(
            cache_dir=cache_dir,
            data_dir=data_dir,
            device=device,
            dtype=dtype,
            backbone=backbone,
            offline=offline,
            progress=progress,
        )


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


def command(function: Callable[..., None]) -> Callable[..., None]:
    """Make a command end as all commands do, see `endings`, and give it the options of a `Computation` it asks for.

    A command that can be quiet can also be verbose. The paragraphs of its help lose the line breaks of the source, so
    that they are wrapped once, to the terminal.
    """
    own = {field.name: field for field in fields(Computation)}
    asked = signature(function).parameters
    name = next((name for name, parameter in asked.items() if parameter.annotation is Computation), None)

    @wraps(function)
    def wrapper(context: typer.Context, verbose: int = 0, log_level: str = "warning", **given: Any) -> None:
        with endings(), log_lines(_level(verbose, log_level)):
            _let_typed_tasks_win(context, given)
            shared = {key: given.pop(key) for key in own} if name else {}
            function(**given, **({name: Computation(**shared)} if name else {}))

    options = [Parameter(key, Parameter.KEYWORD_ONLY, default=f.default, annotation=f.type) for key, f in own.items()]
    parts = [
        options if key == name else [parameter.replace(kind=Parameter.KEYWORD_ONLY)] for key, parameter in asked.items()
    ]
    shown = [Parameter("context", Parameter.KEYWORD_ONLY, annotation=typer.Context), *chain(*parts)]
    if "quiet" in asked:
        shown += [
            Parameter("verbose", Parameter.KEYWORD_ONLY, default=0, annotation=Verbose),
            Parameter("log_level", Parameter.KEYWORD_ONLY, default="warning", annotation=LogLevel),
        ]
    wrapper.__signature__ = Signature(shown)  # type: ignore[attr-defined]  # what typer reads
    wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in shown}
    wrapper.__doc__ = "\n\n".join(" ".join(part.split()) for part in cleandoc(function.__doc__ or "").split("\n\n"))
    return wrapper


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


@contextmanager
def endings() -> Iterator[None]:
    """Our errors and the system's become one sentence on stderr and an exit code; a bug keeps its traceback."""
    try:
        _check_working_directory()
        yield
    except BenchError as error:
        report_error(error)
        raise typer.Exit(error.exit_code) from None
    except ModuleNotFoundError as error:
        if (said := missing_torch(error)) is None:
            raise
        report_error(said)
        raise typer.Exit(said.exit_code) from None
    except OSError as error:
        if error.strerror is None:  # of a library, not of the system
            raise
        refused = files.system_error(error)
        report_error(refused)
        raise typer.Exit(refused.exit_code) from None
    except MemoryError:
        notice("the memory of this machine is not enough; give it more, or do less at once")
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        err.print("bench: interrupted; what is finished is kept, the same command goes on from there", soft_wrap=True)
        raise typer.Exit(130) from None


def _check_working_directory() -> None:
    """Torch ends the process where there is none, and relative paths mean nothing there."""
    try:
        Path.cwd()
    except FileNotFoundError:
        raise UsageError(
            "the working directory is gone, expected a folder that is there; change to another one"
        ) from None


def report_error(error: BenchError) -> None:
    """One line on stderr, exactly as the error says it: no wrapping, no markup."""
    notice(str(error))


def notice(sentence: str) -> None:
    """One line on stderr, as it is: no wrapping, no markup."""
    err.print(f"bench: {sentence}", markup=False, soft_wrap=True)


def told_results(folder: Path) -> "list[Result]":
    """Every readable result of a folder; each that is left out is told."""
    from harness.results.store import read_all

    results, problems = read_all(folder)
    for problem in problems:
        notice(f"left out: {problem}")
    return results
