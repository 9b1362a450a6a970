"""Names: tables indexed by name, and encoder specifications such as `bert-whitening[backbone=tiny,dim=256]`."""

import difflib
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol, TypeVar

from harness.errors import UsageError

Value = str | int | float | bool

_SPEC = re.compile(r"(?P<name>[^\[\],\s]+)(?:\[(?P<parameters>[^\[\]]*)\])?")


class Named(Protocol):
    """Anything a catalog can hold."""

    @property
    def name(self) -> str: ...


T = TypeVar("T", bound=Named)
V = TypeVar("V")


def catalog(kind: str, entries: Iterable[T]) -> Mapping[str, T]:
    """Index entries by name, in the order given. A repeated name is a bug, so it stops the import."""
    table: dict[str, T] = {}
    for entry in entries:
        if entry.name in table:
            raise ValueError(f"two {kind}s are named {entry.name!r}")
        table[entry.name] = entry
    return MappingProxyType(table)


def pick(kind: str, table: Mapping[str, V], name: str) -> V:
    """The entry of that name.

    Raises:
        UsageError: if there is none; the nearest name, or all of them, are in the message.
    """
    if name in table:
        return table[name]
    raise UsageError(f"no {kind} is named {name!r}; {_hint(name, table)}")


def _hint(name: str, known: Iterable[str]) -> str:
    names = list(known)
    folded = {candidate.lower(): candidate for candidate in names}
    near = difflib.get_close_matches(name.lower(), folded, n=1)
    return f"did you mean {folded[near[0]]!r}?" if near else f"known: {', '.join(names)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One parameter of an encoder's specification.

    `default` gives the type; None means "a string, no default, may stay unset". `choices` lists every legal value.
    `minimum` and `maximum` bound a number, both included; the default is legal outside them too, where it means that
    there is no such number.
    """

    name: str
    default: Value | None
    help: str
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None


@dataclass(frozen=True, slots=True)
class Spec:
    """An encoder's name with every parameter's value. Its text is its identity: `str(spec)` parses back to it.

    Attributes:
        name: the registry entry, or `hf:<repo-or-folder>`.
        parameters: all parameters of the entry, those left at their default too; None is "not set".
        defaults: the entry's defaults, which the printed name leaves out.
    """

    name: str
    parameters: Mapping[str, Value | None]
    defaults: Mapping[str, Value | None]

    def __str__(self) -> str:
        shown = [f"{k}={value_text(v)}" for k, v in self.parameters.items() if v != self.defaults[k] and v is not None]
        return f"{self.name}[{','.join(shown)}]" if shown else self.name


def split_specs(text: str, option: str = "models") -> list[str]:
    """Split a comma- or space-separated list of specifications; commas inside brackets do not count.

    Args:
        text: the list.
        option: what errors call it.

    Raises:
        UsageError: if brackets do not match, or nothing is named.
    """
    parts, depth, current = [], 0, ""
    for character in text:
        depth += {"[": 1, "]": -1}.get(character, 0)
        if depth not in (0, 1):
            break
        if depth == 0 and (character == "," or character.isspace()):
            parts.append(current)
            current = ""
        else:
            current += character
    if depth != 0:
        raise UsageError(f"{option}: brackets do not match in {text!r}; write name[parameter=value,parameter=value]")
    named = [part for part in [*parts, current] if part]
    if not named:
        known = "`bench list models` shows what there is" if option == "models" else "write names, separated by commas"
        raise UsageError(f"{option}: {text!r} names nothing; {known}")
    return named


def parse_name(text: str) -> tuple[str, dict[str, str]]:
    """`bert[pooling=avg,backbone=tiny]` -> ("bert", {"pooling": "avg", "backbone": "tiny"}).

    Raises:
        UsageError: if the text is not a name with optional `[parameter=value,...]`, or repeats a parameter.
    """
    match = _SPEC.fullmatch(text)
    if match is None:
        raise UsageError(f"model {text!r} is not a specification; write name or name[parameter=value,...]")
    given: dict[str, str] = {}
    for item in filter(None, (match["parameters"] or "").split(",")):
        key, equals, value = (part.strip() for part in item.partition("="))
        if not (key and equals and value):
            raise UsageError(f"model {text!r}: {item!r} is not parameter=value")
        if key in given:
            raise UsageError(f"model {text!r} gives {key!r} twice; keep one")
        given[key] = value
    return match["name"], given


def fill(name: str, given: Mapping[str, str], parameters: Iterable[Parameter]) -> Spec:
    """Give every parameter its value, converted to the type of its default.

    Raises:
        UsageError: on an unknown parameter, a value outside the choices or the bounds, or one of the wrong type.
    """
    known = {parameter.name: parameter for parameter in parameters}
    for key in given:
        if key not in known:
            what = _hint(key, known) if known else "it takes none"
            raise UsageError(f"model {name!r} has no parameter {key!r}; {what}")
    values = {key: _convert(name, p, given[key]) if key in given else p.default for key, p in known.items()}
    return Spec(name, values, {key: parameter.default for key, parameter in known.items()})


def _convert(model: str, parameter: Parameter, text: str) -> Value:
    if parameter.choices and text not in parameter.choices:
        raise UsageError(f"model {model!r}: {parameter.name}={text} is unknown; {_hint(text, parameter.choices)}")
    default = parameter.default
    if isinstance(default, bool):
        if text not in ("true", "false"):
            raise UsageError(f"model {model!r}: {parameter.name}={text} is neither true nor false")
        return text == "true"
    return _number(model, parameter, text, default) if isinstance(default, int | float) else text


def _number(model: str, parameter: Parameter, text: str, default: float) -> float:
    try:
        value = type(default)(text)
    except ValueError:
        kind = "a whole number" if isinstance(default, int) else "a number"
        raise UsageError(f"model {model!r}: {parameter.name}={text} is not {kind}") from None
    if value != default and not _within(parameter, value):
        raise UsageError(
            f"model {model!r}: {parameter.name}={text} is out of range, expected {_legal_range(parameter)}"
        )
    return value


def _within(parameter: Parameter, value: float) -> bool:
    if parameter.minimum is None and parameter.maximum is None:
        return True  # nan too: who gives no bounds checks the value on their own
    low, high = _bounds(parameter)
    return low <= value <= high  # false for nan


def _bounds(parameter: Parameter) -> tuple[float, float]:
    return (
        -math.inf if parameter.minimum is None else parameter.minimum,
        math.inf if parameter.maximum is None else parameter.maximum,
    )


def _legal_range(parameter: Parameter) -> str:
    low, high = _bounds(parameter)
    legal = f"{low} or more" if high == math.inf else f"{high} or less" if low == -math.inf else f"{low} to {high}"
    default_inside = isinstance(parameter.default, int | float) and low <= parameter.default <= high
    return legal if default_inside else f"{legal}, or {parameter.default}, the default"


def value_text(value: Value | None) -> str:
    """A parameter's value as it is written in a name; nothing where it is not set."""
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)
