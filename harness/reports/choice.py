"""Which encoder fills a cell of a paper's table: the paper's own, or its rerun on another backbone or other text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.names import EncoderCard, Spec
from harness.reports.match import OWN_TEXT, TEXTS, Match
from harness.reports.targets import Paper, Target, TargetCell

_BUNDLED = ("tiny", "small")  # backbones that come with texts and word vectors of their own
_SEEDED = (*OWN_TEXT, "bert-flow")  # methods whose runs differ by their seed


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What to fill a paper's cells with.

    Attributes:
        backbone: None for each row's own. One of the paper's backbones fills its own rows; any other stands in for the
            paper's first, and its numbers are never held against the paper's.
        seeds: of trained encoders; empty for every seed that is measured.
        texts: files or names that stand for the corpora `nli`, `wiki` and `captions`.
        fit: what post-processing is fitted on; "" for what stands for `nli`.
        settings: parameters that the cells leave open: `name` of every trained encoder, `method:name` of a method.
    """

    backbone: str | None = None
    seeds: tuple[int, ...] = ()
    texts: Mapping[str, str] = field(default_factory=dict)
    fit: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)

    def comparable(self, paper: Paper) -> bool:
        """Whether measured numbers may be compared with the paper's: its backbones, its corpora, its settings."""
        changed = self.texts or self.fit or self.settings
        return not changed and (self.backbone is None or self.backbone in paper.backbones)

    def settings_of(self, method: str) -> dict[str, str]:
        """The parameters for encoders of a method; what is said of the method wins over what is said of all."""
        trained = {key: text for key, text in self.settings.items() if ":" not in key and method in OWN_TEXT}
        own = {key.partition(":")[2]: text for key, text in self.settings.items() if key.startswith(f"{method}:")}
        return trained | own

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
        """The specification with what stands for the paper's corpora, and with the settings that it leaves open."""
        given = dict(spec.given)
        if given.get("data") in TEXTS:
            given["data"] = self.texts.get(str(given["data"]))
        if given.get("fit") == "nli":
            own = "mini-nli" if given.get("backbone") in _BUNDLED else "nli"
            given["fit"] = self.fit or self.texts.get("nli") or own
        left_open = {key: text for key, text in self.settings_of(spec.name).items() if key not in given}
        return Spec(spec.name, {key: text for key, text in (given | left_open).items() if text is not None})


@dataclass(frozen=True, slots=True)
class Filler:
    """The encoders that may fill a cell: a specification, with any seed where a method has one."""

    spec: Spec

    @property
    def seeded(self) -> bool:
        """Whether there may be replicates."""
        return self.spec.name in _SEEDED and "seed" not in self.spec.given

    def named(self, seed: str | None) -> str:
        """The specification with that seed; None leaves it at the method's own."""
        return str(self.spec.replaced(seed=seed) if seed and self.seeded else self.spec)

    def fits(self, card: EncoderCard) -> bool:
        """Whether an encoder is one of those."""
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
        spec = spec.replaced(backbone=backbone) if backbone in _BUNDLED else spec
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
