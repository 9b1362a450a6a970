"""`bench run`."""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from harness.cli import options
from harness.cli.completion import one_of
from harness.cli.console import SYMBOLS, Line, err, out, print_json, print_scores, show_rows
from harness.cli.options import command, report_error, shared
from harness.errors import BenchError, UsageError
from harness.names import Spec, short_task, split_names, split_specs
from harness.progress import BESIDE, take_timings, timed

if TYPE_CHECKING:
    from harness.results.record import Result
    from harness.run import Cell
    from harness.tasks.outcome import Task


@command
def run(
    models: options.Models = "",
    seeds: Annotated[
        str,
        shared(
            "--seeds", help="Each encoder that has a seed once for every one of these: 0,1,2 or 0-4, ends included."
        ),
    ] = "",
    suite: options.Suite = "",
    tasks: options.Tasks = "",
    mode: options.Mode = "test",
    classifier: Annotated[
        str,
        typer.Option(
            "--classifier",
            help="Classifier of the probes: senteval, or senteval-sklearn.",
            autocompletion=one_of("harness.tasks.suites:CLASSIFIERS"),
        ),
    ] = "senteval",
    force: Annotated[bool, typer.Option("--force", help="Compute finished results again and replace them.")] = False,
    shard: Annotated[
        str, typer.Option("--shard", help="Evaluate one part of the encoders, for an array of jobs: 1/4 to 4/4.")
    ] = "",
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            min=1,
            help="Score only the first N rows of each part of a task, to try a command; no table shows such scores.",
        ),
    ] = None,
    published: options.Published = "",
    track: options.Track = "",
    track_dir: options.TrackDir = Path("tracking"),
    timings: Annotated[bool, typer.Option("--timings", help="Show where the time went.")] = False,
    results_dir: options.ResultsDir = Path("results"),
    computation: options.Computation = options.COMPUTATION,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Evaluate encoders on tasks and write one result file per encoder and task.

    Finished results are kept, so the same command continues after an interruption. Data that are not on this machine
    are fetched.

    For example: bench run --suite sts --models minilm,random --data-dir SentEval/data
    """
    with _timings(show=timings):
        from harness.encoders.registry import resolve

        names = _part(_named(models, seeds), shard)
        for name in names:  # a wrong name is said before the seconds that torch takes
            resolve(name)
        with timed("imports"):
            from harness.run import Plan
            from harness.run import run as run_plan

        chosen = _chosen(suite, tasks, mode, classifier, limit)
        papers = _papers(published, limit)
        failures: list[BenchError] = []
        tell = partial(_tell_once, failures, quiet=quiet)
        with computation.context(quiet=quiet) as context, _tracked(tell, track, track_dir) as on_cell:
            plan = Plan(
                models=[resolve(name, context) for name in names],
                tasks=chosen,
                results_dir=results_dir,
                context=context,
                force=force,
                on_cell=on_cell,
            )
            try:
                cells = run_plan(plan)
            finally:
                _flush(failures)
        if json:
            print_json([_document(cell) for cell in cells])
        elif any(cell.result for cell in cells):  # else the errors stand last, and no table of dashes below them
            print_cells(cells, chosen)
            _print_verdicts(cells, papers)
            if not quiet:
                _summarise(cells, results_dir)
        code = max((cell.error.exit_code for cell in cells if cell.error), default=0)
        if code:
            raise typer.Exit(code)


def _chosen(suite: str, tasks: str, mode: str, classifier: str, limit: int | None) -> "list[Task]":
    """The tasks that are named; with a limit, only the first rows of each."""
    from harness.tasks.inputs import limit_task
    from harness.tasks.suites import select

    suites, single = split_names(suite, "--suite") if suite else (), split_names(tasks, "--tasks") if tasks else ()
    chosen = select(suites, single, mode=mode, classifier=classifier)
    return chosen if limit is None else [limit_task(task, limit) for task in chosen]


def _named(models: str, seeds: str) -> list[str]:
    """The encoders; those that have a seed, and were given none, once for each of the seeds.

    Raises:
        UsageError: if no encoder is named, or there are seeds and no encoder takes one.
    """
    from harness.encoders.entry import declared
    from harness.encoders.registry import resolve

    names = split_specs(models) if models else []
    if not names:
        raise UsageError("--models: nothing to evaluate; name encoders, `bench list models` shows what there is")
    numbers = options.parse_seeds(seeds)
    if not numbers:
        return names
    found: list[str] = []
    for name in names:
        spec = Spec.parse(name)
        seeded = "seed" not in spec.given and any(p.name == "seed" for p in declared(resolve(name).entry))
        found += [str(spec.replaced(seed=number)) for number in numbers] if seeded else [name]
    if found == names:
        raise UsageError(f"--seeds {seeds}: none of {', '.join(names)} takes a seed; name one, or drop the option")
    return found


def _part(names: list[str], shard: str) -> list[str]:
    """Part I of N of the encoders: the parts of one list, in whatever order, are disjoint and the whole.

    Raises:
        UsageError: if `shard` is not I/N with I from 1 to N.
    """
    if not shard:
        return names
    part, slash, parts = shard.partition("/")
    if not (slash and part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts)):
        raise UsageError(f"--shard {shard}: expected I/N with I from 1 to N, for instance --shard 1/4")
    return sorted(set(names))[int(part) - 1 :: int(parts)]


@contextmanager
def _tracked(tell: "Callable[[Cell], None]", track: str, folder: Path) -> "Iterator[Callable[[Cell], None]]":
    """What is told of a cell, and sends the result to the trackers if it was measured now."""
    names = options.parse_track(track)
    if not names or os.environ.get("RANK", "0") != "0":
        yield tell
        return
    from harness.integrations.trackers import ScoreReporter

    with closing(ScoreReporter(names, folder)) as reporter:

        def on_cell(cell: "Cell") -> None:
            tell(cell)
            if cell.result is not None and not cell.skipped:
                reporter.send(cell.result)

        yield on_cell


@contextmanager
def _timings(*, show: bool) -> Iterator[None]:
    """Take the time of all that happens within, and show a table of it on stderr if that is asked for."""
    started = time.perf_counter()
    with take_timings() as taken:
        try:
            yield
        finally:
            if show:
                _print_timings(taken, time.perf_counter() - started)


def _print_timings(taken: Mapping[str, float], total: float) -> None:
    """Seconds by kind of work; what runs on a thread beside the others does not add up with them."""
    beside = taken.get(BESIDE, 0.0)
    parts = {what: seconds for what, seconds in taken.items() if what != BESIDE}
    parts |= {"the rest": total - sum(parts.values()), "in all": total}
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in ("where the time went", "seconds", "share"):
        table.add_column(name, justify="right" if table.columns else "left", no_wrap=True)
    for what, seconds in parts.items():
        table.add_row(what, f"{seconds:.2f}", f"{seconds / total:.0%}")
    err.print(table)
    if beside:
        err.print(f"{BESIDE} took {beside:.2f} s on a thread beside the others", highlight=False)


def _papers(named: str, limit: int | None) -> tuple[str, ...]:
    """The sources of published numbers, all of which can be read.

    Raises:
        UsageError: if one cannot be read, or numbers of whole tasks would be compared with those of a part.
    """
    from harness.reports.published import load

    if named and limit is not None:
        raise UsageError("--limit: a score of some rows is not compared with published ones; drop --published")
    papers = tuple(split_names(named, "--published")) if named else ()
    for paper in papers:
        load(paper)
    return papers


def _print_verdicts(cells: "Sequence[Cell]", papers: tuple[str, ...]) -> None:
    """Show each measured number beside the one that those papers print for the same encoder, with its verdict."""
    if not papers:
        return
    from harness.reports.suite import Shown, build, verdicts_of

    results = [cell.result for cell in cells if cell.result is not None]
    tables = build(results, shown=Shown(published=papers, only=True)) if results else []
    rows: list[dict[str, object]] = [
        {
            "encoder": found["model"],
            "score": f"{short_task(str(found['task']))} ({found['table']})",
            "measured": f"{found['measured']:.2f}",
            "published": f"{found['published']:.2f}",
            "verdict": f"{found['outcome']}: {found['reason']}",
        }
        for found in verdicts_of(tables)
    ]
    show_rows(rows, empty=f"{', '.join(papers)}: no number of these encoders on these tasks")


def tell_cell(cell: "Cell", *, quiet: bool) -> None:
    """One line on stderr for a cell that is done."""
    if cell.error is not None:
        report_error(cell.error)
    elif not quiet and cell.result is not None:
        how = "kept" if cell.skipped else f"{cell.result.run.seconds:.1f} s"
        err.print(
            f"{cell.task:<22}{_main_score(cell.result):>7}  {cell.encoder}  ({how})", markup=False, soft_wrap=True
        )


def _tell_once(waiting: list[BenchError], cell: "Cell", *, quiet: bool) -> None:
    """As `tell_cell`, but an error that consecutive cells share waits in the list until their number is known."""
    if cell.error is None or (waiting and str(waiting[0]) != str(cell.error)):
        _flush(waiting)
    if cell.error is None:
        tell_cell(cell, quiet=quiet)
    else:
        waiting.append(cell.error)


def _flush(waiting: list[BenchError]) -> None:
    if waiting:
        cells = f" ({len(waiting)} cells)" if len(waiting) > 1 else ""
        err.print(f"bench: {waiting[0]}{cells}", markup=False, soft_wrap=True)
    waiting.clear()


def _document(cell: "Cell") -> dict[str, object]:
    return {
        "encoder": cell.encoder,
        "task": cell.task,
        "result": cell.result.as_dict() if cell.result else None,
        "error": str(cell.error) if cell.error else None,
        "skipped": cell.skipped,
    }


def _main_score(result: "Result") -> str:
    """Correlations and accuracies times 100, as papers print them; uniformity has no such unit."""
    value = result.scores[result.metric]
    return f"{value:.3f}" if result.metric.startswith("uniformity") else f"{100 * value:.2f}"


def _summarise(cells: "Sequence[Cell]", results_dir: Path) -> None:
    """What was computed and what was kept; kept results say when and with which commit they were measured."""
    counts = Counter("failed" if c.error else "kept" if c.skipped else "computed" for c in cells)
    summary = ", ".join(f"{number} {what}" for what, number in counts.items())
    err.print(f"{summary}; results in {results_dir}, `bench report` makes the tables", soft_wrap=True)
    kept = [cell.result.run for cell in cells if cell.skipped and cell.result]
    if kept:
        first, last = min(run.started for run in kept)[:10], max(run.started for run in kept)[:10]
        when = first if first == last else f"{first} to {last}"
        err.print(
            f"kept results were measured {when}; --force measures them again, --results-dir writes elsewhere",
            soft_wrap=True,
        )


def print_cells(cells: "Sequence[Cell]", tasks: "Sequence[Task]") -> None:
    """Scores by encoder and task, and below them what a reader must know of some."""
    flags = dict.fromkeys(flag for cell in cells if cell.result for flag in cell.result.flags)
    marks = {flag: SYMBOLS[i % len(SYMBOLS)] * (1 + i // len(SYMBOLS)) for i, flag in enumerate(flags)}
    labels, left_out = _labels(cells, out.width)
    lines = []
    for encoder, label in labels.items():
        row = {cell.task: cell.result for cell in cells if cell.encoder == encoder}
        lines.append(_line(label, [row.get(task.name) for task in tasks], marks))
    print_scores("Main scores", Line("encoder", [short_task(task.name) for task in tasks]), lines)
    for flag, mark in marks.items():
        out.print(f"{mark} {flag}", markup=False, highlight=False, soft_wrap=True)
    if left_out:
        out.print(f"Names leave out {', '.join(left_out)}.", markup=False, highlight=False, soft_wrap=True)


def _labels(cells: "Sequence[Cell]", width: int) -> tuple[Mapping[str, str], tuple[str, ...]]:
    """Encoder -> label, and what the labels leave out: nothing, unless a name takes more than half of the width."""
    from harness.reports.match import short_names

    names = dict.fromkeys(cell.encoder for cell in cells)
    if max(map(len, names), default=0) <= width // 2:
        return {name: name for name in names}, ()
    cards = {cell.encoder: cell.result.encoder for cell in cells if cell.result}
    short, left_out = short_names(list(cards.values()))
    return {name: short[cards[name].name] if name in cards else name for name in names}, left_out


def _line(label: str, results: "Sequence[Result | None]", marks: Mapping[str, str]) -> Line:
    """A flag that all scores have marks the encoder, any other the scores that have it."""
    flags = [set(result.flags) for result in results if result]
    shared = set.intersection(*flags) if flags else set()

    def shown(found: set[str]) -> str:
        return ",".join(mark for flag, mark in marks.items() if flag in found)

    texts = [_main_score(result) + shown({*result.flags} - shared) if result else "-" for result in results]
    return Line(f"{label} {shown(shared)}".rstrip(), texts)
