"""The two streams of the command line: data on stdout, and everything for people's eyes on stderr."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from harness.encoders.context import Progress as Tell
from harness.encoders.context import silent

out = Console(soft_wrap=False)
err = Console(stderr=True, highlight=False)


def print_json(value: object) -> None:
    """One JSON document on stdout."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


@contextmanager
def progress_bars(*, quiet: bool) -> Iterator[Tell]:
    """A function that draws one bar per kind of work; draws nothing when quiet or where there is no terminal."""
    if quiet or not err.is_terminal:
        yield silent
        return
    columns = (
        TextColumn("[progress.description]{task.description:<12}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Progress(*columns, console=err, transient=True) as bars:
        known = {}

        def tell(what: str, done: int, total: int) -> None:
            if what not in known:
                known[what] = bars.add_task(what, total=total)
            bars.update(known[what], completed=done, total=total)

        yield tell
