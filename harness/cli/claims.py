"""`bench claims`."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from harness.cli import completion, options
from harness.cli.choice import choice_of
from harness.cli.completion import one_of
from harness.cli.console import err, out, print_json
from harness.cli.options import command, told_results

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
