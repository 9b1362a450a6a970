"""Masked language modelling: the auxiliary objective of Table D.2, and the replacement of words of Table 1.

Source: SimCSE (49fa580) train.py `mask_tokens` and simcse/models.py: 80 % of the selected tokens become the mask, 10 %
a random token, 10 % stay; the masked rows go through the encoder a second time; the output layer starts from the
checkpoint's and is not tied to the embeddings.
"""

import copy
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from baselines.simcse.augment import Augment
from baselines.simcse.batches import Batch
from baselines.simcse.corpus import Corpus
from harness.encoders.checkpoint import Checkpoint, loading
from harness.errors import UsageError


@dataclass(frozen=True, slots=True)
class Masked:
    """A corrupted batch: ids and mask (n, s), the flat positions of the selected tokens (m,), what they were (m,)."""

    ids: Tensor
    mask: Tensor
    positions: Tensor
    targets: Tensor

    def to(self, device: torch.device) -> "Masked":
        return Masked(*(getattr(self, field.name).to(device) for field in fields(self)))


class Masker:
    """Selects and corrupts tokens of every row on its own; special tokens, the unknown one too, are never selected."""

    def __init__(self, tokenizer: Any, probability: float) -> None:
        self._special = torch.tensor(tokenizer.all_special_ids)
        self._mask_id = int(tokenizer.mask_token_id)
        self._vocabulary = len(tokenizer)
        self._probability = probability

    def __call__(self, batch: Batch, seed: int) -> Masked:
        """`batch` on the CPU, left as it is; the draws depend on the seed alone."""
        generator = torch.Generator().manual_seed(seed)
        ids, mask = batch.ids.flatten(0, 1).clone(), batch.mask.flatten(0, 1)
        usable = ~torch.isin(ids, self._special)
        selected = usable & (torch.rand(ids.shape, generator=generator) < self._probability)
        positions = selected.flatten().nonzero()[:, 0]
        flat = ids.view(-1)
        targets = flat[positions].clone()
        draw = torch.rand(len(positions), generator=generator)
        random = torch.randint(self._vocabulary, (len(positions),), generator=generator)
        flat[positions] = torch.where(draw < 0.8, self._mask_id, torch.where(draw < 0.9, random, targets))
        return Masked(ids, mask, positions, targets)


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
    """Mean cross-entropy in nats over the selected tokens; 0 where none is selected (the original gives nan)."""
    states = backbone(input_ids=masked.ids, attention_mask=masked.mask).last_hidden_state
    if not len(masked.positions):  # gradients of 0, not none: processes add them up, and Adam counts every step
        return (states.sum() + layer(states.flatten(0, 1)[:0]).sum()) * 0.0  # type: ignore[no-any-return]
    logits = layer(states.flatten(0, 1)[masked.positions])
    return functional.cross_entropy(logits.float(), masked.targets)


def predicted_words(checkpoint: Checkpoint, tokenizer: Any, share: float) -> Augment:
    """The augmentation mlm-K: that share of the tokens is masked, and becomes the model's best other guess."""
    model = load_masked_model(checkpoint).eval()
    special = np.array(tokenizer.all_special_ids)

    @torch.inference_mode()
    def augment(
        corpus: Corpus, rows: NDArray[np.int64], rng: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        tokens, lengths = corpus.gather(rows, 0)
        mask = np.arange(lengths.max()) < lengths[:, None]
        ids = np.full(mask.shape, tokenizer.pad_token_id, dtype=np.int64)
        ids[mask] = tokens
        chosen = ~np.isin(ids, special) & (rng.random(ids.shape) < share)
        hidden = torch.from_numpy(np.where(chosen, tokenizer.mask_token_id, ids))
        logits = model(input_ids=hidden, attention_mask=torch.from_numpy(mask.astype(np.int64))).logits[chosen]
        logits[:, special] = -torch.inf
        logits[torch.arange(len(logits)), torch.from_numpy(ids[chosen])] = -torch.inf
        ids[chosen] = logits.argmax(dim=1).numpy()
        return ids[mask], lengths

    return augment
