"""The border to other people's code: whatever it raises becomes one sentence, and what it changed is put back."""

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from harness.errors import BenchError, EncoderError

_LONGEST = 300  # characters of a message; some hold a whole configuration


@contextmanager
def foreign(what: str, doing: str) -> Iterator[None]:
    """Run code that is not ours. BENCH_DEBUG in the environment prints the traceback of what it raises to stderr.

    The recursion limit, the standard streams, and torch's default dtype and device are restored afterwards: one plug-in
    must not change how the next encoder computes.

    Args:
        what: the encoder or plug-in whose code it is.
        doing: the purpose of the call, e.g. `encoding`.

    Raises:
        EncoderError: in place of any exception that is not one of ours already, SystemExit included; that one is its
            cause. KeyboardInterrupt passes.
    """
    before = _surroundings()
    try:
        yield
    except (BenchError, KeyboardInterrupt, GeneratorExit):
        raise
    # As broad as this only here: the code is not ours, so it can raise anything, and one broken encoder must not take
    # the others of a run with it.
    except BaseException as error:
        _restore(before)
        _refuse(what, doing, error)
    finally:
        _restore(before)


def _refuse(what: str, doing: str, error: BaseException) -> NoReturn:
    if os.environ.get("BENCH_DEBUG"):
        traceback.print_exception(error)
    raise EncoderError(
        f"{what}: {doing} failed with {_description(error)}; BENCH_DEBUG=1 shows the traceback"
    ) from error


def _surroundings() -> dict[str, object]:
    """What foreign code can change for everybody: Python's streams and recursion limit, and torch's defaults."""
    state: dict[str, object] = {"limit": sys.getrecursionlimit(), "stdout": sys.stdout, "stderr": sys.stderr}
    torch = sys.modules.get("torch")
    if torch is not None:
        state |= {
            "dtype": torch.get_default_dtype(),
            "device": torch.get_default_device(),
            "grad": torch.is_grad_enabled(),
        }
    return state


def _restore(state: dict[str, object]) -> None:
    now = _surroundings()
    if now["limit"] != state["limit"]:
        sys.setrecursionlimit(int(str(state["limit"])))
    sys.stdout, sys.stderr = state["stdout"], state["stderr"]
    torch = sys.modules.get("torch")
    if torch is None:
        return
    if now["dtype"] != state.get("dtype", torch.float32):
        torch.set_default_dtype(state.get("dtype", torch.float32))
    if now["device"] != state.get("device", torch.device("cpu")):
        torch.set_default_device(state.get("device", torch.device("cpu")))
    if now["grad"] != state.get("grad", True):
        torch.set_grad_enabled(bool(state.get("grad", True)))


def _description(error: BaseException) -> str:
    """Type and message in one printable line, even where the exception cannot say its own message."""
    try:
        message = printable(str(error))
    except Exception as second:
        message = f"a message that cannot be read ({type(second).__name__})"
    if len(message) > _LONGEST:
        message = f"{message[:_LONGEST]}…"
    name = printable(type(error).__name__)
    return f"{name}: {message}" if message else name


def printable(text: str) -> str:
    """Foreign text in one line, without control characters that a terminal would obey."""
    return "".join(character for character in " ".join(text.split()) if character.isprintable())
