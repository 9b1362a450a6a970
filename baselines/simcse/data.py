"""What a run reads: the examples of its training text, their batches, and the development set.

A text is tokenised once, in memory, two bytes a token (60 MB for a million sentences of Wikipedia); the ids are kept by
`harness.derived` and mapped from there. Which examples a step sees is drawn from the seed and the step's number alone,
so a resumed run needs no generator's state and no position in the data.
"""

import hashlib
import json
import os
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, combinations, groupby, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from baselines.simcse.ablations import Augment, Ids
from baselines.simcse.settings import Settings, SimcseSup
from harness import derived
from harness.data.columns import NEUTRAL, columns_text, is_neutral
from harness.data.records import Pairs
from harness.data.text import SentenceFile
from harness.encoders.batching import pad, plan_batches
from harness.errors import DataError, UsageError
from harness.progress import Progress
from harness.results.correlation import spearman
from harness.tasks.geometry_metrics import alignment, uniformity
from harness.tasks.metrics import cosine

Row = tuple[str, ...]  # the views of one example; a single one stands for two copies

# Streams of random numbers; one per purpose, so that none depends on how much another draws.
INIT, ORDER, DROPOUT, AUGMENT, MASKING = range(5)
_ROUNDS = 6  # of the cipher that shuffles
_SHUFFLED = 64  # batches whose order is drawn together
_AT_ONCE = 8192  # rows tokenised together, in the tokenizer's own threads
_FORMAT = 6
_CPU_BUDGET, _GPU_BUDGET = 1024, 32768  # padded tokens per batch of the development set
_SIMILAR = 4.0  # gold above which the paper takes a pair as a positive for alignment


def read_rows(file: SentenceFile, settings: Settings) -> Iterator[Row]:
    """The examples of a file, in order, as texts.

    Lines, and tables with one column of sentences, are unsupervised data, whose empty lines are kept, as in the
    original's loader. Sentence, positive and hard negative are supervised data, whose empty lines are skipped, with a
    column named `neutral` where the settings ask for one; columns go by position, as in the original, and their names
    only say which are neutral. For positives=captions the captions of an image stand together, and every two of them
    are a pair. A column of row numbers or ids is left out.

    Raises:
        UsageError: at once, if the columns do not fit the settings.
        DataError: while reading, if a row is not what the header says, with file and line; at the end, if fewer than
            two examples begin with a text that is not blank.
    """
    if not isinstance(settings, SimcseSup):
        _check_columns(file)
        if len(file.sentence_columns) != 1:
            raise UsageError(
                f"{file.path}: {columns_text(file.sentence_columns)}, expected 1 for simcse-unsup; use simcse-sup, or "
                "a file of one column"
            )
        return _two_or_more(file, file.rows(), "sentence")
    if file.kind == "lines":
        raise UsageError(
            f"{file.path}: supervised training needs pairs, expected a .csv with the columns sentence, positive and, "
            "if wanted, hard negative"
        )
    if settings.positives == "captions":
        return _two_or_more(file, _caption_pairs(file, settings), "example")
    _check_columns(file)
    positives, negatives = _choose_columns(file, settings)
    rows = ((cells[0], cells[p], *(cells[n] for n in negatives)) for cells in file.rows() for p in positives)
    return _two_or_more(file, rows, "example")


def _two_or_more(file: SentenceFile, rows: Iterator[Row], what: str) -> Iterator[Row]:
    """The rows; of fewer than two, a sentence would have no other to be told from."""
    filled = blank = 0
    for row in rows:
        if row[0].strip():
            filled += 1
        else:
            blank += 1
        yield row
    if filled < 2:
        found = f"1 {what}" if filled else f"no {what}s"
        beside = f" beside {blank} blank one{'s' * (blank != 1)}" if blank else ""
        raise DataError(f"{file.path}: {found}{beside}, expected at least two; is it the right file?")


def _check_columns(file: SentenceFile) -> None:
    """Refuse columns that judge or group sentences: trained on without them, contradictions would be positives."""
    for column in file.columns:
        if column.role in ("label", "image"):
            names = [each.name for each in file.columns]
            raise UsageError(
                f"{file.path}: {columns_text(names)}, of which {column.name!r} names no sentences, expected sentences "
                "alone; choose rows by it and remove it"
            )


def _caption_pairs(file: SentenceFile, settings: SimcseSup) -> Iterator[Row]:
    images = [column.name for column in file.columns if column.role in ("image", "index")]
    if len(images) != 1 or len(file.columns) != 2:
        names = [column.name for column in file.columns]
        raise UsageError(f"{file.path}: {columns_text(names)}, expected 2 for positives=captions: image, caption")
    columns = (images[0], *file.sentence_columns)
    _check_choice(file, columns, settings, [1], [])
    by_image = groupby(file.rows(columns), key=lambda cells: cells[0])
    return chain.from_iterable(combinations([caption for _, caption in group], 2) for _, group in by_image)


def _choose_columns(file: SentenceFile, settings: SimcseSup) -> tuple[list[int], list[int]]:
    """The numbers of the columns that are positives of the first one, and of those that are hard negatives."""
    header = file.sentence_columns
    if len(header) < 2:
        raise UsageError(f"{file.path}: {columns_text(header)}, expected 2 or more for simcse-sup: sentence, positive")
    positives, negatives = _positives(file, settings), _negatives(file, settings)
    _check_choice(file, header, settings, positives, negatives)
    return positives, negatives


def _positives(file: SentenceFile, settings: SimcseSup) -> list[int]:
    match settings.positives:
        case "neutral" | "contradiction" as kind:
            return [_first(file, kind, f"positives={kind}")]
        case "all":
            return list(range(1, len(file.sentence_columns)))
        case _:
            return [1]


def _negatives(file: SentenceFile, settings: SimcseSup) -> list[int]:
    match settings.hard_negatives:
        case "neutral":
            return [_first(file, "neutral", "hard_negatives=neutral")]
        case "both":
            return [_first(file, kind, "hard_negatives=both") for kind in ("contradiction", "neutral")]
        case "given" if settings.positives == "entailment":
            return _columns_of(file, "contradiction")[:1]
        case _:
            return []


def _columns_of(file: SentenceFile, kind: str) -> list[int]:
    """The numbers of the columns of neutral sentences, or of contradictions: the others after the second."""
    neutral = [is_neutral(name) for name in file.sentence_columns]
    if kind == "neutral":
        return [number for number in range(1, len(neutral)) if neutral[number]]
    return [number for number in range(2, len(neutral)) if not neutral[number]]


def _first(file: SentenceFile, kind: str, why: str) -> int:
    found = _columns_of(file, kind)
    if not found:
        expected = (
            f"one named {NEUTRAL!r} after the first"
            if kind == "neutral"
            else "one of contradictions, such as hard_neg, after the first two"
        )
        raise UsageError(f"{file.path}: {columns_text(file.sentence_columns)}, expected {expected} for {why}")
    return found[0]


def _check_choice(
    file: SentenceFile, header: Sequence[str], settings: SimcseSup, positives: list[int], negatives: list[int]
) -> None:
    chosen = f"positives={settings.positives} and hard_negatives={settings.hard_negatives}"
    for number in positives:
        if number in negatives:
            raise UsageError(
                f"{file.path}: {columns_text(header)}, of which {header[number]!r} is positive and hard negative at "
                f"once with {chosen}, expected different ones; change one of the two"
            )
    if settings.hard_negative_weight and not negatives:
        raise UsageError(
            f"{file.path}: {columns_text(header)} and no hard negatives with {chosen}, expected some for "
            f"hard_negative_weight={settings.hard_negative_weight:g}; drop the weight, or choose others"
        )


@dataclass(frozen=True, slots=True)
class Corpus:
    """n examples of c views, as token ids with the special ones.

    Attributes:
        name: of the data file.
        sha256: of its bytes.
        columns: c.
        blank: examples whose first text is blank.
        tokens: all ids, one view after another.
        ends: (n c + 1,): 0, then where each view ends.
    """

    name: str
    sha256: str
    columns: int
    blank: int
    tokens: NDArray[Any]
    ends: Ids

    def __len__(self) -> int:
        return (len(self.ends) - 1) // self.columns

    @property
    def facts(self) -> dict[str, int]:
        """What cards say of the data."""
        return {"rows": len(self), "columns": self.columns, "tokens": len(self.tokens), "blank": self.blank}

    def gather(self, rows: Ids, column: int) -> tuple[Ids, Ids]:
        """Token ids of one view of n examples: all of them one after another, and the n lengths."""
        views = rows * self.columns + column
        starts, ends = self.ends[views], self.ends[views + 1]
        ids = [self.tokens[start:end] for start, end in zip(starts, ends, strict=True)]
        return np.concatenate(ids).astype(np.int64), ends - starts


def open_corpus(file: SentenceFile, tokenizer: Any, settings: Settings, cache: Path, progress: Progress) -> Corpus:
    """The tokenised data, made now if they are not in the cache.

    Args:
        file: see `read_rows`.
        tokenizer: of the backbone.
        settings: method, positives, hard negatives, train_tokens and sentences decide what is read.
        cache: several processes may ask at once, one works and the others wait.
        progress: told of rows.

    Raises:
        DataError, UsageError: as `read_rows`.
    """
    rows = islice(read_rows(file, settings), settings.sentences)
    sha256 = file.sha256()
    roles = [settings.positives, settings.hard_negatives] if isinstance(settings, SimcseSup) else []
    reading = [settings.method, *roles, settings.train_tokens, settings.sentences]
    # The same bytes may be other rows under another ending.
    key = json.dumps([_FORMAT, sha256, file.kind, _tokenizer_sha256(tokenizer), reading])
    path = cache / "tokenized" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.safetensors"
    kept = derived.recall(path, key, lambda: _tokenize(rows, tokenizer, settings.train_tokens, progress))
    columns, blank = (int(kept.facts[name]) for name in ("columns", "blank"))
    return Corpus(file.path.name, sha256, columns, blank, kept.arrays["tokens"], kept.arrays["ends"])


def _tokenizer_sha256(tokenizer: Any) -> str:
    """Digest (hex) of what decides token ids, without the cut, which a tokenizer remembers from its last call."""
    said = json.loads(tokenizer.backend_tokenizer.to_str())
    decisive = {name: value for name, value in said.items() if name not in ("truncation", "padding")}
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()


def _tokenize(rows: Iterator[Row], tokenizer: Any, max_tokens: int, progress: Progress) -> derived.Derived:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    tokens = array("H" if len(tokenizer) <= 2**16 else "I")
    lengths = [np.zeros(1, np.int64)]
    columns = done = blank = 0
    while block := list(islice(rows, _AT_ONCE)):
        ids = tokenizer(
            [text for row in block for text in row],
            truncation=True,
            max_length=max_tokens,
            return_attention_mask=False,
            return_token_type_ids=False,
        )["input_ids"]
        lengths.append(np.fromiter(map(len, ids), np.int64, len(ids)))
        tokens.extend(chain.from_iterable(ids))
        columns, done = len(block[0]), done + len(block)
        blank += sum(not row[0].strip() for row in block)
        progress("tokenizing", done, 0)
    arrays = {"tokens": np.frombuffer(tokens, tokens.typecode), "ends": np.cumsum(np.concatenate(lengths))}
    return derived.Derived(arrays, {"columns": str(columns), "blank": str(blank)})


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


class Batch(NamedTuple):
    """b examples of c views, padded: token ids (b, c, s), and mask (b, c, s) with 1 on tokens."""

    ids: Tensor
    mask: Tensor


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
        self._shuffled = lru_cache(maxsize=2)(self._shuffle)

    def rows(self, step: int) -> Ids:
        """Numbers of the examples of the whole step, over all processes."""
        epoch, place = divmod(step, self.per_epoch)
        group, inner = divmod(place, _SHUFFLED)
        return self._shuffled(epoch, group)[inner * self._batch_size : (inner + 1) * self._batch_size]

    def _shuffle(self, epoch: int, group: int) -> Ids:
        """The examples of `_SHUFFLED` batches at once: a call of numpy costs more than one batch's numbers."""
        start = group * _SHUFFLED * self._batch_size
        stop = min(start + _SHUFFLED * self._batch_size, len(self._corpus))
        return shuffle_positions(np.arange(start, stop), len(self._corpus), draw_seed(self._seed, ORDER, epoch))

    def sizes(self, step: int) -> list[int]:
        """How many of the step's examples each process has."""
        return [len(part) for part in np.array_split(self.rows(step), self._world)]

    def __getitem__(self, step: int) -> Batch:
        rows = np.array_split(self.rows(step), self._world)[self._rank]
        views = [self._corpus.gather(rows, column) for column in range(self._corpus.columns)]
        if len(views) == 1 and self._augment is not None:
            rng = np.random.default_rng(draw_seed(self._seed, AUGMENT, step, self._rank))
            views.append(self._augment(self._corpus, rows, rng))
        elif len(views) == 1:
            views *= 2
        longest = max(int(lengths.max()) for _, lengths in views)
        width = min(-(-longest // self.quantum) * self.quantum, max(longest, self._longest))
        lengths = np.stack([lengths for _, lengths in views], axis=1)  # (b, c)
        mask = np.arange(width) < lengths[:, :, None]  # (b, c, s)
        ids = np.full(mask.shape, self._pad_id, dtype=np.int64)
        for view, (tokens, _) in enumerate(views):
            ids[:, view][mask[:, view]] = tokens
        return Batch(torch.from_numpy(ids), torch.from_numpy(mask.astype(np.int64)))


@dataclass(frozen=True, slots=True, kw_only=True)
class DevScore:
    """Spearman -1..1; alignment and uniformity as in the paper's Figure 2, of unit vectors, lower is better."""

    spearman: float
    alignment: float
    uniformity: float


class DevSet:
    """Scored sentence pairs; each distinct sentence is tokenised and encoded once, and never cut.

    Attributes:
        name: for the card.
        sha256: of the pairs and scores.
    """

    def __init__(self, name: str, pairs: Pairs, tokenizer: Any, max_positions: int) -> None:
        self.name = name
        self.sha256 = hashlib.sha256(repr((pairs.left, pairs.right, pairs.gold)).encode()).hexdigest()
        place = {text: i for i, text in enumerate(dict.fromkeys([*pairs.left, *pairs.right]))}
        self._left = np.array([place[text] for text in pairs.left])
        self._right = np.array([place[text] for text in pairs.right])
        self._gold = np.array(pairs.gold)
        self._ids = tokenizer(list(place), truncation=True, max_length=max_positions)["input_ids"]
        self._pad_id = tokenizer.pad_token_id

    def score(self, model: nn.Module) -> DevScore:
        """Evaluate in float32 with the evaluation pooler; the model is left in training mode and draws nothing."""
        x = self._encode(model)
        correlation = spearman(self._gold, cosine(x[self._left], x[self._right]))
        unit = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
        if not np.isfinite(correlation) or not x.any(axis=1).all():  # no directions to compare
            return DevScore(spearman=correlation, alignment=float("nan"), uniformity=float("nan"))
        similar = self._gold > _SIMILAR
        left, right = unit[self._left[similar]], unit[self._right[similar]]
        return DevScore(
            spearman=correlation,
            alignment=alignment(left, right) if similar.any() else float("nan"),
            uniformity=uniformity(unit) if len(unit) > 1 else float("nan"),
        )

    @torch.inference_mode()
    def _encode(self, model: nn.Module) -> NDArray[np.float32]:
        device = next(model.parameters()).device
        model.eval()
        budget = _CPU_BUDGET if device.type == "cpu" else _GPU_BUDGET
        batches = plan_batches([len(ids) for ids in self._ids], budget)
        parts = list[NDArray[np.float32]]()
        for rows in batches:
            ids, mask = pad([self._ids[row] for row in rows], self._pad_id)
            parts.append(model(ids.to(device), mask.to(device)).float().cpu().numpy())
        model.train()
        found = np.concatenate(parts)
        out = np.empty_like(found)
        out[np.concatenate(batches)] = found
        return out
