"""`bench compare`."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import options
from harness.cli.console import err, print_json
from harness.cli.options import command
from harness.cli.scores import Line, print_scores
from harness.errors import ResultError, UsageError
from harness.names import pick, short_task

if TYPE_CHECKING:
    from harness.reports.comparison import Difference
    from harness.results.record import Result


@command
def compare(
    a: Annotated[str, typer.Argument(help="An encoder, by its name in the results.")],
    b: Annotated[str, typer.Argument(help="Another one.")],
    resamples: Annotated[int, typer.Option(min=100, help="Resamples of the paired bootstrap.")] = 10_000,
    results_dir: options.ResultsDir = Path("results"),
    backbone: options.Backbone = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Compare two encoders, task by task, on the same pairs and rows.

    Needs results of both with per-item scores, and nothing else. The interval is that of the difference, 95 %, from a
    bootstrap over the pairs within their subsets, clustered by shared sentences; Holm's correction is over all tasks.

    For example: bench compare minilm bag-of-words
    """
    from harness.reports.comparison import compare as compared
    from harness.results.store import read_all

    results, _ = read_all(results_dir)
    one, other = (_measured(name, beside, results, results_dir, backbone) for name, beside in ((a, b), (b, a)))
    if one == other:
        raise UsageError(f"compare {a} {b}: both are {one}, expected two encoders; name another one")
    found = compared(results, (one, other), resamples)
    if json:
        rows = [asdict(row) for row in found.rows]
        print_json({"a": one, "b": other, "resamples": resamples, "rows": rows, "left_out": list(found.left_out)})
        return
    for sentence in found.left_out:
        err.print(f"bench: left out: {sentence}", markup=False, soft_wrap=True)
    _show(one, other, found.rows)
    if not quiet:
        err.print(f"p: paired bootstrap, {resamples:,} resamples; McNemar for accuracies. An average is not corrected.")


def _measured(text: str, beside: str, results: "Sequence[Result]", results_dir: Path, backbone: str | None) -> str:
    """The encoder's name in the results, where `beside` is the other one's.

    Raises:
        ResultError: if there are none of an encoder that could be measured.
        UsageError: if there is no such encoder.
    """
    known = {result.encoder.name: result.encoder.name for result in results}
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

    measured = {result.task for result in results if result.encoder.name == encoder}
    return ",".join(name for name, tasks in SUITES.items() if measured.issuperset(tasks)) or "sts"


def _show(a: str, b: str, rows: "Sequence[Difference]") -> None:
    lines = []
    for row in rows:
        several = sum(row.task == other.task for other in rows) > 1
        cells = (
            f"{row.a:.2f}",
            f"{row.b:.2f}",
            f"{row.difference:+.2f}",
            f"{row.low:+.2f}..{row.high:+.2f}",
            f"{row.p:.4f}",
            f"{row.p_holm:.4f}",
            {"a": "A", "b": "B", "tied": "tied"}[row.verdict],
        )
        label = f"{short_task(row.task)} ({row.table})" if several else short_task(row.task)
        lines.append(Line(label, cells, "bold" if row.task == "average" else ""))
    print_scores(f"A {a}\nB {b}", Line("task", ("A", "B", "A - B", "95 %", "p", "Holm", "higher")), lines)
