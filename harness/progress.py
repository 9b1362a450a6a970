"""Progress of long work, by bars or a line a minute where none can be drawn; and where the time went."""

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Protocol

BESIDE = "tokenising"  # the kind of work that a thread of its own does while the others go on
_SECONDS_BETWEEN_LINES = 60.0


class Progress(Protocol):
    """What long work calls to say how far it is."""

    def __call__(self, what: str, done: int, total: int, detail: str = "", /) -> None:
        """Show it.

        Args:
            what: the kind of work, e.g. `encoding`.
            done: units done.
            total: units in all, or 0 where nobody knows.
            detail: figures of the moment, e.g. `loss 0.1234`.
        """


def silent(what: str, done: int, total: int, detail: str = "", /) -> None:
    """A Progress that shows nothing."""


@contextmanager
def bars(*, quiet: bool = False) -> Iterator[Progress]:
    """A Progress that draws one bar per kind of work on stderr, or writes a line a minute there.

    Lines are written to files and pipes, on terminals that cannot move their cursor, and in notebooks without
    ipywidgets.
    """
    if quiet:
        yield silent
        return
    from rich.console import Console

    console = Console(stderr=True, highlight=False)
    if not (console.is_interactive or (console.is_jupyter and find_spec("ipywidgets"))):
        yield Lines()
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("[progress.description]{task.description:<12}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
        TextColumn("{task.fields[detail]}", markup=False),
    )
    with Bars(*columns, console=console, transient=True) as drawn:
        known = {}

        def show(what: str, done: int, total: int, detail: str = "", /) -> None:
            if what not in known:
                known[what] = drawn.add_task(what, total=total or None, detail=detail)
            drawn.update(known[what], completed=done, total=total or None, detail=detail)

        yield show


@dataclass(slots=True)
class _Pass:
    """One stretch of a kind of work: when it began, where, and how far it is."""

    started: float
    first: int
    done: int


class Lines:
    """Writes at most a line a minute of each kind of work: a log shows that it goes on, and how long it will take."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin the first minute by a clock, which gives seconds."""
        self._clock = clock
        self._passes: dict[str, _Pass] = {}
        self._begun = clock()
        self._last: dict[str, float] = {}

    def __call__(self, what: str, done: int, total: int, detail: str = "", /) -> None:
        """Write a line, if the last one of this kind is a minute old."""
        now = self._clock()
        current = self._passes.get(what)
        if current is None or done < current.done:  # work that was resumed begins in its middle
            current = self._passes[what] = _Pass(now, done, done)
        current.done = done
        if now - self._last.get(what, self._begun) < _SECONDS_BETWEEN_LINES:
            return
        self._last[what] = now
        parts = [f"{done:,} of {total:,}" if total else f"{done:,}", detail, _time_left(current, now, total)]
        with contextlib.suppress(OSError, ValueError):  # a notice that cannot be written ends no work
            sys.stderr.write(f"bench: {what}: {', '.join(filter(None, parts))}\n")
            sys.stderr.flush()


def _time_left(current: _Pass, now: float, total: int) -> str:
    """An estimate from the pace of this stretch; nothing where there is none yet."""
    advanced = current.done - current.first
    if not (total and advanced):
        return ""
    minutes = (now - current.started) / advanced * (total - current.done) / 60
    return f"about {minutes:.0f} min left" if minutes >= 1 else "less than a minute left"


class _Stopwatch(threading.local):
    """The kinds of work that are in progress on a thread: seconds of each that count as another kind's."""

    def __init__(self) -> None:
        self.others: list[float] = []


_stopwatch = _Stopwatch()
_lock = threading.Lock()
_timings: list[dict[str, float]] = []  # of those that are being taken; every thread adds to them


@contextmanager
def take_timings() -> Iterator[dict[str, float]]:
    """Seconds by kind of work, of all that is `timed` while this lasts; work on several threads is added up."""
    taken: dict[str, float] = {}
    _timings.append(taken)
    try:
        yield taken
    finally:
        _timings[:] = [each for each in _timings if each is not taken]


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Count the time within as this kind of work, and not as the kind around it."""
    started = time.perf_counter()
    _stopwatch.others.append(0.0)
    try:
        yield
    finally:
        seconds = time.perf_counter() - started
        own = seconds - _stopwatch.others.pop()
        if _stopwatch.others:
            _stopwatch.others[-1] += seconds
        with _lock:
            for taken in _timings:
                taken[what] = taken.get(what, 0.0) + own
