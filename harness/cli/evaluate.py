"""`bench run`."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.console import err, out, print_json, progress_bars
from harness.cli.options import Settings, command, report_error
from harness.cli.scores import Line, print_scores, short
from harness.errors import BenchError, UsageError
from harness.names import pick, split_names, split_specs

if TYPE_CHECKING:
    from harness.encoders.context import Context
    from harness.results.record import Result
    from harness.run import Cell
    from harness.tasks.outcome import Task


@command
def run(
    settings: Settings,
    models: Annotated[
        str, typer.Option("--models", "-m", help="Encoders, comma-separated: `bench list models`. Required.")
    ] = "",
    suite: Annotated[str, typer.Option("--suite", "-s", help="Suite(s) of tasks: `bench list suites`.")] = "",
    tasks: Annotated[str, typer.Option("--tasks", "-t", help="Single tasks instead: `bench list tasks`.")] = "",
    mode: Annotated[str, typer.Option(help="Of the probes: test (10 folds), fasttest (5 folds), or dev.")] = "test",
    classifier: Annotated[str, typer.Option(help="Of the probes: senteval, or senteval-sklearn.")] = "senteval",
    force: Annotated[bool, typer.Option("--force", help="Compute finished cells again and replace them.")] = False,
) -> None:
    """Evaluate encoders on tasks; one result file per encoder and task.

    What is finished is skipped, so the same command goes on after an interruption. Data that are not on this machine
    are fetched.

    For example: bench run --suite sts --models minilm,random --data-dir SentEval/data
    """
    from harness.data.locate import data_root
    from harness.run import Plan
    from harness.run import run as run_plan

    names = split_specs(models) if models else []
    if not names:
        raise UsageError("--models: nothing to evaluate; name encoders, `bench list models` shows what there is")
    selected = selected_tasks(suite, tasks, mode, classifier)
    failures: list[BenchError] = []
    with context_of(settings) as context:
        plan = Plan(
            models=names,
            tasks=selected,
            results_dir=settings.results_dir,
            data_root=lambda: data_root(
                settings.data_dir, settings.cache, offline=settings.offline, progress=not settings.quiet
            ),
            context=context,
            force=force,
            told=partial(_tell_once, failures, quiet=settings.quiet),
        )
        try:
            cells = run_plan(plan)
        finally:
            _flush(failures)
    _show(cells, selected, settings)
    code = max((cell.error.exit_code for cell in cells if cell.error), default=0)
    if code:
        raise typer.Exit(code)


def _main_score(result: "Result") -> str:
    """Correlations and accuracies times 100, as papers print them; uniformity has no such unit."""
    value = result.scores[result.metric]
    return f"{value:.3f}" if result.metric.startswith("uniformity") else f"{100 * value:.2f}"


@contextmanager
def context_of(settings: Settings) -> "Iterator[Context]":
    """The context that the shared options describe, with progress bars while it lasts."""
    from harness.encoders.context import Context

    with progress_bars(quiet=settings.quiet) as progress:
        yield Context(
            cache_dir=settings.cache,
            data_dir=settings.data_dir,
            device=torch_device(settings.device),
            dtype=settings.dtype,
            backbone=settings.backbone,
            offline=settings.offline,
            progress=progress,
        )


def selected_tasks(suite: str, tasks: str, mode: str, classifier: str) -> "list[Task]":
    """The tasks of the suites, or those named, under a mode and classifier of the probes.

    Raises:
        UsageError: if a name is unknown, or not exactly one of suite and tasks is given.
    """
    from harness.tasks.probes.settings import MODES
    from harness.tasks.suites import CLASSIFIERS, SUITES, TASKS, under

    pick("mode", MODES, mode)

    if bool(suite) == bool(tasks):
        raise UsageError(f"give either --suite ({', '.join(SUITES)}) or --tasks (`bench list tasks`)")
    names = (
        [n for s in split_names(suite, "--suite") for n in pick("suite", SUITES, s)]
        if suite
        else split_names(tasks, "--tasks")
    )
    chosen = pick("classifier", CLASSIFIERS, classifier)
    return [under(pick("task", TASKS, name), mode=mode, classifier=chosen) for name in dict.fromkeys(names)]


def torch_device(name: str) -> str:
    """A torch device string that works here; `auto` is the GPU if there is one.

    Raises:
        UsageError: if torch cannot use the device.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = (str(error).splitlines() or ["unknown"])[0]
        raise UsageError(f"--device {name}: not usable here ({reason}); use cpu or auto") from error
    return name


def _tell_once(waiting: list[BenchError], cell: "Cell", *, quiet: bool) -> None:
    """As `tell`, but an error that consecutive cells share waits in the list until their number is known."""
    if cell.error is None or (waiting and str(waiting[0]) != str(cell.error)):
        _flush(waiting)
    if cell.error is None:
        tell(cell, quiet=quiet)
    else:
        waiting.append(cell.error)


def _flush(waiting: list[BenchError]) -> None:
    if waiting:
        cells = f" ({len(waiting)} cells)" if len(waiting) > 1 else ""
        err.print(f"bench: {waiting[0]}{cells}", markup=False, soft_wrap=True)
    waiting.clear()


def tell(cell: "Cell", *, quiet: bool) -> None:
    """One line on stderr for a cell that is done."""
    if cell.error is not None:
        report_error(cell.error)
    elif not quiet and cell.result is not None:
        how = "kept" if cell.skipped else f"{cell.result.run.seconds:.1f} s"
        err.print(
            f"{cell.task:<22}{_main_score(cell.result):>7}  {cell.encoder}  ({how})", markup=False, soft_wrap=True
        )


def _show(cells: "list[Cell]", tasks: "list[Task]", settings: Settings) -> None:
    if settings.json:
        print_json(
            [
                {
                    "encoder": cell.encoder,
                    "task": cell.task,
                    "result": asdict(cell.result) if cell.result else None,
                    "error": str(cell.error) if cell.error else None,
                    "skipped": cell.skipped,
                }
                for cell in cells
            ]
        )
        return
    _print_table(cells, tasks)
    if not settings.quiet:
        counts = Counter("failed" if c.error else "kept" if c.skipped else "computed" for c in cells)
        summary = ", ".join(f"{number} {what}" for what, number in counts.items())
        err.print(f"{summary}; results in {settings.results_dir}, `bench report` makes the tables", soft_wrap=True)


def _print_table(cells: "list[Cell]", tasks: "list[Task]") -> None:
    """Scores by encoder and task, and below them what a reader must know of some."""
    from harness.reports.tables import SYMBOLS

    flags = dict.fromkeys(flag for cell in cells if cell.result for flag in cell.result.flags)
    symbols = {flag: SYMBOLS[i % len(SYMBOLS)] * (1 + i // len(SYMBOLS)) for i, flag in enumerate(flags)}
    lines = []
    for encoder in dict.fromkeys(cell.encoder for cell in cells):
        row = {cell.task: cell.result for cell in cells if cell.encoder == encoder}
        lines.append(_line(encoder, [row[task.name] for task in tasks], symbols))
    print_scores("Main scores", Line("encoder", [short(task.name) for task in tasks]), lines)
    for flag, symbol in symbols.items():
        out.print(f"{symbol} {flag}", markup=False, highlight=False, soft_wrap=True)


def _line(encoder: str, results: "Sequence[Result | None]", symbols: Mapping[str, str]) -> Line:
    """A flag that all scores have marks the encoder, any other the scores that have it."""
    flags = [set(result.flags) for result in results if result]
    shared = set.intersection(*flags) if flags else set()

    def marks(found: set[str]) -> str:
        return ",".join(symbol for flag, symbol in symbols.items() if flag in found)

    texts = [_main_score(result) + marks({*result.flags} - shared) if result else "-" for result in results]
    return Line(f"{encoder} {marks(shared)}".rstrip(), texts)
