"""The options that commands share, and how a command ends."""

import inspect
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.console import err
from harness.errors import BenchError, UsageError
from harness.names import pick

if TYPE_CHECKING:
    from harness.reports.choice import Choice

_SHARED = "Shared options"
_CHOICE = "Which encoders stand for the paper's"


def default_cache_dir() -> Path:
    """BENCH_CACHE_DIR, else `bench` below XDG_CACHE_HOME or ~/.cache."""
    given = os.environ.get("BENCH_CACHE_DIR")
    return Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bench"


def _option(*names: str, help: str) -> Any:
    return typer.Option(*names, help=help, rich_help_panel=_SHARED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The shared options of one call."""

    data_dir: Annotated[
        Path | None,
        _option(
            "--data-dir", help="Folder with downstream/ in SentEval's layout. Else BENCH_DATA_DIR, the cache, the hub."
        ),
    ] = None
    results_dir: Annotated[Path, _option("--results-dir", help="Folder of result files.")] = Path("results")
    cache_dir: Annotated[
        Path | None, _option("--cache-dir", help="Embeddings and downloads. Else BENCH_CACHE_DIR, ~/.cache/bench.")
    ] = None
    device: Annotated[str, _option("--device", help="cpu, cuda, cuda:1, mps, or auto.")] = "auto"
    dtype: Annotated[str, _option("--dtype", help="Of the forward pass: float32, bfloat16 or float16.")] = "float32"
    backbone: Annotated[
        str | None, _option("--backbone", help="For every model that has one: tiny, a hub name, or a folder.")
    ] = None
    offline: Annotated[bool, _option("--offline", help="Never use the network.")] = False
    json: Annotated[bool, _option("--json", help="Machine-readable output on stdout.")] = False
    quiet: Annotated[bool, _option("--quiet", "-q", help="No progress and no notices.")] = False

    @property
    def cache(self) -> Path:
        return self.cache_dir or default_cache_dir()


def _choice_option(*names: str, help: str) -> Any:
    return typer.Option(*names, help=help, rich_help_panel=_CHOICE)


Seeds = Annotated[str, _choice_option("--seeds", help="Of trained encoders: 0,1,2 or 0-4. Else what is measured.")]
Nli = Annotated[str, _choice_option("--nli", help="Triplets to train and fit on, instead of the paper's.")]
Wiki = Annotated[str, _choice_option("--wiki", help="Sentences to train on, instead of the paper's.")]
Fit = Annotated[str, _choice_option("--fit", help="Text that post-processing is fitted on, instead of --nli.")]
Set = Annotated[
    list[str] | None,
    _choice_option(
        "--set",
        help="name=value: a parameter of every trained encoder, unless the table's cell sets it; of another method as "
        "METHOD:name=value, for instance bert-flow:dropout=false. Repeat it.",
    ),
]


def choice_of(
    settings: Settings, seeds: str, texts: Mapping[str, str], fit: str, parameters: Sequence[str] | None
) -> "Choice":
    """What the options say of the encoders that fill a paper's cells.

    Raises:
        UsageError: if --seeds or --set is malformed, or --set names a method or parameter that does not exist.
    """
    from harness.reports.choice import Choice

    return Choice(
        backbone=settings.backbone,
        seeds=parse_seeds(seeds),
        texts={name: text for name, text in texts.items() if text},
        fit=fit,
        settings=dict(_setting(text) for text in parameters or ()),
    )


def parse_seeds(text: str) -> tuple[int, ...]:
    """`0,1,2` or `0-4`, ends included.

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


_OWN_OPTION = {"backbone": "--backbone", "seed": "--seeds", "fit": "--fit"}


def _setting(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    method, colon, parameter = name.rpartition(":")
    if not (parameter and value) or (colon and not method):
        raise UsageError(f"--set {text}: expected name=value or METHOD:name=value, for instance --set dev=sts-b")
    if parameter in _OWN_OPTION:
        raise UsageError(f"--set {text}: {parameter} has an option of its own; use {_OWN_OPTION[parameter]}")
    _check_known(text, method, parameter, value)
    return name, value


def _check_known(text: str, method: str, parameter: str, value: str) -> None:
    """That the method, or else one that is trained, has the parameter and can have the value."""
    from harness.encoders.registry import declared, fill, known_encoders  # loads torch: only --set waits for it
    from harness.reports.published import PAPERS_TEXT

    known = known_encoders()
    try:
        owners = [pick("method", known, name) for name in ([method] if method else PAPERS_TEXT)]
        having = [entry for entry in owners if parameter in {own.name for own in declared(entry)}]
        for entry in having or owners[:1]:
            fill(entry, {parameter: value})
    except UsageError as error:
        raise UsageError(f"--set {text}: {error}") from error


def command(function: Callable[..., None]) -> Callable[..., None]:
    """Turn `f(settings, own options)` into a command that takes the shared options too and ends as all commands do."""

    @wraps(function)
    def wrapper(**given: Any) -> None:
        shared = {field.name: given.pop(field.name) for field in fields(Settings)}
        with endings():
            function(Settings(**shared), **given)

    own = list(inspect.signature(function).parameters.values())[1:]
    shared = [
        inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default, annotation=f.type)
        for f in fields(Settings)
    ]
    parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own] + shared
    wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {p.name: p.annotation for p in parameters}
    return wrapper


@contextmanager
def endings() -> Iterator[None]:
    """Our errors become one sentence on stderr and their exit code; Ctrl-C becomes 130; a bug keeps its traceback."""
    try:
        yield
    except BenchError as error:
        report_error(error)
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt:
        err.print("bench: interrupted; what is finished is kept, the same command goes on from there", soft_wrap=True)
        raise typer.Exit(130) from None


def report_error(error: BenchError) -> None:
    """One line on stderr, exactly as the error says it: no wrapping, no markup."""
    err.print(f"bench: {error}", markup=False, soft_wrap=True)
