"""The border to other people's code: whatever it raises becomes one sentence, and what it changed is put back."""

import locale
import logging
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, cast

import numpy as np

from harness.errors import BenchError, EncoderError

_LONGEST = 300  # characters of a message; some hold a whole configuration


@contextmanager
def foreign(what: str, doing: str) -> Iterator[None]:
    """Run code that is not ours. BENCH_DEBUG in the environment prints the traceback of what it raises to stderr.

    What it changed for the whole process is put back afterwards: one plug-in must not change how the next encoder
    computes. A process that it forked ends here.

    Args:
        what: the encoder or plug-in whose code it is.
        doing: the purpose of the call, e.g. `encoding`.

    Raises:
        EncoderError: in place of any exception that is not one of ours already, SystemExit included; that one is its
            cause. KeyboardInterrupt passes.
    """
    try:
        with _kept():
            yield
    except (BenchError, KeyboardInterrupt):
        raise
    # As broad as this only here: the code is not ours, so it can raise anything, and one broken encoder must not take
    # the others of a run with it.
    except BaseException as error:
        _refuse(what, doing, error)


def _refuse(what: str, doing: str, error: BaseException) -> NoReturn:
    if os.environ.get("BENCH_DEBUG"):
        traceback.print_exception(error)
    raise EncoderError(
        f"{what}: {doing} failed with {_description(error)}; BENCH_DEBUG=1 shows the traceback"
    ) from error


@contextmanager
def _kept() -> Iterator[None]:
    """Put back what the block changes for everybody, and end a process that was forked in it and leaves it."""
    process, before = os.getpid(), _settings()
    streams = {fd: copy for fd in (1, 2) if (copy := _duplicate(fd)) is not None}
    errors = {id(one) for one in warnings.filters}
    try:
        yield
    finally:
        if os.getpid() != process:
            os._exit(1)
        for fd, copy in streams.items():
            os.dup2(copy, fd)
            os.close(copy)
        # Imports add filters too, which stay.
        kept = [one for one in warnings.filters if one[0] != "error" or id(one) in errors]
        cast(list[Any], warnings.filters)[:] = kept
        for name, (value, change) in _settings().items():
            first = before[name][0] if name in before else _first(name, value)
            if first is not None and value != first:
                with suppress(OSError, ValueError):  # a folder that is gone; signals outside the main thread
                    change(first)
        for name, fd in (("stdout", 1), ("stderr", 2)):
            if getattr(getattr(sys, name), "closed", False) and fd in streams:
                setattr(sys, name, open(fd, "w", errors="backslashreplace", closefd=False))


def _settings() -> dict[str, tuple[Any, Callable[[Any], object]]]:
    """What foreign code can change for everybody: each value (None: there is none), and the function that sets it."""
    found: dict[str, tuple[Any, Callable[[Any], object]]] = {
        "recursion limit": (sys.getrecursionlimit(), sys.setrecursionlimit),
        "working directory": (_working_directory(), os.chdir),
        "environment": (dict(os.environ), _set_environment),
        "locale": (locale.setlocale(locale.LC_ALL), partial(locale.setlocale, locale.LC_ALL)),
        "numpy's errors": (np.geterr(), lambda errors: np.seterr(**errors)),
        "logging": (logging.root.manager.disable, logging.disable),
    }
    for name in ("stdout", "stderr", "excepthook"):
        found[name] = (getattr(sys, name), partial(setattr, sys, name))
    for number in (signal.SIGINT, signal.SIGTERM):
        found[number.name] = (signal.getsignal(number), partial(signal.signal, number))
    if (torch := sys.modules.get("torch")) is not None:
        found |= {
            "dtype": (torch.get_default_dtype(), torch.set_default_dtype),
            "device": (torch.get_default_device(), torch.set_default_device),
            "gradients": (torch.is_grad_enabled(), torch.set_grad_enabled),
            "threads": (torch.get_num_threads(), torch.set_num_threads),
            "deterministic": (torch.are_deterministic_algorithms_enabled(), torch.use_deterministic_algorithms),
            "products": (torch.get_float32_matmul_precision(), torch.set_float32_matmul_precision),
        }
    return found


def _first(name: str, value: Any) -> Any:
    """A setting of torch as it is when torch has just been imported, which the block did."""
    import torch

    first = {"dtype": torch.float32, "device": torch.device("cpu"), "gradients": True, "deterministic": False}
    return (first | {"products": "highest"}).get(name, value)


def _duplicate(fd: int) -> int | None:
    try:
        return os.dup(fd)
    except OSError:  # it is closed
        return None


def _working_directory() -> str | None:
    try:
        return str(Path.cwd())
    except FileNotFoundError:
        return None


def _set_environment(variables: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(variables)


def _description(error: BaseException) -> str:
    """Type and message in one printable line, even where the exception cannot say its own message."""
    try:
        message = printable(str(error))
    except KeyboardInterrupt:
        raise
    except BaseException as second:  # SystemExit among them
        message = f"a message that cannot be read ({type(second).__name__})"
    if len(message) > _LONGEST:
        message = f"{message[:_LONGEST]}…"
    name = printable(type(error).__name__)
    return f"{name}: {message}" if message else name


def printable(text: str) -> str:
    """Foreign text in one line, without control characters that a terminal would obey."""
    return "".join(character for character in " ".join(text.split()) if character.isprintable())
