"""`bench report`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from harness.cli import completion, options
from harness.cli.console import notice, out, print_json, print_table, tell
from harness.cli.options import command, default_cache_dir, names_in, option
from harness.names import split_names


@command
def report(
    output: Annotated[Path, option("--output", "-o", help="Folder for the tables.")] = Path("reports"),
    formats: Annotated[
        str,
        option(
            *("--format", "-f"),
            help="Comma-separated: md, html (one page each), latex, csv, json (a file per table, json with the lines "
            "of csv as objects), model-card (a README.md for the hub per encoder).",
            choices="harness.reports.report:FORMATS",
            several=True,
        ),
    ] = "md,latex,csv",
    published: options.Published = "",
    tables: Annotated[
        str,
        option(
            "--table",
            help="The only tables to write, such as sts-all, separated by commas; else all.",
            choices=completion.report_tables,
            several=True,
        ),
    ] = "",
    each_seed: Annotated[bool, option("--each-seed", help="Show each seed below the mean of them.")] = False,
    margin: Annotated[
        float | None, option(min=0, help="Points either side that a verdict may leave open; else 2, a task 4.")
    ] = None,
    intervals: Annotated[bool, option(help="Compute intervals and ties from the per-item files.")] = True,
    pairs: Annotated[int, option(min=0, help="Sentence pairs, per encoder and task, in the HTML page; 0: none.")] = 50,
    data_dir: options.DataDir = None,
    results_dir: options.ResultsDir = Path("results"),
    json: options.Json = False,
) -> None:
    """Render comparison tables, measured beside published, from the result files.

    Needs no torch, no data and no weights. Result files that are damaged are named and left out. The HTML page shows
    the sentences of pairs where `--data-dir` or BENCH_DATA_DIR names the data; those of the mini suite it always shows.
    """
    from harness.reports.report import ReportOptions
    from harness.reports.report import report as render
    from harness.reports.suite import Shown, verdicts_of

    wanted = split_names(formats, "--format")
    asked = ReportOptions(
        formats=wanted,
        intervals=intervals,
        tables=names_in(tables, "--table"),
        shown=Shown(each_seed=each_seed, published=names_in(published, "--published"), margin=margin),
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
        notice(f"left out: {problem}")
    for problem in summary.without_interval:
        notice(f"no interval: {problem}")
    for table in [table for table in summary.tables if table.main] or summary.tables:
        print_table(table)
        out.print()
    first = next((path for path in summary.paths if path.suffix == ".html"), summary.paths[0])
    tell(f"{summary.n_results} results; {len(summary.paths)} files in {output}, start with {first}")


def _sentences(data_dir: Path | None) -> Mapping[str, str]:
    """The sentences of the data folder that the user names, by their digests; those of the mini suite always."""
    from harness.data.locate import data_root
    from harness.tasks.inputs import sentences_by_id

    root = None if data_dir is None else data_root(data_dir, default_cache_dir(), offline=True, progress=False)
    sentences, problems = sentences_by_id(root)
    for problem in problems:
        notice(f"no sentences: {problem}")
    return sentences
