"""The paper's ablations that need code of their own: other second views (Tables 1, 2), masked words (Tables 1, D.2).

Edits of a sentence work on token ids, drawn anew in every epoch; a word is a token with the pieces that continue it.
What was cut off at `train_tokens` before is out of their reach, unlike in the paper, where whole sentences were edited.

The masked language model follows the reference: 80 % of the selected tokens become the mask, 10 % a random token, 10 %
stay; the masked rows go through the encoder a second time; the output layer starts from the checkpoint's and is not
tied to the embeddings. Sources: https://github.com/princeton-nlp/SimCSE/blob/49fa580/train.py#L498-L530 and
https://github.com/princeton-nlp/SimCSE/blob/49fa580/simcse/models.py#L139-L152
"""

import copy
import hashlib
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from harness.encoders.batching import pad_flat
from harness.encoders.checkpoint import Checkpoint, loading
from harness.encoders.forward import attention
from harness.errors import DataError, UsageError

Ids = NDArray[np.int64]
Words = list[Ids]
Edit = Callable[[Words, np.random.Generator], Words]

_NONE = -100  # the target of no token


class Views(Protocol):
    """The tokenised data, n examples of c views."""

    def __len__(self) -> int: ...

    def gather(self, rows: Ids, column: int) -> tuple[Ids, Ids]:
        """Token ids of one view of n examples: all of them one after another, and the n lengths."""


Augment = Callable[[Views, Ids, np.random.Generator], tuple[Ids, Ids]]  # rows -> tokens of all, lengths


def make_augment(
    name: str, tokenizer: Any, thesaurus: str | None, checkpoint: Checkpoint, device: str
) -> Augment | None:
    """Make the augmentation of that name; None where the second view is a copy.

    Args:
        name: as the parameter of `SimcseUnsup`.
        tokenizer: of the backbone.
        thesaurus: the file of synonyms.
        checkpoint: the model that is asked for words by mlm-K.
        device: where it computes them.

    Raises:
        UsageError: if synonyms are asked for and no thesaurus is given, or mlm-K without a masked language model.
        DataError: if the thesaurus cannot be read.
    """
    kind, _, number = name.partition("-")
    share = int(number) / 100 if number.isdigit() else 0.0
    match kind:
        case "next":
            return lambda corpus, rows, rng: _next(corpus, rows, rng, reach=int(number or 1))
        case "crop":
            return _edit_each(lambda words, rng: crop(words, share, rng), tokenizer)
        case "delete":
            return _edit_each(lambda words, rng: delete(words, share, rng), tokenizer)
        case "synonym":
            known = read_thesaurus(thesaurus, tokenizer)
            return _edit_each(lambda words, rng: replace_one(words, known, rng), tokenizer)
        case "mlm":
            return predict_words(checkpoint, tokenizer, share, device)
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


def _edit_each(edit: Edit, tokenizer: Any) -> Augment:
    continues = _continuations(tokenizer)

    def augment(corpus: Views, rows: Ids, rng: np.random.Generator) -> tuple[Ids, Ids]:
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


def _next(corpus: Views, rows: Ids, rng: np.random.Generator, *, reach: int) -> tuple[Ids, Ids]:
    """The line after, or one of the `reach` lines after; the last line's is itself. The text must be in order."""
    return corpus.gather(np.minimum(rows + rng.integers(1, reach + 1, size=len(rows)), len(corpus) - 1), 0)


class Masked(NamedTuple):
    """A corrupted batch: ids and mask (n, s), the flat positions of the selected tokens (m,), what they were (m,).

    A target below 0 is none: it stands beside position 0 where m is filled up, so that a recorded step finds one m.
    """

    ids: Tensor
    mask: Tensor
    positions: Tensor
    targets: Tensor


class Masker:
    """Selects and corrupts tokens of every row on its own; special tokens, the unknown one too, are never selected."""

    def __init__(self, tokenizer: Any, probability: float) -> None:
        self._special = torch.tensor(tokenizer.all_special_ids)
        self._mask_id = int(tokenizer.mask_token_id)
        self._vocabulary = len(tokenizer)
        self._probability = probability

    def __call__(self, ids: Tensor, mask: Tensor, seed: int, *, filled: bool = False) -> Masked:
        """Corrupt a batch.

        Args:
            ids: (b, c, s) on the CPU; they are left as they are.
            mask: (b, c, s), 1 on tokens.
            seed: the draws depend on it alone.
            filled: fill up the selected tokens to a number that follows from the batch's shape.
        """
        generator = torch.Generator().manual_seed(seed)
        ids, mask = ids.flatten(0, 1).clone(), mask.flatten(0, 1)
        usable = ~torch.isin(ids, self._special)
        selected = usable & (torch.rand(ids.shape, generator=generator) < self._probability)
        positions = selected.flatten().nonzero()[:, 0]
        flat = ids.view(-1)
        targets = flat[positions].clone()
        draw = torch.rand(len(positions), generator=generator)
        random = torch.randint(self._vocabulary, (len(positions),), generator=generator)
        flat[positions] = torch.where(draw < 0.8, self._mask_id, torch.where(draw < 0.9, random, targets))
        missing = self._most(ids.numel()) - len(positions) if filled else 0
        if missing > 0:
            positions = functional.pad(positions, (0, missing))
            targets = functional.pad(targets, (0, missing), value=_NONE)
        return Masked(ids, mask, positions, targets)

    def _most(self, tokens: int) -> int:
        """A number that the selected of so many tokens exceed once in a billion batches; then it is one shape more."""
        mean = tokens * self._probability
        return min(tokens, math.ceil(mean + 6 * math.sqrt(mean * (1 - self._probability))))


def load_masked_model(checkpoint: Checkpoint) -> nn.Module:
    """The checkpoint with its output layer over the vocabulary.

    Raises:
        UsageError: if the weights hold no such layer: it would be random.
    """
    from transformers import AutoModelForMaskedLM

    with loading(checkpoint):
        model, report = AutoModelForMaskedLM.from_pretrained(
            str(checkpoint.transformer), dtype=torch.float32, local_files_only=True, output_loading_info=True
        )
    missing = [key for key in report["missing_keys"] if not key.endswith(("decoder.weight", "decoder.bias"))]
    if missing:
        raise UsageError(
            f"{checkpoint.name}: the weights hold no masked language model (first missing: {min(missing)}), "
            "expected one for mlm_weight or augmentation=mlm; use a pretrained checkpoint"
        )
    return model  # type: ignore[no-any-return]


def vocabulary_layer(checkpoint: Checkpoint) -> nn.Module:
    """The output layer alone, (m, d) -> (m, vocabulary), with weights of its own."""
    model = load_masked_model(checkpoint)
    layer: nn.Module = model.get_submodule("cls" if hasattr(model, "cls") else "lm_head")
    return copy.deepcopy(layer)


def masked_loss(backbone: nn.Module, layer: nn.Module, masked: Masked) -> Tensor:
    """Mean cross-entropy in nats over the selected tokens; 0 where none is selected (the original gives nan).

    Its gradients are then 0, not none: processes add them up, and Adam counts every step.
    """
    states = backbone(input_ids=masked.ids, **attention(backbone, masked.mask)).last_hidden_state
    logits = layer(states.flatten(0, 1)[masked.positions])
    total = functional.cross_entropy(logits.float(), masked.targets, ignore_index=_NONE, reduction="sum")
    return total / (masked.targets != _NONE).sum().clamp(min=1)


def predict_words(checkpoint: Checkpoint, tokenizer: Any, share: float, device: str = "cpu") -> Augment:
    """The augmentation mlm-K: that share of the tokens is masked, and becomes the model's best other guess."""
    model = load_masked_model(checkpoint).eval().to(device)
    special = torch.tensor(tokenizer.all_special_ids)

    @torch.inference_mode()
    def augment(corpus: Views, rows: Ids, rng: np.random.Generator) -> tuple[Ids, Ids]:
        tokens, lengths = corpus.gather(rows, 0)
        ids, mask = pad_flat(tokens, lengths, tokenizer.pad_token_id)
        chosen = ~torch.isin(ids, special) & torch.from_numpy(rng.random(ids.shape) < share)
        hidden = torch.where(chosen, tokenizer.mask_token_id, ids).to(device)
        logits = model(input_ids=hidden, attention_mask=mask.to(device)).logits[chosen.to(device)].cpu()
        logits[:, special] = -torch.inf
        logits[torch.arange(len(logits)), ids[chosen]] = -torch.inf
        ids[chosen] = logits.argmax(dim=1)
        return ids[mask.bool()].numpy(), lengths

    return augment
