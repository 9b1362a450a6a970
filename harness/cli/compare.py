"""`bench compare`."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import options
from harness.cli.completion import complete_measured
from harness.cli.console import err, out, print_json
from harness.cli.options import command, told_results
from harness.cli.scores import Line, print_scores
from harness.errors import ResultError, UsageError
from harness.names import pick, short_task
from harness.reports.match import without_seed

if TYPE_CHECKING:
    from harness.reports.comparison import Comparison
    from harness.results.record import Result


@command
def compare(
    a: Annotated[str, typer.Argument(help="An encoder, by its name in the results.", autocompletion=complete_measured)],
    b: Annotated[str, typer.Argument(help="Another one.", autocompletion=complete_measured)],
    results_dir: options.ResultsDir = Path("results"),
    backbone: options.Backbone = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Compare two encoders, task by task, on the same pairs and rows.

    Needs results of both with per-item scores, and nothing else. A name without a seed stands for all seeds of an
    encoder. The interval, 95 %, is that of the difference; it contains the noise of the items (pairs that share a
    sentence depend on each other) and of the seeds. Holm's correction is over all tasks.

    For example: bench compare minilm bag-of-words
    """
    from harness.reports.comparison import compare as compared

    results = told_results(results_dir)
    one, other = (_measured(name, beside, results, results_dir, backbone) for name, beside in ((a, b), (b, a)))
    if one == other:
        raise UsageError(f"compare {a} {b}: both are {one}, expected two encoders; name another one")
    found = compared(results, (one, other))
    if json:
        print_json(asdict(found))
        return
    for sentence in found.left_out:
        err.print(f"bench: left out: {sentence}", markup=False, soft_wrap=True)
    _show(found)
    for note in found.notes:
        out.print(note, markup=False, highlight=False, soft_wrap=True)
    if not quiet:
        err.print("95 %: items and seeds; p of Student's t, Holm's correction over tasks. An average is not corrected.")


def _measured(text: str, beside: str, results: "Sequence[Result]", results_dir: Path, backbone: str | None) -> str:
    """The encoder's name in the results, where `beside` is the other one's.

    Raises:
        ResultError: if there are none of an encoder that could be measured.
        UsageError: if there is no such encoder.
    """
    known = {name: name for result in results for name in (result.encoder.name, without_seed(result.encoder.name))}
    name = text if text in known else _resolved(text, backbone) or pick("result's encoder", known, text)
    if name not in known:
        raise ResultError(
            f"{results_dir}: holds no result of {name}; "
            f"`bench run --suite {_suites(beside, results)} --models {quote(name)}` measures it"
        )
    return name


def _resolved(text: str, backbone: str | None) -> str | None:
    """The full specification, or None if it is none."""
    from harness.encoders.context import Context
    from harness.encoders.registry import resolve  # loads torch, which a comparison does not wait for

    try:
        return str(resolve(text, Context(cache_dir=Path(), backbone=backbone)).spec)
    except UsageError:
        return None


def _suites(encoder: str, results: "Sequence[Result]") -> str:
    """Those that the encoder has results of, as another one can be compared with it on nothing else."""
    from harness.tasks.suites import SUITES

    measured = {
        result.task for result in results if encoder in (result.encoder.name, without_seed(result.encoder.name))
    }
    return ",".join(name for name, tasks in SUITES.items() if measured.issuperset(tasks)) or "sts"


def _show(found: "Comparison") -> None:
    lines = []
    for row in found.rows:
        several = sum(row.task == other.task for other in found.rows) > 1
        cells = (
            f"{row.a:.2f}",
            f"{row.b:.2f}",
            f"{row.difference:+.2f}",
            f"{row.low:+.2f}..{row.high:+.2f}",
            f"{row.p:.4f}",
            f"{row.p_holm:.4f}",
            {"a": "A", "b": "B"}.get(row.higher, row.higher),
        )
        label = f"{short_task(row.task)} ({row.table})" if several else short_task(row.task)
        lines.append(Line(label, cells, "bold" if row.task == "average" else ""))
    heads = [
        f"{name}{f', mean of {n} seeds' if n > 1 else ''}"
        for name, n in zip((found.a, found.b), found.seeds, strict=True)
    ]
    print_scores(f"A {heads[0]}\nB {heads[1]}", Line("task", ("A", "B", "A - B", "95 %", "p", "Holm", "higher")), lines)
