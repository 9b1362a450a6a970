"""`bench report`: from a folder of result files to a folder of tables."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness import files
from harness.errors import BenchError, ResultError
from harness.names import EncoderCard, Spec, pick
from harness.reports import published
from harness.reports.modelcard import model_cards
from harness.reports.renderers import code, grid, latex, markdown, markdown_text, tidy_csv, tidy_json
from harness.reports.runs import Estimates
from harness.reports.suite import Shown, build
from harness.reports.table import Table
from harness.results.record import Result, Run
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
_NUMBERS = ("Dim.", "Max. tokens", "Results", "Seconds")  # columns of listings that are aligned right
Listing = tuple[tuple[str, ...], Sequence[tuple[str, ...]]]  # header and rows
_PER_TABLE = {"latex": ("tex", latex), "csv": ("csv", tidy_csv), "json": ("json", tidy_json)}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportOptions:
    """What a report is to be."""

    formats: Sequence[str] = ("md", "latex", "csv")  # keys of `FORMATS`
    intervals: bool = True  # whether to compute intervals, ties and bold numbers from the per-item files
    shown: Shown = field(default_factory=Shown)  # see `Shown`
    tables: Sequence[str] = ()  # names of the only tables to write; none: all
    pairs: int = PAIRS  # of sentences, per encoder and task, that the HTML page holds; 0 for none
    sentences: Mapping[str, str] = field(default_factory=dict)  # the sentences that the HTML page shows, by `text_id`


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a report was made of and where it is."""

    results: Sequence[Result]  # those in use
    tables: Sequence[Table]  # made of them
    problems: Sequence[str]  # one sentence per result file that was left out
    without_interval: Sequence[str]  # one sentence per per-item file that could not be used; its score is in the tables
    paths: Sequence[Path] = ()  # the files written, in order

    @property
    def n_results(self) -> int:
        return len(self.results)

    @property
    def n_encoders(self) -> int:
        return len({result.encoder.name for result in self.results})

    @property
    def span(self) -> str:
        """The days on which it was measured: `2026-01-01 to 2026-01-03`."""
        days = sorted(result.run.started[:10] for result in self.results)
        return days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}"

    @property
    def in_no_table(self) -> list[str]:
        """Tasks, with their protocol, of results that no table shows."""
        shown = {(column.task, table.protocol) for table in self.tables for column in table.columns}
        rest = {(result.task, result.protocol) for result in self.results} - shown
        return [f"{task} ({protocol})" for task, protocol in sorted(rest)]

    def is_on_page(self, table: Table) -> bool:
        """Whether the first page shows the table: main ones, and all of them where there is no main one."""
        return table.main or not any(one.main for one in self.tables)


def report(results_dir: Path, out_dir: Path, options: ReportOptions | None = None) -> Report:
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
    made = Report(results=results, tables=tables, problems=problems, without_interval=without_interval)
    pages = _pages(made, asked, out_dir)
    for name, content in pages.items():
        files.replace(out_dir / name, content.encode())
    return replace(made, paths=[out_dir / name for name in pages])


def _pages(report: Report, asked: ReportOptions, out_dir: Path) -> dict[str, str]:
    """Every file of the report by its name."""
    pages: dict[str, str] = {}
    machines, listings = _machines(report.results), _listings(report.results)
    if "md" in asked.formats:
        pages["report.md"] = _first_page(report)
        pages |= {f"{table.name}.md": markdown(table) for table in report.tables if not report.is_on_page(table)}
        pages["provenance.md"] = _provenance_page(machines, listings, report.without_interval)
    if "html" in asked.formats:
        from harness.reports.page import html  # templates take a tenth of a second that tables need not wait

        pages["report.html"] = html(report, machines, listings, asked.pairs, asked.sentences, out_dir / "figures")
    for table in report.tables:
        kinds = [_PER_TABLE[name] for name in asked.formats if name in _PER_TABLE]
        pages |= {f"{table.name}.{ending}": render(table) for ending, render in kinds}
    if "model-card" in asked.formats:
        pages |= {f"model-cards/{name}": text for name, text in model_cards(report.results).items()}
    return pages


def _first_page(report: Report) -> str:
    """The main tables, where the others are, and what is not in them."""
    left_out = len(report.problems)
    others = [f"[{table.title}]({table.name}.md)" for table in report.tables if not report.is_on_page(table)]
    parts = [
        "# Report",
        f"Results: {report.n_results}. Encoders: {report.n_encoders}. Measured: {report.span}. Left out: {left_out}.",
        *(markdown(table).rstrip() for table in report.tables if report.is_on_page(table)),
        f"Further pages: {', '.join([*others, '[where the numbers are from](provenance.md)'])}.",
    ]
    if report.in_no_table:
        parts.append(f"## Measured, but in no table\n\n{_bullets(report.in_no_table)}")
    if report.problems:
        parts.append(f"## Left out\n\nResult files not used: {left_out}.\n\n{_bullets(report.problems)}")
    return "\n\n".join(parts) + "\n"


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


def _provenance_page(machines: Sequence[str], listings: Mapping[str, Listing], without_interval: Sequence[str]) -> str:
    """The page on where the numbers are from."""
    encoders, packages, data = (_grid(*listings[title]) for title in ("Encoders", "Packages", "Data files"))
    sections = [
        "# Where the numbers are from",
        f"## Encoders\n\n{encoders}",
        f"## Machines\n\n{_bullets(machines)}\n\n{packages}",
        f"## Data\n\n{data}",
    ]
    if without_interval:
        sections.append(f"## Scores without an interval\n\n{_bullets(without_interval)}")
    return "\n\n".join(sections) + "\n"


def _grid(header: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A Markdown table, the first column set as code, numbers aligned right."""
    lines = [(code(first), *map(markdown_text, rest)) for first, *rest in body]
    return grid(header, lines, {i for i, head in enumerate(header) if head not in _NUMBERS})


def _listings(results: Sequence[Result]) -> dict[str, Listing]:
    return {
        "Encoders": _encoder_listing(results),
        "Packages": _package_listing(results),
        "Data files": _data_listing(results),
    }


def _machines(results: Sequence[Result]) -> list[str]:
    """One sentence for each machine, device and commit, with the number of its results."""
    found = Counter(_machine(result.run) for result in results)
    return [f"{what}: {_results(count)}" for what, count in sorted(found.items())]


def _encoder_listing(results: Sequence[Result]) -> Listing:
    """One row per encoder, with what tells it apart from others of its name."""
    cards: dict[str, tuple[EncoderCard, int, float]] = {}
    for result in sorted(results, key=lambda r: r.encoder.name):
        key = repr(result.encoder)
        _, cells, seconds = cards.get(key, (None, 0, 0.0))
        cards[key] = (result.encoder, cells + 1, seconds + result.run.seconds)
    header = (
        *("Encoder", "Backbone", "Revision", "Weights", "Pooling"),
        *("Type", "Dim.", "Max. tokens", "Results", "Seconds"),
    )
    body = [
        (
            card.name,
            card.backbone or "-",
            (card.revision or "-")[:12],
            (card.weights_sha256 or "-")[:12],
            card.pooling or "-",
            card.dtype,
            str(card.dim),
            str(card.max_tokens or "-"),
            str(cells),
            f"{seconds:.1f}",
        )
        for card, cells, seconds in cards.values()
    ]
    return header, body


def _machine(run: Run) -> str:
    machine = run.machine
    where = f"{machine.get('processor')}, {machine.get('cores')} cores, {machine.get('memory_gib')} GiB"
    commit = f"commit {run.commit[:12]}{' with changes' if run.dirty else ''}" if run.commit else "no checkout"
    return f"{where}, {machine.get('system')}; device {run.device}, {run.threads} threads; {commit}"


def _package_listing(results: Sequence[Result]) -> Listing:
    """Versions; where there are several, with the number of their results."""
    found: dict[str, Counter[str]] = {}
    for result in results:
        for name, version in result.run.packages.items():
            found.setdefault(name, Counter())[version] += 1
    body = []
    for name, versions in sorted(found.items()):
        several = len(versions) > 1
        texts = [f"{version} ({_results(n)})" if several else version for version, n in sorted(versions.items())]
        body.append((name, ", ".join(texts)))
    return ("Package", "Version"), body


def _data_listing(results: Sequence[Result]) -> Listing:
    """Files that were read; a file that was read in two versions has two rows and says so."""
    found: dict[tuple[str, str], set[str]] = {}
    for result in results:
        for file, digest in result.data.items():
            found.setdefault((file, digest), set()).add(result.task)
    several = Counter(file for file, _ in found)
    body = [
        (file, digest, ", ".join(sorted(tasks)), "differs" if several[file] > 1 else "")
        for (file, digest), tasks in sorted(found.items())
    ]
    return ("File", "sha256", "Tasks", ""), body


def _results(count: int) -> str:
    return f"{count} result{'' if count == 1 else 's'}"


def _bullets(lines: Iterable[str]) -> str:
    """A list in Markdown, of sentences that may hold anything."""
    return "\n".join(f"- {markdown_text(line)}" for line in lines)
