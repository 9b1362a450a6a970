"""What a method declares of itself: its name, its parameters, how it is built, and the work that comes before.

A method declares its parameters once, as a frozen pydantic dataclass:

    @parameters
    class Whitening:
        backbone: str = parameter("bert-base-uncased", "tiny or small (bundled), a hub name, or a folder")
        dim: int | None = parameter(None, "axes to keep; not set: all of them", ge=1)
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from types import NoneType
from typing import Any, Literal, TypeVar, dataclass_transform, get_args

import pydantic
from pydantic.fields import FieldInfo

from harness.encoders.context import Context
from harness.encoders.protocol import Encoder, Transductive
from harness.names import Spec, Value

_RECORDED_ONLY, _CHOICES = "recorded_only", "choices"

T = TypeVar("T")

Built = Encoder | Transductive
Build = Callable[[Spec, Any, Context], Built]


def parameter(
    default: Any = MISSING,
    help: str = "",
    *,
    choices: Sequence[str] = (),
    recorded_only: bool = False,
    **bounds: float,
) -> Any:
    """Declare one parameter of a method.

    Args:
        default: its value where it is not given; None means "not set", which a specification writes as `none`. Without
            a default the parameter is required.
        help: one line for `bench list models NAME`.
        choices: every legal value of a text.
        recorded_only: the parameter does not change the vectors, so it is no part of the encoder's name.
        **bounds: `ge`, `gt`, `le`, `lt` of a number.
    """
    extra = {_CHOICES: list(choices), _RECORDED_ONLY: recorded_only}
    required = {} if default is MISSING else {"default": default}
    return pydantic.Field(description=help, json_schema_extra=extra, **required, **bounds)  # type: ignore[call-overload]


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(parameter,))
def parameters(cls: type[T]) -> type[T]:
    """Make the class a frozen dataclass whose values are checked by pydantic."""
    config = pydantic.ConfigDict(extra="forbid", allow_inf_nan=False)
    return pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=config)(cls)  # type: ignore[return-value]


@parameters
class NoParameters:
    """The parameters of a method that has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What the work takes.

    Attributes:
        done: whether it is done already and kept in the cache.
        steps: of an optimiser; 0 where there is none.
        texts: sentences or examples that are read, each as often as it is.
        model_bytes: size of the weights that are trained, or of those that encode what is fitted on.
    """

    done: bool
    steps: int
    texts: int
    model_bytes: int


@dataclass(frozen=True, slots=True)
class Work:
    """What comes before the first sentence.

    Attributes:
        kind: of the work.
        cost: finds text and weights, which may read all of the text, and says what the work takes. It raises what
            building the encoder would raise where they are missing.
        shares: works with one text here read the same vectors; empty where the work shares nothing.
    """

    kind: Literal["train", "fit"]
    cost: Callable[[Context], Cost]
    shares: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderEntry:
    """One row of the registry.

    Attributes:
        name: the method's name in specifications; one that ends in a colon takes whatever follows it, `mteb:org/model`.
        summary: one line for `bench list models`.
        parameters: a class made by `@parameters`.
        build: makes the encoder of a checked specification; raises UsageError or EncoderError.
        work: the training or fit that building or the first sentence will do, or None.
    """

    name: str
    summary: str
    parameters: type[Any] = NoParameters
    build: Build
    work: Callable[[Spec, Any], Work | None] = lambda spec, parameters: None


@dataclass(frozen=True, slots=True)
class Declared:
    """What a method declares of one parameter.

    Attributes:
        default: the value where it is not given; None where one is required.
        choices: every legal text, or none where all are.
        bounds: the legal range in words, e.g. `1 to 64`, or an empty text.
        recorded_only: whether it is left out of names, because it does not change the vectors.
        optional: whether it can be `none`.
    """

    name: str
    default: Value | None
    required: bool
    help: str
    choices: tuple[str, ...]
    bounds: str
    recorded_only: bool
    optional: bool


def declared(entry: EncoderEntry) -> tuple[Declared, ...]:
    """The parameters of an entry, in the order of their declaration."""
    infos: Mapping[str, FieldInfo] = entry.parameters.__pydantic_fields__
    found = []
    for name in (field.name for field in fields(entry.parameters)):
        info = infos[name]
        extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
        choices = extra.get(_CHOICES)
        one = Declared(
            name=name,
            default=None if info.is_required() else info.default,
            required=info.is_required(),
            help=info.description or "",
            choices=tuple(map(str, choices)) if isinstance(choices, list) else (),
            bounds=_bounds(info),
            recorded_only=bool(extra.get(_RECORDED_ONLY)),
            optional=NoneType in get_args(info.annotation),
        )
        found.append(one)
    return tuple(found)


def _bounds(info: FieldInfo) -> str:
    """The legal range in words."""
    limits = {key: getattr(one, key) for one in info.metadata for key in ("ge", "gt", "le", "lt") if hasattr(one, key)}
    low = f"{limits['ge']:g} or more" if "ge" in limits else f"more than {limits['gt']:g}" if "gt" in limits else ""
    high = f"{limits['le']:g} or less" if "le" in limits else f"less than {limits['lt']:g}" if "lt" in limits else ""
    if "ge" in limits and "le" in limits:
        return f"{limits['ge']:.15g} to {limits['le']:.15g}"
    return " and ".join(filter(None, (low, high)))
