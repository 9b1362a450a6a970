"""`bench report`: from a folder of result files to a folder of tables."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness import files
from harness.errors import BenchError, ResultError
from harness.names import Spec, pick
from harness.reports import provenance, published
from harness.reports.modelcard import model_cards
from harness.reports.renderers import latex, markdown, tidy_csv, tidy_json
from harness.reports.runs import Estimates
from harness.reports.suite import Shown, build, without_table
from harness.reports.table import Table
from harness.results.record import Result
from harness.results.store import read_all

PAIRS = 50
FORMATS = {
    "md": "report.md, one page, with a page for each further table",
    "html": "report.html, one page",
    "latex": "a .tex file per table",
    "csv": "a .csv file per table",
    "json": "a .json file per table, with the lines of its .csv",
    "model-card": "a README.md and a file for .eval_results/ of the hub per encoder, in model-cards/",
}
_PER_TABLE = {"latex": ("tex", latex), "csv": ("csv", tidy_csv), "json": ("json", tidy_json)}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportOptions:
    """What a report is to be.

    Attributes:
        formats: keys of `FORMATS`.
        intervals: whether to compute intervals, ties and bold numbers from the per-item files.
        shown: see `Shown`.
        tables: names of the only tables to write; none: all.
        pairs: of sentences, per encoder and task, that the HTML page holds; 0 for none.
        sentences: the sentences that the HTML page shows, by `text_id`.
    """

    formats: Sequence[str] = ("md", "latex", "csv")
    intervals: bool = True
    shown: Shown = field(default_factory=Shown)
    tables: Sequence[str] = ()
    pairs: int = PAIRS
    sentences: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportSummary:
    """What a report was made of and where it is.

    Attributes:
        paths: the files written, in order.
        n_results: result files in use.
        problems: one sentence per result file that was left out.
        without_interval: one sentence per per-item file that could not be used; its score is in the tables.
        tables: what was rendered.
    """

    paths: tuple[Path, ...]
    n_results: int
    problems: tuple[str, ...]
    without_interval: tuple[str, ...]
    tables: tuple[Table, ...]


def report(results_dir: Path, out_dir: Path, options: ReportOptions | None = None) -> ReportSummary:
    """Read every result file and render the tables.

    Args:
        results_dir: of result files.
        out_dir: for the tables; it is made if missing.
        options: what to write.

    Raises:
        UsageError: if a format, a paper or a table is unknown.
        ResultError: if there is no readable result, or the files cannot be written.
    """
    asked = options or ReportOptions()
    for name in asked.formats:
        pick("format", FORMATS, name)
    for name in asked.shown.published:
        published.load(name)
    read, problems = read_all(results_dir)
    results, odd = _usable(read)
    problems = [*problems, *odd]
    if not results:
        found = f"{problems[0]} (the first of {len(problems)} left out)" if problems else "no result files"
        raise ResultError(f"{results_dir}: nothing to report, found {found}; run `bench run` first")
    estimates = Estimates() if asked.intervals else None
    tables = build(results, len(problems), estimates, asked.shown)
    if asked.tables:
        known = {table.name: table for table in tables}
        tables = [pick("table", known, name) for name in asked.tables]
        inside = {(column.task, table.protocol) for table in tables for column in table.columns}
        results = [result for result in results if (result.task, result.protocol) in inside]
    without_interval = tuple(sorted(set(estimates.problems))) if estimates else ()
    gathered = Gathered(results=results, tables=tables, problems=problems, without_interval=without_interval)
    pages = _pages(gathered, asked, out_dir)
    for name, content in pages.items():
        files.replace(out_dir / name, content.encode())
    return ReportSummary(
        paths=tuple(out_dir / name for name in pages),
        n_results=len(results),
        problems=tuple(problems),
        without_interval=without_interval,
        tables=tuple(tables),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """What a report has read and made.

    Attributes:
        results: those in use.
        tables: made of them.
        problems: one sentence per result file that was left out.
        without_interval: one sentence per per-item file that could not be used.
    """

    results: Sequence[Result]
    tables: Sequence[Table]
    problems: Sequence[str]
    without_interval: Sequence[str]


def _pages(gathered: Gathered, asked: ReportOptions, out_dir: Path) -> dict[str, str]:
    """Every file of the report by its name."""
    pages: dict[str, str] = {}
    if "md" in asked.formats:
        pages["report.md"] = page(gathered)
        pages |= {f"{table.name}.md": markdown(table) for table in gathered.tables if not _is_on_page(table, gathered)}
        pages["provenance.md"] = provenance.markdown(gathered.results, gathered.without_interval)
    if "html" in asked.formats:
        from harness.reports.page import html  # templates take a tenth of a second that tables need not wait

        pages["report.html"] = html(gathered, out_dir / "figures", asked.pairs, asked.sentences)
    for table in gathered.tables:
        kinds = [_PER_TABLE[name] for name in asked.formats if name in _PER_TABLE]
        pages |= {f"{table.name}.{ending}": render(table) for ending, render in kinds}
    if "model-card" in asked.formats:
        pages |= {f"model-cards/{name}": text for name, text in model_cards(gathered.results).items()}
    return pages


def page(gathered: Gathered) -> str:
    """The first page: the main tables, where the others are, and what is not in them."""
    results = gathered.results
    encoders = len({result.encoder.name for result in results})
    days = sorted(result.run.started[:10] for result in results)
    span = days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}"
    counted = f"Results: {len(results)}. Encoders: {encoders}. Measured: {span}. Left out: {len(gathered.problems)}."
    others = [f"[{table.title}]({table.name}.md)" for table in gathered.tables if not _is_on_page(table, gathered)]
    further = [*others, "[where the numbers are from](provenance.md)"]
    parts = ["# Report", counted, *(markdown(t).rstrip() for t in gathered.tables if _is_on_page(t, gathered))]
    parts.append(f"Further pages: {', '.join(further)}.")
    missing = without_table(results, gathered.tables)
    if missing:
        parts.append("## Measured, but in no table\n\n" + provenance.bullets(missing))
    if gathered.problems:
        left_out = provenance.bullets(gathered.problems)
        parts.append(f"## Left out\n\nResult files not used: {len(gathered.problems)}.\n\n{left_out}")
    return "\n\n".join(parts) + "\n"


def _is_on_page(table: Table, gathered: Gathered) -> bool:
    """Main tables; and all of them where there is no main one."""
    return table.main or not any(one.main for one in gathered.tables)


def _usable(results: Sequence[Result]) -> tuple[list[Result], list[str]]:
    """The results that can stand in a table, and a sentence for each that cannot: it takes no other away."""
    good, problems = [], []
    for result in results:
        where = result.file or f"{result.encoder.name} on {result.task}"
        try:
            Spec.parse(result.encoder.name)
        except BenchError as error:
            problems.append(f"{where}: {error}")
            continue
        wrong = next((key for key, value in result.scores.items() if not math.isfinite(value)), None)
        if wrong is None:
            good.append(result)
        else:
            problems.append(f"{where}: {wrong} is {result.scores[wrong]}, expected a number; run its task again")
    return good, problems
