"""`bench run`."""

import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from harness.cli import options
from harness.cli.console import SYMBOLS, Line, err, notice, out, print_json, print_line, print_scores, show_rows, tell
from harness.cli.options import chosen_tasks, command, names_in, option, shared
from harness.errors import UsageError
from harness.names import Spec, short_task, split_specs
from harness.progress import BESIDE, take_timings, timed

if TYPE_CHECKING:
    from harness.results.record import Result
    from harness.run import Cell
    from harness.tasks.outcome import Task


@command
def run(
    *,
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
        option(
            help="Classifier of the probes: senteval, or senteval-sklearn.", choices="harness.tasks.suites:CLASSIFIERS"
        ),
    ] = "senteval",
    force: Annotated[bool, option("--force", help="Compute finished results again and replace them.")] = False,
    shard: Annotated[str, option(help="Evaluate one part of the encoders, for an array of jobs: 1/4 to 4/4.")] = "",
    limit: Annotated[
        int | None,
        option(
            min=1,
            help="Score only the first N rows of each part of a task, to try a command; no table shows such scores.",
        ),
    ] = None,
    published: options.Published = "",
    track: options.Track = "",
    track_dir: options.TrackDir = Path("tracking"),
    timings: Annotated[bool, option("--timings", help="Show where the time went.")] = False,
    results_dir: options.ResultsDir = Path("results"),
    computation: options.Computation,
    json: options.Json = False,
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
            from harness.tasks.inputs import limit_task
        chosen = chosen_tasks(suite, tasks, mode, classifier)
        if limit is not None:
            chosen = [limit_task(task, limit) for task in chosen]
        papers = _papers(published, limit)
        with computation.context() as context, closing(_Teller(options.parse_track(track), track_dir)) as teller:
            cells = run_plan(
                Plan(
                    models=[resolve(name, context) for name in names],
                    tasks=chosen,
                    results_dir=results_dir,
                    context=context,
                    force=force,
                    on_cell=teller.tell,
                )
            )
        if json:
            print_json([_document(cell) for cell in cells])
        elif any(cell.result for cell in cells):  # else the errors stand last, and no table of dashes below them
            print_cells(cells, chosen)
            _print_verdicts(cells, papers)
            _summarise(cells, results_dir)
        if code := max((cell.error.exit_code for cell in cells if cell.error), default=0):
            raise typer.Exit(code)


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


class _Teller:
    """Tells of each cell that is done, and sends the trackers what was measured now."""

    def __init__(self, trackers: Sequence[str], folder: Path) -> None:
        from harness.integrations.trackers import ScoreReporter

        first = os.environ.get("RANK", "0") == "0"  # of torchrun's processes the first one sends
        self._reporter = ScoreReporter(trackers if first else (), folder)
        self._waiting: list[str] = []  # the error that the last cells share, until their number is known

    def tell(self, cell: "Cell") -> None:
        if cell.error is not None:
            if str(cell.error) not in self._waiting:
                self._tell_waiting()
            self._waiting.append(str(cell.error))
            return
        self._tell_waiting()
        tell_cell(cell)
        if cell.result is not None and not cell.skipped:
            self._reporter.send(cell.result)

    def _tell_waiting(self) -> None:
        if self._waiting:
            cells = f" ({len(self._waiting)} cells)" if len(self._waiting) > 1 else ""
            notice(f"{self._waiting[0]}{cells}")
        self._waiting.clear()

    def close(self) -> None:
        """Tell what waits, and let the trackers write what they hold."""
        self._tell_waiting()
        self._reporter.close()


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
    papers = names_in(named, "--published")
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


def tell_cell(cell: "Cell") -> None:
    """One line on stderr for a cell that is done."""
    if cell.error is not None:
        notice(str(cell.error))
    elif cell.result is not None:
        how = "kept" if cell.skipped else f"{cell.result.run.seconds:.1f} s"
        tell(f"{cell.task:<22}{_main_score(cell.result):>7}  {cell.encoder}  ({how})")


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
    tell(f"{summary}; results in {results_dir}, `bench report` makes the tables")
    kept = sorted(cell.result.run.started[:10] for cell in cells if cell.skipped and cell.result)
    if kept:
        when = kept[0] if kept[0] == kept[-1] else f"{kept[0]} to {kept[-1]}"
        tell(f"kept results were measured {when}; --force measures them again, --results-dir writes elsewhere")


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
        print_line(f"{mark} {flag}")
    if left_out:
        print_line(f"Names leave out {', '.join(left_out)}.")


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
