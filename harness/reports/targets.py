"""What a paper's tables and figures are made of, read from `papers/<name>.toml`, and which encoder fills each cell."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from harness.names import EncoderCard, Spec, pick
from harness.packaged import packaged
from harness.reports import published
from harness.reports.match import OWN_TEXT, SEEDED, TEXTS, Match
from harness.reports.published import AVERAGE, Published

PAPERS = ("simcse",)
BUNDLED = ("tiny", "small")  # backbones that come with texts and word vectors of their own


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetCell:
    """One number of a table."""

    run: str  # specification, or "" if no encoder here makes it
    backbone: str  # the paper's
    tasks: tuple[str, ...]  # whose scores make it; the mean of several
    protocol: str  # of those results
    score: str  # key of `Result.scores`
    scale: float  # 100 for what is printed in percent, or 1
    published: float | None  # the paper's value as it prints it, or None


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetRow:
    """One line: a heading if it has no cells."""

    label: str
    cells: tuple[TargetCell | None, ...] = ()  # None where the paper's table is empty
    average: float | None = None  # the paper's own, where the table has averages
    origin: str = ""  # whom the paper has the numbers from
    note: str = ""  # what a reader must know of them


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One table or figure."""

    name: str  # e.g. `table-5`, `figure-F.1`
    title: str  # heading
    measure: str  # what the numbers are
    heads: tuple[str, ...]  # of the columns, without the average's
    rows: tuple[TargetRow, ...]  # empty for a table of words
    texts: tuple[tuple[str, ...], ...]  # the rows of a table of words, label first
    queries: tuple[str, ...]  # sentences whose nearest captions are the rows; empty for other tables
    models: tuple[TargetCell, ...]  # of such a table, one per column
    average: bool  # whether rows end with the mean of their cells
    digits: int  # after the point, as the paper prints them
    figure: str  # kind of `bench plot` that draws it, or "" for a table

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
        if "figure" in entry:  # its numbers stand in a table, in the row of the same encoder
            table = [number for number in published.load(self.paper) if number.table == entry.get("published")]
            return {number.task: number for number in table if number.spec.partition("|")[0].strip() == row["run"]}
        if not method:
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What to fill a paper's cells with."""

    # None for each row's own. One of the paper's backbones fills its own rows; any other stands in for the paper's
    # first, and its numbers are never held against the paper's.
    backbone: str | None = None
    seeds: tuple[int, ...] = ()  # of trained encoders; empty for every seed that is measured
    # files or names that stand for the corpora `nli`, `wiki` and `captions`
    texts: Mapping[str, str] = field(default_factory=dict)
    fit: str = ""  # what post-processing is fitted on; "" for what stands for `nli`
    # parameters that the cells leave open: `name` of every trained encoder, `method:name` of a method
    settings: Mapping[str, str] = field(default_factory=dict)

    def comparable(self, paper: Paper) -> bool:
        """Whether measured numbers may be compared with the paper's: its backbones, its corpora, its settings."""
        changed = self.texts or self.fit or self.settings
        return not changed and (self.backbone is None or self.backbone in paper.backbones)

    def used_by(self, runs: Sequence[str]) -> "Choice":
        """Without the texts and settings that none of these models is made with.

        Args:
            runs: specifications, as cells have them.
        """
        specs = [Spec.parse(run) for run in runs if run]
        named = {str(value) for spec in specs for key, value in spec.given.items() if key in ("data", "fit")}
        methods = {spec.name for spec in specs}
        fitted = any(spec.given.get("fit") == "nli" for spec in specs)
        trained = any(spec.given.get("data") == "nli" for spec in specs)
        texts = {
            name: text
            for name, text in self.texts.items()
            if name in named and (name != "nli" or trained or not self.fit)
        }
        settings = {
            key: text
            for key, text in self.settings.items()
            if (key.partition(":")[0] in methods if ":" in key else methods & OWN_TEXT.keys())
        }
        return replace(self, texts=texts, settings=settings, fit=self.fit if fitted else "")

    def applied(self, spec: Spec) -> Spec:
        """The specification with what stands for the paper's corpora, and with the settings that it leaves open.

        What is said of the method wins over what is said of every trained encoder.
        """
        given = dict(spec.given)
        if given.get("data") in TEXTS:
            given["data"] = self.texts.get(str(given["data"]))
        if given.get("fit") == "nli":
            own = "mini-nli" if given.get("backbone") in BUNDLED else "nli"
            given["fit"] = self.fit or self.texts.get("nli") or own
        of_all = {key: text for key, text in self.settings.items() if ":" not in key and spec.name in OWN_TEXT}
        of_method = {
            key.partition(":")[2]: text for key, text in self.settings.items() if key.startswith(f"{spec.name}:")
        }
        left_open = {key: text for key, text in (of_all | of_method).items() if key not in given}
        return Spec(spec.name, {key: text for key, text in (given | left_open).items() if text is not None})


@dataclass(frozen=True, slots=True)
class Filler:
    """The encoders that may fill a cell: a specification, with any seed where a method has one."""

    spec: Spec

    @property
    def seeded(self) -> bool:
        """Whether several seeds of the encoder may fill the cell."""
        return self.spec.name in SEEDED and "seed" not in self.spec.given

    def named(self, seed: str | None) -> str:
        """The specification with that seed; None leaves it at the method's own."""
        return str(self.spec.replaced(seed=seed) if seed and self.seeded else self.spec)

    def fits(self, card: EncoderCard) -> bool:
        """Whether the encoder is one of those that may fill the cell."""
        return Match((self.spec,)).fits(card)


def filler_of(cell: TargetCell, paper: Paper, choice: Choice) -> Filler | None:
    """The encoders of a cell under a choice; None if the choice does not fill this cell.

    What is a checkpoint of its own, and not made from the row's backbone, a run on another backbone leaves alone.
    """
    if not cell.run:
        return None
    spec = Spec.parse(cell.run)
    backbone = choice.backbone or cell.backbone
    if spec.given.get("data") == "captions" and not choice.texts.get("captions"):
        return None
    if spec.name == "avg-glove":  # its backbone is a file of word vectors
        spec = spec.replaced(backbone=backbone) if backbone in BUNDLED else spec
    elif spec.given.get("backbone") == cell.backbone:
        stands_in = backbone not in paper.backbones and cell.backbone == paper.backbones[0]
        if backbone != cell.backbone and not stands_in:
            return None
        spec = spec.replaced(backbone=backbone)
    elif choice.backbone not in (None, cell.backbone):
        return None
    return Filler(choice.applied(spec))


def file_name(target: Target, paper: Paper, choice: Choice) -> str:
    """Of a target's files, without an ending: `simcse-table-5@tiny`."""
    own = choice.backbone is None
    suffix = "" if own else "@" + "".join(c if c.isalnum() or c in ".-_" else "-" for c in str(choice.backbone))
    return f"{paper.name}-{target.name}{suffix}"


def title_of(target: Target, paper: Paper, choice: Choice) -> str:
    """Heading of a filled target; a rerun is called one."""
    title = f"{paper.title}, {target.label}: {target.title}"
    if choice.comparable(paper):
        return title
    kind = "small-scale rerun" if choice.backbone == "tiny" else "rerun"
    other = "on other text" if choice.texts or choice.fit else "with other settings"
    return f"{title} ({kind} {f'on {choice.backbone}' if choice.backbone else other})"


def rerun_note(paper: Paper, choice: Choice) -> str:
    """What a caption says of measured rows that are not in the paper's setting; empty for those that are."""
    if choice.comparable(paper):
        return ""
    parts = [f"the backbone {choice.backbone}"] if choice.backbone else []
    parts += [f"{Path(text).name} for the corpus {name}" for name, text in choice.texts.items()]
    parts += [f"{Path(choice.fit).name} to fit on"] if choice.fit else []
    parts += [f"{key}={text}" for key, text in choice.settings.items()]
    *first, last = parts
    what = f"{', '.join(first)} and {last}" if first else last
    kind = "a small-scale rerun" if choice.backbone == "tiny" else "a rerun"
    return f" Measured rows are {kind} with {what}, not the paper's setting: compare them with each other only."
