"""Which encoder fills a cell of a paper's table: the paper's own, or its rerun on another backbone or other text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

from harness.names import EncoderCard, Spec, Value
from harness.reports.published import PAPERS_TEXT, plain_backbone
from harness.reports.targets import Paper, Target, TargetCell

TEXTS = ("nli", "wiki", "captions")
_SEED = "{seed}"


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
        trained = {key: text for key, text in self.settings.items() if ":" not in key and method in PAPERS_TEXT}
        own = {key.partition(":")[2]: text for key, text in self.settings.items() if key.startswith(f"{method}:")}
        return trained | own

    def used_by(self, runs: Sequence[str]) -> "Choice":
        """Without the texts and settings that none of these models is made with.

        Args:
            runs: specifications with placeholders, as cells have them.
        """
        slots = "".join(runs)
        methods = {Spec.parse(run).name for run in runs if run}
        texts = {
            name: text
            for name, text in self.texts.items()
            if f"{{{name}}}" in slots or (name == "nli" and "{fit}" in slots and not self.fit)
        }
        settings = {
            key: text
            for key, text in self.settings.items()
            if (key.partition(":")[0] in methods if ":" in key else methods & PAPERS_TEXT.keys())
        }
        return replace(self, texts=texts, settings=settings, fit=self.fit if "{fit}" in slots else "")


@dataclass(frozen=True, slots=True)
class Pattern:
    """The encoders that may fill a cell: a method and its parameters as text; the seed may be left open."""

    method: str
    parameters: Mapping[str, str]

    @property
    def seeded(self) -> bool:
        """Whether there may be replicates."""
        return self.parameters.get("seed") == _SEED

    def named(self, seed: str | None) -> str:
        """The specification with that seed; None leaves it at the method's own."""
        known = {k: v.replace(_SEED, seed or "") for k, v in self.parameters.items()}
        inside = ",".join(f"{key}={value}" for key, value in known.items() if value)
        return f"{self.method}[{inside}]" if inside else self.method

    def fits(self, card: EncoderCard) -> bool:
        """Whether an encoder is one of those: the parameters given, and defaults for the rest."""
        method, printed = _parts(card.name)
        if method != self.method or not printed <= set(self.parameters):
            return False
        given = self.parameters.items()
        return all(text == _SEED or same_value(card.parameters.get(key), text, key) for key, text in given)


def pattern_of(cell: TargetCell, paper: Paper, choice: Choice) -> Pattern | None:
    """The encoders of a cell under a choice; None if the choice does not fill this cell.

    A model without `{backbone}` is one checkpoint, which a run on another backbone leaves alone.
    """
    if not cell.run:
        return None
    backbone = choice.backbone or cell.backbone
    tiny = backbone == "tiny"
    stands_in = backbone not in paper.backbones and cell.backbone == paper.backbones[0]
    if "{backbone}" in cell.run and backbone != cell.backbone and not stands_in:
        return None
    if "{backbone}" not in cell.run and "{vectors}" not in cell.run and choice.backbone not in (None, cell.backbone):
        return None
    if "{captions}" in cell.run and not choice.texts.get("captions"):
        return None
    slots = {name: choice.texts.get(name, "") for name in TEXTS}
    slots |= {"backbone": backbone, "vectors": "tiny" if tiny else cell.backbone, "seed": _SEED}
    slots["fit"] = choice.fit or slots["nli"] or ("mini-nli" if tiny else "")  # as training on tiny has by default
    parsed = Spec.parse(cell.run)
    method, parameters = parsed.name, parsed.given
    filled = {key: str(text).format(**slots) for key, text in parameters.items()}
    own = {key: text for key, text in filled.items() if text}
    return Pattern(method, own | {key: text for key, text in choice.settings_of(method).items() if key not in own})


@cache
def _parts(name: str) -> tuple[str, frozenset[str]]:
    """An encoder's method, and the parameters that its name prints."""
    parsed = Spec.parse(name)
    method, printed = parsed.name, parsed.given
    return method, frozenset(printed)


def same_value(value: Value | None, text: str, key: str) -> bool:
    """Whether a card's parameter of that name has the value that the text writes."""
    if isinstance(value, bool):
        return text == str(value).lower()
    if isinstance(value, int | float):
        try:
            return float(text) == float(value)
        except ValueError:
            return False
    return value is not None and (text == value or (key == "backbone" and text == plain_backbone(value)))


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
