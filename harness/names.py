"""The vocabulary that all layers share: specifications, score keys, task names, and the encoder's card."""

import difflib
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import NamedTuple, Self, TypeVar

from harness.errors import UsageError

Value = str | int | float | bool

STS = ("STS12", "STS13", "STS14", "STS15", "STS16", "STSBenchmark", "SICKRelatedness")  # the paper's seven, in order

STS_B_DEV = "STS-B dev"  # the development set on which the paper selects checkpoints; see EncoderCard.selected_on

# Heads of table columns, where a task's name is longer than papers print it.
_SHORT = {
    "STSBenchmark": "STS-B",
    "STSBenchmark-dev": "STS-B dev",
    "STSBenchmark.v2": "STS-B v2",
    "STSBenchmark.v2-dev": "STS-B v2 dev",
    "SICKRelatedness": "SICK-R",
    "SICKRelatedness-dev": "SICK-R dev",
    "SICKRelatedness-full": "SICK-R (all)",
}

_MOST_NAMES = 16  # that an error lists
_MOST_NEAR = 3  # that an error proposes
_LEAST_PART = 4  # letters that a name has in common with another by more than chance

V = TypeVar("V")


def short_task(name: str) -> str:
    """The head of a task's column: `STSBenchmark` -> `STS-B`; most tasks' names are their heads."""
    return _SHORT.get(name, name)


def value_text(value: Value | None) -> str:
    """A parameter's value as it is written in a specification; `none` where it is not set."""
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)


@dataclass(frozen=True, slots=True)
class Spec:
    """The name of an encoder and its parameters, such as `bert-whitening[backbone=tiny,dim=256]`.

    `Spec.parse` reads a specification as it was typed, all values still text. `registry.resolve` checks it: then
    `given` holds typed values in the order in which the method declares them, and none that equals its default. Such
    a specification prints the encoder's full name, which parses back to it.

    Attributes:
        name: the registry entry, or `hf:<repository-or-folder>`.
        given: the parameters that are written down.
    """

    name: str
    given: Mapping[str, Value | None] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `bert[pooling=avg,backbone="a, b"]`; a text with a comma, a bracket or a quote is quoted as in JSON.

        Raises:
            UsageError: if the text is not a name with optional `[parameter=value,...]`, or repeats a parameter.
        """
        name, rest = _take(text, "[", text)
        if not name or (rest and not rest.endswith("]")):
            raise UsageError(f"model {text!r} is not a specification; write name or name[parameter=value,...]")
        given: dict[str, Value | None] = {}
        rest = rest[1:-1]
        while rest.strip():
            key, equals, rest = rest.lstrip(" ,").partition("=")
            value, rest = _take(rest.lstrip(), ",", text)
            key, rest = key.strip(), rest[1:]
            if not (key and equals and value) or "," in key:
                raise UsageError(
                    f"model {text!r}: {key.rpartition(',')[2] or value!r} is not parameter=value; "
                    "quote a text that holds a comma"
                )
            if key in given:
                raise UsageError(f"model {text!r} gives {key!r} twice; keep one")
            given[key] = value
        return cls(name, given)

    def __str__(self) -> str:
        shown = ",".join(f"{key}={_quoted(value_text(value))}" for key, value in self.given.items())
        prefix, colon, rest = self.name.rpartition("hf:")
        name = f"{prefix}{colon}{_quoted(rest)}"
        return f"{name}[{shown}]" if shown else name

    def __hash__(self) -> int:
        return hash(str(self))

    def without(self, *names: str) -> "Spec":
        """The specification with these parameters left at their defaults."""
        return Spec(self.name, {key: value for key, value in self.given.items() if key not in names})

    def replaced(self, **values: Value | None) -> "Spec":
        """The specification with these parameters set; new ones come last."""
        return Spec(self.name, {**self.given, **values})


def _take(text: str, end: str, whole: str) -> tuple[str, str]:
    """The text before an unquoted `end`, without its quotes, and the rest from `end` on."""
    prefix, quote, _ = text.partition('"')
    if quote and end not in prefix:
        try:
            value, length = json.JSONDecoder().raw_decode(text[len(prefix) :])
        except json.JSONDecodeError:
            raise UsageError(f"model {whole!r}: a quote is not closed; write the text as in JSON") from None
        rest = text[len(prefix) + length :].lstrip()
        if rest and not rest.startswith(end):
            raise UsageError(f"model {whole!r}: found {rest!r} behind a quoted text, expected {end!r} or the end")
        return f"{prefix}{value}", rest
    value, found, rest = text.partition(end)
    if end == "," and re.search(r"[\[\]]", value):
        raise UsageError(f"model {whole!r} is not a specification; write name or name[parameter=value,...]")
    return value.strip(), found + rest


def _quoted(text: str) -> str:
    """A value that could not be read back as it is, in JSON's quotes."""
    return json.dumps(text, ensure_ascii=False) if re.search(r'[,\[\]"]|^\s|\s$', text) else text


def split_specs(text: str, option: str = "models") -> list[str]:
    """Split a list of specifications; commas inside brackets or quotes do not count.

    Spaces separate too, but not where an `hf:` stands in the list, because folders may have spaces in their names.
    Errors name the option.

    Raises:
        UsageError: if brackets or quotes do not match, or nothing is named.
    """
    parts, depth, current, quoted = [], 0, "", False
    for character in text:
        if character == '"' and not current.endswith("\\"):
            quoted = not quoted
        depth += 0 if quoted else {"[": 1, "]": -1}.get(character, 0)
        if depth not in (0, 1):
            break
        between = character == "," or (character.isspace() and "hf:" not in text)
        if depth == 0 and not quoted and between:
            parts.append(current)
            current = ""
        else:
            current += character
    if depth != 0 or quoted:
        raise UsageError(
            f"{option}: brackets or quotes do not match in {text!r}; write name[parameter=value,parameter=value]"
        )
    named = [part.strip() for part in [*parts, current] if part.strip()]
    if not named:
        raise UsageError(f"{option}: {text!r} names nothing; `bench list models` shows what there is")
    return named


def split_names(text: str, option: str) -> list[str]:
    """Split a comma- or space-separated list of plain names, for instance of suites or formats.

    Raises:
        UsageError: if nothing is named.
    """
    named = text.replace(",", " ").split()
    if not named:
        raise UsageError(f"{option}: {text!r} names nothing; write names, separated by commas")
    return named


def pick(kind: str, table: Mapping[str, V], name: str) -> V:
    """The entry of that name.

    Raises:
        UsageError: if there is none; the nearest name, or all of them, are in the message.
    """
    if name in table:
        return table[name]
    raise UsageError(f"no {kind} is named {name!r}; {nearest(name, table)}")


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of an error about an unknown name: the known names that it is like, or all of them.

    A name is like those that it begins (`simcse`), is a part of (`glove`), abbreviates (`lr` for `learning_rate`), is
    misspelt from, or, last, has in it (`all-MiniLM-L6-v2`).
    """
    names = list(known)
    folded = {candidate.lower(): candidate for candidate in names}
    asked = name.lower()
    near = (
        [one for one in folded if asked and one.startswith(f"{asked}-")]
        or difflib.get_close_matches(asked, folded, n=1, cutoff=0.75)
        or [one for one in folded if asked == "".join(word[0] for word in re.findall("[a-z0-9]+", one))]
        or [one for one in folded if len(asked) >= _LEAST_PART and asked in one]
        or difflib.get_close_matches(asked, folded, n=1)
        or sorted((one for one in folded if len(one) >= _LEAST_PART and one in asked), key=len)[-1:]
    )
    if near:
        *first, last = [repr(folded[one]) for one in near[:_MOST_NEAR]]
        return f"did you mean {', '.join(first)}{' or ' if first else ''}{last}?"
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return f"known: {', '.join(names[:_MOST_NAMES])}{more}"


class ScoreKey(NamedTuple):
    """The key of one score in a result: `spearman/all/test`, `accuracy/dev`, `uniformity/unique/test/low`.

    Attributes:
        metric: what is computed, e.g. `spearman`, `accuracy`, `alignment`.
        aggregation: how subsets or sentences become one number (`all`, `mean`, `wmean`, `subset:<name>`, `unique`,
            `gt4`); empty where the metric has only one way.
        split: `test`, `dev` or `train`.
        bound: `low` or `high` of an interval; empty for the score itself.
    """

    metric: str
    aggregation: str
    split: str
    bound: str = ""

    @classmethod
    def parse(cls, text: str) -> "ScoreKey":
        """Read a key; `accuracy/test` has an empty aggregation."""
        parts = text.split("/")
        bound = parts.pop() if parts[-1] in ("low", "high") else ""
        metric, *aggregation, split = parts
        return cls(metric, "/".join(aggregation), split, bound)

    def __str__(self) -> str:
        return "/".join(filter(None, self))


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderCard:
    """What an encoder is: its name, where it comes from, and everything that decides its vectors.

    Attributes:
        name: the full specification, e.g. `bert-whitening[backbone=tiny,fit=nli,dim=256]`; it parses back.
        method: the registry entry, e.g. `bert-whitening`.
        parameters: every parameter of the specification with its value, defaults included.
        backbone: checkpoint name or repository; None for encoders without one.
        revision: commit of a hub repository, or None.
        weights_sha256: digest of the weight file(s) read, or None where nothing is loaded.
        pooling: how token vectors become a sentence vector; None where there are no layers.
        dim: length of a vector.
        max_tokens: sentences are cut after so many tokens, special tokens included; None: never cut.
        dtype: arithmetic of the forward pass; vectors are always handed over as float32.
        normalized: whether rows have length 1 as the encoder returns them.
        fitted_on: label and digest of the text that a post-processing step was fitted on, or None; "target" means the
            evaluated sentences themselves.
        trained_on: label and digest of the text that the weights were trained on by this project, or None.
        selected_on: the development set that chose the weights among the steps of training, or None.
        seed: of fitting or training, or None.
        content: every input that decides the vectors, by content and never by path: digests of weights, configuration,
            tokenizer and fit text, and the settings that act. Empty where the encoder does not say.
        plugin: of an encoder of another package: the package, its version, and by parameter the digests of the files
            that it was given. Empty for this project's own.
    """

    name: str
    method: str
    parameters: Mapping[str, Value | None] = field(default_factory=dict)
    backbone: str | None = None
    revision: str | None = None
    weights_sha256: str | None = None
    pooling: str | None = None
    dim: int
    max_tokens: int | None = None
    dtype: str = "float32"
    normalized: bool = False
    fitted_on: str | None = None
    trained_on: str | None = None
    selected_on: str | None = None
    seed: int | None = None
    content: Mapping[str, Value | None] = field(default_factory=dict)
    plugin: Mapping[str, str] = field(default_factory=dict)

    @property
    def identity(self) -> str:
        """Sha256 (hex) of what decides the vectors: two encoders with one identity give equal vectors.

        An encoder whose card has no `content` is identified by everything that the card says of it but its name.

        Raises:
            TypeError: if a value of the card is none that JSON has.
            ValueError: if a number of the card is not finite.
        """
        facts = asdict(self)
        described = {key: facts[key] for key in facts.keys() - {"name", "content", "plugin"}}
        decisive = {**self.content, "dim": self.dim} if self.content else described
        decisive |= {"plugin": facts["plugin"]} if self.plugin else {}
        return hashlib.sha256(json.dumps(decisive, sort_keys=True, allow_nan=False).encode()).hexdigest()
