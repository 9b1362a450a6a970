"""Sentence vectors of a frozen encoder whose dropout is on: other ones at every request, from torch's generator."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from harness.encoders.batching import Tokens, pad, plan_batches
from harness.encoders.checkpoint import load
from harness.encoders.context import Context
from harness.encoders.forward import forward_pooled
from harness.encoders.tokens import token_ids
from harness.encoders.transformer import TransformerEncoder
from harness.errors import UsageError

_BUDGET = 1024  # padded tokens that go through the encoder together: less padding, and the processor's cache is enough


class DropoutVectors:
    """The vectors of n sentences, computed when asked for.

    Attributes:
        shape: (n, d).
    """

    def __init__(self, encoder: TransformerEncoder, sentences: Sequence[str], context: Context) -> None:
        """Load the checkpoint a second time, since the encoder's own copy may be laid out for inference.

        Raises:
            UsageError: if the encoder changes sentences before it reads them.
        """
        checkpoint = encoder.backbone.checkpoint
        if encoder.backbone.prompt or checkpoint.model.lower_case:
            raise UsageError(
                f"{checkpoint.name}: puts a prompt before sentences or lower-cases them, which the fit with dropout "
                "does not; fit with dropout=false"
            )
        self.shape = (len(sentences), encoder.card.dim)
        self._encoder, self._sentences, self._device = encoder, sentences, context.device
        self._loaded = load(checkpoint, dtype=getattr(torch, context.dtype))
        self._loaded.model.train()
        for module in (self._loaded.model, self._loaded.head):
            if module is not None:
                module.to(context.device)

    @torch.no_grad()
    def __getitem__(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """(len(rows), d) float32; equal for the same rows and the same state of torch's global generator."""
        texts = [self._sentences[row] for row in rows]
        ids = token_ids(self._loaded.tokenizer, texts, self._encoder.backbone.max_tokens)
        out = np.empty((len(rows), self.shape[1]), dtype=np.float32)
        for batch in plan_batches([len(tokens) for tokens in ids], _BUDGET):
            out[batch.rows] = self._forward([ids[row] for row in batch.rows])
        return out

    def _forward(self, ids: Sequence[Tokens]) -> NDArray[np.float32]:
        loaded, pooling = self._loaded, self._encoder.pooling
        padded, mask = (x.to(self._device) for x in pad(ids, loaded.tokenizer.pad_token_id or 0))
        x = forward_pooled(loaded.model, padded, mask, [pooling], loaded.head, cls=loaded.cls)[pooling]
        return self._encoder.layers(x.float().cpu().numpy())
