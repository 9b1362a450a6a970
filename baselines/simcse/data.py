"""Training text as batches: tokenised once into files and read from there, so memory stays small however large it is.

A folder per data file, tokenizer and reading: `tokens.bin` (all ids one after another), `ends.bin` (0, then where each
view ends) and `meta.json`, which is written last and has the digests of all three. They are verified on every opening,
and what does not fit is made anew. Rows are read, not mapped: mapped pages count as memory, and would add up to the
files. While it is being made, the folder is named `.partial`, and an interrupted job goes on where it stopped.

Which examples a step sees is drawn from the seed and the step's number alone, so a resumed run needs no generator's
state and no position in the data.
"""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from baselines.simcse.ablations import Augment, Ids
from baselines.simcse.reading import Roles, Row, read_rows
from baselines.simcse.settings import Settings, SimcseSup
from harness import files
from harness.data.text import open_text
from harness.derived import lock_of
from harness.encoders.batching import pad_flat
from harness.errors import DataError, UsageError, WriteError
from harness.progress import Progress

_log = logging.getLogger(__name__)

# Streams of random numbers; one per purpose, so that none depends on how much another draws.
INIT, ORDER, DROPOUT, AUGMENT, MASKING = range(5)
_ROUNDS = 6  # of the cipher that shuffles
_AT_ONCE = 8192  # rows tokenised together, in the tokenizer's own threads, and written together
_FORMAT = 5
_FILES = ("tokens.bin", "ends.bin")
_BLOCK = 2**20  # bytes read at once for a digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What `meta.json` says of the data: rows, views of each, tokens, rows whose first text is blank."""

    rows: int = 0
    columns: int = 0
    tokens: int = 0
    blank: int = 0


class Batch(NamedTuple):
    """b examples of c views, padded: token ids (b, c, s), and mask (b, c, s) with 1 on tokens."""

    ids: Tensor
    mask: Tensor


class Corpus:
    """n examples of c views, as token ids with the special ones.

    Attributes:
        name: of the data file.
        sha256: of its bytes.
        facts: counts.
    """

    def __init__(self, folder: Path, name: str, sha256: str, facts: Facts, dtype: np.dtype[Any]) -> None:
        self.name = name
        self.sha256 = sha256
        self.facts = facts
        self._dtype = dtype
        self._tokens, self._ends = ((folder / name).open("rb") for name in _FILES)

    def __len__(self) -> int:
        return self.facts.rows

    @property
    def columns(self) -> int:
        return self.facts.columns

    def gather(self, rows: Ids, column: int) -> tuple[Ids, Ids]:
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


def open_corpus(path: Path, tokenizer: Any, settings: Settings, cache: Path, progress: Progress) -> Corpus:
    """The tokenised data, made now if they are not in the cache.

    Args:
        path: see `reading.read_rows`.
        tokenizer: of the backbone.
        settings: method, positives, hard negatives and train_tokens and sentences decide what is read.
        cache: the folder is made below it; several processes may ask at once, one works and the others wait. Where the
            disk refuses, a temporary folder takes what is then not kept.
        progress: told of rows.

    Raises:
        DataError, UsageError: as `read_rows`; also if the file is missing or holds no row.
        WriteError: if the temporary folder takes nothing either.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file, expected training text; name a .txt or a .csv")
    sha256 = files.sha256(path)
    roles = Roles(settings.method)
    if isinstance(settings, SimcseSup):
        roles = replace(
            roles,
            positives=settings.positives,
            hard_negatives=settings.hard_negatives,
            hard_negative_weight=settings.hard_negative_weight,
        )
    reading = [roles.method, roles.positives, roles.hard_negatives, settings.train_tokens, settings.sentences]
    # The same bytes may be other rows under another ending.
    key = json.dumps([_FORMAT, sha256, open_text(path).kind, tokenizer_sha256(tokenizer), reading], sort_keys=True)
    folder = cache / "tokenized" / hashlib.sha256(key.encode()).hexdigest()[:32]
    dtype = np.dtype(np.uint16 if len(tokenizer) <= 2**16 else np.uint32)
    if roles.hard_negative_weight:
        next(read_rows(path, roles), None)  # the weight does not change the ids, but may not fit the columns

    def make(folder: Path) -> Corpus:
        draft = folder.with_suffix(".partial")
        facts = _tokenize(
            lambda: islice(read_rows(path, roles), settings.sentences),
            tokenizer,
            settings.train_tokens,
            draft,
            progress,
        )
        shutil.rmtree(folder, ignore_errors=True)  # damaged, if it is there
        draft.replace(folder)
        return Corpus(folder, path.name, sha256, facts, dtype)

    try:
        with files.writing(folder.parent), files.lock_if_possible(lock_of(folder)):
            known = _read_note(folder / "meta.json", dtype.itemsize)
            return make(folder) if known is None else Corpus(folder, path.name, sha256, known.facts, dtype)
    except WriteError as error:
        _log.warning("%s; the tokenised text is not kept", error)
    with TemporaryDirectory(prefix="bench-") as room, files.writing(Path(room)):
        return make(Path(room) / folder.name)  # its files are open, and stay so when they are deleted


def _tokenize(
    rows: Callable[[], Iterator[Row]], tokenizer: Any, max_tokens: int, draft: Path, progress: Progress
) -> Facts:
    draft.mkdir(parents=True, exist_ok=True)
    dtype = np.dtype(np.uint16 if len(tokenizer) <= 2**16 else np.uint32)
    done = _read_note(draft / "state.json", dtype.itemsize) or _Written()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    with (draft / "tokens.bin").open("ab") as tokens, (draft / "ends.bin").open("ab") as ends:
        for file, size in zip((tokens, ends), done.sizes(dtype.itemsize), strict=True):
            file.truncate(size)
        if not done.facts.rows:
            ends.truncate(0)
            done.append(ends, np.zeros(1, np.int64))
        remaining = islice(rows(), done.facts.rows, None)
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
            done.append(tokens, np.concatenate([np.asarray(one, dtype=dtype) for one in ids]))
            done.append(ends, done.facts.tokens + np.cumsum(lengths))
            done.facts = Facts(
                rows=done.facts.rows + len(block),
                columns=len(block[0]),
                tokens=done.facts.tokens + int(lengths.sum()),
                blank=done.facts.blank + sum(not row[0].strip() for row in block),
            )
            for file in (tokens, ends):
                file.flush()
                os.fsync(file.fileno())  # after a power cut, the state must not claim what the disk does not hold
            done.note(draft / "state.json")
            progress("tokenizing", done.facts.rows, 0)
    done.note(draft / "meta.json")
    return done.facts


@dataclass(slots=True)
class _Written:
    """What was written so far: counts, and a digest of each of `_FILES` that is fed with what is added."""

    facts: Facts = field(default_factory=Facts)
    digests: dict[str, Any] = field(default_factory=lambda: {name: hashlib.sha256() for name in _FILES})

    def sizes(self, itemsize: int) -> tuple[int, int]:
        """Bytes of the tokens and of the ends."""
        return self.facts.tokens * itemsize, 8 * (self.facts.rows * self.facts.columns + 1)

    def append(self, file: BinaryIO, numbers: NDArray[Any]) -> None:
        content = numbers.tobytes()
        file.write(content)
        self.digests[Path(file.name).name].update(content)

    def hex(self) -> dict[str, str]:
        """The digests of the files, and that of the counts."""
        counts = json.dumps(asdict(self.facts)).encode()
        stored = {name: digest.hexdigest() for name, digest in self.digests.items()}
        return stored | {"counts": hashlib.sha256(counts).hexdigest()}

    def note(self, path: Path) -> None:
        files.replace(path, (json.dumps(asdict(self.facts) | {"sha256": self.hex()}) + "\n").encode())


def _read_note(note: Path, itemsize: int) -> _Written | None:
    """What a note says was written, if the files beside it begin with just that; else it is named in one warning."""
    if not note.is_file():
        return None
    try:
        said = json.loads(note.read_text(encoding="utf-8"))
        expected = said.pop("sha256")
        written = _Written(Facts(**said))
        for name, size in zip(_FILES, written.sizes(itemsize), strict=True):
            _feed(written.digests[name], note.with_name(name), size)
        found = written.hex()
        damaged = ", ".join(name for name in found if found[name] != expected[name])
        if damaged:
            raise ValueError(f"{damaged}: another sha256 than was written down")
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        _log.warning("%s: cannot be used (%s); the text is tokenised anew", note, error)
        return None
    return written


def _feed(digest: Any, path: Path, size: int) -> None:
    """Read the file's first bytes into the digest.

    Raises:
        OSError, ValueError: if it cannot be read, or holds less.
    """
    with path.open("rb") as file:
        while size > 0:
            block = file.read(min(size, _BLOCK))
            if not block:
                raise ValueError(f"{path.name}: {size} bytes too short")
            digest.update(block)
            size -= len(block)


def draw_seed(seed: int, stream: int, *numbers: int) -> int:
    """A 63-bit seed for a generator: equal for equal arguments, independent otherwise."""
    return int(np.random.SeedSequence([seed, stream, *numbers]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def shuffle_positions(positions: Ids, n: int, key: int) -> Ids:
    """What a random permutation of 0..n-1 has at these positions, in constant memory.

    It is a cipher and not `Generator.permutation` because another order would give the seeds of the committed results
    another meaning. A Feistel network permutes the smallest 2^(2h) >= n; what falls outside 0..n-1 is sent through
    again, which keeps it a permutation.

    Source: Black & Rogaway 2002, "Ciphers with arbitrary finite domains".
    """
    half = max(1, ((n - 1).bit_length() + 1) // 2)
    keys = np.random.SeedSequence(key).generate_state(_ROUNDS, np.uint64).astype(np.uint64)
    out = positions.astype(np.uint64)
    pending = np.arange(len(out))
    while len(pending):
        out[pending] = _feistel(out[pending], half, keys)
        pending = pending[out[pending] >= n]
    return out.astype(np.int64)


def _feistel(x: NDArray[np.uint64], half: int, keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    bits, low = np.uint64(half), np.uint64((1 << half) - 1)
    left, right = x >> bits, x & low
    for key in keys:
        # the finaliser of splitmix64
        mixed = right + key
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        left, right = right, left ^ ((mixed ^ (mixed >> np.uint64(31))) & low)
    return (left << bits) | right


class Batches:
    """The run's batches by step number.

    As in the original, every epoch is a new random order and its last batch may be smaller. Of several processes,
    each gets its part of the batch; a last batch of fewer examples than processes is left out.

    Attributes:
        per_epoch: batches of an epoch.
        total: steps of the run.
        quantum: batches are padded to a multiple of so many tokens, which makes few shapes; 1 pads least.

    Raises:
        UsageError: if a batch is larger than the data.
    """

    def __init__(
        self, corpus: Corpus, settings: Settings, pad_id: int, augment: Augment | None, share: tuple[int, int]
    ) -> None:
        assert settings.batch_size is not None and settings.epochs is not None  # `published` has filled them in
        n, b = len(corpus), settings.batch_size
        if b > n:
            raise UsageError(f"{corpus.name}: {n} examples, expected at least batch_size={b}; lower it or add data")
        rank, world = share
        if b < world:
            raise UsageError(f"batch_size={b} for {world} processes, expected at least one example each")
        self._corpus = corpus
        self._batch_size, self._seed = b, settings.seed
        self._longest = settings.train_tokens
        self._pad_id = pad_id
        self._augment = augment
        self._rank, self._world = rank, world
        self.per_epoch = n // b + (n % b >= world)
        self.total = settings.max_steps or int(np.ceil(settings.epochs * self.per_epoch))
        self.quantum = 1

    def rows(self, step: int) -> Ids:
        """Numbers of the examples of the whole step, over all processes."""
        epoch, place = divmod(step, self.per_epoch)
        start = place * self._batch_size
        stop = min(start + self._batch_size, len(self._corpus))
        return shuffle_positions(np.arange(start, stop), len(self._corpus), draw_seed(self._seed, ORDER, epoch))

    def sizes(self, step: int) -> list[int]:
        """How many of the step's examples each process has."""
        return [len(part) for part in np.array_split(self.rows(step), self._world)]

    def __getitem__(self, step: int) -> Batch:
        rows = np.array_split(self.rows(step), self._world)[self._rank]
        if self._corpus.columns > 1:
            views = [self._corpus.gather(rows, column) for column in range(self._corpus.columns)]
        else:
            first = self._corpus.gather(rows, 0)
            views = [first, first if self._augment is None else self._second(rows, step)]
        longest = max(int(lengths.max()) for _, lengths in views)
        width = min(-(-longest // self.quantum) * self.quantum, max(longest, self._longest))
        return _pad_views(views, self._pad_id, width)

    def _second(self, rows: Ids, step: int) -> tuple[Ids, Ids]:
        assert self._augment is not None
        rng = np.random.default_rng(draw_seed(self._seed, AUGMENT, step, self._rank))
        return self._augment(self._corpus, rows, rng)


def _pad_views(views: list[tuple[Ids, Ids]], pad_id: int, width: int) -> Batch:
    padded = [pad_flat(tokens, lengths, pad_id, width) for tokens, lengths in views]
    ids, mask = (torch.stack(parts, dim=1) for parts in zip(*padded, strict=True))  # (b, c, s)
    return Batch(ids, mask)
