"""Encoders of other packages: what they compute depends on a package's version and on the files they are given."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

from harness import files
from harness.data.named_texts import file_named, name_by_content
from harness.encoders.context import Context
from harness.encoders.entry import Built, EncoderEntry, declared
from harness.encoders.protocol import Embeddings, Encoder, Releasable, Transductive
from harness.names import EncoderCard, Spec, Value


class Plugged:
    """An encoder of another package under a card that says which package and version, and which files."""

    def __init__(self, encoder: Encoder, card: EncoderCard) -> None:
        self.card, self._encoder = card, encoder
        self.is_cheap = bool(getattr(encoder, "is_cheap", False))

    def encode(self, sentences: Sequence[str], /) -> Embeddings:
        """As the package's own encoder."""
        return self._encoder.encode(sentences)

    def release(self) -> None:
        """Drop the weights where the package's encoder can."""
        if isinstance(self._encoder, Releasable):
            self._encoder.release()


class PluggedTransductive:
    """A method of another package that is fitted on each task, under such a card."""

    def __init__(self, method: Transductive, card: EncoderCard) -> None:
        self.card, self._method = card, method

    def fit_target(self, sentences: Sequence[str], /) -> Encoder:
        """As the package's own method."""
        return Plugged(self._method.fit_target(sentences), self.card)


def plugged(entry: EncoderEntry, point: EntryPoint) -> EncoderEntry:
    """The entry of another package: its encoders' cards have its name and version and the digests of given files."""
    package = {"package": point.dist.name, "version": point.dist.version} if point.dist else {"package": point.value}

    def build(spec: Spec, chosen: Any, context: Context) -> Built:
        given = _given_files(entry, chosen, context.cache_dir)
        digests = {key: _digest(path) for key, path in given.items()}
        names = {key: _name(path, digests[key], context.cache_dir) for key, path in given.items()}
        built = entry.build(
            spec.replaced(**{key: name for key, name in names.items() if key in spec.given}),
            replace(chosen, **{key: str(path) for key, path in given.items()}),
            context,
        )
        if not isinstance(getattr(built, "card", None), EncoderCard):
            return built  # which is refused where it is to be used
        shown = {str(path): names[key] for key, path in given.items()}
        named = Spec.parse(built.card.name)
        card = replace(
            built.card,
            name=str(Spec(named.name, _without_paths(named.given, shown))),
            parameters=_without_paths(built.card.parameters, shown),
            content=_without_paths(built.card.content, shown),
            plugin={**package, **digests},
        )
        return _under(built, card)

    return replace(entry, build=build)


def _under(built: Built, card: EncoderCard) -> Built:
    from harness.encoders.transformer import TransformerEncoder

    if isinstance(built, TransformerEncoder):  # shares its passes with others of its checkpoint
        built.card = card
        return built
    return PluggedTransductive(built, card) if isinstance(built, Transductive) else Plugged(built, card)


def _given_files(entry: EncoderEntry, chosen: Any, cache_dir: Path) -> dict[str, Path]:
    """The files and folders among the values of parameters; a file also by the name that records have of it."""
    free = {one.name for one in declared(entry) if not one.choices}
    found = {}
    for key, value in asdict(chosen).items():
        if not isinstance(value, str) or not value or key not in free:
            continue
        path = Path(value).expanduser()
        named = None if path.exists() else file_named(value, cache_dir)
        if named is not None or path.is_file() or (path.is_dir() and "/" in value):
            found[key] = named or path
    return found


def _digest(path: Path) -> str:
    if path.is_file():
        return files.sha256(path)
    return hashlib.sha256(json.dumps(files.digests(path), sort_keys=True).encode()).hexdigest()


def _name(path: Path, digest: str, cache_dir: Path) -> str:
    """What names and records have in the place of a path."""
    if path.is_file():
        return name_by_content(path, digest, digest, cache_dir)
    return f"{path.resolve().name}@{digest[:12]}"


def _without_paths(values: Mapping[str, Value | None], shown: Mapping[str, str]) -> dict[str, Value | None]:
    return {key: shown.get(value, value) if isinstance(value, str) else value for key, value in values.items()}
