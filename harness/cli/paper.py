"""`bench paper`."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from harness import files
from harness.cli.console import err, out, print_json
from harness.cli.evaluate import context_of, tell
from harness.cli.options import Fit, Nli, Seeds, Set, Settings, Wiki, choice_of, command, report_error
from harness.cli.plot import draw_rows
from harness.cli.show import Rows, show_rows
from harness.errors import BenchError, UsageError
from harness.names import pick, split_names

if TYPE_CHECKING:
    from harness.encoders.context import Context
    from harness.reports.choice import Choice
    from harness.reports.paper import PaperTable, Wanted
    from harness.reports.targets import Paper, Target
    from harness.results.record import Result
    from harness.run import Cell
    from harness.tasks.outcome import Task


@command
def paper(
    settings: Settings,
    name: Annotated[str, typer.Argument(help="simcse.")] = "simcse",
    list_: Annotated[bool, typer.Option("--list", help="Show tables and figures, and what is measured.")] = False,
    table: Annotated[str, typer.Option("--table", help="Numbers, comma-separated: 5 or 1,3,C.1; or all.")] = "",
    figure: Annotated[str, typer.Option("--figure", help="Likewise: 2, 3, F.1, G.1; or all.")] = "",
    seeds: Seeds = "",
    nli: Nli = "",
    wiki: Wiki = "",
    fit: Fit = "",
    parameters: Set = None,
    captions: Annotated[str, typer.Option(help="Image captions, for tables 4 and 8.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Name what is missing, and run nothing.")] = False,
    no_run: Annotated[bool, typer.Option("--no-run", help="Render what is measured, and run nothing.")] = False,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the tables.")] = Path("reports/paper"),
    formats: Annotated[
        str, typer.Option("--format", "-f", help="md, latex, csv, json (csv's lines as objects), comma-separated.")
    ] = "md,latex,csv",
) -> None:
    """Fill a paper's tables: run what is missing, and render them in the paper's layout beside its values.

    With --backbone tiny the paper's BERT-base rows are rerun on the bundled backbone, and said to be. A figure is drawn
    beside the table of its numbers, of each row's first seed; figure 2 from the logs of training runs in the cache.

    For example: bench paper simcse --table 5 --backbone tiny --dry-run
    """
    from harness.reports.paper import coverage, fill
    from harness.reports.targets import load_paper
    from harness.results.store import read_all

    known = load_paper(name)
    choice = choice_of(settings, seeds, {"nli": nli, "wiki": wiki, "captions": captions}, fit, parameters)
    results, problems = read_all(settings.results_dir)
    for problem in problems:
        err.print(f"bench: left out: {problem}", markup=False, soft_wrap=True)
    if list_ or not (table or figure):
        _show_list(known, choice, results, settings)
        return
    targets = [*_named(known, "table", table), *_named(known, "figure", figure)]
    writers = _writers(formats)
    missing = list(dict.fromkeys(one for t in targets for one in coverage(t, known, choice, results).missing))
    if dry_run:
        rows: Rows = [{"model": one.encoder, "task": one.task, "protocol": one.protocol} for one in missing]
        show_rows(rows, settings, empty="nothing is missing")
        return
    code = _run(missing, settings) if missing and not no_run else 0
    results, _ = read_all(settings.results_dir)
    filled = [
        _search(target, known, choice, settings) if target.models and captions else fill(target, known, choice, results)
        for target in targets
    ]
    paths = [path for one in filled for path in _write(one, output, writers)]
    drawn = [_draw(target, one, output, settings) for target, one in zip(targets, filled, strict=True) if target.figure]
    paths += [path for files, _ in drawn for path in files]
    _show(filled, paths, settings)
    if code or not all(whole for _, whole in drawn):
        raise typer.Exit(code or 1)


def _named(paper: "Paper", kind: str, numbers: str) -> "list[Target]":
    own = {name.partition("-")[2]: target for name, target in paper.targets.items() if name.startswith(kind)}
    if numbers == "all":
        return list(own.values())
    return [pick(kind, own, number) for number in (split_names(numbers, f"--{kind}") if numbers else [])]


def _show_list(paper: "Paper", choice: "Choice", results: "Sequence[Result]", settings: Settings) -> None:
    from harness.reports.paper import coverage

    rows: Rows = []
    for target in paper.targets.values():
        done = coverage(target, paper, choice, results)
        published = sum(cell.published is not None for row in target.rows for cell in row.cells if cell is not None)
        rows.append(
            {
                "target": target.label,
                "what": target.title,
                "numbers": published or "-",
                "to fill": done.fillable or "-",
                "filled": done.measured or "-",
                "results missing": len(done.missing) or "-",
            }
        )
    show_rows(rows, settings)


def _run(missing: "Sequence[Wanted]", settings: Settings) -> int:
    """Run what can be run, as `bench run` would; the exit code that its failures ask for.

    An error that many cells share is said once, and keeps nothing else from being run or rendered.
    """
    from harness.data.locate import data_root
    from harness.run import Plan
    from harness.run import run as run_plan

    errors: dict[str, BenchError] = {}

    def say(error: BenchError) -> None:
        if str(error) not in errors:
            report_error(error)
        errors[str(error)] = error

    def told(cell: "Cell") -> None:
        if cell.error is None:
            tell(cell, quiet=settings.quiet)
        else:
            say(cell.error)

    with context_of(settings) as context:
        runnable, refused = _split(missing, context)
        for error in refused:
            say(error)
        for encoders, tasks in _groups(runnable):
            plan = Plan(
                models=encoders,
                tasks=tasks,
                results_dir=settings.results_dir,
                data_root=lambda: data_root(
                    settings.data_dir, settings.cache, offline=settings.offline, progress=not settings.quiet
                ),
                context=context,
                force=False,
                told=told,
            )
            try:
                run_plan(plan)
            except BenchError as error:
                say(error)
    return max((error.exit_code for error in errors.values()), default=0)


def _split(missing: "Sequence[Wanted]", context: "Context") -> "tuple[list[tuple[str, Task]], list[BenchError]]":
    """What has an encoder and tasks here, and one error for each encoder that has not."""
    from harness.encoders.registry import resolve

    tasks = _tasks()
    runnable: list[tuple[str, Task]] = []
    refused: list[BenchError] = []
    for encoder in dict.fromkeys(one.encoder for one in missing):
        own = [one for one in missing if one.encoder == encoder]
        try:
            resolve(encoder, context)
            runnable += [(encoder, pick("task", tasks, f"{one.task} ({one.protocol})")) for one in own]
        except BenchError as error:
            refused.append(error)
    return runnable, refused


def _tasks() -> "Mapping[str, Task]":
    """By name and protocol, as results are."""
    from harness.tasks.probes.settings import MODES
    from harness.tasks.suites import TASKS, under

    modes = [under(task, mode=mode, classifier="senteval") for task in TASKS.values() for mode in MODES]
    return {f"{task.name} ({task.protocol})": task for task in modes}


def _groups(pairs: "Iterable[tuple[str, Task]]") -> "Iterable[tuple[list[str], list[Task]]]":
    """Encoders that need the same tasks, together; each is encoded once."""
    by_encoder: dict[str, list[Task]] = {}
    for encoder, task in pairs:
        by_encoder.setdefault(encoder, []).append(task)
    groups: dict[tuple[str, ...], tuple[list[str], list[Task]]] = {}
    for encoder, tasks in by_encoder.items():
        key = tuple(f"{task.name}@{task.protocol}" for task in tasks)
        groups.setdefault(key, ([], tasks))[0].append(encoder)
    return groups.values()


def _search(target: "Target", paper: "Paper", choice: "Choice", settings: Settings) -> "PaperTable":
    """A table of retrieved captions; nothing of it is stored, but the vectors are kept in the cache."""
    from harness.data.named_texts import find_text
    from harness.encoders.protocol import Transductive
    from harness.reports.choice import pattern_of
    from harness.reports.paper import fill_words
    from harness.run import build_cached
    from harness.tasks.retrieval import nearest

    seed = str(choice.seeds[0]) if choice.seeds else None
    found: dict[int, list[str]] = {}
    with context_of(settings) as context:
        corpus = find_text(choice.texts["captions"], context).distinct()
        for column, model in enumerate(target.models):
            pattern = pattern_of(model, paper, choice)
            if pattern is None:
                continue
            encoder = build_cached(pattern.named(seed), context)
            if isinstance(encoder, Transductive):
                raise UsageError(f"{pattern.named(seed)}: fitted per task, which a search has not; name another fit")
            found[column] = [one for group in nearest(encoder, target.queries, corpus, 3) for one in group]
    return fill_words(target, paper, choice, found)


def _draw(target: "Target", filled: "PaperTable", output: Path, settings: Settings) -> tuple[tuple[Path, ...], bool]:
    """The figure's files and whether all of it was drawn; an error keeps no other figure from being drawn."""
    try:
        return draw_rows(settings, target.figure, filled.cards, output, f"{filled.name}-{target.figure}")
    except BenchError as error:
        report_error(error)
        return (), False


def _writers(formats: str) -> list[str]:
    endings = {"md": "md", "latex": "tex", "csv": "csv", "json": "json"}
    return [pick("format", endings, name) for name in split_names(formats, "--format")]


def _write(filled: "PaperTable", folder: Path, endings: Sequence[str]) -> list[Path]:
    from harness.reports.render import latex_text, markdown_text

    paths = []
    for ending in endings:
        if ending in ("csv", "json"):
            content = filled.tidy.csv() if ending == "csv" else filled.tidy.json()
        else:
            content = markdown_text(filled.text) if ending == "md" else latex_text(filled.text, filled.name)
        paths.append(folder / f"{filled.name}.{ending}")
        files.replace(paths[-1], content.encode())
    return paths


def _show(filled: "Sequence[PaperTable]", paths: Sequence[Path], settings: Settings) -> None:
    if settings.json:
        print_json({"files": [str(path) for path in paths]})
        return
    for one in filled:
        grid = Table(title=escape(one.text.title), title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
        shown = [i for i, head in enumerate(one.text.header) if head != "Source"]  # the label says it, by its arrow
        for i in shown:
            grid.add_column(escape(one.text.header[i]), justify="right" if i else "left", overflow="fold")
        for kind, cells in one.text.rows:
            grid.add_row(*(escape(cells[i]) for i in shown), style=None if kind == "counterpart" else "dim")
        out.print(grid)
        out.print("\n".join([one.text.caption, *one.text.footnotes]), markup=False, highlight=False, soft_wrap=True)
    if not settings.quiet:
        err.print(f"{len(paths)} files in {paths[0].parent}", soft_wrap=True)
