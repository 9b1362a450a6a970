"""A checkpoint run as others run it, by mistake or by choice: what `bench explain` holds against a number.

Nothing here is fast or is used for results; `harness.encoders.transformer` is the forward pass of those.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.encoders.batching import Tokens, pad, plan_batches
from harness.encoders.checkpoint import Loaded, load
from harness.encoders.context import Context
from harness.encoders.forward import Head
from harness.encoders.pooling import needs_all_layers, needs_head, pool
from harness.encoders.protocol import Embeddings
from harness.encoders.tokens import prompt_tokens, token_ids
from harness.encoders.transformer import DTYPES, TransformerEncoder
from harness.errors import EncoderError

_BUDGET = 4096  # tokens per batch
_BATCH = 64  # sentences per batch where padding counts
_INITIAL = 0.02  # standard deviation of BERT's new weights


@dataclass(frozen=True, slots=True, kw_only=True)
class Alteration:
    """What is done otherwise than the checkpoint and this project's protocol say; the defaults change nothing."""

    max_tokens: int | None = None  # sentences are cut there; None: at the encoder's own limit
    dtype: str = ""  # of the forward pass; "": the encoder's own
    prompt: str | None = None  # put before every sentence; None: the encoder's own
    keep_case: bool = False  # whether a tokenizer that lower-cases is kept from it
    special_tokens: str = "pooled"  # `pooled`, `not pooled`, or `absent`: not even read by the model
    # "": no padding is pooled; `batch`: each sentence is padded to the longest of 64, sorted by their characters,
    # and the padding pooled; `128`: to so many tokens.
    padding: str = ""
    dropout: bool = False  # whether dropout is on, as in training
    # Whether the layer over CLS has new weights, as a library makes them where a file holds none.
    random_head: bool = False
    seed: int = 0  # of dropout and of the new weights


class AlteredEncoder:
    """A transformer encoder under an alteration.

    Attributes:
        card: its content is empty, so that nothing is kept on disk, where a row depends on the others.
    """

    def __init__(self, encoder: TransformerEncoder, alteration: Alteration, context: Context) -> None:
        self._encoder, self._alteration, self._context = encoder, alteration, context
        self._loaded: Loaded | None = None
        self._pooling = "cls" if alteration.random_head else encoder.pooling
        content = {**encoder.card.content, "altered": json.dumps(asdict(alteration), sort_keys=True)}
        together = alteration.dropout or alteration.padding == "batch"
        self.card = replace(encoder.card, content={} if together else {**content, "pooling": self._pooling})

    def encode(self, sentences: Sequence[str], /) -> Embeddings:
        """(n, d) float32 in input order.

        Raises:
            EncoderError: if the checkpoint cannot be loaded, or has no head where one is needed.
        """
        if self._loaded is None:
            self._loaded = self._load()
        ids = self._tokenize(self._loaded, sentences)
        out = np.empty((len(sentences), self.card.dim), dtype=np.float32)
        torch.manual_seed(self._alteration.seed)
        done = 0
        for rows in self._batches(sentences, ids):
            out[rows] = self._forward(self._loaded, [ids[row] for row in rows])
            done += len(rows)
            self._context.progress("encoding", done, len(sentences))
        return out

    def _load(self) -> Loaded:
        backbone, alteration = self._encoder.backbone, self._alteration
        dtype = DTYPES[alteration.dtype or self._context.dtype]
        loaded = load(backbone.checkpoint, dtype=dtype)
        if alteration.random_head:
            loaded.head = _new_head(backbone.width, alteration.seed).to(dtype)
        if needs_head(self._pooling) and loaded.head is None:
            raise EncoderError(f"{backbone.checkpoint.name}: the weights hold no trained head for the pooling cls")
        if alteration.keep_case:
            keep_case(loaded.tokenizer)
        loaded.model.train(alteration.dropout)
        for module in filter(None, (loaded.model, loaded.head)):
            module.to(self._context.device)
        return loaded

    def _tokenize(self, loaded: Loaded, sentences: Sequence[str]) -> list[Tokens]:
        backbone, alteration = self._encoder.backbone, self._alteration
        limit = alteration.max_tokens or backbone.max_tokens
        ids = token_ids(loaded.tokenizer, [self._prompt + sentence for sentence in sentences], limit)
        if alteration.special_tokens != "absent":
            return ids
        special = set(loaded.tokenizer.all_special_ids) - {loaded.tokenizer.unk_token_id}
        return [[token for token in each if token not in special] or each for each in ids]

    @property
    def _prompt(self) -> str:
        return self._encoder.backbone.prompt if self._alteration.prompt is None else self._alteration.prompt

    def _batches(self, sentences: Sequence[str], ids: Sequence[Tokens]) -> list[list[int]]:
        if self._alteration.padding == "batch":
            order = sorted(range(len(sentences)), key=lambda row: len(sentences[row]))
            return [order[start : start + _BATCH] for start in range(0, len(order), _BATCH)]
        return plan_batches([len(each) for each in ids], _BUDGET, padding=False)

    @torch.inference_mode()
    def _forward(self, loaded: Loaded, ids: list[Tokens]) -> Embeddings:
        """Ids of b sentences -> (b, d) float32."""
        longest = max(map(len, ids))
        width = int(self._alteration.padding) if self._alteration.padding.isdigit() else longest
        positions = self._encoder.backbone.checkpoint.configuration.positions
        padded, mask = pad(ids, loaded.tokenizer.pad_token_id or 0, max(longest, min(width, positions or width)))
        padded, mask = padded.to(self._context.device), mask.to(self._context.device)
        every = needs_all_layers([self._pooling])
        output = loaded.model(input_ids=padded, attention_mask=mask, output_hidden_states=every)
        layers = output.hidden_states if every else (output.last_hidden_state,)
        x = pool(self._pooling, layers, self._pooled(loaded, padded, mask), loaded.head, cls=loaded.cls)
        return self._encoder.layers(x.to("cpu", torch.float32, copy=True).numpy())

    def _pooled(self, loaded: Loaded, ids: Tensor, mask: Tensor) -> Tensor:
        """(b, s), 1 on the tokens that are pooled."""
        if self._alteration.padding:
            return torch.ones_like(mask)
        if self._alteration.special_tokens == "not pooled":
            special = set(loaded.tokenizer.all_special_ids) - {loaded.tokenizer.unk_token_id}
            return mask * ~torch.isin(ids, torch.tensor(sorted(special), device=ids.device))
        if not self._encoder.backbone.checkpoint.include_prompt:
            mask = mask.clone()
            mask[:, : prompt_tokens(loaded.tokenizer, self._prompt)] = 0
        return mask


def _new_head(width: int, seed: int) -> Head:
    weight = torch.normal(0.0, _INITIAL, (width, width), generator=torch.Generator().manual_seed(seed))
    return Head(weight, torch.zeros(width)).eval()


def keep_case(tokenizer: Any) -> bool:
    """Keep a tokenizer from lower-casing, as `do_lower_case=False` does; False where it does not lower-case."""
    from tokenizers import Tokenizer

    if not tokenizer.is_fast:
        return False
    rules = json.loads(tokenizer.backend_tokenizer.to_str())
    if not _without_lower_case(rules):
        return False
    tokenizer._tokenizer = Tokenizer.from_str(json.dumps(rules))
    return True


def _without_lower_case(rules: dict[str, Any]) -> bool:
    normalizer = rules.get("normalizer") or {}
    steps = normalizer["normalizers"] if normalizer.get("type") == "Sequence" else [normalizer]
    kept = [step for step in steps if step.get("type") != "Lowercase"]
    found = len(kept) < len(steps)
    for step in kept:
        found = found or bool(step.get("lowercase"))
        step |= {"lowercase": False} if "lowercase" in step else {}
    rules["normalizer"] = {"type": "Sequence", "normalizers": kept} if kept and kept[0] else None
    return found
