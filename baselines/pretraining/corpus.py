"""Cleans the pretraining text: one file per corpus, one sentence per line, a blank line between documents.

Every sentence that also occurs in a SentEval evaluation file is removed, so that no score of the bundled models rests
on text seen in pretraining. Run it once, before `mlm` and `glove`:

    python -m baselines.pretraining.corpus --corpora ../shared/data/corpora \
        --senteval ../shared/data/senteval/downstream --work-dir WORK
"""

import argparse
import gzip
import json
import logging
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO

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
    """What one corpus gave; `removed` sentences also occur in an evaluation file."""

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


def imdb(path: Path) -> Iterator[list[str]]:
    """One review per line."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            yield list(split_sentences(_BREAK.sub(" ", line)))


def reuters(path: Path) -> Iterator[list[str]]:
    """One story per line."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            yield list(split_sentences(line))


def wiki(path: Path) -> Iterator[list[str]]:
    """One sentence per line; a line without closing punctuation is a title and starts a document."""
    document: list[str] = []
    with path.open(encoding="utf-8") as file:
        for line in file:
            sentence = line.strip()
            if document and not sentence.rstrip("\"')").endswith((".", "!", "?", ":", ";")):
                yield document
                document = []
            document.append(sentence)
    yield document


def flickr8k(path: Path) -> Iterator[list[str]]:
    """The captions of one image are one document."""
    image, document = "", list[str]()
    with gzip.open(path, "rt", encoding="utf-8") as file:
        next(file)  # the header
        for line in file:
            name, _, caption = line.rstrip("\n").partition("\t")
            if name != image and document:
                yield document
                document = []
            image = name
            document.append(caption.strip())
    yield document


READERS = {
    "imdb": ("imdb_docs.txt.gz", imdb),
    "reuters": ("reuters_docs.txt.gz", reuters),
    "wiki": ("wiki_for_simcse_head.txt", wiki),
    "flickr8k": ("flickr8k_captions.tsv.gz", flickr8k),
}


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
    parser.add_argument("--corpora", type=Path, required=True, help="folder with the four corpora")
    parser.add_argument("--senteval", type=Path, required=True, help="SentEval's `downstream` folder")
    parser.add_argument("--work-dir", type=Path, required=True, help="where the cleaned text goes")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    banned = evaluation_keys(args.senteval)
    log.info("%d evaluation sentences of %d words or more", len(banned), MIN_WORDS)
    args.work_dir.mkdir(parents=True, exist_ok=True)
    report: dict[str, object] = {"evaluation_keys": len(banned)}
    for name, (file, read) in READERS.items():
        with (args.work_dir / f"{name}.txt").open("w", encoding="utf-8") as out:
            counts = clean(read(args.corpora / file), banned, out)
        report[name] = asdict(counts)
        log.info("%s: %s", name, counts)
    (args.work_dir / "counts.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
