"""Files that a name stands for, so that names and records hold no path: given by a user, or noted when they were used.

A note is `texts/<name>.json` in the cache folder: where the file is, and the sha256 that it has to have.
"""

import json
from contextlib import suppress
from pathlib import Path

from harness import files
from harness.errors import DataError, WriteError


def keep_name(name: str, path: Path, sha256: str, cache_dir: Path) -> None:
    """Let a name stand for a file from now on; the file stays where it is, and must stay as it is.

    Raises:
        WriteError: if the name cannot be kept.
    """
    facts = {"path": str(path.resolve()), "sha256": sha256}
    files.replace(_note(name, cache_dir), (json.dumps(facts, indent=2) + "\n").encode())


def name_by_content(path: Path, digest: str, sha256: str, cache_dir: Path) -> str:
    """`<file name>@<12 digits>`: a name that says what was read and not where; it is kept if the cache takes it.

    Args:
        path: of the file.
        digest: of what was read from it (hex).
        sha256: of its bytes (hex).
        cache_dir: where names are kept.
    """
    name = f"{path.name}@{digest[:12]}"
    with suppress(WriteError):
        keep_name(name, path, sha256, cache_dir)
    return name


def file_named(name: str, cache_dir: Path) -> Path | None:
    """The file that the name was given to; None if it was given to none.

    Raises:
        DataError: if the file is gone or has changed since.
    """
    facts = _facts(_note(name, cache_dir)) if "/" not in name else {}
    if not facts:
        return None
    path, again = Path(facts["path"]), "name a file" if "@" in name else f"run `bench data add {name} FILE`"
    if not path.is_file():
        raise DataError(f"{path}: no such file, expected the one named {name}; {again}")
    if (found := files.sha256(path)) != facts["sha256"]:
        raise DataError(
            f"{path}: sha256 is {found}, expected {facts['sha256']} as when it was named {name}; get the file back, or "
            f"{again}"
        )
    return path


def given_names(cache_dir: Path) -> dict[str, Path]:
    """The names that a user gave, and their files."""
    notes = sorted((cache_dir / "texts").glob("*.json"))
    return {note.stem: Path(facts["path"]) for note in notes if "@" not in note.stem and (facts := _facts(note))}


def _note(name: str, cache_dir: Path) -> Path:
    return cache_dir / "texts" / f"{name}.json"


def _facts(note: Path) -> dict[str, str]:
    """What was noted of a name; nothing where the note is missing or damaged, as if the name had never been given."""
    try:
        facts = json.loads(note.read_bytes())
        return {key: str(facts[key]) for key in ("path", "sha256")}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
