"""What a paper's tables and figures are made of, read from `papers/<name>.toml`, with the paper's own values."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from harness.names import pick
from harness.packaged import packaged
from harness.reports import published
from harness.reports.published import AVERAGE, Published

PAPERS = ("simcse",)


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetCell:
    """One number of a table.

    Attributes:
        run: specification, or "" if no encoder here makes it.
        backbone: the paper's.
        tasks: whose scores make it; the mean of several.
        protocol: of those results.
        score: key of `Result.scores`.
        scale: 100 for what is printed in percent, or 1.
        published: the paper's value as it prints it, or None.
    """

    run: str
    backbone: str
    tasks: tuple[str, ...]
    protocol: str
    score: str
    scale: float
    published: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetRow:
    """One line: a heading if it has no cells; a cell is None where the paper's table is empty.

    `average` is the paper's own, where the table has averages; `origin` whom the paper has the numbers from, or "";
    `note` what a reader must know of them, or "".
    """

    label: str
    cells: tuple[TargetCell | None, ...] = ()
    average: float | None = None
    origin: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One table or figure.

    Attributes:
        name: e.g. `table-5`, `figure-F.1`.
        title: heading.
        measure: what the numbers are.
        heads: of the columns, without the average's.
        rows: empty for a table of words.
        texts: the rows of a table of words, label first.
        queries: sentences whose nearest captions are the rows; empty for other tables.
        models: of such a table, one per column.
        average: whether rows end with the mean of their cells.
        digits: after the point, as the paper prints them.
        figure: kind of `bench plot` that draws it, or "" for a table.
    """

    name: str
    title: str
    measure: str
    heads: tuple[str, ...]
    rows: tuple[TargetRow, ...]
    texts: tuple[tuple[str, ...], ...]
    queries: tuple[str, ...]
    models: tuple[TargetCell, ...]
    average: bool
    digits: int
    figure: str

    @property
    def label(self) -> str:
        """`Table 5`."""
        kind, _, number = self.name.partition("-")
        return f"{kind.capitalize()} {number}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Paper:
    """A paper's targets; `backbones[0]` is the one that any other backbone stands in for."""

    name: str
    title: str
    backbones: tuple[str, ...]
    targets: Mapping[str, Target]


@cache
def load_paper(name: str) -> Paper:
    """The targets of one paper, in its order.

    Raises:
        UsageError: if no paper of that name is packaged.
    """
    pick("paper", dict.fromkeys(PAPERS), name)
    text = packaged(f"harness/reports/papers/{name}.toml").read_text(encoding="utf-8")
    document = tomllib.loads(text)
    reader = _Reader(name, document)
    targets = [reader.target(entry) for entry in document["target"]]
    return Paper(
        name=name,
        title=document["title"],
        backbones=tuple(document["backbones"]),
        targets={target.name: target for target in targets},
    )


@dataclass(frozen=True, slots=True)
class _Reader:
    """Turns entries of the file into targets; `document` is the whole file."""

    paper: str
    document: Mapping[str, Any]

    def target(self, entry: Mapping[str, Any]) -> Target:
        kind = "figure" if "figure" in entry else "table"
        named = self.document["columns"].get(entry.get("columns", ""), ())
        return Target(
            name=f"{kind}-{entry['number']}",
            title=entry["title"],
            measure=entry["measure"],
            heads=tuple(column["head"] for column in named) or tuple(entry["heads"]),
            rows=tuple(self._row(entry, row, named) for row in entry.get("rows", ())),
            texts=tuple(tuple(line) for line in entry.get("texts", ())),
            queries=tuple(entry.get("queries", ())),
            models=tuple(
                self._cell({"run": model, "score": ""}, {"task": "captions"}, {}) for model in entry.get("models", ())
            ),
            average=entry.get("average", False),
            digits=entry.get("digits", 2),
            figure=entry.get("figure", ""),
        )

    def _row(self, entry: Mapping[str, Any], row: Mapping[str, Any], named: Sequence[Mapping[str, Any]]) -> TargetRow:
        if "section" in row:
            return TargetRow(label=row["section"])
        if "cells" in row:
            return TargetRow(label=row["label"], cells=self._grid_cells(entry, row))
        numbers = self._numbers(entry, row, row.get("method", ""), row.get("variant", ""))
        cells = tuple(self._cell({**entry, **column, **row}, column, numbers) for column in named)
        origins = {number.origin for number in numbers.values()} - {"this paper"}
        return TargetRow(
            label=row["label"],
            cells=cells,
            average=numbers[AVERAGE].value if AVERAGE in numbers else None,
            origin=", ".join(sorted(origins)),
            note=next((number.note for number in numbers.values()), ""),
        )

    def _grid_cells(self, entry: Mapping[str, Any], row: Mapping[str, Any]) -> tuple[TargetCell | None, ...]:
        """Cells that differ in the encoder and share the table's one task."""
        method = row.get("method", entry.get("method", ""))
        cells: list[TargetCell | None] = []
        for position in range(len(entry["heads"])):
            variant = row["cells"][position] if position < len(row["cells"]) else ""
            if not variant:
                cells.append(None)
                continue
            numbers = self._numbers(entry, row, method if isinstance(method, str) else method[position], variant)
            place = {**entry, **row, "published": entry["task"].removesuffix("-dev")}
            cells.append(self._cell(place, place, numbers))
        return tuple(cells)

    def _numbers(
        self, entry: Mapping[str, Any], row: Mapping[str, Any], method: str, variant: str
    ) -> Mapping[str, Published]:
        """The paper's numbers of one row, by task."""
        if "figure" in entry or not method:
            return {}
        wanted = (entry["number"], method, row.get("backbone", self.document["backbones"][0]), variant)
        found = [
            number
            for number in published.load(self.paper)
            if (number.table, number.model, number.backbone, number.variant) == wanted
            and number.origin == row.get("origin", number.origin)
        ]
        if len({number.task for number in found}) != len(found) or not found:
            raise ValueError(f"{self.paper}.toml: {wanted} names {len(found)} published numbers, not one per task")
        return {number.task: number for number in found}

    def _cell(
        self, place: Mapping[str, Any], column: Mapping[str, Any], numbers: Mapping[str, Published]
    ) -> TargetCell:
        tasks = tuple(column["tasks"]) if "tasks" in column else (column["task"],)
        number = numbers.get(column.get("published", tasks[0]))
        made = next(iter(numbers.values())).spec if numbers else place.get("run", "")
        return TargetCell(
            run=made.partition("|")[0].strip(),
            backbone=place.get("backbone", self.document["backbones"][0]),
            tasks=tasks,
            protocol=place.get("protocol", "sts"),
            score=place["score"],
            scale=place.get("scale", 100),
            published=None if number is None else number.value,
        )
