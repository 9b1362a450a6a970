"""Cleans the pretraining text: one file per source, one sentence per line, a blank line between documents.

A source is a file with a document per line, or a table of captions, whose captions of one image are a document. Every
sentence that also occurs in a SentEval evaluation file is removed, so that no score of the bundled models rests on text
seen in pretraining. Run it once, before `mlm` and `glove`; `:2` reads a source twice, `:0.4` a random part of it:

    python -m baselines.pretraining.corpus --senteval SENTEVAL/downstream --work-dir WORK reviews.txt.gz news.txt.gz:2
"""

import argparse
import json
import logging
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import TextIO

from harness.data.text import SentenceFile, open_text
from harness.errors import DataError

log = logging.getLogger(__name__)

MIN_WORDS = 3  # shorter evaluation texts ("so boring", MPQA's phrases) are common English, not leaked sentences

_BOUNDARY = re.compile(r"[.!?]+[\"')\]]*\s+(?=[\"'(\[]?[A-Z0-9])")
_ABBREVIATIONS = frozenset("mr mrs ms dr st jr sr vs prof gen col sgt lt capt corp inc ltd co no etc u.s u.k".split())
_NOT_WORD = re.compile(r"[\W_]+")
_BREAK = re.compile(r"<br\s*/?>", re.IGNORECASE)
_SKIPPED_NAMES = re.compile(r"readme|licen[cs]e|\.gs\.|^labels\.", re.IGNORECASE)
_LABEL_FIRST = frozenset({"TREC", "fine"})  # folders whose lines start with "LABEL " instead of ending with a column


@dataclass(slots=True)
class Counts:
    """What one source gave; `removed` sentences also occur in an evaluation file."""

    documents: int = 0
    sentences: int = 0
    removed: int = 0


def split_sentences(text: str) -> Iterator[str]:
    """Split at . ! or ? before a capital or a digit, but not after initials and common abbreviations."""
    start = 0
    for match in _BOUNDARY.finditer(text):
        word = text[start : match.start()].rsplit(None, 1)[-1:] or [""]
        bare = word[0].lower().lstrip("\"'([")
        if match.group().startswith(". ") and (len(bare) == 1 or bare in _ABBREVIATIONS):
            continue
        yield text[start : match.end()].strip()
        start = match.end()
    rest = text[start:].strip()
    if rest:
        yield rest


def key(sentence: str) -> str:
    """Lower-cased letters and digits alone, so that tokenisation and punctuation do not hide an equal sentence."""
    return _NOT_WORD.sub("", sentence.lower())


def evaluation_keys(folder: Path) -> set[str]:
    """Keys of every text in SentEval's evaluation files that has at least `MIN_WORDS` words.

    Every tab-separated field counts, whole and split into sentences: a field that is no sentence (a score, a genre)
    has too few words, or removes nothing.

    Args:
        folder: SentEval's `downstream` folder.

    Raises:
        DataError: if the folder holds no evaluation file.
    """
    keys: set[str] = set()
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not _SKIPPED_NAMES.search(path.name)]
    if not files:
        raise DataError(f"{folder} holds no evaluation file; give SentEval's `downstream` folder with --senteval.")
    for path in files:
        # TREC's training file is not UTF-8
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            text = line.partition(" ")[2] if path.parent.name in _LABEL_FIRST else line
            for field in text.split("\t"):
                keys.update(key(part) for part in (field, *split_sentences(field)) if len(part.split()) >= MIN_WORDS)
    return keys


@dataclass(frozen=True, slots=True)
class Source:
    """A text to pretrain on, as `texts.json` in the work folder has it.

    Attributes:
        name: of the cleaned file, without its ending.
        repeat: how often it is read; a part of 1 is a random part of its documents.
        running: whether the sentences of a document follow one another; captions of one image do not.
    """

    name: str
    repeat: float
    running: bool

    def path(self, work: Path) -> Path:
        """The cleaned file; see `documents`."""
        return work / f"{self.name}.txt"


def read_documents(file: SentenceFile) -> Iterator[list[str]]:
    """The sentences of one document after another: of a line, or the captions of one image.

    Raises:
        DataError: if the file cannot be read.
    """
    images = [column.name for column in file.columns if column.role == "image"]
    if not images:
        for cells in file.rows():
            yield [sentence for cell in cells for sentence in split_sentences(_BREAK.sub(" ", cell))]
        return
    for _, captions in groupby(file.rows([images[0], *file.sentence_columns]), key=lambda cells: cells[0]):
        yield [caption.strip() for _, *cells in captions for caption in cells]


def sources(work: Path) -> list[Source]:
    """What was cleaned into the work folder.

    Raises:
        DataError: if nothing was.
    """
    path = work / "texts.json"
    if not path.is_file():
        raise DataError(f"{path}: no such file, expected the list of cleaned texts; run `corpus` first")
    return [Source(**facts["source"]) for facts in json.loads(path.read_text(encoding="utf-8"))["texts"]]


def clean(documents: Iterable[list[str]], banned: set[str], out: TextIO) -> Counts:
    """Write the documents without the sentences whose key is in `banned`; a document left empty is not counted."""
    counts = Counts()
    for document in documents:
        kept = [" ".join(sentence.split()) for sentence in document if key(sentence) not in banned]
        counts.removed += len(document) - len(kept)
        kept = [sentence for sentence in kept if sentence]
        if kept:
            counts.documents += 1
            counts.sentences += len(kept)
            out.write("\n".join(kept) + "\n\n")
    return counts


def documents(path: Path) -> Iterator[list[str]]:
    """Read back what `clean` wrote: lists of sentences."""
    document: list[str] = []
    with path.open(encoding="utf-8") as file:
        for line in file:
            if line == "\n":
                yield document
                document = []
            else:
                document.append(line[:-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--senteval", type=Path, required=True, help="SentEval's `downstream` folder")
    parser.add_argument("--work-dir", type=Path, required=True, help="where the cleaned text goes")
    parser.add_argument("texts", nargs="+", help="FILE, or FILE:REPEAT")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    banned = evaluation_keys(args.senteval)
    log.info("%d evaluation sentences of %d words or more", len(banned), MIN_WORDS)
    args.work_dir.mkdir(parents=True, exist_ok=True)
    report = []
    for given in args.texts:
        path, _, repeat = given.rpartition(":") if re.search(r":[\d.]+$", given) else (given, "", "1")
        file = open_text(Path(path))
        source = Source(
            Path(path).name.partition(".")[0], float(repeat), not any(c.role == "image" for c in file.columns)
        )
        with source.path(args.work_dir).open("w", encoding="utf-8") as out:
            counts = clean(read_documents(file), banned, out)
        report.append({"source": asdict(source), "counts": asdict(counts), "sha256": file.sha256()})
        log.info("%s: %s", source.name, counts)
    facts = {"evaluation_keys": len(banned), "texts": report}
    (args.work_dir / "texts.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
