"""Texts by name: those of the hub, the data folder and the package, and files that a user gave a name once."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from harness.data.fetch import TRAINING_FILES, fetch_training_file
from harness.data.given import file_named, given_names, keep_name, name_by_content
from harness.data.locate import data_root
from harness.data.text import SentenceFile, Text, open_text
from harness.errors import DataError, UsageError
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
