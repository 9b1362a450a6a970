"""The report as one HTML file that needs no network: tables, provenance per number, figures, pairs of sentences."""

import base64
import gzip
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from html import unescape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from harness.packaged import packaged_folder
from harness.reports import provenance
from harness.reports.pairs import NO_SENTENCES, Explorer, explore
from harness.reports.suite import without_table
from harness.reports.table import Cell, Column, Row, Table, mark_of, notes_below, number_text, numbered
from harness.results.record import Result

if TYPE_CHECKING:
    from harness.reports.report import Gathered


@dataclass(frozen=True, slots=True, kw_only=True)
class PageCell:
    """What a cell of the page shows and where a click on it leads.

    Attributes:
        shown: the number as it is printed, without its mark.
        mark: of the note below the table.
        results: numbers of the results in the provenance, with blanks between them.
        evidence: the sentence behind a verdict.
        best: whether it is told apart as the highest.
    """

    shown: str
    mark: str
    results: str
    evidence: str
    best: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A figure of the page: the text of its file, and the caption that the file holds."""

    name: str
    svg: str
    caption: str


def html(gathered: "Gathered", figures_dir: Path, pairs: int, sentences: Mapping[str, str] = NO_SENTENCES) -> str:
    """The page.

    Args:
        gathered: results and tables.
        figures_dir: whose SVG files are shown; it may be missing.
        pairs: of sentences, per encoder and task, that the page holds; 0 for none.
        sentences: the sentences to show, by `text_id`.
    """
    results = gathered.results
    numbers = {(r.encoder.name, r.task, r.protocol): i for i, r in enumerate(results)}
    days = sorted(result.run.started[:10] for result in results)
    explorer = explore(results, pairs, sentences)
    figures = _figures(figures_dir)
    environment = Environment(
        loader=FileSystemLoader(packaged_folder("harness/reports/templates")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["verbatim"] = lambda name: Markup(_template(environment, name))
    environment.filters["breakable"] = _breakable
    return environment.get_template("page.html.j2").render(
        n_results=len(results),
        n_encoders=len({result.encoder.name for result in results}),
        span=days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}",
        tables=[(table, _groups(table, numbers), list(notes_below(table))) for table in gathered.tables],
        figures=figures,
        figures_data=_packed([figure.svg for figure in figures]),
        explorer=explorer,
        explorer_data=_packed(_explorer_data(explorer)),
        provenance_data=_packed(_provenance(results)),
        listings=[
            ("Encoders", provenance.encoders(results)),
            ("Packages", provenance.packages(results)),
            ("Data files", provenance.data(results)),
        ],
        runs=provenance.runs(results),
        no_table=without_table(results, gathered.tables),
        any_main=any(table.main for table in gathered.tables),
        problems=gathered.problems,
        without_interval=gathered.without_interval,
    )


def _template(environment: Environment, name: str) -> str:
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


def _breakable(name: str) -> Markup:
    """An encoder's name that may be broken between parameters, and before no number of seeds."""
    kept = re.sub(r", (\d+) seeds$", ",\xa0\\1\xa0seeds", name)
    return Markup(str(escape(kept)).replace("[", "<wbr>[").replace(", ", ", <wbr>"))


def _groups(
    table: Table, numbers: Mapping[tuple[str, str, str], int]
) -> list[list[tuple[Row, str, tuple[PageCell, ...]]]]:
    """The rows of a table in groups that sorting keeps together, each with its mark and cells."""
    marks = numbered(table)
    groups: list[list[tuple[Row, str, tuple[PageCell, ...]]]] = []
    for row in table.rows:
        cells = tuple(
            PageCell(
                shown=number_text(cell, column, row.kind),
                mark=mark_of(cell.marks, marks),
                results=" ".join(_numbers_of(cell, column, table, numbers)) if row.kind == "measured" else "",
                evidence=cell.verdict.reason if cell.verdict else "",
                best=cell.best,
            )
            for cell, column in zip(row.cells, table.columns, strict=False)
        )
        if not row.below or not groups:
            groups.append([])
        groups[-1].append((row, mark_of(row.marks, marks), cells))
    return groups


def _numbers_of(cell: Cell, column: Column, table: Table, numbers: Mapping[tuple[str, str, str], int]) -> Iterator[str]:
    """Of the results behind a cell; the average has none of its own."""
    for name in cell.source:
        number = numbers.get((name, column.task, table.protocol))
        if number is not None:
            yield str(number)


def _provenance(results: Sequence[Result]) -> dict[str, Any]:
    """What stands behind each number; what many results share is held once."""
    shared: dict[str, dict[str, int]] = {"cards": {}, "runs": {}, "data": {}}

    def held(what: str, value: Mapping[str, Any]) -> int:
        return shared[what].setdefault(json.dumps(value, sort_keys=True), len(shared[what]))

    lines = []
    for result in results:
        run = asdict(result.run)
        own = {key: run.pop(key) for key in ("started", "seconds", "encoding_seconds")}
        lines.append(
            {
                "task": result.task,
                "protocol": result.protocol,
                "seed": result.seed,
                "flags": result.flags,
                "counts": {key: value for key, value in result.counts.items() if "/" not in key},
                "scores": {key: round(v, 6) for key, v in result.scores.items() if "/subset:" not in key},
                "items": result.items_sha256,
                "card": held("cards", asdict(result.encoder)),
                "run": held("runs", run),
                "data": held("data", result.data),
                **own,
            }
        )
    return {"results": lines, **{what: [json.loads(one) for one in values] for what, values in shared.items()}}


def _explorer_data(explorer: Explorer) -> dict[str, Any]:
    return {"encoders": explorer.labels, "names": explorer.encoders, "tasks": explorer.tasks}


def _packed(value: object) -> str:
    """JSON as a compressed block in letters that may stand inside an element; equal values give equal text."""
    plain = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return base64.b64encode(gzip.compress(plain.encode(), mtime=0)).decode()


def _figures(folder: Path) -> list[Figure]:
    """Every SVG file. The page shows them as images: no scripts, no shared identifiers."""
    found = []
    for path in sorted(folder.glob("*.svg")):
        svg = path.read_text(encoding="utf-8")
        caption = re.search(r"<dc:description>(.*?)</dc:description>", svg, re.DOTALL)
        name = path.stem.replace("-", " ").capitalize()
        found.append(Figure(name=name, svg=svg, caption=unescape(caption[1]) if caption else name))
    return found
