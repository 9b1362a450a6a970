"""The JSON files of results: an encoder's card, and one result without it. Each ends in a checksum of the rest."""

import contextlib
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from harness import files
from harness.errors import ResultError
from harness.names import EncoderCard
from harness.results.record import Result, Run

SCHEMA = 2

_AGAIN = "run its task again with --force"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Document:
    """A result as its file holds it: the encoder is named by its identity, the card lies beside."""

    schema: int
    encoder: str
    task: str
    protocol: str
    metric: str
    scores: Mapping[str, float]
    counts: Mapping[str, int]
    data: Mapping[str, str]
    flags: tuple[str, ...]
    seed: int | None
    shared_sha256: str | None
    items_sha256: str | None
    run: Run


_RESULT = TypeAdapter(_Document)
_CARD = TypeAdapter(EncoderCard)


def schemas() -> dict[str, dict[str, Any]]:
    """The JSON schemas of the two kinds of files: a `result`, and the card of an `encoder`."""
    added = {"result": {}, "encoder": {"schema": {"const": SCHEMA}, "identity": {"type": "string"}}}
    found = {"result": _RESULT.json_schema(), "encoder": _CARD.json_schema()}
    for kind, schema in found.items():
        more = {**added[kind], "checksum": {"type": "string"}}
        schema["properties"] |= more
        schema["required"] = sorted({*schema["required"], *more})
        schema["additionalProperties"] = False
    return found


def result_bytes(result: Result) -> bytes:
    """The file of a result."""
    names = (name for name in _Document.__dataclass_fields__ if name not in ("schema", "encoder", "run"))
    document = {name: getattr(result, name) for name in names}
    return _sign({"schema": SCHEMA, "encoder": result.encoder.identity, **document, "run": asdict(result.run)})


def read_result(file: Path, card: EncoderCard) -> Result:
    """Read a result, given the card of its folder.

    Raises:
        ResultError: if the file is missing, damaged, of another schema or another encoder, or was edited.
    """
    document = _load(file)
    found = _validate(_RESULT, document, file)
    check_finite(found.scores, f"{file}", _AGAIN)
    if found.encoder != card.identity:
        raise ResultError(f"{file}: belongs to another encoder than the card beside it; move it away, or {_AGAIN}")
    names = (name for name in _Document.__dataclass_fields__ if name not in ("schema", "encoder"))
    return Result(**{name: getattr(found, name) for name in names}, encoder=card, file=file)


def write_card(card: EncoderCard, file: Path) -> None:
    """Write an encoder's card where there is none, or a damaged one; an equal encoder's card stays.

    Raises:
        WriteError: if the disk refuses.
    """
    try:
        if read_card(file).identity == card.identity:
            return
    except ResultError:
        pass
    files.replace(file, _sign({"schema": SCHEMA, "identity": card.identity, **asdict(card)}))


def read_card(file: Path) -> EncoderCard:
    """Read an encoder's card.

    Raises:
        ResultError: if it is missing, damaged, of another schema, or was edited.
    """
    document = _load(file)
    identity = document.pop("identity", None)
    document.pop("schema", None)
    card: EncoderCard = _validate(_CARD, document, file)
    if card.identity != identity:
        raise ResultError(f"{file}: was edited after it was written; {_AGAIN}")
    return card


def shared_digest(file: Path) -> str | None:
    """The digest by which a result, checked or not, names the items it shares; None where it names none."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        named = json.loads(file.read_bytes()).get("shared_sha256")
        return named if isinstance(named, str) else None
    return None


def check_finite(scores: Mapping[str, float], place: str, advice: str) -> None:
    """Refuse scores that are not numbers.

    Raises:
        ResultError: if one is nan or infinite.
    """
    for name, value in scores.items():
        if not math.isfinite(value):
            raise ResultError(f"{place}: score {name} is {value}, expected a finite number; {advice}")


def is_there(path: Path, *, unless: bool | None = None) -> bool:
    """Whether a file or folder exists.

    Args:
        path: of it.
        unless: the answer where that cannot be told; None raises then.

    Raises:
        ResultError: if that cannot be told.
    """
    try:
        return path.exists()
    except OSError as error:
        if unless is not None:
            return unless
        raise unreadable(path, error) from error


def unreadable(path: Path, error: OSError) -> ResultError:
    """The sentence about a file or folder that cannot be read."""
    return ResultError(str(files.read_error(path, error)))


def _sign(document: dict[str, Any]) -> bytes:
    return (json.dumps({**document, "checksum": _checksum(document)}, indent=2, allow_nan=False) + "\n").encode()


def _load(file: Path) -> dict[str, Any]:
    """The document of a file, its schema and checksum verified."""
    try:
        document = json.loads(file.read_bytes())
    except OSError as error:
        raise unreadable(file, error) from error
    except (ValueError, RecursionError) as error:
        raise ResultError(f"{file}: is not JSON ({error}); {_AGAIN}") from error
    if not isinstance(document, dict):
        raise ResultError(f"{file}: holds no result but a {type(document).__name__}; move it out of the results folder")
    if document.get("schema") != SCHEMA:
        raise ResultError(f"{file}: schema is {document.get('schema')!r}, this version reads {SCHEMA}; {_AGAIN}")
    if document.pop("checksum", None) != _checksum(document):
        raise ResultError(f"{file}: was edited after it was written; {_AGAIN}")
    return document


def _validate(reader: "TypeAdapter[Any]", document: Mapping[str, Any], file: Path) -> Any:
    try:
        return reader.validate_json(json.dumps(document), strict=True, extra="forbid")
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ResultError(f"{file}: {place}: {first['msg']}; {_AGAIN}") from error


def _checksum(document: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
