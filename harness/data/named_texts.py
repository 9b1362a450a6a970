"""Texts by name: those of the hub, the data folder and the package, and files that a user gave a name once.

A name that stands for a file keeps paths out of names and records. What it stands for is noted in
`texts/<name>.json` in the cache folder: where the file is, and the sha256 that it has to have.
"""

import json
import re
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from harness import files
from harness.data.download import TRAINING_FILES, fetch_training_file
from harness.data.locate import data_root
from harness.data.text import SentenceFile, Text, open_text
from harness.errors import DataError, UsageError, WriteError
from harness.names import nearest
from harness.packaged import packaged

GIVEN = {  # names that published results use, for files that a user has to give
    "wikipedia-1m": "a million sentences of English Wikipedia, one a line",
    "nli-31k": "31,123 triplets of SNLI's dev and test pairs, LingNLI and four small sets, with the header of nli",
}
NAMED = {
    "nli": "nli_for_simcse.csv from the hub: 275,601 triplets of SNLI and MNLI",
    "wiki": "wiki1m_for_simcse.txt from the hub: a million sentences of Wikipedia",
    "snli": "the dev and test pairs of downstream/SNLI in the data folder: 39,332 sentences",
    "mini-nli": "bundled: 340 triplets",
    "mini-wiki": "bundled: 1,661 sentences",
} | {name: f"given by `bench data add {name} FILE`: {what}" for name, what in GIVEN.items()}

_NAME = re.compile(r"[a-z0-9][a-z0-9.-]*")
_BUNDLED = {"mini-nli": "harness/data/mini/nli/nli_for_simcse.csv", "mini-wiki": "harness/data/mini/corpus.txt"}
_SNLI = ("s1.dev", "s2.dev", "s1.test", "s2.test")  # the training part is not in every copy of SentEval's data


class Surroundings(Protocol):
    """What a name may need: the cache folder, the folder in SentEval's layout, and whether the network is off."""

    @property
    def cache_dir(self) -> Path: ...

    @property
    def data_dir(self) -> Path | None: ...

    @property
    def offline(self) -> bool: ...


def find_text(name: str, context: Surroundings, first: int | None = None) -> Text:
    """A text by name (see `NAMED` and `add_text`) or by path; nothing of it is read but how it begins.

    Args:
        name: the label of a path is the name of its file.
        context: where names that were added and SentEval's data are kept, and whether there is a network.
        first: read only so many sentences; None: all.

    Raises:
        UsageError: if it is neither, or a file that cannot be told to be text.
        DataError: if it cannot be downloaded, the data folder has no SNLI, no file was given for the name, or the
            file that was given has changed.
    """
    if name in TRAINING_FILES:
        return Text(name, (open_text(fetch_training_file(name, offline=context.offline)),), first)
    if name in _BUNDLED:
        return Text(name, (open_text(packaged(_BUNDLED[name])),), first)
    if name == "snli":
        return Text(
            name, _snli(data_root(context.data_dir, context.cache_dir, offline=context.offline, progress=False)), first
        )
    if (given := file_named(name, context.cache_dir)) is not None:
        return Text(name.partition("@")[0], (open_text(given),), first)
    if name in GIVEN:
        raise DataError(
            f"{name}: no file was given for this name; run `bench data add {name} FILE`, with {GIVEN[name]}"
        )
    path = Path(name).expanduser()
    if not path.is_file():
        note = _note(name, context.cache_dir)
        with files.reading(note):  # a name that may not be looked up is not unknown
            if "/" not in name and note.exists():
                note.read_bytes()
        names = [*NAMED, *given_names(context.cache_dir)]
        raise UsageError(f"{name}: no such text, expected a file of sentences, or a name; {nearest(name, names)}")
    return Text(path.name, (open_text(path),), first, by_path=True)


def name_in_records(name: str, text: Text, cache_dir: Path) -> str:
    """How specifications and records write a text that was asked for by this name: a name as it is, a path by content.

    The name by content stands for the file as long as the cache is kept, so that a name from a report can be used.
    """
    if not text.by_path:
        return name
    file = text.files[0]
    return name_by_content(file.path, replace(text, first=None).digest, file.sha256(), cache_dir)


def add_text(name: str, path: Path, cache_dir: Path) -> Text:
    """Let a name stand for a file from now on; the file stays where it is, and must stay as it is.

    Raises:
        UsageError: if the name is taken or has other characters than small letters, digits, dots and hyphens, or the
            file cannot be told to be text.
        DataError: if the file cannot be read to its end.
        WriteError: if the name cannot be kept.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r}: expected a name of small letters, digits, dots and hyphens, such as nli-31k")
    if (name in NAMED and name not in GIVEN) or name == "target":
        raise UsageError(f"{name}: the name is taken ({NAMED.get(name, 'the evaluated sentences')}); choose another")
    text = Text(name, (open_text(path.expanduser().resolve()),))
    if not any(True for _ in text.sentences()):
        raise DataError(f"{path}: holds no sentences; is it the right file?")
    keep_name(name, text.files[0].path, text.sha256, cache_dir)
    return text


def _snli(root: Path) -> tuple[SentenceFile, ...]:
    paths = [root / "downstream" / "SNLI" / name for name in _SNLI]
    for path in paths:
        if not path.is_file():
            raise DataError(f"{path}: no such file, expected SNLI in SentEval's layout; get it, or fit on another text")
    return tuple(map(open_text, paths))


def keep_name(name: str, path: Path, sha256: str, cache_dir: Path) -> None:
    """Let a name stand for a file or folder from now on; it stays where it is, and must stay as it is.

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
        ReadError: if it may not be read.
    """
    facts = _facts(_note(name, cache_dir)) if "/" not in name else {}
    if not facts:
        return None
    path, again = Path(facts["path"]), "name a file" if "@" in name else f"run `bench data add {name} FILE`"
    with files.reading(path):
        found = files.sha256(path) if path.is_file() else None
    if found is None:
        raise DataError(f"{path}: no such file, expected the one named {name}; {again}")
    if found != facts["sha256"]:
        raise DataError(
            f"{path}: sha256 is {found}, expected {facts['sha256']} as when it was named {name}; get the file back, or "
            f"{again}"
        )
    return path


def folder_named(name: str, cache_dir: Path) -> Path | None:
    """The model folder that cards call by this name; None where it is gone, or the name was given to none."""
    facts = _facts(_note(name, cache_dir)) if "/" not in name else {}
    folder = Path(facts["path"]) if facts else None
    return folder if folder is not None and folder.is_dir() else None


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
