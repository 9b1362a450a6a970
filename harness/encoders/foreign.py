"""Where other people's code is called: whatever it raises becomes one sentence; its traceback is there on demand."""

import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from harness.errors import BenchError, EncoderError

_LONGEST = 300  # characters of a message; some hold a whole configuration


@contextmanager
def foreign(what: str, doing: str) -> Iterator[None]:
    """Run the block; BENCH_DEBUG in the environment prints the traceback of what it raises to stderr.

    Args:
        what: the encoder or plug-in whose code it is.
        doing: what the code was called for, e.g. `encoding`.

    Raises:
        EncoderError: in place of any exception that is not one of ours already; that one is its cause.
    """
    try:
        yield
    except BenchError:
        raise
    # As broad as this only here: the code is not ours, so it can raise anything, and one broken encoder must not take
    # the others of a run with it. Ctrl-C and exits are not `Exception`s and pass.
    except Exception as error:
        if os.environ.get("BENCH_DEBUG"):
            traceback.print_exception(error)
        raise EncoderError(f"{what}: {doing} failed with {_named(error)}; BENCH_DEBUG=1 shows the traceback") from error


def _named(error: Exception) -> str:
    """Type and message in one line."""
    message = " ".join(str(error).split())
    if len(message) > _LONGEST:
        message = f"{message[:_LONGEST]}…"
    return f"{type(error).__name__}: {message}" if message else type(error).__name__
