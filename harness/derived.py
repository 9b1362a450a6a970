"""What was computed once and is kept: fits, word vectors, checkpoints; nothing of it is believed unchecked.

A file is safetensors whose metadata hold a key, facts, and the sha256 of the file itself with zeros in the digest's
place. It is verified whenever it is read. What is damaged, or was stored under another key, is named in one warning and
is made anew; a disk that refuses costs time and never a score.

The part of a file's name before its first dot is the thing that is locked while it is made. Locks are in `locks/`
beside the folder, so that a folder may be deleted at any time.
"""

import hashlib
import json
import logging
import mmap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness import files
from harness.errors import WriteError

_log = logging.getLogger(__name__)

_START = b'{"__metadata__":{"sha256":"'  # of the header, so that the digest is at a fixed place
_DIGEST = slice(8 + len(_START), 8 + len(_START) + 64)
_ALIGNED = 64  # bytes; arrays begin there, the widest numbers first, so that each is aligned
_CODES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1", "BOOL": "|b1",
}  # fmt: skip
_NAMES = {code: name for name, code in _CODES.items()}


@dataclass(frozen=True, slots=True)
class Derived:
    """Arrays and what is known of them.

    Attributes:
        arrays: by name; read from a file they are mapped from it and cannot be written to.
        facts: whatever the maker noted.
    """

    arrays: Mapping[str, NDArray[Any]]
    facts: Mapping[str, str] = field(default_factory=dict)


def recall(path: Path, key: str, make: Callable[[], Derived]) -> Derived:
    """What is stored, else what `make` gives, which is then stored; one process makes it and the others wait.

    Args:
        path: of the file, `<thing>.safetensors`; its folder is made if need be.
        key: everything that decides the content, in a text; usually JSON, whose digest is the file's name.
        make: is called at most once; what it raises is passed on.
    """
    if (known := load(path, key)) is not None:
        return known
    with files.lock_if_possible(lock_of(path)):
        if (known := load(path, key, warn=False)) is not None:  # by another process, while this one waited
            return known
        made = make()
        try:
            store(path, key, made)
        except WriteError as error:
            _log.warning("%s; what was computed is not kept", error)
            return made
    return load(path, key) or made


def load(path: Path, key: str, *, warn: bool = True) -> Derived | None:
    """What is stored under this key, verified; None where there is nothing, or nothing that may be believed.

    With `warn`, a file that is damaged or was stored under another key is named.
    """
    try:
        with path.open("rb") as file:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        found = _parse(content, key)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        if warn:
            reason = error.strerror if isinstance(error, OSError) else error
            _log.warning("%s: cannot be used (%s); it is made anew", path, reason)
        return None
    _log.info("%s: found in the cache", path)
    return found


def store(path: Path, key: str, content: Derived) -> None:
    """Write a file that appears whole or not at all.

    Raises:
        WriteError: if the disk is full, the folder is read-only, and the like.
        KeyError: if an array is of a type that safetensors does not have, such as texts.
    """
    arrays = sorted(content.arrays.items(), key=lambda item: (-item[1].dtype.itemsize, item[0]))
    header = _header(key, content.facts, dict(arrays))
    parts: list[bytearray | memoryview] = [header]
    parts += [np.ascontiguousarray(array).reshape(-1).view(np.uint8).data for _, array in arrays]
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    header[_DIGEST] = digest.hexdigest().encode()
    with files.writing(path), files.draft(path) as file:
        for part in parts:
            file.write(part)
    _log.info("%s: written to the cache", path)


def _header(key: str, facts: Mapping[str, str], arrays: Mapping[str, NDArray[Any]]) -> bytearray:
    """The length of the JSON in 8 bytes, and the JSON, filled up with spaces."""
    metadata = {"sha256": "0" * 64, "key": key, **facts}
    header: dict[str, object] = {"__metadata__": metadata}
    start = 0
    for name, array in arrays.items():
        end = start + array.nbytes
        header[name] = {
            "dtype": _NAMES[array.dtype.newbyteorder("<").str],
            "shape": list(array.shape),
            "data_offsets": [start, end],
        }
        start = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % _ALIGNED)
    return bytearray(len(text).to_bytes(8, "little") + text)


def _parse(content: mmap.mmap, key: str) -> Derived:
    """The arrays, mapped.

    Raises:
        ValueError, KeyError, TypeError: if the content is not what was stored under the key.
    """
    size = int.from_bytes(content[:8], "little")
    header = bytearray(content[: 8 + size])
    digest = bytes(header[_DIGEST])
    header[_DIGEST] = b"0" * 64
    found = hashlib.sha256(header)
    found.update(memoryview(content)[8 + size :])
    if found.hexdigest().encode() != digest:
        raise ValueError("its content has another sha256 than was written down")
    entries = json.loads(header[8:])
    facts = entries.pop("__metadata__")
    if facts.pop("key") != key:
        raise ValueError("it was stored under another key")
    del facts["sha256"]
    arrays = {}
    for name, entry in entries.items():
        start = 8 + size + entry["data_offsets"][0]
        dtype, shape = np.dtype(_CODES[entry["dtype"]]), tuple(entry["shape"])
        empty = 0 in shape
        arrays[name] = np.empty(shape, dtype) if empty else np.ndarray(shape, dtype, buffer=content, offset=start)
    return Derived(arrays, facts)


def lock_of(path: Path) -> Path:
    """The file that is locked while a thing of the cache is made; it is not in the thing's own folder."""
    return path.parent.parent / "locks" / f"{path.parent.name}-{path.name.partition('.')[0]}.lock"
