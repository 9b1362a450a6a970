"""`bench verify`."""

from dataclasses import asdict
from typing import Annotated

import typer

from harness.cli import options
from harness.cli.console import err, print_json, show_rows
from harness.cli.options import command, context_of
from harness.errors import UsageError
from harness.names import split_names


@command
def verify(
    models: Annotated[str, typer.Option("--models", "-m", help="One encoder.")] = "minilm",
    suite: options.Suite = "",
    tasks: options.Tasks = "",
    mode: options.Mode = "test",
    against: Annotated[str, typer.Option(help="The other implementation; senteval is the only one.")] = "senteval",
    data_dir: options.DataDir = None,
    cache_dir: options.CacheDir = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "float32",
    backbone: options.Backbone = None,
    offline: options.Offline = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Run an encoder through the original senteval package too, and print both numbers and times.

    The package has to be installed by you: it is not on the package index.
    """
    if against != "senteval":
        raise UsageError(f"--against {against}: unknown, expected senteval")
    from harness.encoders.protocol import Transductive
    from harness.encoders.registry import resolve
    from harness.run import build_cached
    from harness.tasks.suites import select
    from harness.verify import compare, find_senteval

    find_senteval()
    chosen = select(
        split_names(suite, "--suite") if suite else (), split_names(tasks, "--tasks") if tasks else (), mode=mode
    )
    with context_of(
        cache_dir=cache_dir,
        data_dir=data_dir,
        device=device,
        dtype=dtype,
        backbone=backbone,
        offline=offline,
        quiet=quiet,
    ) as context:
        encoder = build_cached(resolve(models, context), context)
        if isinstance(encoder, Transductive):
            raise UsageError(f"{models}: fitted per task, which senteval cannot do; name an encoder that is not")
        rows = compare(encoder, chosen, context.data_root(), context)
    if json:
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
    )
    worst = max(abs(row.ours - row.theirs) for row in rows)
    if not quiet:
        err.print(f"largest difference: {100 * worst:.3f} points")
