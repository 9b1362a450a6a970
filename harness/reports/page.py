"""The report as one HTML file that needs no network: tables, provenance per number, figures, pairs of sentences."""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from harness.packaged import packaged_folder
from harness.reports import provenance
from harness.reports.pairs import NO_SENTENCES, Explorer, explore
from harness.reports.rows import Kind
from harness.reports.tables import Table, text, without_table
from harness.results.record import Result


@dataclass(frozen=True, slots=True, kw_only=True)
class PageRow:
    """One line of a table on the page.

    Attributes:
        kind: as in `harness.reports.rows`.
        label: without footnote symbols.
        marks: footnote symbols.
        cells: printed number and the number of its result in the provenance, or -1.
    """

    kind: Kind
    label: str
    marks: str
    cells: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PageTable:
    """A table on the page: sections of groups, where a group is an encoder's row and the rows that belong to it."""

    name: str
    title: str
    caption: str
    heads: tuple[str, ...]
    sections: tuple[tuple[str, tuple[tuple[PageRow, ...], ...]], ...]
    footnotes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """What a report has read and made, for the page.

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


def html(gathered: Gathered, figures_dir: Path, pairs: int, sentences: Mapping[str, str] = NO_SENTENCES) -> str:
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
        tables=[_page_table(table, numbers) for table in gathered.tables],
        figures=_figures(figures_dir),
        explorer=explorer,
        explorer_json=_json(_explorer_data(explorer)),
        provenance_json=_json(_provenance(results)),
        listings=[
            ("Encoders", provenance.encoders(results)),
            ("Packages", provenance.packages(results)),
            ("Data files", provenance.data(results)),
        ],
        runs=provenance.runs(results),
        no_table=without_table(results, gathered.tables),
        problems=gathered.problems,
        without_interval=gathered.without_interval,
    )


def _template(environment: Environment, name: str) -> str:
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


def _breakable(name: str) -> Markup:
    """An encoder's name that may be broken between parameters."""
    return Markup(str(escape(name)).replace("[", "[<wbr>").replace(",", ",<wbr>"))


def _page_table(table: Table, numbers: Mapping[tuple[str, str, str], int]) -> PageTable:
    shown = text(table)
    sections: list[tuple[str, list[list[PageRow]]]] = []
    for row, (kind, texts) in zip(table.rows, shown.rows, strict=True):
        if kind == "section":
            sections.append((row.label, []))
            continue
        line = PageRow(
            kind=kind,
            label=f"↳ {row.source}" if kind == "counterpart" else row.label,
            marks=texts[0].removeprefix(row.label).strip(),
            cells=tuple((cell, _number(numbers, table, row.label, i, kind)) for i, cell in enumerate(texts[2:])),
        )
        groups = sections[-1][1]
        if kind in ("published", "measured", "mean"):
            groups.append([line])
        else:
            groups[-1].append(line)
    first = [section for section in sections if section[0] == "Measured"]
    rest = [section for section in sections if section[0] != "Measured"]
    return PageTable(
        name=table.name,
        title=shown.title,
        caption=shown.caption,
        heads=shown.header[2:],
        sections=tuple((label, tuple(map(tuple, groups))) for label, groups in first + rest),
        footnotes=shown.footnotes,
    )


def _number(numbers: Mapping[tuple[str, str, str], int], table: Table, encoder: str, column: int, kind: Kind) -> int:
    """Of the result behind a cell; the average has none."""
    columns = table.layout.columns
    if kind != "measured" or column >= len(columns):
        return -1
    return numbers.get((encoder, columns[column].task, table.protocol), -1)


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
    return {"encoders": explorer.encoders, "tasks": explorer.tasks}


def _json(value: object) -> Markup:
    """JSON that may stand inside a script element."""
    plain = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Markup(plain.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))


def _figures(folder: Path) -> list[tuple[str, str]]:
    """Name and data address of every SVG file. As images they keep to themselves: no scripts, no shared identifiers."""
    return [
        (path.stem.replace("-", " ").capitalize(), base64.b64encode(path.read_bytes()).decode())
        for path in sorted(folder.glob("*.svg"))
    ]
