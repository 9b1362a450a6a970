"""Training data on disk as token ids: tokenised once, reused by every run, however large the text.

A folder per data file, tokenizer and reading: `tokens.bin` (all ids one after another), `ends.bin` (0, then where
each view ends) and `meta.json`. Rows are read, not mapped: mapped pages count as memory, and would add up to the files.
While it is being made, the folder is named `.partial`, and an interrupted job goes on where it stopped.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from baselines.simcse.reading import Row, read_rows
from baselines.simcse.settings import TrainSettings
from harness import files
from harness.errors import DataError
from harness.progress import Progress

_AT_ONCE = 8192  # rows tokenised together, in the tokenizer's own threads, and written together
_FORMAT = 3
_READ_SETTINGS = ("method", "max_tokens", "positives", "hard_negatives")


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What `meta.json` says of the data: rows, views of each, tokens, rows whose first text is blank."""

    rows: int = 0
    columns: int = 0
    tokens: int = 0
    blank: int = 0


class Corpus:
    """n examples of c views, as token ids with the special ones.

    Attributes:
        name: of the data file.
        sha256: of its bytes.
        facts: counts.
    """

    def __init__(self, folder: Path, name: str, sha256: str, dtype: type[np.generic]) -> None:
        self.name = name
        self.sha256 = sha256
        self.facts = Facts(**json.loads((folder / "meta.json").read_text(encoding="utf-8")))
        self._dtype = np.dtype(dtype)
        self._tokens = (folder / "tokens.bin").open("rb")
        self._ends = (folder / "ends.bin").open("rb")

    def __len__(self) -> int:
        return self.facts.rows

    @property
    def columns(self) -> int:
        return self.facts.columns

    def gather(self, rows: NDArray[np.int64], column: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Token ids of one view of n examples: all of them one after another, and the n lengths."""
        ends, tokens, size = self._ends.fileno(), self._tokens.fileno(), self._dtype.itemsize
        views = (rows * self.columns + column).tolist()
        bounds = np.array([np.frombuffer(os.pread(ends, 16, 8 * view), np.int64) for view in views])
        ids = [
            np.frombuffer(os.pread(tokens, size * (end - start), size * start), self._dtype)
            for start, end in bounds.tolist()
        ]
        return np.concatenate(ids).astype(np.int64), bounds[:, 1] - bounds[:, 0]


def tokenizer_sha256(tokenizer: Any) -> str:
    """Digest of everything that decides token ids."""
    return hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest()


def open_corpus(path: Path, tokenizer: Any, settings: TrainSettings, cache: Path, progress: Progress) -> Corpus:
    """The tokenised data, made now if they are not in the cache.

    Args:
        path: see `reading.read_rows`.
        tokenizer: of the backbone.
        settings: method, positives, hard negatives and max_tokens decide what is read.
        cache: the folder is made below it; several processes may ask at once, one works and the others wait.
        progress: told of rows.

    Raises:
        DataError, UsageError: as `read_rows`; also if the file is missing or holds no row, or the cache is not
            writable.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file, expected training text; name a .txt or a .csv")
    sha256 = files.sha256(path)
    reading = {name: getattr(settings, name) for name in _READ_SETTINGS}
    # The same bytes are other rows under another ending.
    key = json.dumps([_FORMAT, sha256, path.suffixes, tokenizer_sha256(tokenizer), reading], sort_keys=True)
    folder = cache / "tokenized" / hashlib.sha256(key.encode()).hexdigest()[:32]
    dtype = np.uint16 if len(tokenizer) <= 2**16 else np.uint32
    if settings.hard_negative_weight:
        next(read_rows(path, settings), None)  # the weight does not change the ids, but may not fit the columns
    with files.writing(folder.parent), files.lock(folder.with_suffix(".lock")):
        if not _holds(folder, _noted(folder / "meta.json"), np.dtype(dtype).itemsize, exactly=True):
            draft = folder.with_suffix(".partial")
            _tokenize(lambda: read_rows(path, settings), tokenizer, settings.max_tokens, draft, progress)
            shutil.rmtree(folder, ignore_errors=True)  # damaged, if it is there
            draft.replace(folder)
    return Corpus(folder, path.name, sha256, dtype)


def _tokenize(
    rows: Callable[[], Iterator[Row]], tokenizer: Any, max_tokens: int, draft: Path, progress: Progress
) -> None:
    draft.mkdir(parents=True, exist_ok=True)
    size = np.dtype(np.uint16 if len(tokenizer) <= 2**16 else np.uint32)
    facts = _noted(draft / "state.json")
    if not _holds(draft, facts, size.itemsize, exactly=False):
        facts = Facts()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    with (draft / "tokens.bin").open("ab") as tokens, (draft / "ends.bin").open("ab") as ends:
        tokens.truncate(facts.tokens * size.itemsize)
        ends.truncate(8 + facts.rows * facts.columns * 8 if facts.rows else 0)
        if not facts.rows:
            ends.write(bytes(8))
        remaining = islice(rows(), facts.rows, None)
        while block := list(islice(remaining, _AT_ONCE)):
            texts = [text for row in block for text in row]
            ids = tokenizer(
                texts,
                truncation=True,
                max_length=max_tokens,
                return_attention_mask=False,
                return_token_type_ids=False,
            )["input_ids"]
            lengths = np.fromiter(map(len, ids), dtype=np.int64, count=len(ids))
            np.concatenate([np.asarray(one, dtype=size) for one in ids]).tofile(tokens)
            (facts.tokens + np.cumsum(lengths)).tofile(ends)
            facts = Facts(
                rows=facts.rows + len(block),
                columns=len(block[0]),
                tokens=facts.tokens + int(lengths.sum()),
                blank=facts.blank + sum(not row[0].strip() for row in block),
            )
            for file in (tokens, ends):
                file.flush()
                os.fsync(file.fileno())  # after a power cut, the state must not claim what the disk does not hold
            _note(draft / "state.json", facts)
            progress("tokenizing", facts.rows, facts.rows)
    _note(draft / "meta.json", facts)


def _noted(path: Path) -> Facts:
    """What the file says; no rows where it is missing or damaged, so that the work is done again."""
    try:
        facts = Facts(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return Facts()
    return facts if all(isinstance(value, int) and value >= 0 for value in asdict(facts).values()) else Facts()


def _holds(folder: Path, facts: Facts, itemsize: int, *, exactly: bool) -> bool:
    """Whether the files are as large as the facts say (or larger, while being made)."""
    try:
        tokens, ends = ((folder / name).stat().st_size for name in ("tokens.bin", "ends.bin"))
    except OSError:
        return False
    wanted = facts.tokens * itemsize, 8 * (facts.rows * facts.columns + 1)
    return facts.rows > 0 and ((tokens, ends) == wanted if exactly else tokens >= wanted[0] and ends >= wanted[1])


def _note(path: Path, facts: Facts) -> None:
    written = path.with_suffix(".tmp")
    written.write_text(json.dumps(asdict(facts)) + "\n", encoding="utf-8")
    written.replace(path)
