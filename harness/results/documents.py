"""The files of results: where they lie, and what the index and the JSON documents hold.

Names are such as every shell and file system takes, at most 60 characters, and never parsed:

    results/index.csv                                       one line per result
    results/items/STS12.sts.0a1b2c3d4e5f.parquet            what all encoders share of a task's per-item scores
    results/bert_tiny_0a1b2c3d/encoder.json                 the encoder's card
    results/bert_tiny_0a1b2c3d/STS12.sts.json               one result
    results/bert_tiny_0a1b2c3d/STS12.sts.scores.parquet     the encoder's own per-item scores

What a name leaves out is in the files. A folder is named after the card's identity, so that equal encoders share one. A
JSON document ends in a checksum of the rest.
"""

import contextlib
import csv
import hashlib
import io
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from harness import files
from harness.errors import ResultError
from harness.names import EncoderCard
from harness.results.record import Result, Run

SCHEMA = 2
ITEMS = "items"
ENCODER = "encoder.json"
INDEX = "index.csv"  # for people, grep and spreadsheets; reports never read it
INDEX_HEAD = ("encoder", "folder", "task", "protocol", "score", "seed", "commit")
LOCK = ".lock"

_AGAIN = "run its task again with --force"
_LONGEST = 60
_DIGITS = 8  # of a digest in the name of a folder
_STEM = _LONGEST - len(".0a1b2c3d4e5f.parquet")


def encoder_folder(root: Path, card: EncoderCard) -> Path:
    """The folder of an encoder's results: `<method>_<backbone>_<first digits of its identity>`."""
    backbone = (card.backbone or "").rstrip("/").rpartition("/")[2]
    words = "_".join(filter(None, (_slug(card.method), _slug(backbone)))) or "encoder"
    room = _LONGEST - _DIGITS - 1
    return root / f"{words[:room].rstrip('-._')}_{card.identity[:_DIGITS]}"


def result_file(folder: Path, task: str, protocol: str) -> Path:
    """The result of a task in an encoder's folder; distinct tasks and protocols of this project have distinct files."""
    return folder / f"{_stem(task, protocol)}.json"


def scores_file(result: Path) -> Path:
    """The encoder's own per-item scores, beside the result's file."""
    return result.with_suffix(".scores.parquet")


def items_file(root: Path, task: str, protocol: str, digest: str) -> Path:
    """What all encoders share of a task's per-item scores, given the sha256 (hex) of its content."""
    return root / ITEMS / f"{_stem(task, protocol)}.{digest[:12]}.parquet"


def _stem(task: str, protocol: str) -> str:
    """`STS12.sts`, `MR.senteval-mode-test`; a part that there is no room for is replaced by digits of its digest."""
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", task).strip("-") or "task"
    if plain != task or len(plain) > _STEM - _DIGITS - 1:
        plain = f"{plain[: _STEM - 2 * (_DIGITS + 1)]}-{_digits(task)}"
    stem = f"{plain}.{_slug(protocol)}"
    return stem if len(stem) <= _STEM else f"{plain}.{_digits(protocol)}"


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-.")


def _digits(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


def index_of(results: Iterable[Result]) -> str:
    """The index of results that know their files."""
    return _index_text(map(_index_line, results))


def index_with(before: str, result: Result) -> str | None:
    """An index with the line of a result added, in place of an earlier one; None if `before` is no index."""
    try:
        head, *lines = csv.reader(before.splitlines())
    except (ValueError, csv.Error):
        return None
    if tuple(head) != INDEX_HEAD or any(len(line) != len(INDEX_HEAD) for line in lines):
        return None
    new = _index_line(result)
    others = (line for line in map(tuple, lines) if line[1:4] != new[1:4])  # folder, task and protocol
    return _index_text([*others, new])


def is_in_index(index: str, result: Result) -> bool:
    """Whether an index has the line of a result as it is."""
    return _index_text([_index_line(result)]).splitlines()[1] in index.splitlines()


def _index_line(result: Result) -> tuple[str, ...]:
    assert result.file is not None
    score = repr(result.scores[result.metric])
    seed = "" if result.encoder.seed is None else str(result.encoder.seed)
    place = result.file.parent.name
    return (result.encoder.name, place, result.task, result.protocol, score, seed, result.run.commit or "")


def _index_text(lines: Iterable[Sequence[str]]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(INDEX_HEAD)
    writer.writerows(sorted(lines, key=lambda line: list(line)[1:4]))
    return stream.getvalue()


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
    """Whether a file or folder exists; `unless` is the answer where that cannot be told.

    Raises:
        ResultError: if it cannot be told and there is no such answer.
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
