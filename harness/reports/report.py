"""`bench report`: from a folder of result files to a folder of tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness import files
from harness.errors import ResultError
from harness.names import pick
from harness.reports import provenance
from harness.reports.draws import StoredDraws
from harness.reports.pairs import NO_SENTENCES
from harness.reports.render import latex, markdown, tidy_csv, tidy_json
from harness.reports.tables import Table, build, wanted, without_table
from harness.results.record import Result
from harness.results.store import read_all

RESAMPLES = 2000
PAIRS = 50
FORMATS = {
    "md": "report.md, one page",
    "html": "report.html, one page",
    "latex": "a .tex file per table",
    "csv": "a .csv file per table",
    "json": "a .json file per table, with the lines of its .csv",
}
_PER_TABLE = {"latex": ("tex", latex), "csv": ("csv", tidy_csv), "json": ("json", tidy_json)}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportSummary:
    """What a report was made of and where it is.

    Attributes:
        paths: the files written, in order.
        n_results: result files in use.
        problems: one sentence per result file that was left out.
        without_interval: one sentence per per-item file that could not be used; its score is in the tables.
        tables: what was rendered; `harness.reports.tables.text` gives their printed form.
    """

    paths: tuple[Path, ...]
    n_results: int
    problems: tuple[str, ...]
    without_interval: tuple[str, ...]
    tables: tuple[Table, ...]


def report(  # noqa: PLR0913
    results_dir: Path,
    out_dir: Path,
    formats: Sequence[str] = ("md", "latex", "csv"),
    *,
    resamples: int = RESAMPLES,
    cache_dir: Path | None = None,
    pairs: int = PAIRS,
    sentences: Mapping[str, str] = NO_SENTENCES,
) -> ReportSummary:
    """Read every result file and render the tables.

    Args:
        results_dir: of result files.
        out_dir: for the tables; it is made if missing.
        formats: keys of `FORMATS`.
        resamples: of the bootstrap behind intervals and ties; 0 for tables without.
        cache_dir: where its draws are kept; None for nowhere.
        pairs: of sentences, per encoder and task, that the HTML page holds; 0 for none.
        sentences: the sentences that the HTML page shows, by `text_id`.

    Raises:
        UsageError: if a format is unknown.
        ResultError: if there is no readable result, or the files cannot be written.
    """
    for name in formats:
        pick("format", FORMATS, name)
    results, problems = read_all(results_dir)
    if not results:
        found = f"{problems[0]} (the first of {len(problems)} left out)" if problems else "no result files"
        raise ResultError(f"{results_dir}: nothing to report, found {found}; run `bench run` first")
    draws = StoredDraws(resamples, cache_dir)
    draws.prepare(wanted(results))
    tables = build(results, len(problems), draws)
    without_interval = tuple(sorted(set(draws.problems)))
    pages: dict[str, str] = {}
    if "md" in formats:
        pages["report.md"] = page(results, tables, problems, without_interval)
    if "html" in formats:
        from harness.reports.page import Gathered, html  # templates take a tenth of a second that tables need not wait

        gathered = Gathered(results=results, tables=tables, problems=problems, without_interval=without_interval)
        pages["report.html"] = html(gathered, out_dir / "figures", pairs, sentences)
    pages |= {
        f"{table.name}.{ending}": render(table)
        for table in tables
        for name, (ending, render) in _PER_TABLE.items()
        if name in formats
    }
    for name, content in pages.items():
        files.replace(out_dir / name, content.encode())
    return ReportSummary(
        paths=tuple(out_dir / name for name in pages),
        n_results=len(results),
        problems=tuple(problems),
        without_interval=without_interval,
        tables=tuple(tables),
    )


def page(
    results: Sequence[Result], tables: Sequence[Table], problems: Sequence[str], without_interval: Sequence[str] = ()
) -> str:
    """All tables and where their numbers are from, as one Markdown page."""
    encoders = len({result.encoder.name for result in results})
    days = sorted(result.run.started[:10] for result in results)
    span = days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}"
    counted = f"Results: {len(results)}. Encoders: {encoders}. Measured: {span}. Left out: {len(problems)}."
    closing = provenance.markdown(results, problems, without_table(results, tables), without_interval)
    return "\n".join(["# Report", "", counted, "", *(markdown(table) for table in tables), closing])
