"""JSON files of models: read strictly, so that what is not understood is named and never passed over."""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from harness.errors import UsageError

_POINTER = "version https://git-lfs"


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        UsageError: if the file cannot be read, is a Git LFS pointer or a web page, or is damaged.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UsageError(
            f"{path}: cannot be read ({error.strerror}), expected a configuration; copy it again"
        ) from error
    except ValueError as error:
        raise UsageError(f"{path}: damaged ({error}), expected a configuration in JSON; copy it again") from error
    reason = foreign_content(text.encode("utf-8"))
    if reason:
        raise UsageError(f"{path}: {reason}")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: damaged ({error}), expected a configuration in JSON; copy it again") from error


def read_object(path: Path) -> dict[str, Any]:
    """The settings in a JSON file.

    Raises:
        UsageError: as `read_json`, and if the file holds anything but an object.
    """
    found = read_json(path)
    if not isinstance(found, dict):
        raise UsageError(f"{path}: holds a {type(found).__name__}, expected an object of settings; copy it again")
    return found


def foreign_content(start: bytes) -> str:
    """What a file is whose first bytes are no model's: the end of a sentence, or nothing."""
    head = start[:512].lstrip().lower()
    if head.startswith(_POINTER.encode()):
        return "a Git LFS pointer and not the file itself; run `git lfs pull`, or download the file again"
    if head.startswith((b"<!doctype html", b"<html")):
        return "a web page and not the file itself; download the file again"
    return "" if start else "an empty file; download it again"


def refuse_unknown(path: Path, settings: Mapping[str, Any], known: Collection[str]) -> None:
    """Refuse a setting that nobody here understands, also one that is false or 0, as it may switch something off.

    One that is null is not set.

    Raises:
        UsageError: with the name of the first such setting.
    """
    for key, value in settings.items():
        if key not in known and value is not None:
            raise UsageError(
                f"{path}: the setting {key} is not understood and could change every vector; remove it if it does not"
            )


def typed(path: Path, settings: Mapping[str, Any], key: str, kind: type, what: str) -> Any:
    """A setting of that type, or None where it is not given.

    Raises:
        UsageError: if it has another type.
    """
    value = settings.get(key)
    fits = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
    if value is not None and not fits:
        raise UsageError(f"{path}: {key} is {value!r}, expected {what}; correct the file")
    return value
