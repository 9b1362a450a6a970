"""`bench verify`."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import completion, options
from harness.cli.completion import one_of
from harness.cli.console import err, print_json, show_rows
from harness.cli.options import command
from harness.errors import UsageError
from harness.names import split_names

if TYPE_CHECKING:
    from harness.verify import Comparison


@command
def verify(
    models: Annotated[
        str, typer.Option("--models", "-m", help="One encoder.", autocompletion=one_of(completion.MODELS))
    ] = "minilm",
    suite: options.Suite = "",
    tasks: options.Tasks = "",
    mode: options.Mode = "test",
    against: Annotated[
        str,
        typer.Option(
            help="The other implementation: senteval, sentence-transformers, or mteb.",
            autocompletion=one_of(completion.OTHERS),
        ),
    ] = "senteval",
    senteval: Annotated[
        Path | None, typer.Option("--senteval", help="A checkout of SentEval, or of SimCSE with its copy of SentEval.")
    ] = None,
    computation: options.Computation = options.COMPUTATION,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Score an encoder's vectors by another implementation too, and print both numbers and times.

    SentEval's code is imported from a checkout of yours and runs on the CPU. The other two have to be installed.

    For example: bench verify --suite sts --models minilm --senteval SimCSE --data-dir SentEval/data
    """
    from harness.encoders.protocol import Transductive
    from harness.encoders.registry import resolve
    from harness.run import build_cached
    from harness.tasks.suites import select
    from harness.verify import compare, open_upstream

    upstream = open_upstream(against, senteval)
    chosen = select(
        split_names(suite, "--suite") if suite else (), split_names(tasks, "--tasks") if tasks else (), mode=mode
    )
    with computation.context(quiet=quiet) as context:
        encoder = build_cached(resolve(models, context), context)
        if isinstance(encoder, Transductive):
            raise UsageError(f"{models}: fitted per task, which {against} cannot do; name an encoder that is not")
        rows = list(compare(encoder, chosen, context.data_root(), context, upstream))
    if json:
        print_json([asdict(row) for row in rows])
        return
    show_rows([_line(row, against) for row in rows])
    differences = [abs(row.ours - row.theirs) for row in rows if row.ours is not None and row.theirs is not None]
    if differences and not quiet:
        err.print(f"largest difference: {100 * max(differences):.5f} points")


def _line(row: "Comparison", against: str) -> dict[str, object]:
    if row.ours is None or row.theirs is None:
        return {"task": row.task, "score": row.note, "bench": "", against: "", "difference": ""}
    return {
        "task": row.task,
        "score": row.score,
        "bench": f"{100 * row.ours:.4f}",
        against: f"{100 * row.theirs:.4f}",
        "difference": f"{100 * (row.ours - row.theirs):+.5f}",
    }
