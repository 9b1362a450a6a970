"""The options that several commands have, declared once, and the end that all commands share.

A command takes exactly the options that act in it. Every one of them can also be set by an environment variable.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, fields
from functools import wraps
from inspect import Parameter, Signature, cleandoc, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.console import err
from harness.errors import BenchError, UsageError, missing_torch
from harness.names import split_names

if TYPE_CHECKING:
    from harness.encoders.context import Context

_FOLDERS = "Folders"
_COMPUTE = "Computation"
_OUTPUT = "Output"
_PAPER = "Which encoders stand for the paper's"


def _option(*names: str, help: str, panel: str, **more: Any) -> Any:
    variable = "BENCH_" + names[0].removeprefix("--").replace("-", "_").upper()
    return typer.Option(*names, help=help, rich_help_panel=panel, envvar=variable, show_envvar=True, **more)


DataDir = Annotated[
    Path | None,
    _option("--data-dir", help="Folder with downstream/ (SentEval's layout); else cache, hub.", panel=_FOLDERS),
]
ResultsDir = Annotated[Path, _option("--results-dir", help="Folder of result files.", panel=_FOLDERS)]
CacheDir = Annotated[
    Path | None,
    _option("--cache-dir", help="Folder of embeddings, fits and downloads; else ~/.cache/bench.", panel=_FOLDERS),
]
Device = Annotated[str, _option("--device", help="cpu, cuda, cuda:1, mps, or auto.", panel=_COMPUTE)]
Dtype = Annotated[
    str, _option("--dtype", help="Arithmetic of the forward pass: float32, bfloat16 or float16.", panel=_COMPUTE)
]
Backbone = Annotated[
    str | None,
    _option("--backbone", help="Backbone of every model that has one: tiny, a hub name, or a folder.", panel=_COMPUTE),
]
Offline = Annotated[bool, _option("--offline", help="Never use the network.", panel=_COMPUTE)]
Json = Annotated[bool, _option("--json", help="Print machine-readable output on stdout.", panel=_OUTPUT)]
Quiet = Annotated[bool, _option("--quiet", "-q", help="Show no progress and no notices.", panel=_OUTPUT)]


Track = Annotated[
    str,
    _option(
        "--track",
        help="Trackers that are told as well: tensorboard, wandb, mlflow, trackio; comma-separated.",
        panel=_OUTPUT,
        autocompletion=lambda incomplete: _last(incomplete, _trackers()),
    ),
]
TrackDir = Annotated[Path, _option("--track-dir", help="Folder that trackers write to.", panel=_FOLDERS)]


def _trackers() -> Iterable[str]:
    from harness.integrations.trackers import TRACKERS

    return TRACKERS


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


def complete_models(incomplete: str) -> list[str]:
    """The completions of a list of encoders for a shell: the last name is completed, the others are kept."""
    from harness.encoders.registry import known_encoders

    return _last(incomplete, known_encoders())


def _last(incomplete: str, known: Iterable[str]) -> list[str]:
    """The list, once for each known name that begins like its last one, which that name replaces."""
    before, comma, last = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in known if name.startswith(last)]


Models = Annotated[
    str,
    typer.Option(
        *("--models", "-m"),
        help="Encoders, separated by commas: see `bench list models`.",
        autocompletion=complete_models,
    ),
]


def _complete_suites(incomplete: str) -> list[str]:
    from harness.tasks.suites import SUITES

    return _last(incomplete, SUITES)


def _complete_tasks(incomplete: str) -> list[str]:
    from harness.tasks.suites import TASKS

    return _last(incomplete, TASKS)


Suite = Annotated[
    str,
    typer.Option(*("--suite", "-s"), help="Suites of tasks: see `bench list suites`.", autocompletion=_complete_suites),
]
Tasks = Annotated[
    str,
    typer.Option(
        *("--tasks", "-t"), help="Single tasks instead: see `bench list tasks`.", autocompletion=_complete_tasks
    ),
]
Mode = Annotated[str, typer.Option("--mode", help="Mode of the probes: test (10 folds), fasttest (5 folds), or dev.")]
Classifier = Annotated[
    str, typer.Option("--classifier", help="Classifier of the probes: senteval, or senteval-sklearn.")
]

Published = Annotated[
    str,
    _option(
        "--published",
        help="Papers to compare with (`bench list published`), and tables of your own as FILE.csv; comma-separated.",
        panel=_OUTPUT,
    ),
]

Seeds = Annotated[
    str,
    typer.Option("--seeds", help="Seeds: 0,1,2 or 0-4, ends included.", rich_help_panel=_PAPER),
]
Nli = Annotated[
    str, typer.Option("--nli", help="Triplets to train and fit on, instead of the paper's.", rich_help_panel=_PAPER)
]
Wiki = Annotated[
    str, typer.Option("--wiki", help="Sentences to train on, instead of the paper's.", rich_help_panel=_PAPER)
]
Fit = Annotated[
    str,
    typer.Option(
        "--fit", help="Text that post-processing is fitted on, instead of that of --nli.", rich_help_panel=_PAPER
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="A parameter of every trained encoder as name=value, unless the table's cell sets it; of another method "
        "as METHOD:name=value, for instance bert-flow:dropout=false. Can be repeated.",
        rich_help_panel=_PAPER,
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
    from harness.encoders.context import Context
    from harness.encoders.device import torch_device
    from harness.progress import bars

    with bars(quiet=quiet) as progress:
        yield Context(
            cache_dir=cache_dir or default_cache_dir(),
            data_dir=data_dir,
            device=torch_device(device),
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

    The paragraphs of its help lose the line breaks of the source, so that they are wrapped once, to the terminal.
    """
    own = {field.name: field for field in fields(Computation)}
    asked = signature(function).parameters
    name = next((name for name, parameter in asked.items() if parameter.annotation is Computation), None)

    @wraps(function)
    def wrapper(**given: Any) -> None:
        with endings():
            shared = {key: given.pop(key) for key in own} if name else {}
            function(**given, **({name: Computation(**shared)} if name else {}))

    options = [Parameter(key, Parameter.KEYWORD_ONLY, default=f.default, annotation=f.type) for key, f in own.items()]
    parts = [
        options if key == name else [parameter.replace(kind=Parameter.KEYWORD_ONLY)] for key, parameter in asked.items()
    ]
    shown = [parameter for part in parts for parameter in part]
    wrapper.__signature__ = Signature(shown)  # type: ignore[attr-defined]  # what typer reads
    wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in shown}
    wrapper.__doc__ = "\n\n".join(" ".join(part.split()) for part in cleandoc(function.__doc__ or "").split("\n\n"))
    return wrapper


@contextmanager
def endings() -> Iterator[None]:
    """Our errors become one sentence on stderr and their exit code; Ctrl-C becomes 130; a bug keeps its traceback."""
    try:
        yield
    except BenchError as error:
        report_error(error)
        raise typer.Exit(error.exit_code) from None
    except ModuleNotFoundError as error:
        if (said := missing_torch(error)) is None:
            raise
        report_error(said)
        raise typer.Exit(said.exit_code) from None
    except KeyboardInterrupt:
        err.print("bench: interrupted; what is finished is kept, the same command goes on from there", soft_wrap=True)
        raise typer.Exit(130) from None


def report_error(error: BenchError) -> None:
    """One line on stderr, exactly as the error says it: no wrapping, no markup."""
    notice(str(error))


def notice(sentence: str) -> None:
    """One line on stderr, as it is: no wrapping, no markup."""
    err.print(f"bench: {sentence}", markup=False, soft_wrap=True)
