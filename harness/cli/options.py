"""The options that every command shares, and how a command ends."""

import inspect
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from harness.cli.console import err
from harness.errors import BenchError

_SHARED = "Shared options"


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
        err.print("bench: interrupted; finished cells are kept, the same command goes on from here")
        raise typer.Exit(130) from None


def report_error(error: BenchError) -> None:
    """One line on stderr, exactly as the error says it: no wrapping, no markup."""
    err.print(f"bench: {error}", markup=False, soft_wrap=True)
