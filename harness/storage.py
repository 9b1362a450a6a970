"""What the cache folder holds, by kind, and how to empty it."""

import shutil
from dataclasses import dataclass
from pathlib import Path

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
        what: one line for people.
    """

    kind: str
    files: int
    bytes: int
    what: str


def usage(cache_dir: Path) -> list[Usage]:
    """What there is, largest first; hidden files, such as drafts that a kill left, are counted too."""
    found = []
    for folder in sorted(path for path in cache_dir.glob("*") if path.is_dir()):
        sizes = [path.lstat().st_size for path in folder.rglob("*") if not path.is_dir()]
        found.append(Usage(folder.name, len(sizes), sum(sizes), KINDS.get(folder.name, "not known to bench")))
    return sorted(found, key=lambda one: (-one.bytes, one.kind))


def clear(cache_dir: Path, *, everything: bool = False) -> int:
    """Delete what can be made anew, and with `everything` trained models and downloads too.

    A run that uses the cache meanwhile goes on: it makes again what it no longer finds.

    Returns:
        The bytes freed.

    Raises:
        WriteError: if something cannot be deleted.
    """
    freed = 0
    for kind in (*_CHEAP, *_LARGE) if everything else _CHEAP:
        folder = cache_dir / kind
        size = sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())
        if not folder.is_dir():
            continue
        with files.writing(folder):
            shutil.rmtree(folder)
        freed += size
    return freed
