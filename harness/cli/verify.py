"""`bench verify`."""

from dataclasses import asdict
from typing import Annotated

import typer

from harness.cli.console import err, print_json
from harness.cli.evaluate import context_of, selected_tasks
from harness.cli.options import Settings, command
from harness.cli.show import show_rows
from harness.errors import UsageError


@command
def verify(
    settings: Settings,
    models: Annotated[str, typer.Option("--models", "-m", help="One encoder.")] = "minilm",
    suite: Annotated[str, typer.Option("--suite", "-s", help="sts or transfer.")] = "",
    tasks: Annotated[str, typer.Option("--tasks", "-t", help="Single tasks instead.")] = "",
    mode: Annotated[str, typer.Option(help="Of the probes: test, fasttest or dev.")] = "test",
    against: Annotated[str, typer.Option(help="The other implementation; senteval is the only one.")] = "senteval",
) -> None:
    """Run an encoder through the original senteval package too, and print both numbers and times.

    The package has to be installed by you: it is not on the package index.
    """
    if against != "senteval":
        raise UsageError(f"--against {against}: unknown, expected senteval")
    from harness.data.locate import data_root
    from harness.encoders.protocol import Transductive
    from harness.run import build_cached
    from harness.verify import compare, find_senteval

    find_senteval()
    root = data_root(settings.data_dir, settings.cache, offline=settings.offline, progress=not settings.quiet)
    with context_of(settings) as context:
        encoder = build_cached(models, context)
        if isinstance(encoder, Transductive):
            raise UsageError(f"{models}: fitted per task, which senteval cannot do; name an encoder that is not")
        rows = compare(encoder, selected_tasks(suite, tasks, mode, "senteval"), root, context)
    if settings.json:
        print_json([asdict(row) for row in rows])
        return
    show_rows(
        [
            {
                "task": row.task,
                "score": row.score,
                "bench": f"{100 * row.ours:.3f}",
                "senteval": f"{100 * row.theirs:.3f}",
                "difference": f"{100 * (row.ours - row.theirs):+.3f}",
                "bench s": f"{row.our_seconds:.1f}",
                "senteval s": f"{row.their_seconds:.1f}",
            }
            for row in rows
        ],
        settings,
    )
    worst = max(abs(row.ours - row.theirs) for row in rows)
    if not settings.quiet:
        err.print(f"largest difference: {100 * worst:.3f} points")
