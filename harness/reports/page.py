"""The report as one HTML file that needs no network: tables, provenance per number, figures, pairs of sentences.

The pairs are those where an encoder is furthest off, and where two disagree most. Gold scores and cosines are on
different scales, so both are replaced by their percentiles among all pairs of the task: what Spearman's correlation
over all pairs sees. A residual is the cosine's percentile minus the gold score's.
"""

import base64
import gzip
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from html import unescape
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from numpy.typing import NDArray

from harness.errors import ResultError
from harness.packaged import packaged, packaged_folder
from harness.reports.layouts import LAYOUTS
from harness.reports.match import recipe_of, short_names
from harness.reports.table import Row, Table, mark_of, notes_below, number_text, numbered
from harness.results.items import PairItems
from harness.results.record import Result

if TYPE_CHECKING:
    from harness.reports.report import Listing, Report

_TEMPLATES = "harness/reports/templates"
ENCODERS = 12  # whose pairs are shown; more would make every pair one that somebody is wrong about
_ROOM = 40  # pairs of a task per pair asked for

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class PageCell:
    """What a cell of the page shows and where a click on it leads."""

    shown: str  # the number as it is printed, without its mark
    mark: str  # of the note below the table
    results: str  # numbers of the results in the provenance, with blanks between them
    evidence: str  # the sentence behind a verdict
    best: bool  # whether it is told apart as the highest


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A figure of the page: the text of its file, and the caption that the file holds."""

    name: str
    svg: str
    caption: str


def html(
    report: "Report",
    machines: Sequence[str],
    listings: Mapping[str, "Listing"],
    pairs: int,
    sentences: Mapping[str, str],
    figures_dir: Path,
) -> str:
    """The page.

    Args:
        report: results and tables.
        machines: one sentence each on where results are from.
        listings: further ones by their titles.
        pairs: of sentences, per encoder and task, that the page holds; 0 for none.
        sentences: the sentences to show, by `text_id`.
        figures_dir: whose SVG files are shown; it may be missing.
    """
    numbers = {(r.encoder.name, r.task, r.protocol): i for i, r in enumerate(report.results)}
    explorer = explore(report.results, pairs, sentences)
    figures = _figures(figures_dir)
    environment = Environment(
        loader=FileSystemLoader(packaged_folder(_TEMPLATES)),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["verbatim"] = lambda name: Markup(packaged(f"{_TEMPLATES}/{name}").read_text(encoding="utf-8"))
    environment.filters["breakable"] = _breakable
    return environment.get_template("page.html.j2").render(
        report=report,
        tables=[(table, _groups(table, numbers), list(notes_below(table))) for table in report.tables],
        figures=figures,
        figures_data=_packed([figure.svg for figure in figures]),
        explorer=explorer,
        explorer_data=_packed({"encoders": explorer.labels, "names": explorer.encoders, "tasks": explorer.tasks}),
        provenance_data=_packed(_provenance(report.results)),
        machines=machines,
        listings=listings,
    )


def _breakable(name: str) -> Markup:
    """An encoder's name that may be broken between parameters, and before no number of seeds."""
    kept = re.sub(r", (\d+) seeds$", ",\xa0\\1\xa0seeds", name)
    return Markup(str(escape(kept)).replace("[", "<wbr>[").replace(", ", ", <wbr>"))


Groups = list[list[tuple[Row, str, list[PageCell]]]]  # of rows that sorting keeps together, with their marks and cells


def _groups(table: Table, numbers: Mapping[tuple[str, str, str], int]) -> Groups:
    """The rows of a table; `numbers` are those of the results in the provenance, by encoder, task and protocol."""
    marks = numbered(table)
    groups: Groups = []
    for row in table.rows:
        cells = []
        for cell, column in zip(row.cells, table.columns, strict=False):
            names = cell.source if row.kind == "measured" else ()  # an average has no result of its own
            places = [(name, column.task, table.protocol) for name in names]
            cells.append(
                PageCell(
                    shown=number_text(cell, column, row.kind),
                    mark=mark_of(cell.marks, marks),
                    results=" ".join(str(numbers[place]) for place in places if place in numbers),
                    evidence=cell.verdict.reason if cell.verdict else "",
                    best=cell.best,
                )
            )
        if not row.below or not groups:
            groups.append([])
        groups[-1].append((row, mark_of(row.marks, marks), cells))
    return groups


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Explorer:
    """What the page embeds."""

    encoders: tuple[str, ...]  # names, the best first, in the order of the columns
    labels: tuple[str, ...]  # what the page calls them
    # per task its pairs by column, and each encoder's percentiles and cosines; ready for JSON
    tasks: tuple[Mapping[str, Any], ...]
    notes: tuple[str, ...]  # what is not in it, one sentence each


def explore(results: Sequence[Result], limit: int, sentences: Mapping[str, str]) -> Explorer:
    """Choose the pairs of every similarity task that has per-item scores.

    Args:
        results: at most one per encoder, task and protocol.
        limit: pairs for each encoder and task, and for each two encoders and task; 0 for none.
        sentences: by `text_id`; a task that has one which is not there is shown without its sentences.
    """
    usable = [result for result in results if result.protocol == "sts" and result.items_sha256 and limit]
    encoders = _best_encoders(usable)
    notes = []
    cards = {result.encoder.name: result.encoder for result in usable}
    left_out = len(cards) - len(encoders)
    if left_out:
        notes.append(
            f"The pairs are those of the {ENCODERS} encoders with the highest scores, one seed each; "
            f"{left_out} are left out."
        )
    tasks: list[Mapping[str, Any]] = []
    measured = {result.task for result in usable}
    in_tables = [task for layout in LAYOUTS for task in layout.heads]
    for task in dict.fromkeys([*(t for t in in_tables if t in measured), *sorted(measured)]):
        found = _pairs_of_task([r for r in usable if r.task == task and r.encoder.name in encoders], notes)
        if found is not None:
            tasks.append({"name": task, **_chosen(*found, encoders, limit, sentences)})
            if tasks[-1]["left"] is None:
                notes.append(f"The page has no sentences of {task}; `bench report --data-dir FOLDER` adds them.")
    labels, _ = short_names([card for name, card in cards.items() if name in encoders])
    return Explorer(
        encoders=tuple(encoders),
        labels=tuple(labels[name] for name in encoders),
        tasks=tuple(tasks),
        notes=tuple(dict.fromkeys(notes)),
    )


def percentiles(values: Floats) -> Floats:
    """Average rank of each of n values, 0 for the smallest and 100 for the largest; ties share theirs."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks = (last - counts + last - 1) / 2
    return 100 * ranks[place] / max(len(values) - 1, 1)


def choose(gold: Floats, cosines: Floats, limit: int, room: int) -> tuple[NDArray[np.intp], int]:
    """The pairs to show.

    Args:
        gold: (n,) percentiles.
        cosines: (m, n) percentiles, a row per encoder.
        limit: the largest residuals of each encoder, and the largest differences of each two.
        room: differences are added only up to so many pairs in all.

    Returns:
        Row numbers in order, and how many differences of each two encoders they hold.
    """
    chosen = {int(i) for row in cosines for i in _largest(row - gold, limit)}
    by_two = [_largest(a - b, limit) for a, b in combinations(cosines, 2)]
    depth = 0
    for depth, layer in enumerate(zip(*by_two, strict=True), start=1):
        if len(chosen | set(map(int, layer))) > room:
            depth -= 1
            break
        chosen |= set(map(int, layer))
    return np.array(sorted(chosen), dtype=np.intp), depth


def _largest(values: Floats, limit: int) -> NDArray[np.intp]:
    return np.argsort(-np.abs(values), kind="stable")[:limit]


def _best_encoders(results: Sequence[Result]) -> list[str]:
    """One of each recipe, those with the most tasks, then the highest mean score, first; at most `ENCODERS`."""
    scores: dict[str, list[float]] = {}
    recipes = {result.encoder.name: recipe_of(result.encoder) for result in results}
    for result in results:
        scores.setdefault(result.encoder.name, []).append(result.scores[result.metric])
    best = sorted(scores, key=lambda name: (-len(scores[name]), -float(np.mean(scores[name])), name))
    first = {recipes[name]: name for name in reversed(best)}
    return [name for name in best if first[recipes[name]] == name][:ENCODERS]


def _pairs_of_task(results: Sequence[Result], notes: list[str]) -> tuple[PairItems, Mapping[str, Floats]] | None:
    """One task's pairs, and the cosines of the encoders that were scored on the same ones."""
    pairs: PairItems | None = None
    shared: str | None = None
    cosines: dict[str, Floats] = {}
    for result in results:
        name = result.encoder.name
        try:
            items = result.items()
        except ResultError as error:
            notes.append(f"{name} on {result.task} is left out: {error}.")
            continue
        if not isinstance(items, PairItems):
            continue
        if pairs is None:
            pairs, shared = items, result.shared_sha256
        if result.shared_sha256 != shared:
            notes.append(f"{name} on {result.task} is left out: it was scored on other pairs than the encoders above.")
            continue
        cosines[name] = items.cosine.astype(np.float64)
    return None if pairs is None else (pairs, cosines)


def _chosen(
    pairs: PairItems, cosines: Mapping[str, Floats], encoders: Sequence[str], limit: int, sentences: Mapping[str, str]
) -> dict[str, Any]:
    ranks = {name: percentiles(values) for name, values in cosines.items()}
    gold = percentiles(pairs.gold)
    rows, depth = choose(gold, np.stack(list(ranks.values())), limit, _ROOM * limit)
    subsets = list(dict.fromkeys(pairs.subset))
    left, right = ([sentences.get(side[i]) for i in rows] for side in (pairs.left, pairs.right))
    known = None not in left and None not in right
    return {
        "total": len(gold),
        "depth": depth,
        "subsets": subsets,
        "left": left if known else None,
        "right": right if known else None,
        "subset": [subsets.index(pairs.subset[i]) for i in rows],
        "words": pairs.words[rows].tolist(),
        "overlap": [round(100 * float(share)) for share in pairs.overlap[rows]],
        "gold": pairs.gold[rows].tolist(),
        "goldRank": _short(gold[rows], 1),
        "ranks": {encoders.index(name): _short(values[rows], 1) for name, values in ranks.items()},
        "cosines": {encoders.index(name): _short(values[rows], 3) for name, values in cosines.items()},
    }


def _short(values: Floats, digits: int) -> list[float]:
    return [round(float(value), digits) for value in values]
