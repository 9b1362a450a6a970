"""Sentence vectors of a frozen encoder whose dropout is on: other ones at every request, from torch's generator."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.encoders.batching import Tokens, pad, plan_batches
from harness.encoders.checkpoint import load
from harness.encoders.context import Context
from harness.encoders.pooling import forward_pooled
from harness.encoders.transformer import TransformerEncoder

_BUDGET = 1024  # padded tokens that go through the encoder together: less padding, and the processor's cache is enough


class DropoutVectors:
    """The vectors of n sentences, computed when asked for.

    Attributes:
        shape: (n, d).
    """

    def __init__(self, encoder: TransformerEncoder, sentences: Sequence[str], context: Context) -> None:
        """Load the checkpoint a second time, since the encoder's own copy may be laid out for inference."""
        self.shape = (len(sentences), encoder.card.dim)
        self._encoder, self._sentences, self._device = encoder, sentences, context.device
        self._loaded = load(encoder.backbone.checkpoint, dtype=getattr(torch, context.dtype))
        self._loaded.model.train()
        for module in (self._loaded.model, self._loaded.head):
            if module is not None:
                module.to(context.device)

    @torch.no_grad()
    def __getitem__(self, rows: NDArray[np.int64]) -> Tensor:
        """(len(rows), d) float32; equal for the same rows and the same state of torch's global generator."""
        cut = self._encoder.backbone.max_tokens
        texts = [self._sentences[row] for row in rows]
        ids = self._loaded.tokenizer(texts, truncation=cut is not None, max_length=cut)["input_ids"]
        out = torch.empty(len(rows), self.shape[1])
        for batch in plan_batches([len(tokens) for tokens in ids], _BUDGET):
            out[batch.rows] = self._forward([ids[row] for row in batch.rows])
        return out

    def _forward(self, ids: Sequence[Tokens]) -> Tensor:
        loaded, pooling = self._loaded, self._encoder.pooling
        padded, mask = (x.to(self._device) for x in pad(ids, loaded.tokenizer.pad_token_id or 0))
        return forward_pooled(loaded.model, padded, mask, [pooling], loaded.head)[pooling].float().cpu()
