"""`bench report`."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import options
from harness.cli.console import err, out, print_json
from harness.cli.options import command
from harness.cli.scores import Line, print_scores
from harness.names import split_names

if TYPE_CHECKING:
    from harness.reports.tables import TextTable


_INTERVAL = re.compile(r" ± [\d.]+| \(sd [\d.]+\)")


@command
def report(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the tables.")] = Path("reports"),
    formats: Annotated[
        str,
        typer.Option(
            "--format",
            "-f",
            help="Comma-separated: md, html (one page each), latex, csv, json (a file per table, json with the lines "
            "of csv as objects).",
        ),
    ] = "md,latex,csv",
    resamples: options.Resamples = 2000,
    pairs: Annotated[
        int, typer.Option(min=0, help="Sentence pairs, per encoder and task, in the HTML page; 0: none.")
    ] = 50,
    data_dir: options.DataDir = None,
    results_dir: options.ResultsDir = Path("results"),
    cache_dir: options.CacheDir = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Render comparison tables, measured beside published, from the result files.

    Needs no torch, no data and no weights. Result files that are damaged are named and left out. The HTML page shows
    the sentences of pairs where `--data-dir` or BENCH_DATA_DIR names the data; those of the mini suite it always shows.
    """
    from harness.reports.report import report as render
    from harness.reports.tables import text, verdicts_of

    wanted = split_names(formats, "--format")
    summary = render(
        results_dir,
        output,
        wanted,
        resamples=resamples,
        cache_dir=cache_dir or options.default_cache_dir(),
        pairs=pairs,
        sentences=_sentences(data_dir) if "html" in wanted and pairs else {},
    )
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
    for table in map(text, summary.tables):
        _show(table)
    if not quiet:
        err.print(f"{summary.n_results} results; {len(summary.paths)} files in {output}, start with {summary.paths[0]}")


def _sentences(data_dir: Path | None) -> Mapping[str, str]:
    """The sentences of the data folder that the user names, by their digests; those of the mini suite always."""
    from harness.data.locate import data_root
    from harness.tasks.sentences import sentences_by_id

    root = None if data_dir is None else data_root(data_dir, options.default_cache_dir(), offline=True, progress=False)
    sentences, problems = sentences_by_id(root)
    for problem in problems:
        err.print(f"bench: no sentences: {problem}", markup=False, soft_wrap=True)
    return sentences


def _show(table: "TextTable") -> None:
    """The measured rows and what they are compared with; the published rows are in the files."""
    from harness.reports.tables import SYMBOLS

    source = table.header.index("Source")  # every row says it, by its style and its arrow
    lines = []
    for kind, cells in table.rows:
        if kind not in ("section", "published"):
            texts = [_fitting(cell, i, len(cells)) for i, cell in enumerate(cells) if i not in (0, source)]
            lines.append(Line(cells[0], texts, "" if kind in ("measured", "mean") else "dim"))
    if not lines:
        return
    label, *heads = [head for head in table.header if head != "Source"]
    print_scores(table.title, Line(label, heads), lines)
    printed = {
        mark for line in lines for text in (line.label, *line.cells) for mark in re.findall(f"[{SYMBOLS}]+", text)
    }
    for footnote in table.footnotes:
        if footnote.split()[0] in printed:
            out.print(f" {footnote}", markup=False, highlight=False)
    out.print()


def _fitting(cell: str, position: int, columns: int) -> str:
    """What a terminal of 80 characters has no room for, the intervals of a wide table, is in the files."""
    if columns <= 6 or (position == columns - 1 and out.width >= 100):
        return cell
    return _INTERVAL.sub("", cell)
