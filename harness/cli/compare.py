"""`bench compare`, `bench check` and `bench power`: differences between encoders, and how certain they are."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import completion, options
from harness.cli.console import (
    Line,
    Rows,
    notes,
    notice,
    notice_unless_quiet,
    out,
    print_json,
    print_line,
    print_scores,
    show_rows,
)
from harness.cli.options import argument, chosen_tasks, command, option, told_results
from harness.errors import ResultError, UsageError
from harness.names import STS, pick, short_task
from harness.reports.match import without_seed

if TYPE_CHECKING:
    from harness.reports.comparison import Comparison, Gate
    from harness.results.record import Result


@command
def compare(
    a: Annotated[str, argument(help="An encoder, by its name in the results.", choices=completion.measured)],
    b: Annotated[str, argument(help="Another one.", choices=completion.measured)],
    results_dir: options.ResultsDir = Path("results"),
    backbone: options.Backbone = None,
    json: options.Json = False,
) -> None:
    """Compare two encoders, task by task, on the same pairs and rows.

    Needs results of both with per-item scores, and nothing else. A name without a seed stands for all seeds of an
    encoder. The interval, 95 %, is that of the difference; it contains the noise of the items (pairs that share a
    sentence depend on each other) and of the seeds. Holm's correction is over all tasks.

    For example: bench compare minilm bag-of-words
    """
    from harness.reports import comparison

    results = told_results(results_dir)
    one, other = (_measured(name, beside, results, results_dir, backbone) for name, beside in ((a, b), (b, a)))
    if one == other:
        raise UsageError(f"compare {a} {b}: both are {one}, expected two encoders; name another one")
    found = comparison.compare(results, (one, other))
    if json:
        print_json(asdict(found))
        return
    for sentence in found.left_out:
        notice(f"left out: {sentence}")
    _show_comparison(found)
    for note in found.notes:
        print_line(note)
    notes.print("95 %: items and seeds; p of Student's t, Holm's correction over tasks. An average is not corrected.")


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


def _show_comparison(found: "Comparison") -> None:
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


@command
def check(
    results: Annotated[Path, argument(help="Folder of the results that are checked.")],
    baseline: Annotated[Path, option(help="Folder of the results they are held against.")],
    max_drop: Annotated[float, option(min=0, help="Points that a score may fall.")] = 0.3,
    json: options.Json = False,
) -> None:
    """Check that no score has fallen, as a gate for continuous integration.

    Every encoder and task of the baseline is compared with itself, on the same items and seeds. The exit code is 0
    where all intervals (95 %) lie above the allowed drop, 1 where one lies below it, and 2 where nothing is decided: an
    interval contains it, a result is missing, nothing can be compared, or an option is wrong. Stderr says which.

    For example: bench check results --baseline main-results --max-drop 0.3
    """
    from harness.reports import comparison
    from harness.results.store import read_all

    for folder in (results, baseline):
        if not folder.is_dir():
            raise ResultError(f"{folder}: no such folder, expected one of results; `bench run` makes one")
    (before, unread), (after, problems) = read_all(baseline), read_all(results)
    problems = [*unread, *problems]
    found = comparison.check(before, after, max_drop)
    if json:
        print_json({"outcome": found.outcome, **asdict(found), "problems": problems})
    else:
        _show_gate(found, problems, max_drop)
    if found.outcome == "undecided":
        wide = sum(one.outcome == "undecided" for one in found.changes)
        notice(
            f"not decided: of {len(found.changes)} intervals {wide} contain the allowed drop of {max_drop:g} points, "
            f"and {len(found.missing)} results of the baseline have no counterpart"
        )
    if code := comparison.EXIT_CODES[found.outcome]:
        raise typer.Exit(code)


def _show_gate(found: "Gate", problems: Sequence[str], max_drop: float) -> None:
    for sentence in (*problems, *found.missing):
        notice(f"left out: {sentence}")
    rows: Rows = [
        {
            "encoder": one.encoder,
            "task": one.task,
            "before": f"{one.before:.2f}",
            "after": f"{one.after:.2f}",
            "95 %": f"{one.low:+.2f}..{one.high:+.2f}",
            "outcome": one.outcome,
        }
        for one in found.changes
        if one.outcome != "passes"
    ]
    show_rows(rows, empty="no score has fallen")
    if found.without_items:
        notice_unless_quiet(f"not judged, as their main scores have no items: {', '.join(found.without_items)}")
    notes.print(f"{found.outcome}: {len(found.changes)} comparisons, a drop of {max_drop:g} points is allowed")


@command
def power(
    gain: Annotated[float, option(min=0.01, help="Points by which one method is to be better.")],
    encoder: Annotated[
        str, option(help="A method, or an encoder by its name in the results.", choices=completion.measured)
    ],
    against: Annotated[
        str, option(help="The other method, if it is measured: its items are counted too.", choices=completion.measured)
    ] = "",
    suite: options.Suite = "",
    tasks: options.Tasks = "",
    probability: Annotated[float, option("--power", min=0.5, max=0.99, help="Probability of noticing the gain.")] = 0.8,
    backbone: options.Backbone = None,
    results_dir: options.ResultsDir = Path("results"),
    json: options.Json = False,
) -> None:
    """Say how many seeds a claim needs: both methods are trained with as many, and tested at 5 %, two-sided.

    The noise is that of measured seeds and items, and of runs that others published of the same recipe. Without a suite
    the claim is about the average over STS.

    For example: bench power --gain 0.5 --encoder simcse-unsup
    """
    from harness.reports.power import plan_power, runs_of

    # Naming tasks loads torch, which the usual question does not wait for.
    chosen = [task.name for task in chosen_tasks(suite, tasks)] if suite or tasks else list(STS)
    results = told_results(results_dir)
    own = runs_of(encoder, backbone or "", results, chosen)
    other = runs_of(against, backbone or "", results, chosen) if against else None
    if other is not None and not other.estimates:
        raise ResultError(f"{results_dir}: holds no results of {against} on all of {', '.join(chosen)}; measure it")
    found = plan_power(gain, probability, own, other)
    if json:
        print_json(asdict(found))
        return
    show_rows([{"seeds of each": n, "smallest gain noticed": f"{points:.2f}"} for n, points in found.smallest.items()])
    where = f"{found.measured} measured and {found.published} published runs" if found.published else "measured runs"
    spread = found.noise.spread.deviation
    out.print(f"{found.recipe}: one run spreads by {spread:.2f} points ({where})", soft_wrap=True, markup=False)
    needed = (
        f"{found.seeds} seeds of each method" if found.seeds else "no number of seeds is enough, items alone hide it"
    )
    out.print(f"a gain of {gain:g} points, noticed {probability:.0%} of the time: {needed}", soft_wrap=True)
    if not against:
        notes.print("items of the other method are not counted; --against NAME does that where it is measured")
