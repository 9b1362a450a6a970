"""Sentence vectors from any transformer checkpoint: one forward pass serves every pooling that is asked for."""

import json
import os
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.encoders.batching import Batch, Tokens, pad, plan_batches
from harness.encoders.checkpoint import Checkpoint, Loaded, load, read_config, token_ids, weights_sha256
from harness.encoders.context import Context
from harness.encoders.fast_bert import FastBert, fits
from harness.encoders.packed_linear import can_pack, pack_linears
from harness.encoders.pooling import POOLINGS, needs_all_layers, pool
from harness.encoders.protocol import Embeddings
from harness.errors import EncoderError, UsageError
from harness.names import EncoderCard, Value

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_TOKENIZE_AT_ONCE = 4096  # sentences: the unit of progress
_PLAN_AT_ONCE = 65536  # sentences whose tokens are in memory together
# Padded tokens per batch. On a CPU they should be few, so that all cores end together; a GPU needs large launches.
_CPU_BUDGET, _GPU_BUDGET = 1024, 32768


@dataclass(slots=True)
class Statistics:
    """What the last forward passes cost: sentences, tokens, and tokens with padding."""

    sentences: int = 0
    tokens: int = 0
    padded: int = 0


class Backbone:
    """One checkpoint on one device; loaded at the first sentence, so that cached work loads nothing.

    Attributes:
        checkpoint: where the weights are.
        max_tokens: longer sentences are cut, special tokens included.
        dim: of the sentence vectors, Dense modules included.
        statistics: of all passes so far.
    """

    def __init__(self, checkpoint: Checkpoint, context: Context, max_tokens: int | None = None) -> None:
        if context.dtype not in _DTYPES:
            raise UsageError(f"dtype {context.dtype!r} is unknown; known: {', '.join(_DTYPES)}")
        self.checkpoint = checkpoint
        self._context = context
        config = read_config(checkpoint)
        declared = checkpoint.declared
        limit = max_tokens or (declared.max_tokens if declared else None)
        positions = config.get("max_position_embeddings")
        if positions and config.get("model_type") in ("roberta", "camembert", "xlm-roberta"):
            positions -= config.get("pad_token_id", 1) + 1  # RoBERTa's positions start behind the padding index
        self.max_tokens: int | None = min(filter(None, (limit, positions)), default=None)
        self.dim = _last_width(checkpoint, config)
        self.statistics = Statistics()
        self._loaded: Loaded | None = None

    def pooled(
        self, sentences: Sequence[str], poolings: Sequence[str]
    ) -> Iterator[tuple[list[int], dict[str, Embeddings]]]:
        """Encode in one pass over the sentences.

        Args:
            sentences: n texts.
            poolings: keys of `POOLINGS`.

        Yields:
            Rows of the input and, by pooling, their vectors (len(rows), d): batch after batch, not in input order. On
            several threads the next batches are computed while the consumer is at work.

        Raises:
            EncoderError: if the checkpoint cannot be loaded, or has no trained head and the pooling `cls` is asked for.
        """
        loaded = self._load()
        if not all(map(self.offers, poolings)):
            raise EncoderError(
                f"{self.checkpoint.name}: the pooling cls needs a trained head and the weights hold none, so it would "
                "be random; use pooling=cls_before_pooler, or convert the checkpoint"
            )
        budget = _CPU_BUDGET if self._context.device == "cpu" else _GPU_BUDGET
        done, total = 0, len(sentences)
        for start in range(0, total, _PLAN_AT_ONCE):
            tokens = self._tokenize(loaded.tokenizer, sentences[start : start + _PLAN_AT_ONCE], start, total)
            batches = plan_batches([len(t) for t in tokens], budget)
            for batch, vectors in zip(batches, self._run(loaded, batches, tokens, poolings), strict=True):
                done += len(batch.rows)
                self.statistics.sentences += len(batch.rows)
                self.statistics.tokens += batch.tokens
                self.statistics.padded += batch.padded
                self._context.progress("encoding", done, total)
                yield [start + row for row in batch.rows], vectors

    def _run(
        self, loaded: Loaded, batches: list[Batch], tokens: list[Tokens], poolings: Sequence[str]
    ) -> Iterator[dict[str, Embeddings]]:
        def forward(batch: Batch) -> dict[str, Embeddings]:
            return self._forward(loaded, [tokens[row] for row in batch.rows], poolings)

        threads = torch.get_num_threads()
        if self._context.device != "cpu" or threads == 1:
            yield from map(forward, batches)
            return
        # A batch per core, each on one thread, wastes nothing on waiting; threads inside a small matrix product do.
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as workers:
            try:
                yield from workers.map(forward, batches)
            finally:
                workers.shutdown(wait=False, cancel_futures=True)
                torch.set_num_threads(threads)

    def offers(self, pooling: str) -> bool:
        """Whether the weights hold what the pooling needs: a trained head for `cls`. Loads them if need be."""
        return pooling != "cls" or self._load().head is not None

    def _load(self) -> Loaded:
        if self._loaded is None:
            self._loaded = load(self.checkpoint, dtype=_DTYPES[self._context.dtype])
            if self._context.device == "cpu" and self._context.dtype == "float32" and can_pack():
                if fits(self._loaded.model):
                    self._loaded.model = FastBert(self._loaded.model)
                else:
                    pack_linears(self._loaded.model)
            for module in (self._loaded.model, self._loaded.head, *(linear for linear, _ in self._loaded.dense)):
                if module is not None:
                    module.to(self._context.device)
        return self._loaded

    def _tokenize(self, tokenizer: Any, sentences: Sequence[str], before: int, total: int) -> list[Tokens]:
        # Threads of the tokenizer are safe here (nothing forks) and its warning on forking is not for our users.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
        tokens: list[Tokens] = []
        for start in range(0, len(sentences), _TOKENIZE_AT_ONCE):
            tokens += token_ids(tokenizer, sentences[start : start + _TOKENIZE_AT_ONCE], self.max_tokens)
            self._context.progress("tokenizing", before + len(tokens), total)
        return tokens

    @torch.inference_mode()
    def _forward(self, loaded: Loaded, ids: list[Tokens], poolings: Sequence[str]) -> dict[str, Embeddings]:
        pad_id = loaded.tokenizer.pad_token_id
        padded, mask = (x.to(self._context.device) for x in pad(ids, pad_id if pad_id is not None else 0))
        every = needs_all_layers(poolings)
        output = loaded.model(input_ids=padded, attention_mask=mask, output_hidden_states=every)
        layers = output.hidden_states if every else (output.last_hidden_state,)
        return {name: _finish(pool(name, layers, mask, loaded.head), loaded) for name in poolings}


def _finish(x: Tensor, loaded: Loaded) -> Embeddings:
    for linear, activation in loaded.dense:
        x = activation(linear(x))
    return x.to("cpu", torch.float32, copy=True).numpy()  # a view would keep the states of all tokens


def _last_width(checkpoint: Checkpoint, config: dict[str, Any]) -> int:
    dense = checkpoint.declared.dense if checkpoint.declared else ()
    if dense:
        return int(json.loads((dense[-1].folder / "config.json").read_text(encoding="utf-8"))["out_features"])
    width = config.get("hidden_size") or config.get("dim") or config.get("d_model")
    if not isinstance(width, int):
        raise UsageError(f"{checkpoint.transformer / 'config.json'}: no hidden_size, expected the width of the model")
    return width


class TransformerEncoder:
    """A backbone with one pooling."""

    def __init__(self, backbone: Backbone, pooling: str, card: EncoderCard) -> None:
        self.backbone = backbone
        self.pooling = pooling
        self.card = card

    def encode(self, sentences: Sequence[str], /) -> Embeddings:
        """(n, d) float32 in input order; scaled to length 1 where the card says so."""
        out = np.empty((len(sentences), self.card.dim), dtype=np.float32)
        for rows, (x,) in encode_poolings(self.backbone, sentences, [self]):
            out[rows] = x
        return out


def encode_poolings(
    backbone: Backbone, sentences: Sequence[str], encoders: Sequence[TransformerEncoder]
) -> Generator[tuple[list[int], list[Embeddings]]]:
    """Several encoders over the same backbone from one forward pass.

    Yields:
        Rows of the input and one matrix (len(rows), d) per encoder: batch after batch, not in input order.
    """
    for rows, vectors in backbone.pooled(sentences, list(dict.fromkeys(e.pooling for e in encoders))):
        yield rows, [_scaled(vectors[e.pooling]) if e.card.normalized else vectors[e.pooling] for e in encoders]


def _scaled(x: Embeddings) -> Embeddings:
    """Rows of length 1; a zero row stays."""
    scaled: Embeddings = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), np.float32(1e-12))
    return scaled


def build_transformer(  # noqa: PLR0913  what a card needs
    name: str,
    method: str,
    checkpoint: Checkpoint,
    context: Context,
    *,
    pooling: str | None,
    parameters: dict[str, Value | None],
    normalize: bool | None = None,
) -> TransformerEncoder:
    """A transformer encoder with its card.

    Args:
        name: the full specification.
        method: the registry entry's name.
        checkpoint: see `find_checkpoint`.
        context: device, dtype, progress.
        pooling: a key of `POOLINGS`, or None for what the checkpoint declares.
        normalize: whether to scale vectors to length 1; None for what the checkpoint declares.
        parameters: of the specification; `max_tokens` among them is used here, 0 meaning the checkpoint's own limit.

    Raises:
        UsageError: if the pooling is unknown, or neither given nor declared.
    """
    declared = checkpoint.declared
    if pooling is None and declared is None:
        raise UsageError(
            f"{checkpoint.name} does not declare its pooling; say which: "
            + ", ".join(f"{name}[pooling={known}]" for known in POOLINGS)
        )
    chosen = pooling or (declared.pooling if declared else "")
    if chosen not in POOLINGS:
        raise UsageError(f"{name}: pooling {chosen!r} is unknown; known: {', '.join(POOLINGS)}")
    backbone = Backbone(checkpoint, context, max_tokens=int(parameters.get("max_tokens") or 0) or None)
    card = EncoderCard(
        name=name,
        method=method,
        parameters=parameters,
        backbone=checkpoint.title,
        revision=checkpoint.revision,
        weights_sha256=weights_sha256(checkpoint),
        pooling=chosen,
        dim=backbone.dim,
        max_tokens=backbone.max_tokens,
        dtype=context.dtype,
        selected_on=checkpoint.selected_on,
        normalized=declared is not None and declared.normalize and pooling is None if normalize is None else normalize,
    )
    return TransformerEncoder(backbone, chosen, card)
