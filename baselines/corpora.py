"""Text to fit or train on, by name or by file: NLI triplets, Wikipedia sentences, captions, any text."""

import csv
import gzip
import hashlib
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO, cast

from harness import files
from harness.data.fetch import TRAINING_FILES, fetch_training_file
from harness.data.locate import BUNDLED, data_root
from harness.encoders.context import Context
from harness.errors import DataError, UsageError

NAMED = {
    "nli": "nli_for_simcse.csv from the hub: 275,601 triplets of SNLI and MNLI",
    "wiki": "wiki1m_for_simcse.txt from the hub: a million sentences of Wikipedia",
    "snli": "the dev and test pairs of downstream/SNLI in the data folder: 39,332 sentences",
    "mini-nli": "bundled: 340 triplets",
    "mini-wiki": "bundled: 1,661 sentences",
}
_BUNDLED = {"mini-nli": BUNDLED / "nli" / "nli_for_simcse.csv", "mini-wiki": BUNDLED / "corpus.txt"}
_SNLI = ("s1.dev", "s2.dev", "s1.test", "s2.test")  # the training part is not in every copy of SentEval's data


@dataclass(frozen=True, slots=True)
class Corpus:
    """Files of sentences, read one after another.

    Attributes:
        name: that it was asked for by.
        paths: of the files.
        sha256: of the file's bytes, hex; of several files, the digest of their digests.
    """

    name: str
    paths: tuple[Path, ...]
    sha256: str

    @property
    def identity(self) -> str:
        """What a card says it was fitted on: the name and the start of the digest."""
        return f"{Path(self.name).name}@{self.sha256[:12]}"


def find_corpus(name: str, context: Context) -> Corpus:
    """A corpus by name (see `NAMED`) or by path.

    Raises:
        UsageError: if it is neither.
        DataError: if it has to be downloaded and cannot be, or the data folder has no SNLI.
    """
    if name in TRAINING_FILES:
        return _corpus(name, fetch_training_file(name, offline=context.offline))
    if name == "snli":
        return _snli(data_root(context.data_dir, context.cache_dir, offline=context.offline, progress=False))
    path = _BUNDLED.get(name, Path(name))
    if not path.is_file():
        raise UsageError(f"{name}: no such text, expected a text, .csv, .tsv or .gz file, or one of {', '.join(NAMED)}")
    return _corpus(name, path)


def _snli(root: Path) -> Corpus:
    paths = [root / "downstream" / "SNLI" / name for name in _SNLI]
    for path in paths:
        if not path.is_file():
            raise DataError(f"{path}: no such file, expected SNLI in SentEval's layout; get it, or fit on another text")
    return _corpus("snli", *paths)


def _corpus(name: str, *paths: Path) -> Corpus:
    try:
        digests = [files.sha256(path) for path in paths]
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be read ({error.strerror}), expected text to fit on") from error
    return Corpus(name, paths, digests[0] if len(paths) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest())


def sentences(corpus: Corpus) -> Iterator[str]:
    """Every sentence of the corpus in file order, duplicates kept, blank ones left out.

    `.csv` holds sentences in all columns under a header (NLI triplets); `.tsv` in the last column under a header
    (captions); anything else, SNLI's `s1.*` and `s2.*` files too, is one sentence a line. `.gz` is unpacked on the fly.

    Raises:
        DataError: if a file is not what its ending says, with the line.
    """
    for path in corpus.paths:
        kind = path.name.removesuffix(".gz").rpartition(".")[2]
        try:
            with _open(path) as file:
                yield from (text for text in _READERS.get(kind, _lines)(path, file) if text.strip())
        except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
            raise DataError(f"{path}: cannot be read ({error}), expected a whole file of UTF-8 text") from error


def _open(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return cast(TextIO, gzip.open(path, "rt", encoding="utf-8", newline="\n"))
    return path.open(encoding="utf-8", newline="\n")


def _lines(path: Path, file: TextIO) -> Iterator[str]:
    return (line.rstrip("\r\n") for line in file)


def _table(path: Path, file: TextIO) -> Iterator[str]:
    rows = csv.reader(file, strict=True)
    try:
        header = next(rows, [])
        for row in rows:
            if len(row) != len(header):
                raise _other_columns(path, rows.line_num, len(row), len(header))
            yield from row
    except csv.Error as error:
        raise DataError(f"{path}:{rows.line_num}: {error}, expected comma-separated sentences") from error


def _captions(path: Path, file: TextIO) -> Iterator[str]:
    columns = len(next(file, "").split("\t"))
    for number, line in enumerate(file, start=2):
        fields = line.rstrip("\r\n").split("\t")
        if len(fields) != columns:
            raise _other_columns(path, number, len(fields), columns)
        yield fields[-1]


def _other_columns(path: Path, line: int, found: int, expected: int) -> DataError:
    return DataError(
        f"{path}:{line}: {found} column{'s' * (found != 1)}, expected {expected} as in the header; the file is damaged "
        "or no table: a plain text must not be named .csv or .tsv"
    )


_READERS = {"csv": _table, "tsv": _captions}
