"""The second view of a sentence, where it is not a plain copy: the discrete augmentations of Tables 1 and 2.

They work on token ids, drawn anew in every epoch; a word is a token with the pieces that continue it. What was cut off
at `max_tokens` before is out of their reach, unlike in the paper, where whole sentences were edited.
"""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from baselines.simcse.corpus import Corpus
from harness.errors import DataError, UsageError

Ids = NDArray[np.int64]
Words = list[Ids]
Augment = Callable[[Corpus, Ids, np.random.Generator], tuple[Ids, Ids]]  # rows -> tokens of all, lengths
Edit = Callable[[Words, np.random.Generator], Words]


def make_augment(name: str, tokenizer: Any, thesaurus: str | None) -> Augment | None:
    """The augmentation of that name (`TrainSettings.augmentation`); None where the second view is a copy.

    `mlm-K` needs a model: see `mlm.predicted_words`.

    Raises:
        UsageError: if synonyms are asked for and no thesaurus is given.
        DataError: if the thesaurus cannot be read.
    """
    kind, _, number = name.partition("-")
    share = int(number) / 100 if number.isdigit() else 0.0
    match kind:
        case "next":
            return lambda corpus, rows, rng: _next(corpus, rows, rng, reach=int(number or 1))
        case "crop":
            return _edited(lambda words, rng: crop(words, share, rng), tokenizer)
        case "delete":
            return _edited(lambda words, rng: delete(words, share, rng), tokenizer)
        case "synonym":
            known = read_thesaurus(thesaurus, tokenizer)
            return _edited(lambda words, rng: replace_one(words, known, rng), tokenizer)
    return None


def crop(words: Words, share: float, rng: np.random.Generator) -> Words:
    """A random span that is shorter by that share of the words; at least one word stays."""
    kept = max(1, len(words) - round(share * len(words)))
    start = int(rng.integers(len(words) - kept + 1)) if len(words) > kept else 0
    return words[start : start + kept]


def delete(words: Words, share: float, rng: np.random.Generator) -> Words:
    """Without a random share of the words; share 0: without one word. At least one stays."""
    gone = min(round(share * len(words)) if share else 1, len(words) - 1)
    dropped = set(rng.choice(len(words), size=gone, replace=False).tolist()) if gone > 0 else set()
    return [word for i, word in enumerate(words) if i not in dropped]


def replace_one(words: Words, known: Mapping[tuple[int, ...], list[Ids]], rng: np.random.Generator) -> Words:
    """One random word that has synonyms becomes one of them; none has: unchanged."""
    places = [i for i, word in enumerate(words) if tuple(word.tolist()) in known]
    if not places:
        return words
    place = places[int(rng.integers(len(places)))]
    synonyms = known[tuple(words[place].tolist())]
    return [*words[:place], synonyms[int(rng.integers(len(synonyms)))], *words[place + 1 :]]


def read_thesaurus(path: str | None, tokenizer: Any) -> dict[tuple[int, ...], list[Ids]]:
    """Synonyms by word, as token ids. The file: a word and its synonyms per line, separated by tabs.

    A word of several lines has the synonyms of all of them, in their order, each once.

    Raises:
        UsageError: if no file is named.
        DataError: if it cannot be read or holds nothing.
    """
    if path is None:
        raise UsageError(
            "augmentation=synonym needs a thesaurus and none comes with the package; name a text file with "
            "thesaurus=FILE, a word and its synonyms per line, separated by tabs (WordNet's synsets, for instance)"
        )
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from error
    rows = [[word for word in line.split("\t") if word] for line in lines]
    rows = [row for row in rows if len(row) > 1]
    if not rows:
        raise DataError(f"{path}: no synonyms, expected a word and its synonyms per line, separated by tabs")
    # Within a text, not at its start: byte-level tokenizers write the space before a word into its first token.
    known: dict[tuple[int, ...], dict[tuple[int, ...], Ids]] = {}
    for row in rows:
        word, *synonyms = (_word_ids(tokenizer, text) for text in row)
        known.setdefault(tuple(word.tolist()), {}).update((tuple(ids.tolist()), ids) for ids in synonyms)
    return {word: list(synonyms.values()) for word, synonyms in known.items()}


def thesaurus_sha256(path: str) -> str:
    """Sha256 (hex) of the file.

    Raises:
        DataError: if it cannot be read.
    """
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: str, error: Exception) -> DataError:
    return DataError(f"{path}: the thesaurus cannot be read as UTF-8 text ({error}); check the path")


def _word_ids(tokenizer: Any, word: str) -> Ids:
    return np.asarray(tokenizer(f" {word}", add_special_tokens=False)["input_ids"], dtype=np.int64)


def _edited(edit: Edit, tokenizer: Any) -> Augment:
    continues = _continuations(tokenizer)

    def augment(corpus: Corpus, rows: Ids, rng: np.random.Generator) -> tuple[Ids, Ids]:
        tokens, lengths = corpus.gather(rows, 0)
        edited = [_edit_row(ids, continues, edit, rng) for ids in np.split(tokens, np.cumsum(lengths)[:-1])]
        return np.concatenate(edited), np.array([len(ids) for ids in edited], dtype=np.int64)

    return augment


def _edit_row(ids: Ids, continues: NDArray[np.bool_], edit: Edit, rng: np.random.Generator) -> Ids:
    inner = ids[1:-1]  # CLS and SEP stay
    if not len(inner):
        return ids
    starts = np.flatnonzero(~continues[inner])
    words = np.split(inner, starts[starts > 0])
    return np.concatenate([ids[:1], *edit(words, rng), ids[-1:]])


def _continuations(tokenizer: Any) -> NDArray[np.bool_]:
    """By token id, whether it continues the word before it: WordPiece marks those, byte-level BPE the others."""
    tokens = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    if any(token.startswith("##") for token in tokens):
        return np.array([token.startswith("##") for token in tokens])
    return np.array([not token.startswith(("Ġ", "▁")) for token in tokens])


def _next(corpus: Corpus, rows: Ids, rng: np.random.Generator, *, reach: int) -> tuple[Ids, Ids]:
    """The line after, or one of the `reach` lines after; the last line's is itself. The text must be in order."""
    return corpus.gather(np.minimum(rows + rng.integers(1, reach + 1, size=len(rows)), len(corpus) - 1), 0)
