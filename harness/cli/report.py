"""`bench report`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from harness.cli import completion, options
from harness.cli.completion import some_of
from harness.cli.console import err, out, print_json, print_table
from harness.cli.options import command
from harness.names import split_names


@command
def report(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the tables.")] = Path("reports"),
    formats: Annotated[
        str,
        typer.Option(
            "--format",
            "-f",
            help="Comma-separated: md, html (one page each), latex, csv, json (a file per table, json with the lines "
            "of csv as objects), model-card (a README.md for the hub per encoder).",
            autocompletion=some_of("harness.reports.report:FORMATS"),
        ),
    ] = "md,latex,csv",
    published: options.Published = "",
    tables: Annotated[
        str,
        typer.Option(
            "--table",
            help="The only tables to write, such as sts-all, separated by commas; else all.",
            autocompletion=some_of(completion.report_tables),
        ),
    ] = "",
    each_seed: Annotated[bool, typer.Option("--each-seed", help="Show each seed below the mean of them.")] = False,
    margin: Annotated[
        float | None, typer.Option(min=0, help="Points either side that a verdict may leave open; else 2, a task 4.")
    ] = None,
    intervals: Annotated[bool, typer.Option(help="Compute intervals and ties from the per-item files.")] = True,
    pairs: Annotated[
        int, typer.Option(min=0, help="Sentence pairs, per encoder and task, in the HTML page; 0: none.")
    ] = 50,
    data_dir: options.DataDir = None,
    results_dir: options.ResultsDir = Path("results"),
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Render comparison tables, measured beside published, from the result files.

    Needs no torch, no data and no weights. Result files that are damaged are named and left out. The HTML page shows
    the sentences of pairs where `--data-dir` or BENCH_DATA_DIR names the data; those of the mini suite it always shows.
    """
    from harness.reports.report import ReportOptions
    from harness.reports.report import report as render
    from harness.reports.suite import Shown, verdicts_of

    wanted = split_names(formats, "--format")
    papers = tuple(split_names(published, "--published")) if published else ()
    asked = ReportOptions(
        formats=wanted,
        intervals=intervals,
        tables=split_names(tables, "--table") if tables else (),
        shown=Shown(each_seed=each_seed, published=papers, margin=margin),
        pairs=pairs,
        sentences=_sentences(data_dir) if "html" in wanted and pairs else {},
    )
    summary = render(results_dir, output, asked)
    if json:
        print_json(
            {
                "files": [str(p) for p in summary.paths],
                "results": summary.n_results,
                "problems": list(summary.problems),
                "without_interval": list(summary.without_interval),
                "verdicts": verdicts_of(summary.tables),
            }
        )
        return
    for problem in summary.problems:
        err.print(f"bench: left out: {problem}", markup=False, soft_wrap=True)
    for problem in summary.without_interval:
        err.print(f"bench: no interval: {problem}", markup=False, soft_wrap=True)
    for table in [table for table in summary.tables if table.main] or summary.tables:
        print_table(table)
        out.print()
    if not quiet:
        first = next((path for path in summary.paths if path.suffix == ".html"), summary.paths[0])
        written = f"{summary.n_results} results; {len(summary.paths)} files in {output}, start with {first}"
        err.print(written, markup=False, soft_wrap=True)


def _sentences(data_dir: Path | None) -> Mapping[str, str]:
    """The sentences of the data folder that the user names, by their digests; those of the mini suite always."""
    from harness.data.locate import data_root
    from harness.tasks.inputs import sentences_by_id

    root = None if data_dir is None else data_root(data_dir, options.default_cache_dir(), offline=True, progress=False)
    sentences, problems = sentences_by_id(root)
    for problem in problems:
        err.print(f"bench: no sentences: {problem}", markup=False, soft_wrap=True)
    return sentences
