"""`bench paper` and `bench claims`: a paper's tables and figures, and what it claims."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, astuple, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from harness import files
from harness.cli import completion, options
from harness.cli.console import (
    Rows,
    notes,
    notice,
    notice_unless_quiet,
    out,
    print_json,
    print_line,
    print_table,
    show_rows,
    tell,
)
from harness.cli.options import argument, command, names_in, option, parse_seeds, shared, told_results
from harness.errors import BenchError, UsageError
from harness.names import pick, split_names

if TYPE_CHECKING:
    from harness.paper import Places
    from harness.reports.paper import PaperTable, Wanted
    from harness.reports.targets import Choice, Paper, Target
    from harness.results.record import Result

_ENDINGS = {"md": "md", "latex": "tex", "csv": "csv", "json": "json"}  # format -> of its files
_STYLES = {"holds": "green", "does not hold": "red", "undecided": "yellow", "not measured": "dim"}
_OWN_OPTION = {"backbone": "--backbone", "seed": "--seeds", "fit": "--fit"}

_stand_in = partial(shared, panel="Which encoders stand for the paper's")


@dataclass(frozen=True, slots=True, kw_only=True)
class StandIns:
    """The options that say which encoders stand for the paper's."""

    seeds: Annotated[str, _stand_in("--seeds", help="Seeds: 0,1,2 or 0-4, ends included.")] = ""
    nli: Annotated[
        str, _stand_in("--nli", help="Triplets to train and fit on, instead of the paper's.", choices=completion.TEXTS)
    ] = ""
    wiki: Annotated[
        str, _stand_in("--wiki", help="Sentences to train on, instead of the paper's.", choices=completion.TEXTS)
    ] = ""
    fit: Annotated[
        str,
        _stand_in(
            "--fit", help="Text that post-processing is fitted on, instead of that of --nli.", choices=completion.TEXTS
        ),
    ] = ""
    parameters: Annotated[
        list[str] | None,
        _stand_in(
            "--set",
            help="A parameter of every trained encoder as name=value, unless the table's cell sets it; of another "
            "method as METHOD:name=value, for instance bert-flow:dropout=false. Can be repeated.",
        ),
    ] = None

    def choice(self, backbone: str | None, captions: str = "") -> "Choice":
        """What the options say.

        Raises:
            UsageError: if --seeds or --set is malformed, or --set names a method or parameter that does not exist.
        """
        from harness.reports.targets import Choice

        texts = {"nli": self.nli, "wiki": self.wiki, "captions": captions}
        return Choice(
            backbone=backbone,
            seeds=parse_seeds(self.seeds),
            texts={name: text for name, text in texts.items() if text},
            fit=self.fit,
            settings=dict(_setting(text) for text in self.parameters or ()),
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


@command
def paper(
    *,
    name: Annotated[str, argument(help="The paper: simcse.", choices=completion.PAPERS)] = "simcse",
    list_: Annotated[bool, option("--list", help="Show tables and figures, and what is measured.")] = False,
    table: Annotated[
        str,
        option(
            help="Numbers, separated by commas: 5 or 1,3,C.1; or all.",
            choices=completion.paper_targets("table"),
            several=True,
        ),
    ] = "",
    figure: Annotated[
        str,
        option(
            help="Numbers of figures: 2, 3, F.1, G.1; or all.", choices=completion.paper_targets("figure"), several=True
        ),
    ] = "",
    stand_ins: StandIns,
    captions: Annotated[str, option(help="Image captions, for tables 4 and 8.")] = "",
    dry_run: Annotated[bool, option("--dry-run", help="Name what is missing, and run nothing.")] = False,
    study: Annotated[Path | None, option(help="Write what is missing as a study file, and run nothing.")] = None,
    no_run: Annotated[bool, option("--no-run", help="Render what is measured, and run nothing.")] = False,
    output: Annotated[Path, option("--output", "-o", help="Folder for the paper's tables and figures.")] = Path(
        "reports/paper"
    ),
    formats: Annotated[
        str,
        option(*("--format", "-f"), help="md, latex, csv, json, separated by commas.", choices=_ENDINGS, several=True),
    ] = "md,latex,csv",
    results_dir: options.ResultsDir = Path("results"),
    computation: options.Computation,
    json: options.Json = False,
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
    choice = stand_ins.choice(computation.backbone, captions)
    results = told_results(results_dir)
    overview = list_ or not (table or figure)
    if overview or no_run:
        choice = _as_measured(known, choice, results)
    if overview:
        _show_overview(known, choice, results, json=json)
        return
    targets = [*_named(known, "table", table), *_named(known, "figure", figure)]
    endings = [pick("format", _ENDINGS, name) for name in split_names(formats, "--format")]
    wanted = dict.fromkeys(one for t in targets for one in coverage(t, known, choice, results).missing)
    if study is not None:
        _write_study(study, targets, wanted, results_dir, computation)
        return
    if dry_run:
        rows: Rows = [{"model": one.encoder, "task": one.task, "protocol": one.protocol} for one in wanted]
        show_rows(rows, json=json, empty="nothing is missing")
        return
    from harness.cli.run import tell_cell
    from harness.paper import Places, measure

    with computation.context() as context:
        places = Places(results_dir=results_dir, context=context, tell=notice)
        code = 0 if no_run else measure(list(wanted), places, tell_cell)
        filled = _fill(targets, known, choice, places)
        paths = [path for one in filled for path in _write(one, output, endings)]
        drawn = [_draw(target, one, output, places) for target, one in zip(targets, filled, strict=True)]
    _show(filled, [*paths, *(path for pictures, _ in drawn for path in pictures)], json=json)
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
    return [pick(kind, own, number) for number in names_in(numbers, f"--{kind}")]


def _show_overview(paper: "Paper", choice: "Choice", results: "Sequence[Result]", *, json: bool) -> None:
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
    show_rows(rows, json=json)
    if choice.backbone:
        on = f"counted on the backbone {choice.backbone}"
        notice_unless_quiet(f"{on}; with --no-run, --table and --figure show what is filled")


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
    """The files of a figure, and whether all of it was drawn; an error keeps no other figure from being drawn."""
    from harness.paper import draw_rows

    if not target.figure:
        return (), True
    try:
        return draw_rows(target.figure, filled, output, places)
    except BenchError as error:
        places.tell(str(error))
        return (), False


def _write(filled: "PaperTable", folder: Path, endings: Sequence[str]) -> list[Path]:
    from harness.reports.renderers import latex, markdown, tidy_csv, tidy_json

    renderers = {"md": markdown, "tex": latex, "csv": tidy_csv, "json": tidy_json}
    paths = []
    for ending in endings:
        paths.append(folder / f"{filled.table.name}.{ending}")
        files.replace(paths[-1], renderers[ending](filled.table).encode())
    return paths


def _show(filled: "Sequence[PaperTable]", paths: Sequence[Path], *, json: bool) -> None:
    if json:
        print_json({"files": [str(path) for path in paths]})
        return
    for one in filled:
        print_table(one.table)
        print_line(one.table.caption)
    tell(f"{len(paths)} files in {paths[0].parent}")


@command
def claims(
    *,
    paper: Annotated[str, argument(help="simcse.", choices=completion.PAPERS)] = "simcse",
    stand_ins: StandIns,
    split: Annotated[str, option(help="Split of STS-B for geometry: test, or all.", choices=("test", "all"))] = "test",
    backbone: options.Backbone = None,
    results_dir: options.ResultsDir = Path("results"),
    output: Annotated[
        Path | None, option("--output", "-o", help="Write the list to this Markdown file as well.")
    ] = None,
    json: options.Json = False,
) -> None:
    """Check what a paper claims against the results: holds, does not hold, undecided, or not measured.

    Needs result files and nothing else. A backbone other than the paper's shows whether a claim carries over to it; it
    does not test the paper's own numbers. Each check is a difference with its 95 % interval, of items and of seeds.
    Without options every backbone counts with the texts and settings that most of its results have.
    """
    from harness.reports.claims import RULE, count, judge, markdown

    results = told_results(results_dir)
    findings = judge(paper, results, stand_ins.choice(backbone), split)
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
    notes.print(count(findings))
    notes.print(RULE)
