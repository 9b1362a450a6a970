"""Result files: one JSON per encoder, task and protocol, and beside it a Parquet file of per-item scores.

    results/minilm/STS12@sts.json
    results/minilm/STS12@sts-1f0c5a2b9d3e.parquet

A file is written under a temporary name and moved into place, the Parquet file first and named after its content, so
that a JSON file never names a sidecar that is missing, half written or another run's.
"""

import contextlib
import hashlib
import io
import json
import math
import re
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pydantic import TypeAdapter, ValidationError

from harness import files
from harness.errors import ResultError
from harness.names import EncoderCard
from harness.results.items import Items, columns, from_columns
from harness.results.record import SCHEMA, Result

_READER = TypeAdapter(Result)
_LONGEST = 120  # a file name may have 255 bytes, and the sidecar adds 21
_STALE = 24 * 3600  # seconds


def cell_path(root: Path, encoder: str, task: str, protocol: str) -> Path:
    """Where the result of that encoder, task and protocol lies. Distinct names give distinct paths."""
    return root / _file_name(encoder) / f"{_file_name(task, protocol)}.json"


def sidecar_path(path: Path, sidecar: str) -> Path:
    """The Parquet file beside the result at `path`, given its sha256 (hex)."""
    return path.with_name(f"{path.name.removesuffix('.json')}-{sidecar[:12]}.parquet")


def write(result: Result, items: Items | None, root: Path) -> Path:
    """Write one result atomically: after a crash the old files or the new ones are there, never half of one.

    Args:
        result: its `sidecar` is replaced by the digest of the file written here.
        items: per-item gold and prediction, or None.
        root: the results folder; it is made if missing.

    Returns:
        The JSON file.

    Raises:
        ResultError: if a score is not finite, or the files cannot be written.
    """
    path = cell_path(root, result.encoder.name, result.task, result.protocol)
    _check_finite(result.scores, path, "nothing was written; look for a constant prediction or an empty set")
    parquet = None if items is None else _parquet(items)
    digest = None if parquet is None else hashlib.sha256(parquet).hexdigest()
    document = asdict(replace(result, sidecar=digest, held=None))
    del document["file"], document["held"]
    document["checksum"] = _checksum(document)
    if parquet is not None and digest is not None:
        files.replace(sidecar_path(path, digest), parquet)
    files.replace(path, (json.dumps(document, indent=2, allow_nan=False) + "\n").encode())
    _sweep(path, digest)
    return path


def read(path: Path) -> Result:
    """Read and check one result file.

    Raises:
        ResultError: if it is missing, damaged, of another schema, or was edited after it was written.
    """
    document = _load(path)
    if document.get("schema") != SCHEMA:
        raise ResultError(
            f"{path}: schema is {document.get('schema')!r}, this version reads {SCHEMA}; "
            "read it with the version that wrote it, or run its task again with --force"
        )
    checksum = document.pop("checksum", None)
    try:
        result = _READER.validate_json(json.dumps(document), strict=True, extra="forbid")
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ResultError(f"{path}: {place}: {first['msg']}; run its task again with --force") from error
    _check_finite(result.scores, path, "run its task again with --force")
    if checksum != _checksum(document):
        raise ResultError(f"{path}: was edited after it was written; run its task again with --force")
    return replace(result, file=path)


def read_items(path: Path, sidecar: str) -> Items:
    """The per-item scores of the result at `path`, given their sha256 (hex).

    Raises:
        ResultError: if they are missing, or not those that the result was written with.
    """
    import pyarrow.parquet  # half a second that tables do not need, and read_table() would load pandas too

    if not _sidecar_intact(path, sidecar):
        missing = sidecar_path(path, sidecar)
        raise ResultError(f"{missing}: is missing or not the file that {path.name} names; run the task again")
    with pyarrow.parquet.ParquetFile(sidecar_path(path, sidecar)) as file:
        return from_columns(file.read().to_pydict())


def read_all(root: Path) -> tuple[list[Result], list[str]]:
    """Every readable result under a folder, in the order of their paths, and one sentence per file left out.

    Of two files with one encoder, task and protocol, the one at its own place counts.
    """
    found: dict[tuple[str, str, str], list[tuple[Path, Result]]] = {}
    problems: list[str] = []
    for path in sorted(root.glob("*/*.json")):
        try:
            result = read(path)
        except ResultError as error:
            problems.append(str(error))
        else:
            found.setdefault((result.encoder.name, result.task, result.protocol), []).append((path, result))
    kept: list[Result] = []
    for key, copies in found.items():
        (place, result), *others = sorted(copies, key=lambda copy: (copy[0] != cell_path(root, *key), copy[0]))
        kept.append(result)
        problems.extend(f"{path}: repeats the result in {place}; delete one of them" for path, _ in others)
    return kept, sorted(problems)


def finished(root: Path, task: str, protocol: str, card: EncoderCard, data: Mapping[str, str]) -> bool:
    """Whether that cell is there already, with its sidecar, made by the same encoder from the same data.

    Raises:
        ResultError: if the cell holds something else, which must not be overwritten unasked.
    """
    path = cell_path(root, card.name, task, protocol)
    if not path.exists():
        return False
    result = read(path)
    found, expected = asdict(result.encoder), asdict(card)
    for key in expected:
        if found[key] != expected[key]:
            raise ResultError(_differs(path, key, found[key], expected[key]))
    for key in sorted({*result.data, *data}):
        if result.data.get(key) != data.get(key):
            raise ResultError(_differs(path, f"sha256 of {key}", result.data.get(key), data.get(key)))
    return result.sidecar is None or _sidecar_intact(path, result.sidecar)


def _differs(path: Path, what: str, found: object, expected: object) -> str:
    return (
        f"{path}: holds a result with another {what} ({found!r}, now {expected!r}); "
        "replace it with --force, or choose another --results-dir"
    )


def _file_name(*parts: str) -> str:
    quoted = "@".join(quote(part, safe="[],=") for part in parts)
    if quoted.startswith("."):
        quoted = f"%2E{quoted[1:]}"
    if len(quoted) <= _LONGEST:
        return quoted
    return f"{quoted[: _LONGEST - 9]}+{hashlib.sha256(quoted.encode()).hexdigest()[:8]}"  # quote() leaves no "+"


def _parquet(items: Items) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet

    buffer = io.BytesIO()
    table = pa.table({**columns(items, own=False), **columns(items, own=True)})
    pyarrow.parquet.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def _sidecar_intact(path: Path, sidecar: str) -> bool:
    try:
        content = sidecar_path(path, sidecar).read_bytes()
    except OSError:
        return False
    return hashlib.sha256(content).hexdigest() == sidecar


def _load(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise ResultError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from error
    except (ValueError, RecursionError) as error:  # the latter: 200,000 times "[", for instance
        raise ResultError(f"{path}: is not JSON ({error}); run its task again with --force") from error
    if not isinstance(document, dict):
        raise ResultError(f"{path}: holds no result but a {type(document).__name__}; move it out of the results folder")
    return document


def _check_finite(scores: Mapping[str, float], path: Path, advice: str) -> None:
    for name, value in scores.items():
        if not math.isfinite(value):
            raise ResultError(f"{path}: score {name} is {value}, expected a finite number; {advice}")


def _checksum(document: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _sweep(path: Path, sidecar: str | None) -> None:
    """Remove what killed or replaced runs left in the folder, a day later: another run may still be writing it."""
    own = None if sidecar is None else sidecar_path(path, sidecar)
    earlier = re.compile(re.escape(path.name.removesuffix(".json")) + r"-[0-9a-f]{12}\.parquet")
    for entry in path.parent.iterdir():
        leftover = entry.suffix == ".tmp" or (earlier.fullmatch(entry.name) and entry != own)
        if leftover:
            with contextlib.suppress(OSError):
                if entry.stat().st_mtime < time.time() - _STALE:
                    entry.unlink()
