"""The network that is trained, its objective and optimiser, and the development set that chooses among its steps.

Letters: b sentences (the rows of a batch), c views of each (columns of the data; 2 copies for one-column data), s
tokens, d dimensions; n rows of tokens, which are b * c where all views go through the network together.
"""

import copy
import hashlib
import json
import math
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from baselines.simcse.ablations import Masked, masked_loss
from baselines.simcse.settings import Settings
from harness.data.records import Pairs
from harness.encoders.batching import pad, plan_batches
from harness.encoders.checkpoint import Checkpoint, loading, read_config
from harness.encoders.export import POOLING_MODES, Layers, write_modules
from harness.encoders.forward import BERTS, Head, forward_pooled
from harness.encoders.tokens import TOKENIZER_FILES
from harness.errors import EncoderError, UsageError
from harness.results.correlation import spearman
from harness.tasks.geometry_metrics import alignment, uniformity
from harness.tasks.metrics import cosine

_FIRST_TOKEN = ("cls", "cls_before_pooler")
_EPSILON = 1e-8  # that of torch.nn.CosineSimilarity, which the reference takes
_BETAS = (0.9, 0.999)
_MANY = 1e9  # steps after which both of Adam's bias corrections are 1; in float32 one step more changes nothing
_CPU_BUDGET, _GPU_BUDGET = 1024, 32768  # padded tokens per batch of the development set
_SIMILAR = 4.0  # gold above which the paper takes a pair as a positive for alignment


class SentenceModel(nn.Module):
    """Token ids to sentence vectors.

    Attributes:
        backbone: the transformer, without its pretrained pooler, which SimCSE never uses.
        head: tanh(W x + b) over CLS; None for poolers other than cls.
        width: d, the length of a vector.
        pooling: how evaluation pools.
    """

    def __init__(self, backbone: nn.Module, head: Head | None, settings: Settings) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.width = int(backbone.config.hidden_size)  # type: ignore[union-attr, arg-type]
        self.pooling = settings.pooling
        self._pooler = settings.pooler

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """(n, s) ids and mask -> (n, d): pooled as in training or as in evaluation, by the module's mode."""
        name = self._pooler if self.training else self.pooling
        return forward_pooled(self.backbone, ids, mask, [name], self.head)[name]


def make_model(checkpoint: Checkpoint, settings: Settings) -> SentenceModel:
    """Backbone from the checkpoint, in float32; the head drawn from torch's generator, N(0, initializer_range), bias 0.

    Raises:
        UsageError: if the checkpoint is of a family that is not BERT's.
        EncoderError: if the weights do not fit the configuration.
    """
    from transformers import AutoModel

    folder = checkpoint.transformer
    family = checkpoint.configuration.kind
    if family not in BERTS:
        raise UsageError(f"{checkpoint.name}: model_type {family} cannot be trained, expected {', '.join(BERTS)}")
    changes = {}
    if settings.dropout is not None:
        changes = {"hidden_dropout_prob": settings.dropout, "attention_probs_dropout_prob": settings.dropout}
    pooler = {} if family == "electra" else {"add_pooling_layer": False}
    with loading(checkpoint):
        backbone, report = AutoModel.from_pretrained(
            str(folder),
            dtype=torch.float32,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
            **pooler,
            **changes,
        )
    missing = [key for key in report["missing_keys"] if "position_ids" not in key]
    if missing:
        raise EncoderError(
            f"{folder}: the weights lack {len(missing)} tensors of the configuration, first {missing[0]}; they would "
            "stay random"
        )
    backbone.config.use_cache = False
    if settings.pooler in _FIRST_TOKEN and not settings.mlm_weight:  # the masked language model needs every token
        last = backbone.encoder.layer[-1]
        last.forward = partial(_first_token, last)
    head = _fresh_head(backbone.config) if settings.pooler == "cls" else None
    return SentenceModel(backbone, head, settings)


def _first_token(block: Any, states: Tensor, mask: Tensor | None = None, *_: object, **__: object) -> Tensor:
    """The last block for CLS alone, (n, s, d) -> (n, 1, d).

    Nobody looks at the outputs of the other tokens, so their queries and feed-forward layer, two thirds of a block,
    need not be computed. Same function, same gradient.
    """
    attention, first = block.attention.self, states[:, :1]
    shape = (len(states), -1, attention.num_attention_heads, attention.attention_head_size)
    query, key, value = (
        layer(x).view(shape).transpose(1, 2)  # (n, heads, 1 or s, d / heads)
        for layer, x in ((attention.query, first), (attention.key, states), (attention.value, states))
    )
    context = functional.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=None if mask is None else mask[..., :1, :],
        dropout_p=attention.dropout.p if block.training else 0.0,
    )
    attended = block.attention.output(context.transpose(1, 2).flatten(2), first)
    return block.feed_forward_chunk(attended)  # type: ignore[no-any-return]


def _fresh_head(config: Any) -> Head:
    """https://github.com/princeton-nlp/SimCSE/blob/49fa580/simcse/models.py#L19-L33; `init_weights` draws it so."""
    width, spread = config.hidden_size, config.initializer_range
    return Head(torch.empty(width, width).normal_(0.0, spread), torch.zeros(width))


def save_model(model: SentenceModel, source: Checkpoint, folder: Path) -> None:
    """Write a Hugging Face folder with the head in the place of the pooler, and the tokenizer's files as they were.

    Generic loaders give tanh(W x + b) as `pooler_output`; where the head was for training only it is there all the
    same, and must not be used. The files of sentence-transformers say so, where that library has the pooling.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {key: value.detach().cpu().contiguous() for key, value in model.backbone.state_dict().items()}
    if model.head is not None:
        tensors["pooler.dense.weight"] = model.head.dense.weight.detach().cpu().contiguous()
        tensors["pooler.dense.bias"] = model.head.dense.bias.detach().cpu().contiguous()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = read_config(source) | {"architectures": [type(model.backbone).__name__], "dtype": "float32"}
    config.pop("torch_dtype", None)
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    shutil.copymode(folder / "config.json", folder / "model.safetensors")  # safetensors leaves it the owner's alone
    for name in TOKENIZER_FILES:
        if (source.tokenizer / name).is_file():
            (folder / name).write_bytes((source.tokenizer / name).read_bytes())
    if model.pooling in POOLING_MODES:
        limit = source.configuration.positions
        layers = Layers(pooling=model.pooling, width=model.width, head=model.head, max_tokens=limit)
        write_modules(folder, layers)


class Trainee(nn.Module):
    """All that learns in a run: one or two towers, and what else has weights.

    Attributes:
        first: the tower that is kept.
        second: of the views after the first one, where there are two towers.
        vocabulary: output layer of the auxiliary masked language model, where there is one.
    """

    def __init__(self, model: SentenceModel, settings: Settings, vocabulary: nn.Module | None = None) -> None:
        super().__init__()
        self.first = model
        self.second = copy.deepcopy(model) if settings.towers == 2 else None
        self.vocabulary = vocabulary
        self._settings = settings

    def forward(self, ids: Tensor, mask: Tensor, seed: int | None = None) -> Tensor:
        """Embeddings of all views of a batch, (b, c, s) -> (b, c, d).

        One pass over all rows, example by example; with a fixed mask or two towers one pass per view, and a fixed mask
        starts the generator anew for each.

        Args:
            ids: token ids.
            mask: 1 on tokens, 0 on padding.
            seed: of the dropout masks; None: the caller has seeded.
        """
        b, c, s = ids.shape
        if seed is not None:
            torch.manual_seed(seed)
        with torch.autocast(ids.device.type, torch.bfloat16, enabled=self._settings.dtype == "bfloat16"):
            if self.second is None and not self._settings.fixed_mask:
                return self._embed(self.first, ids.view(b * c, s), mask.view(b * c, s)).view(b, c, -1)
            views = []
            for view in range(c):
                if self._settings.fixed_mask and seed is not None:
                    torch.manual_seed(seed)
                tower = self.first if view == 0 or self.second is None else self.second
                views.append(self._embed(tower, ids[:, view], mask[:, view]))
            return torch.stack(views, dim=1)

    def masked_loss(self, masked: Masked) -> Tensor:
        """The auxiliary loss: a second pass over the corrupted rows, with dropout masks of its own."""
        assert self.vocabulary is not None
        with torch.autocast(masked.ids.device.type, torch.bfloat16, enabled=self._settings.dtype == "bfloat16"):
            return masked_loss(self.first.backbone, self.vocabulary, masked)

    def _embed(self, tower: SentenceModel, ids: Tensor, mask: Tensor) -> Tensor:
        """(n, s) -> (n, d); on a CPU in `length_groups` passes over rows of similar length."""
        if self._settings.length_groups == 1 or ids.is_cuda:
            return tower(ids, mask)  # type: ignore[no-any-return]
        lengths = mask.sum(dim=1)
        order = lengths.argsort(stable=True)
        parts = []
        for part in order.chunk(self._settings.length_groups):
            longest = int(lengths[part[-1]])
            parts.append(tower(ids[part, :longest], mask[part, :longest]))
        return torch.cat(parts)[order.argsort()]


def similarity_logits(
    z: Tensor, *, temperature: float, similarity: str = "cosine", hard_negative_weight: float = 0.0
) -> Tensor:
    """What the cross-entropy is taken of: row i against every second view, then against every hard negative.

    Source: the paper's equations 1, 4 and 5; https://github.com/princeton-nlp/SimCSE/blob/49fa580/simcse/models.py#L194-L212

    Args:
        z: (b, c, d), c >= 2. View 0 is the sentence, view 1 its positive, views 2.. its hard negatives.
        temperature: divides the similarity, > 0.
        similarity: "cosine" or "dot".
        hard_negative_weight: added, after the division, where a row meets its own hard negative; the paper's alpha is
            exp of it, so 0 is alpha = 1.

    Returns:
        (b, b * (c - 1)) float32; the positives are on the diagonal of the first (b, b) block.
    """
    z = z.float()
    if similarity == "cosine":
        z = functional.normalize(z, dim=-1, eps=_EPSILON)
    anchors, others = z[:, 0], z[:, 1:].transpose(0, 1)  # (b, d), (c - 1, b, d)
    blocks = anchors @ others.transpose(1, 2) / temperature  # (c - 1, b, b)
    if hard_negative_weight and len(blocks) > 1:
        own = torch.eye(len(anchors), dtype=blocks.dtype, device=blocks.device)
        blocks = torch.cat([blocks[:1], blocks[1:] + hard_negative_weight * own])
    return blocks.transpose(0, 1).flatten(1)


def contrastive_loss(
    z: Tensor, *, temperature: float, similarity: str = "cosine", hard_negative_weight: float = 0.0
) -> Tensor:
    """Mean over rows of -log softmax at the positive: one-directional, rows are the first views. See above for Args.

    In float32 whatever autocast says. Equal similarities give log(b * (c - 1)); a single row of two views gives 0.
    """
    with torch.autocast(z.device.type, enabled=False):
        logits = similarity_logits(
            z, temperature=temperature, similarity=similarity, hard_negative_weight=hard_negative_weight
        )
        return functional.cross_entropy(logits, torch.arange(len(z), device=z.device))


class Optimizer:
    """AdamW on torch's fused kernel, with a rate that falls linearly to 0, without warm-up.

    epsilon="hf" is transformers 4.2's update, lr * sqrt(1 - b2^t) / (1 - b1^t) * m / (sqrt(v) + eps), with decay after
    the update; "torch" is torch's own, which adds eps to sqrt(v / (1 - b2^t)). To torch's kernel the former is an
    epsilon of eps / sqrt(1 - b2^t), which changes from step to step. A recorded step cannot change it: on a GPU the
    kernel is told of so many steps that it corrects nothing, and the rate, a tensor, holds the corrections.
    """

    def __init__(self, module: nn.Module, settings: Settings, total: int) -> None:
        assert settings.learning_rate is not None
        self._settings, self._first, self._total = settings, settings.learning_rate, total
        device = next(module.parameters()).device
        self._on_gpu = device.type == "cuda"
        self._rate = torch.zeros((), device=device)
        self._kept = torch.ones((), device=device)
        decayed: list[Tensor] = [p for name, p in module.named_parameters() if _decays(name)]
        others = [p for name, p in module.named_parameters() if not _decays(name)]
        self._decayed = decayed if settings.weight_decay and settings.epsilon == "hf" else []
        decay = settings.weight_decay if settings.epsilon == "torch" else 0.0
        self.adam = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}],
            lr=self._rate if self._on_gpu else 1e-3,
            betas=_BETAS,
            eps=settings.adam_epsilon,
            fused=True,
            capturable=self._on_gpu,
        )

    def rate(self, step: int) -> float:
        """The learning rate of the step, counted from 0."""
        return self._first * (self._total - step) / self._total

    def resume(self, step: int) -> None:
        """Give every weight its moments before a step is recorded, and the count of steps that the kernel is told."""
        if not self._on_gpu:
            return
        count = _MANY if self._settings.epsilon == "hf" else float(step)
        for group in self.adam.param_groups:
            for p in group["params"]:
                state = self.adam.state[p] or {"exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
                self.adam.state[p] = state | {"step": torch.tensor(count, device=p.device)}

    def schedule(self, step: int) -> None:
        """Set what changes from step to step."""
        rate, epsilon = self.rate(step), self._settings.adam_epsilon
        self._kept.fill_(1 - rate * self._settings.weight_decay)
        second = math.sqrt(1 - _BETAS[1] ** (step + 1)) if self._settings.epsilon == "hf" else 1.0
        if self._on_gpu:
            self._rate.fill_(rate * second / (1 - _BETAS[0] ** (step + 1)) if self._settings.epsilon == "hf" else rate)
            return
        for group in self.adam.param_groups:
            group["lr"], group["eps"] = rate, epsilon / second

    def update(self) -> None:
        """Take the gradients to the weights."""
        self.adam.step()
        if self._decayed:
            with torch.no_grad():
                torch._foreach_mul_(self._decayed, self._kept)


def _decays(name: str) -> bool:
    return "bias" not in name and "LayerNorm.weight" not in name


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

    def score(self, model: SentenceModel) -> DevScore:
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
    def _encode(self, model: SentenceModel) -> NDArray[np.float32]:
        device = next(model.parameters()).device
        out = np.empty((len(self._ids), model.width), dtype=np.float32)
        model.eval()
        for batch in plan_batches([len(t) for t in self._ids], _CPU_BUDGET if device.type == "cpu" else _GPU_BUDGET):
            ids, mask = pad([self._ids[row] for row in batch.rows], self._pad_id)
            out[batch.rows] = model(ids.to(device), mask.to(device)).float().cpu().numpy()
        model.train()
        return out
