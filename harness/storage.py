"""What the cache folder holds, by kind, and how to empty it."""

import errno
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import files

# Everything below the cache folder, and how it comes back. What takes hours, a network or the user's word is only
# cleared when it is asked for.
KINDS = {
    "embeddings": "sentence vectors; encoded again when they are needed",
    "fits": "fitted whitening and flow; fitted again when they are needed",
    "vectors": "parsed word vectors; parsed again when they are needed",
    "tokenized": "tokenised training text; tokenised again when it is needed",
    "locks": "locks of work in progress",
    "trained": "trained models; only --all clears them, because training takes long",
    "senteval": "downloaded data; only --all clears them",
    "glove": "downloaded word vectors; only --all clears them",
    "rates": "how fast work was here, for `bench study --plan`; never cleared",
    "texts": "names given by `bench data add`; never cleared",
}
_CHEAP = ("embeddings", "fits", "vectors", "tokenized", "locks")
_LARGE = ("trained", "senteval", "glove")


@dataclass(frozen=True, slots=True)
class Usage:
    """How much one kind of thing takes.

    Attributes:
        kind: a folder of the cache, a key of `KINDS` or another's name.
        files: their number.
        bytes: their size together.
        what: one line for people; it says so where not all can be read.
    """

    kind: str
    files: int
    bytes: int
    what: str


def usage(cache_dir: Path) -> list[Usage]:
    """What there is, largest first; hidden files, such as drafts that a kill left, are counted too."""
    found = []
    for folder in sorted(path for path in cache_dir.glob("*") if path.is_dir()):
        sizes, unreadable = _sizes(folder)
        what = KINDS.get(folder.name, "not known to bench")
        if unreadable:
            what += f"; not all can be read ({unreadable[0].filename}: {unreadable[0].strerror})"
        found.append(Usage(folder.name, len(sizes), sum(sizes), what))
    return sorted(found, key=lambda one: (-one.bytes, one.kind))


def _sizes(folder: Path) -> tuple[list[int], list[OSError]]:
    """Bytes of every file below a folder, and why some could not be looked at; those that are just deleted are none."""
    sizes: list[int] = []
    unreadable: list[OSError] = []
    for place, _, names in os.walk(folder, onerror=unreadable.append):
        for name in names:
            try:
                sizes.append(Path(place, name).lstat().st_size)
            except OSError as error:
                unreadable.append(error)
    return sizes, [error for error in unreadable if not isinstance(error, FileNotFoundError)]


def clear(cache_dir: Path, *, everything: bool = False) -> int:
    """Delete what can be made anew, and with `everything` trained models and downloads too.

    A run that uses the cache meanwhile goes on: it makes again what it no longer finds, and keeps the locks that it
    holds. What is written while this deletes may stay.

    Returns:
        The bytes freed.

    Raises:
        WriteError: if something cannot be deleted.
    """
    freed = 0
    for kind in (*_CHEAP, *_LARGE) if everything else _CHEAP:
        folder = cache_dir / kind
        if not folder.is_dir():
            continue
        size = sum(_sizes(folder)[0])
        with files.writing(folder):
            if kind == "locks":
                files.sweep(folder, "*.lock")
                with suppress(OSError):  # some are held
                    folder.rmdir()
            else:
                shutil.rmtree(folder, onerror=_unless_in_use)
        freed += size
    return freed


def _unless_in_use(_: Any, path: str, raised: Any) -> None:
    """Pass by what another process has just deleted, or a folder that it has just written to."""
    error = raised[1]
    if not isinstance(error, FileNotFoundError) and error.errno != errno.ENOTEMPTY:
        raise error
