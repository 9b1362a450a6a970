"""Sentence vectors from any transformer checkpoint: one forward pass serves every pooling that is asked for."""

import json
import logging
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.encoders.batching import Statistics, Tokens, pad, plan_batches, prefetch, share_out
from harness.encoders.checkpoint import KNOWN_WEIGHTS, Checkpoint, Loaded, load
from harness.encoders.context import Context, every_device, to_device, to_host
from harness.encoders.fast_bert import FastBert, can_pack, fits, pack_linears
from harness.encoders.forward import Layers, Module, forward_pooled
from harness.encoders.pooling import FURTHER_POOLINGS, POOLINGS, needs_head, parse_pooling
from harness.encoders.protocol import Embeddings
from harness.encoders.tokens import prompt_tokens, token_ids
from harness.errors import EncoderError, UsageError
from harness.names import EncoderCard, Value
from harness.progress import BESIDE, timed

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_TOKENIZE_AT_ONCE = 4096  # sentences: the unit of progress
_PLAN_AT_ONCE = 16384  # sentences: a window, whose batches are planned together while those of the last are computed
# Tokens per batch. On a CPU they should be few, so that all cores end together; a GPU needs large launches.
_CPU_BUDGET, _GPU_BUDGET = 1024, 32768
_AHEAD = 16  # batches for each core that are computed before they are asked for, for instance while rows are written
_QUANTUM = 8  # on a GPU lengths are multiples of it, so that shapes are few and launches large
_PACKED_AT_MOST = 10**9  # parameters: packed weights are in memory twice
# Sentences of eight lengths, four of each, for the first use of an encoder: alone and together they must be equal.
_WORDS = "a man is playing the guitar on stage while two dogs run through deep snow and nobody looks up".split()
_PROBES = tuple(" ".join(_WORDS[start : start + length]) for length in range(1, 16, 2) for start in range(4))
_ROUNDING = {"float32": 1e-4, "bfloat16": 6e-2, "float16": 1e-2}  # share of the largest number of a vector

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Planned:
    """A batch: rows of the input, and their token ids, of one length or padded to one."""

    rows: list[int]
    ids: list[Tokens]


class Backbone:
    """One checkpoint on its devices; loaded at the first sentence, so that cached work loads nothing.

    Batches hold sentences of one length in tokens, so nothing is padded, and on the CPU a sentence's vector has the
    same bits whatever else is encoded. On a GPU the blocks of BERT, which are known to leave padding alone, get lengths
    that are multiples of 8. Several GPUs each hold a copy; windows of sentences go to whichever is free.

    Attributes:
        checkpoint: where the weights are.
        max_tokens: longer sentences are cut, special tokens included.
        prompt: put before every sentence.
        width: d, the length of a token's state.
        statistics: of all passes so far.
    """

    def __init__(
        self, checkpoint: Checkpoint, context: Context, max_tokens: int | None = None, prompt: str | None = None
    ) -> None:
        if context.dtype not in DTYPES:
            raise UsageError(f"dtype {context.dtype!r} is unknown; known: {', '.join(DTYPES)}")
        self.checkpoint = checkpoint
        self._context = context
        limits = (max_tokens or checkpoint.max_tokens, checkpoint.configuration.positions)
        self.max_tokens: int | None = min(filter(None, limits), default=None)
        self.prompt = checkpoint.prompt if prompt is None else prompt
        self.width = checkpoint.configuration.width
        self.statistics = Statistics()
        self._loaded: list[Loaded] = []  # one for each device
        self._skipped, self._quantum = 0, 1

    @cached_property
    def content(self) -> dict[str, Value | None]:
        """All that decides the states of tokens and which of them are pooled, for the card."""
        return {
            **self.checkpoint.content,
            "max_tokens": self.max_tokens,
            "dtype": self._context.dtype,
            "prompt": self.prompt or None,
            "prompt_is_pooled": self.checkpoint.include_prompt or not self.prompt,
            "lower_case": "outside special tokens" if self.checkpoint.lower_case else False,
        }

    @property
    def identity(self) -> str:
        """The content as text: backbones of one identity can share a forward pass."""
        return json.dumps(self.content, sort_keys=True)

    def pooled(
        self, sentences: Sequence[str], poolings: Sequence[str]
    ) -> Iterator[tuple[list[int], dict[str, Embeddings]]]:
        """Encode in one pass over the sentences.

        Args:
            sentences: n texts.
            poolings: see `parse_pooling`.

        Yields:
            Rows of the input and, by pooling, their vectors (len(rows), d): batch after batch on the CPU, window after
            window on a GPU, not in input order. What comes next is computed while the consumer is at work.

        Raises:
            EncoderError: if the checkpoint cannot be loaded, or has no trained head and the pooling `cls` is asked for.
        """
        loaded = self._load()
        if not all(map(self.offers, poolings)):
            raise EncoderError(
                f"{self.checkpoint.name}: the pooling cls needs a trained head and the weights hold none, so it would "
                "be random; use pooling=cls_before_pooler, or convert the checkpoint"
            )
        done, total = 0, len(sentences)
        windows = self._windows(loaded[0].tokenizer, sentences)
        with closing(windows), closing(self._encode(loaded, windows, poolings)) as parts:
            for batches, vectors in parts:
                rows = [row for batch in batches for row in batch.rows]
                lengths = [len(ids) for batch in batches for ids in batch.ids]
                done += len(rows)
                self.statistics.add(lengths, sum(map(self._width, lengths)))
                self._context.progress("encoding", done, total)
                yield rows, vectors

    def _windows(self, tokenizer: Any, sentences: Sequence[str]) -> Generator[list[_Planned]]:
        """The batches of each window, tokenised and planned on a thread while those before them are computed."""
        budget = _CPU_BUDGET if self._context.device == "cpu" else _GPU_BUDGET

        def plan(start: int) -> list[_Planned]:
            with timed(BESIDE):
                tokens = self._tokenize(tokenizer, sentences[start : start + _PLAN_AT_ONCE], start, len(sentences))
                batches = plan_batches([self._width(len(ids)) for ids in tokens], budget, padding=False)
                return [_Planned([start + row for row in rows], [tokens[row] for row in rows]) for rows in batches]

        return prefetch(plan, range(0, len(sentences), _PLAN_AT_ONCE), ahead=1)

    def _encode(
        self, loaded: Sequence[Loaded], windows: Iterable[list[_Planned]], poolings: Sequence[str]
    ) -> Generator[tuple[list[_Planned], dict[str, Embeddings]]]:
        """Batches and their vectors: a batch at a time on the CPU, a window on a GPU."""

        def compute(replica: Loaded, batches: list[_Planned]) -> tuple[list[_Planned], dict[str, Embeddings]]:
            return batches, self._compute(replica, [batch.ids for batch in batches], poolings)

        if self._context.device != "cpu":  # two windows for each: one is launched while the other is waited for
            return share_out(compute, windows, [*loaded, *loaded], ahead=2)
        # A batch per core, each on one thread, wastes nothing on waiting; threads inside a small matrix product do.
        batches = ([batch] for window in windows for batch in window)
        return share_out(compute, batches, [*loaded] * torch.get_num_threads(), ahead=_AHEAD)

    @torch.inference_mode()
    def _compute(
        self, loaded: Loaded, batches: Sequence[list[Tokens]], poolings: Sequence[str]
    ) -> dict[str, Embeddings]:
        """By pooling, (n, d) float32 of the sentences of all batches."""
        found = [self._forward(loaded, ids, poolings) for ids in batches]
        return {name: to_host(torch.cat([each[name] for each in found])) for name in poolings}

    def offers(self, pooling: str) -> bool:
        """Whether the weights hold what the pooling needs: a trained head for `cls`. Loads them if need be."""
        return not needs_head(pooling) or self._load()[0].head is not None

    def release(self) -> None:
        """Drop the weights; they are loaded again if another sentence is to be encoded."""
        self._loaded = []

    def _load(self) -> list[Loaded]:
        if not self._loaded:
            with timed("loading models"):
                self._loaded = self._load_replicas()
        return self._loaded

    def _load_replicas(self) -> list[Loaded]:
        loaded = load(self.checkpoint, dtype=DTYPES[self._context.dtype])
        pads = self._context.device != "cpu" and fits(loaded.model) and loaded.cls == 0
        self._quantum = _QUANTUM if pads else 1
        if self._context.device == "cpu" and self._context.dtype == "float32" and can_pack():
            if fits(loaded.model):
                loaded.model = FastBert(loaded.model)
            elif sum(weight.numel() for weight in loaded.model.parameters()) < _PACKED_AT_MOST:
                pack_linears(loaded.model)
        devices = every_device(self._context.device)
        further = (replace(loaded, model=deepcopy(loaded.model), head=deepcopy(loaded.head)) for _ in devices[1:])
        replicas = [loaded, *further]
        for replica, device in zip(replicas, devices, strict=True):
            for module in (replica.model, replica.head):
                if module is not None:
                    module.to(device)
        self._skipped = self._count_skipped(loaded)
        self._check_alone(loaded)
        weights = sum(weight.numel() for weight in loaded.model.parameters())
        _log.info("%s: %d weights loaded on %s", self.checkpoint.transformer, weights, ", ".join(devices))
        return replicas

    def _width(self, length: int) -> int:
        """The tokens of a sentence with its padding."""
        rounded = -(-length // self._quantum) * self._quantum
        return rounded if self.max_tokens is None else min(rounded, max(length, self.max_tokens))

    def _count_skipped(self, loaded: Loaded) -> int:
        """The number of tokens of a prompt that is not pooled."""
        tokens = prompt_tokens(loaded.tokenizer, self.prompt)
        if self.max_tokens is not None and tokens + 2 > self.max_tokens:
            raise EncoderError(
                f"{self.checkpoint.name}: the prompt has {tokens} tokens of the {self.max_tokens} at which sentences "
                "are cut; shorten it or raise max_tokens"
            )
        return 0 if self.checkpoint.include_prompt else tokens

    def _check_alone(self, loaded: Loaded) -> None:
        """Encode some sentences alone and beside others of their length: a row must depend on its sentence alone."""
        found = token_ids(loaded.tokenizer, [self.prompt + text for text in _PROBES], self.max_tokens)
        tokens = [each for each in found if each]
        limit = _ROUNDING[self._context.dtype]
        for rows in plan_batches([len(each) for each in tokens], _CPU_BUDGET, padding=False):
            ids = [tokens[row] for row in rows]
            together = self._compute(loaded, [ids], ["avg"])["avg"]
            if together.shape[1] != self.width:
                raise EncoderError(
                    f"{self.checkpoint.transformer}: states have {together.shape[1]} numbers, expected {self.width}, "
                    "the hidden_size of config.json"
                )
            alone = np.concatenate([self._compute(loaded, [[each]], ["avg"])["avg"] for each in ids])
            if np.abs(together - alone).max(initial=0) > limit * max(1.0, float(np.abs(alone).max(initial=0))):
                raise EncoderError(
                    f"{self.checkpoint.name}: vectors depend on the sentences that stand beside them (by up to "
                    f"{np.abs(together - alone).max():.2g}), expected each to depend on its own alone"
                )

    def _tokenize(self, tokenizer: Any, sentences: Sequence[str], before: int, total: int) -> list[Tokens]:
        tokens: list[Tokens] = []
        for start in range(0, len(sentences), _TOKENIZE_AT_ONCE):
            piece = sentences[start : start + _TOKENIZE_AT_ONCE]
            texts = [self.prompt + sentence for sentence in piece] if self.prompt else piece
            found = token_ids(tokenizer, texts, self.max_tokens)
            if not all(found):
                raise EncoderError(
                    f"{self.checkpoint.name}: the tokenizer makes no token of the text "
                    f"{texts[found.index([])]!r}, expected one or more"
                )
            tokens += found
            self._context.progress("tokenizing", before + len(tokens), total)
        return tokens

    def _forward(self, loaded: Loaded, ids: list[Tokens], poolings: Sequence[str]) -> dict[str, Tensor]:
        """Ids of b sentences of one length -> by pooling, (b, d) on the replica's device."""
        # A matrix product with one row takes another way to other last digits, so a single token is computed twice.
        twice = len(ids) == 1 and len(ids[0]) == 1
        width = self._width(max(map(len, ids)))
        padded, mask = pad(ids * 2 if twice else ids, loaded.tokenizer.pad_token_id or 0, width)
        _log.debug("batch of %d sentences, %d tokens each", len(ids), width)
        device = next(loaded.model.parameters()).device
        padded, mask = to_device(padded, device), to_device(mask, device)
        kind = getattr(loaded.model, "set_attention_type", None)
        if kind is not None:  # BigBird's, which a short sentence changes for all that come after it
            kind(loaded.model.config.attention_type)  # type: ignore[union-attr]
        found = forward_pooled(loaded.model, padded, mask, poolings, loaded.head, skipped=self._skipped, cls=loaded.cls)
        return {name: x[: len(ids)] for name, x in found.items()}


class TransformerEncoder:
    """A backbone with one pooling, and the layers that a folder declares after it."""

    def __init__(self, backbone: Backbone, pooling: str, card: EncoderCard, layers: Layers | None = None) -> None:
        self.backbone = backbone
        self.pooling = pooling
        self.card = card
        self.layers = layers or Layers((), None)

    def encode(self, sentences: Sequence[str], /) -> Embeddings:
        """(n, d) float32 in input order; scaled to length 1 where the card says so."""
        out = np.empty((len(sentences), self.card.dim), dtype=np.float32)
        for rows, (x,) in encode_poolings(self.backbone, sentences, [self]):
            out[rows] = x
        return out

    def release(self) -> None:
        """Drop the weights; they are loaded again if another sentence is to be encoded."""
        self.backbone.release()


def encode_poolings(
    backbone: Backbone, sentences: Sequence[str], encoders: Sequence[TransformerEncoder]
) -> Generator[tuple[list[int], list[Embeddings]]]:
    """Several encoders over the same backbone from one forward pass.

    Yields:
        Rows of the input and one matrix (len(rows), d) per encoder: batch after batch, not in input order.
    """
    for rows, vectors in backbone.pooled(sentences, list(dict.fromkeys(e.pooling for e in encoders))):
        yield rows, [e.layers(vectors[e.pooling]) for e in encoders]


def build_transformer(
    name: str,
    method: str,
    checkpoint: Checkpoint,
    context: Context,
    *,
    pooling: str | None,
    parameters: Mapping[str, Any],
) -> TransformerEncoder:
    """A transformer encoder with its card.

    Args:
        name: the full specification.
        method: the registry entry's name.
        checkpoint: see `find_checkpoint`.
        context: device, dtype, progress.
        pooling: see `parse_pooling`, or None for what the checkpoint declares.
        parameters: of the specification. Four of them are used here, and what the checkpoint declares where they are
            None or not among them: `max_tokens`, `prompt`, which is the name of one of the folder's or a text, `dim`,
            which is how many first numbers of a vector are kept, and `normalize`, whether it is scaled to length 1.

    Raises:
        UsageError: if the pooling is unknown, or neither given nor declared; if the folder needs what is not supported.
    """
    chosen = _choose_pooling(name, checkpoint, pooling)
    dim, prompt = parameters.get("dim"), parameters.get("prompt")
    text = None if prompt is None else checkpoint.prompts.get(prompt, prompt)
    overruled = (
        ("pooling", pooling, checkpoint.pooling),
        ("prompt", text, checkpoint.prompt),
        ("dim", dim, checkpoint.truncate_dim),
    )
    for key, given, declared in overruled:
        if given is not None and declared not in (None, "", given):
            _log.warning("%s: %s=%s overrules what %s declares: %s", name, key, given, checkpoint.folder.name, declared)
    backbone = Backbone(checkpoint, context, max_tokens=parameters.get("max_tokens"), prompt=text)
    modules = checkpoint.modules
    if (normalize := parameters.get("normalize")) is not None:
        modules = tuple(module for module in modules if module.kind != "Normalize")
        modules += (Module(kind="Normalize", folder=checkpoint.folder),) if normalize else ()
    kept = dim or checkpoint.truncate_dim
    layers = Layers(modules, kept)
    width = Layers(modules, None).width(backbone.width * len(parse_pooling(chosen)))
    if dim is not None and dim > width:
        raise UsageError(f"{name}: dim={dim}, expected 1 to the vector's {width}")
    sha256 = checkpoint.weights_sha256
    card = EncoderCard(
        name=name,
        method=method,
        parameters=parameters,
        backbone=KNOWN_WEIGHTS.get(sha256, checkpoint.title),
        revision=checkpoint.revision,
        weights_sha256=sha256,
        pooling=chosen,
        dim=min(width, kept or width),
        max_tokens=backbone.max_tokens,
        dtype=context.dtype,
        selected_on=checkpoint.selected_on,
        normalized=bool(modules) and modules[-1].kind == "Normalize" and (kept or width) >= width,
        content={**backbone.content, "pooling": chosen, "modules": layers.content},
    )
    return TransformerEncoder(backbone, chosen, card, layers)


def _choose_pooling(name: str, checkpoint: Checkpoint, pooling: str | None) -> str:
    chosen = pooling or checkpoint.pooling
    if chosen is None:
        raise UsageError(
            f"{checkpoint.name} does not declare its pooling; say which: "
            + ", ".join(f"hf:{checkpoint.name}[pooling={known}]" for known in POOLINGS)
            + f"; or {', '.join(FURTHER_POOLINGS)}"
        )
    try:
        return "+".join(parse_pooling(chosen))
    except UsageError as error:
        raise UsageError(f"{name}: {error}") from error
