"""Files of a training that are read again: digests are written with them and verified before they are believed."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness import files

_SEAL = "sha256"


class Damage(Exception):
    """A stored file is not what was written; the text begins with its path and gives no advice yet."""


def digests(folder: Path) -> dict[str, str]:
    """Sha256 (hex) of every file below a folder, by its path from there with `/`."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): files.sha256(path) for path in paths}


def verify(folder: Path, expected: Mapping[str, str]) -> None:
    """Compare files with their digests.

    Raises:
        Damage: naming the first file that is missing, unreadable or changed.
    """
    for name, digest in expected.items():
        path = folder / name
        try:
            found = files.sha256(path)
        except OSError as error:
            raise Damage(f"{path}: {error.strerror}, expected what the training wrote") from error
        if found != digest:
            raise Damage(f"{path}: sha256 {found[:12]}, expected {digest[:12]} as the training wrote it")


def write_sealed(path: Path, values: Mapping[str, Any]) -> dict[str, Any]:
    """Write JSON with the digest of what it says, atomically and durably; what was written."""
    sealed = {**values, _SEAL: _digest(values)}
    files.replace(path, (json.dumps(sealed, indent=2, ensure_ascii=False) + "\n").encode())
    return sealed


def read_sealed(path: Path) -> dict[str, Any]:
    """What `write_sealed` wrote.

    A card without any digest is one that was written before there were digests; it is taken as it is.

    Raises:
        Damage: if the file is missing or changed.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Damage(f"{path}: {error.strerror}, expected what the training wrote") from error
    except ValueError as error:
        raise Damage(f"{path}: damaged or not ours, expected what the training wrote") from error
    if not isinstance(values, dict):
        raise Damage(f"{path}: damaged or not ours, expected what the training wrote")
    without = {name: value for name, value in values.items() if name != _SEAL}
    if (_SEAL in values or "files" in values) and values.get(_SEAL) != _digest(without):
        raise Damage(f"{path}: damaged, expected what the training wrote")
    return values


def _digest(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
