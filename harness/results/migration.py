"""Convert a results folder of schema 1, in which every result had all its per-item scores and its encoder's card.

Its files were `bert[backbone=tiny]/STS12@sts.json` and, beside it, `STS12@sts-0a1b2c3d4e5f.parquet`.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from harness import files
from harness.errors import ResultError
from harness.names import EncoderCard
from harness.results import layout, store
from harness.results.correlation import check_scores
from harness.results.items import from_columns, from_parquet
from harness.results.record import Result, Run

_OLD_SCHEMA = 1
_OLD = TypeAdapter(dict[str, Any])
_CARD = TypeAdapter(EncoderCard)
_RUN = TypeAdapter(Run)


@dataclass(frozen=True, slots=True)
class Migration:
    """What became of an old folder.

    Attributes:
        results: how many are in the new one.
        problems: one sentence for each old file that is left out.
        names: each encoder's old name and its new one, in order.
    """

    results: int
    problems: tuple[str, ...]
    names: tuple[tuple[str, str], ...]


def migrate(old: Path, new: Path, identify: Callable[[EncoderCard], EncoderCard]) -> Migration:
    """Read every result of schema 1 below `old`, check it, and write it to `new` with the same scores and provenance.

    Args:
        old: a results folder of schema 1; it is not changed.
        new: another folder; results in it stay.
        identify: gives an old card, whose `content` is empty, the name, the parameters and the content it has today.

    Raises:
        ResultError: if the two folders are one.
        WriteError: if the disk refuses.
    """
    if old.resolve() == new.resolve():
        raise ResultError(f"{new}: is the folder to convert, expected another one; name a new folder")
    problems: list[str] = []
    names: dict[str, str] = {}
    cards: dict[str, EncoderCard] = {}
    written: dict[Path, str] = {}
    with files.lock(new / layout.LOCK):
        for path in sorted(old.glob("*/*.json")):
            try:
                result = _read(path)
                facts = f"{result.encoder.name} {result.encoder.identity}"
                if facts not in cards:
                    cards[facts] = identify(result.encoder)
                known = cards[facts]
                file = layout.result_file(layout.encoder_folder(new, known), result.task, result.protocol)
                if file in written:
                    raise ResultError(f"{path}: repeats {written[file]}, which has an equal encoder")
                store.place(replace(result, encoder=known, file=file), new)
            except ResultError as error:
                problems.append(str(error))
                continue
            written[file] = str(path)
            names[result.encoder.name] = known.name
        everything = layout.index_of(store.scan(new, check=False)[0])
        files.replace(new / layout.INDEX, everything.encode())
    return Migration(len(written), tuple(problems), tuple(names.items()))


def _read(path: Path) -> Result:
    """Read and check a result of schema 1 with its per-item scores.

    Raises:
        ResultError: if the file or its per-item scores are missing, damaged or edited, or do not give its scores.
    """
    document = _document(path)
    card = _CARD.validate_json(json.dumps(document["encoder"]), strict=True, extra="forbid")
    run = _RUN.validate_json(json.dumps(document["run"]), strict=True, extra="forbid")
    kept = {key: value for key, value in document.items() if key not in ("schema", "sidecar")}
    result = Result(**kept | {"flags": tuple(kept["flags"]), "encoder": card, "run": run})
    if document["sidecar"] is None:
        return result
    place = path.with_name(f"{path.name.removesuffix('.json')}-{document['sidecar'][:12]}.parquet")
    if not place.exists() or files.sha256(place) != document["sidecar"]:
        raise ResultError(f"{place}: is missing or not the file that {path.name} names; it cannot be converted")
    found = from_parquet(place)
    if "predicted" in found:  # the trained regressor's columns were named like those of pairs
        found = {{"left": "first", "right": "second"}.get(name, name): values for name, values in found.items()}
    result = result.with_items(from_columns(found))
    check_scores(result, result.held)
    return result


def _document(path: Path) -> dict[str, Any]:
    try:
        document = _OLD.validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise ResultError(f"{path}: cannot be read as a result of schema 1; it cannot be converted") from error
    checksum = document.pop("checksum", None)
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"))
    if document.get("schema") != _OLD_SCHEMA:
        raise ResultError(f"{path}: schema is {document.get('schema')!r}, expected 1; it cannot be converted")
    if checksum != hashlib.sha256(canonical.encode()).hexdigest():
        raise ResultError(f"{path}: was edited after it was written; it cannot be converted")
    return document
