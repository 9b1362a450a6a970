"""`bench paper` and `bench claims`: a paper's tables and figures, and what it claims."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, astuple, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from harness import files
from harness.cli import completion, options
from harness.cli.completion import complete_target, one_of, some_of
from harness.cli.console import Rows, err, out, print_json, print_table, show_rows
from harness.cli.options import command, notice, parse_seeds, told_results
from harness.errors import BenchError, UsageError
from harness.names import pick, split_names

if TYPE_CHECKING:
    from harness.paper import Places
    from harness.reports.paper import PaperTable, Wanted
    from harness.reports.targets import Choice, Paper, Target
    from harness.results.record import Result


_ENDINGS = {"md": "md", "latex": "tex", "csv": "csv", "json": "json"}  # format -> of its files


@command
def paper(
    name: Annotated[
        str, typer.Argument(help="The paper: simcse.", autocompletion=one_of(completion.PAPERS))
    ] = "simcse",
    list_: Annotated[bool, typer.Option("--list", help="Show tables and figures, and what is measured.")] = False,
    table: Annotated[
        str,
        typer.Option(
            "--table",
            help="Numbers, separated by commas: 5 or 1,3,C.1; or all.",
            autocompletion=complete_target("table"),
        ),
    ] = "",
    figure: Annotated[
        str,
        typer.Option(
            "--figure",
            help="Numbers of figures: 2, 3, F.1, G.1; or all.",
            autocompletion=complete_target("figure"),
        ),
    ] = "",
    seeds: options.Seeds = "",
    nli: options.Nli = "",
    wiki: options.Wiki = "",
    fit: options.Fit = "",
    parameters: options.Set = None,
    captions: Annotated[str, typer.Option("--captions", help="Image captions, for tables 4 and 8.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Name what is missing, and run nothing.")] = False,
    study: Annotated[
        Path | None, typer.Option("--study", help="Write what is missing as a study file, and run nothing.")
    ] = None,
    no_run: Annotated[bool, typer.Option("--no-run", help="Render what is measured, and run nothing.")] = False,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the paper's tables and figures.")] = Path(
        "reports/paper"
    ),
    formats: Annotated[
        str,
        typer.Option(
            "--format",
            "-f",
            help="md, latex, csv, json, separated by commas.",
            autocompletion=some_of(_ENDINGS),
        ),
    ] = "md,latex,csv",
    results_dir: options.ResultsDir = Path("results"),
    computation: options.Computation = options.COMPUTATION,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Fill a paper's tables: run what is missing, and render them in the paper's layout beside its values.

    With --backbone tiny the paper's BERT-base rows are rerun on the bundled backbone, and said to be. A figure is drawn
    beside the table of its numbers, curves of each row's first seed; figure 2 from the logs of trainings in the cache.
    With --list or --no-run, what the options leave open is as most results have it: backbone, texts and settings.

    For example: bench paper simcse --table 5 --backbone tiny --dry-run
    """
    from harness.reports.paper import coverage
    from harness.reports.targets import load_paper

    known = load_paper(name)
    choice = choice_of(computation.backbone, seeds, {"nli": nli, "wiki": wiki, "captions": captions}, fit, parameters)
    results = told_results(results_dir)
    overview = list_ or not (table or figure)
    if overview or no_run:
        choice = _as_measured(known, choice, results)
    if overview:
        _show_overview(known, choice, results, json=json, quiet=quiet)
        return
    targets = [*_named(known, "table", table), *_named(known, "figure", figure)]
    writers = _writers(formats)
    wanted = dict.fromkeys(one for t in targets for one in coverage(t, known, choice, results).missing)
    if study is not None:
        _write_study(study, targets, wanted, results_dir, computation)
        return
    if dry_run:
        rows: Rows = [{"model": one.encoder, "task": one.task, "protocol": one.protocol} for one in wanted]
        show_rows(rows, json=json, empty="nothing is missing")
        return
    from harness.paper import Places

    with computation.context(quiet=quiet) as context:
        places = Places(results_dir=results_dir, context=context, tell=notice)
        code = 0 if no_run else _run_missing(targets, known, choice, places, quiet=quiet)
        filled = _fill(targets, known, choice, places)
        paths = [path for one in filled for path in _write(one, output, writers)]
        drawn = [
            _draw(target, one, output, places) for target, one in zip(targets, filled, strict=True) if target.figure
        ]
    paths += [path for pictures, _ in drawn for path in pictures]
    _show(filled, paths, json=json, quiet=quiet)
    if code or not all(whole for _, whole in drawn):
        raise typer.Exit(code or 1)


def _as_measured(paper: "Paper", choice: "Choice", results: "Sequence[Result]") -> "Choice":
    """The choice that fills the most cells: as given, or with what it leaves open as most results of a backbone are."""
    from harness.reports.claims import usual
    from harness.reports.paper import coverage
    from harness.reports.published import backbone_of

    if choice.texts or choice.fit or choice.settings:
        return choice
    known = {choice.backbone} if choice.backbone else {backbone_of(result.encoder) for result in results} - {None}
    own = {name: [one for one in results if backbone_of(one.encoder) == name] for name in sorted(filter(None, known))}
    choices = [choice, *(usual(some, replace(choice, backbone=name)) for name, some in own.items())]
    targets = paper.targets.values()
    return max(choices, key=lambda one: sum(coverage(target, paper, one, results).measured for target in targets))


def _write_study(
    path: Path, targets: "Sequence[Target]", wanted: "Iterable[Wanted]", results_dir: Path, how: options.Computation
) -> None:
    from harness.encoders.context import Context
    from harness.studies.study import study_of, write_study

    title = ", ".join(target.label for target in targets)
    context = Context(cache_dir=Path(), backbone=how.backbone, dtype=how.dtype)
    write_study(path, study_of(title, map(astuple, wanted), context, results_dir))


def _named(paper: "Paper", kind: str, numbers: str) -> "list[Target]":
    own = {name.partition("-")[2]: target for name, target in paper.targets.items() if name.startswith(kind)}
    if numbers == "all":
        return list(own.values())
    return [pick(kind, own, number) for number in (split_names(numbers, f"--{kind}") if numbers else [])]


def _show_overview(paper: "Paper", choice: "Choice", results: "Sequence[Result]", *, json: bool, quiet: bool) -> None:
    show_rows(_overview(paper, choice, results), json=json)
    if choice.backbone and not quiet:
        notice(f"counted on the backbone {choice.backbone}; with --no-run, --table and --figure show what is filled")


def _overview(paper: "Paper", choice: "Choice", results: "Sequence[Result]") -> Rows:
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
    return rows


def _run_missing(
    targets: "Sequence[Target]", paper: "Paper", choice: "Choice", places: "Places", *, quiet: bool
) -> int:
    """Run what the targets lack; the exit code that its failures ask for."""
    from harness.cli.run import tell_cell
    from harness.paper import measure
    from harness.reports.paper import coverage
    from harness.results.store import read_all

    results, _ = read_all(places.results_dir)
    missing = list(dict.fromkeys(one for t in targets for one in coverage(t, paper, choice, results).missing))
    return measure(missing, places, partial(tell_cell, quiet=quiet))


def _fill(targets: "Sequence[Target]", paper: "Paper", choice: "Choice", places: "Places") -> "list[PaperTable]":
    from harness.paper import retrieve
    from harness.reports.paper import fill
    from harness.results.store import read_all

    results, _ = read_all(places.results_dir)
    return [
        retrieve(target, paper, choice, places.context)
        if target.models and choice.texts.get("captions")
        else fill(target, paper, choice, results)
        for target in targets
    ]


def _draw(target: "Target", filled: "PaperTable", output: Path, places: "Places") -> tuple[tuple[Path, ...], bool]:
    """The figure's files and whether all of it was drawn; an error keeps no other figure from being drawn."""
    from harness.paper import draw_rows

    try:
        return draw_rows(target.figure, filled, output, places)
    except BenchError as error:
        places.tell(str(error))
        return (), False


def _writers(formats: str) -> list[str]:
    return [pick("format", _ENDINGS, name) for name in split_names(formats, "--format")]


def _write(filled: "PaperTable", folder: Path, endings: Sequence[str]) -> list[Path]:
    from harness.reports.renderers import latex, markdown, tidy_csv, tidy_json

    renderers = {"md": markdown, "tex": latex, "csv": tidy_csv, "json": tidy_json}
    paths = []
    for ending in endings:
        paths.append(folder / f"{filled.table.name}.{ending}")
        files.replace(paths[-1], renderers[ending](filled.table).encode())
    return paths


def _show(filled: "Sequence[PaperTable]", paths: Sequence[Path], *, json: bool, quiet: bool) -> None:
    if json:
        print_json({"files": [str(path) for path in paths]})
        return
    for one in filled:
        print_table(one.table)
        out.print(one.table.caption, markup=False, highlight=False, soft_wrap=True)
    if not quiet:
        err.print(f"{len(paths)} files in {paths[0].parent}", soft_wrap=True)


_STYLES = {"holds": "green", "does not hold": "red", "undecided": "yellow", "not measured": "dim"}


@command
def claims(
    paper: Annotated[str, typer.Argument(help="simcse.", autocompletion=one_of(completion.PAPERS))] = "simcse",
    seeds: options.Seeds = "",
    nli: options.Nli = "",
    wiki: options.Wiki = "",
    fit: options.Fit = "",
    parameters: options.Set = None,
    split: Annotated[
        str,
        typer.Option(
            "--split",
            help="Split of STS-B for geometry: test, or all.",
            autocompletion=one_of(("test", "all")),
        ),
    ] = "test",
    backbone: options.Backbone = None,
    results_dir: options.ResultsDir = Path("results"),
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the list to this Markdown file as well.")
    ] = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Check what a paper claims against the results: holds, does not hold, undecided, or not measured.

    Needs result files and nothing else. A backbone other than the paper's shows whether a claim carries over to it; it
    does not test the paper's own numbers. Each check is a difference with its 95 % interval, of items and of seeds.
    Without options every backbone counts with the texts and settings that most of its results have.
    """
    from harness import files
    from harness.reports.claims import RULE, count, judge, markdown

    results = told_results(results_dir)
    findings = judge(paper, results, choice_of(backbone, seeds, {"nli": nli, "wiki": wiki}, fit, parameters), split)
    if output is not None:
        files.replace(output, markdown(paper, findings).encode())
    if json:
        print_json([asdict(finding) for finding in findings])
        return
    table = Table(show_lines=True)
    for head in ("claim", "verdict", "evidence"):
        table.add_column(head, overflow="fold")
    for finding in findings:
        on = f"\non {finding.backbone}" if finding.backbone else ""
        table.add_row(
            escape(f"{finding.claim.text} ({finding.claim.where})"),
            f"[{_STYLES[finding.verdict]}]{finding.verdict}[/]{escape(on)}",
            escape("\n".join(finding.evidence)),
        )
    out.print(table)
    if not quiet:
        err.print(count(findings))
        err.print(RULE)


_OWN_OPTION = {"backbone": "--backbone", "seed": "--seeds", "fit": "--fit"}


def choice_of(
    backbone: str | None, seeds: str, texts: Mapping[str, str], fit: str, parameters: Sequence[str] | None
) -> "Choice":
    """What the options say of the encoders that fill a paper's cells.

    Raises:
        UsageError: if --seeds or --set is malformed, or --set names a method or parameter that does not exist.
    """
    from harness.reports.targets import Choice

    return Choice(
        backbone=backbone,
        seeds=parse_seeds(seeds),
        texts={name: text for name, text in texts.items() if text},
        fit=fit,
        settings=dict(_setting(text) for text in parameters or ()),
    )


def _setting(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    method, colon, parameter = name.rpartition(":")
    if not (parameter and value) or (colon and not method):
        raise UsageError(f"--set {text}: expected name=value or METHOD:name=value, for instance --set dev=sts-b")
    if parameter in _OWN_OPTION:
        raise UsageError(f"--set {text}: {parameter} has an option of its own; use {_OWN_OPTION[parameter]}")
    _check_known(text, method, parameter, value)
    return name, value


def _check_known(text: str, method: str, parameter: str, value: str) -> None:
    """That the method, or else one that is trained, has the parameter and can have the value."""
    from harness.encoders.entry import declared
    from harness.encoders.registry import fill, known_encoders  # loads torch: only --set waits for it
    from harness.reports.match import OWN_TEXT

    known = known_encoders()
    try:
        owners = [pick("method", known, name) for name in ([method] if method else OWN_TEXT)]
        having = [entry for entry in owners if parameter in {own.name for own in declared(entry)}]
        for entry in having or owners[:1]:
            fill(entry, {parameter: value})
    except UsageError as error:
        raise UsageError(f"--set {text}: {error}") from error
