"""Progress of long work: bars on a terminal and in a notebook, and a line a minute in a log file."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Progress = Callable[[str, int, int], None]  # what is being done, units done, units in all

_SECONDS_BETWEEN_LINES = 60.0


def silent(what: str, done: int, total: int) -> None:
    """A Progress that shows nothing."""


@contextmanager
def bars(*, quiet: bool = False) -> Iterator[Progress]:
    """A Progress that draws one bar per kind of work on stderr; without a terminal it writes a line a minute."""
    if quiet:
        yield silent
        return
    from rich.console import Console

    console = Console(stderr=True, highlight=False)
    if not (console.is_terminal or console.is_jupyter):
        yield _Lines()
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("[progress.description]{task.description:<12}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Bars(*columns, console=console, transient=True) as drawn:
        known = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in known:
                known[what] = drawn.add_task(what, total=total)
            drawn.update(known[what], completed=done, total=total)

        yield show


class _Lines:
    """Writes at most a line a minute, so that a log shows that work goes on, and how long it will take."""

    def __init__(self) -> None:
        self._started: dict[str, float] = {}
        self._last = time.monotonic()

    def __call__(self, what: str, done: int, total: int) -> None:
        now = time.monotonic()
        started = self._started.setdefault(what, now)
        if now - self._last < _SECONDS_BETWEEN_LINES or not done:
            return
        self._last = now
        left = (now - started) / done * (total - done)
        with contextlib.suppress(OSError, ValueError):  # a notice that cannot be written ends no work
            sys.stderr.write(f"bench: {what}: {done:,} of {total:,}, about {left / 60:.0f} min left\n")
            sys.stderr.flush()
