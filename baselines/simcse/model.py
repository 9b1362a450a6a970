"""The network that is trained: a pretrained transformer, a pooler and, for `cls`, a fresh MLP head."""

import json
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from baselines.simcse.settings import TrainSettings
from harness.encoders.checkpoint import TOKENIZER_FILES, Checkpoint, loading, read_config
from harness.encoders.pooling import Head, needs_all_layers, pool
from harness.errors import EncoderError, UsageError

_FIRST_TOKEN = ("cls", "cls_before_pooler")
_FAMILIES = ("bert", "roberta", "xlm-roberta", "camembert", "electra")


class SentenceModel(nn.Module):
    """Token ids to sentence vectors.

    Attributes:
        backbone: the transformer, without its pretrained pooler, which SimCSE never uses.
        head: tanh(W x + b) over CLS; None for poolers other than cls.
        width: d, the length of a vector.
    """

    def __init__(self, backbone: nn.Module, head: Head | None, settings: TrainSettings) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.width = int(backbone.config.hidden_size)  # type: ignore[union-attr, arg-type]
        self._settings = settings

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """(n, s) ids and mask -> (n, d): pooled as in training or as in evaluation, by the module's mode."""
        name = self._settings.pooler if self.training else self._settings.pooling
        every = needs_all_layers([name])
        output = self.backbone(input_ids=ids, attention_mask=mask, output_hidden_states=every)
        layers: Sequence[Tensor] = output.hidden_states if every else (output.last_hidden_state,)
        return pool(name, layers, mask, self.head)


def make_model(checkpoint: Checkpoint, settings: TrainSettings) -> SentenceModel:
    """Backbone from the checkpoint, in float32; the head drawn from torch's generator, N(0, initializer_range), bias 0.

    Raises:
        UsageError: if the checkpoint is of a family that is not BERT's.
        EncoderError: if the weights do not fit the configuration.
    """
    from transformers import AutoModel

    folder = checkpoint.transformer
    family = read_config(checkpoint).get("model_type")
    if family not in _FAMILIES:
        raise UsageError(f"{checkpoint.name}: model_type {family} cannot be trained, expected {', '.join(_FAMILIES)}")
    changes = {}
    if settings.dropout >= 0:
        changes = {"hidden_dropout_prob": settings.dropout, "attention_probs_dropout_prob": settings.dropout}
    pooler = {} if family == "electra" else {"add_pooling_layer": False}
    with loading(checkpoint):
        backbone, report = AutoModel.from_pretrained(
            str(folder), dtype=torch.float32, local_files_only=True, output_loading_info=True, **pooler, **changes
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
        layer(x).view(shape).transpose(1, 2)
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
    width, spread = config.hidden_size, config.initializer_range
    return Head(torch.empty(width, width).normal_(0.0, spread), torch.zeros(width))


def save_model(model: SentenceModel, source: Checkpoint, folder: Path) -> None:
    """Write a Hugging Face folder with the head in the place of the pooler, and the tokenizer's files as they were.

    Generic loaders give tanh(W x + b) as `pooler_output`; where the head was for training only it is there all the
    same, and must not be used.
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
    copy_tokenizer(source.transformer, folder)


def copy_tokenizer(source: Path, folder: Path) -> None:
    """Copy the tokenizer's files, byte for byte."""
    for name in TOKENIZER_FILES:
        if (source / name).is_file():
            (folder / name).write_bytes((source / name).read_bytes())
