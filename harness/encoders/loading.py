"""The loaded model of a checkpoint, with its tokenizer. Nothing is unpickled."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from harness.encoders.checkpoint import TOKENIZERS, Checkpoint, Dense, weight_files
from harness.encoders.pooling import Head
from harness.errors import EncoderError


@dataclass(slots=True)
class Loaded:
    """A model in evaluation mode with its tokenizer; `head` is the trained layer over CLS, if the weights hold one."""

    model: nn.Module
    tokenizer: Any
    head: Head | None
    dense: list[tuple[nn.Linear, nn.Module]] = field(default_factory=list)


def quiet_transformers() -> None:
    """No bars and no load reports of the library's: what is wrong with weights, our errors say."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()


@contextmanager
def loading(checkpoint: Checkpoint) -> Iterator[None]:
    """Turn what the library raises on files that are damaged or do not fit each other into one sentence."""
    quiet_transformers()
    try:
        yield
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
        place = checkpoint.transformer
        raise EncoderError(f"{place}: cannot be loaded as a checkpoint: {_first_line(error)}") from error


def load_tokenizer(checkpoint: Checkpoint) -> Any:
    """The checkpoint's fast tokenizer.

    Raises:
        EncoderError: if its files are missing or damaged.
    """
    from transformers import AutoTokenizer

    folder: Path = checkpoint.transformer
    if not any((folder / name).is_file() for name in TOKENIZERS):  # transformers would make one up
        raise EncoderError(
            f"{folder}: no tokenizer, expected one of {', '.join(TOKENIZERS)}; copy the tokenizer's files there"
        )
    with loading(checkpoint):
        return AutoTokenizer.from_pretrained(str(folder), local_files_only=True)


def load(checkpoint: Checkpoint, *, dtype: torch.dtype) -> Loaded:
    """Load weights and tokenizer; the model is in evaluation mode on the CPU.

    Raises:
        EncoderError: if the weights do not fit the configuration.
    """
    from transformers import AutoModel

    folder = str(checkpoint.transformer)
    with loading(checkpoint):
        model, report = AutoModel.from_pretrained(folder, dtype=dtype, output_loading_info=True, local_files_only=True)
    tokenizer = load_tokenizer(checkpoint)
    missing = [key for key in report["missing_keys"] if "pooler" not in key and "position_ids" not in key]
    if missing:
        raise EncoderError(
            f"{folder}: the weights lack {len(missing)} tensors of the configuration, first {missing[0]}; "
            "they would stay random"
        )
    has_pooler = not any("pooler" in key for key in report["missing_keys"])
    head = _head(model, checkpoint, has_pooler=has_pooler)
    dense = [_load_dense(layer, dtype) for layer in (checkpoint.declared.dense if checkpoint.declared else ())]
    return Loaded(model.eval(), tokenizer, head.to(dtype).eval() if head else None, dense)


def _head(model: nn.Module, checkpoint: Checkpoint, *, has_pooler: bool) -> Head | None:
    """The MLP of an unconverted SimCSE checkpoint, or else the pooler; None if neither is in the weights."""
    for path in weight_files(checkpoint)[:1]:
        tensors = _read_tensors(path, prefix="mlp.dense.")
        if tensors:
            return Head(tensors["mlp.dense.weight"], tensors["mlp.dense.bias"])
    pooler = getattr(getattr(model, "pooler", None), "dense", None)
    return Head(pooler.weight, pooler.bias) if has_pooler and isinstance(pooler, nn.Linear) else None


def _read_tensors(path: Path, prefix: str) -> dict[str, torch.Tensor]:
    if path.suffix == ".bin":
        state = torch.load(path, map_location="cpu", weights_only=True)
        return {key: value for key, value in state.items() if key.startswith(prefix)}
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return {key: file.get_tensor(key) for key in file.keys() if key.startswith(prefix)}


def _load_dense(layer: Dense, dtype: torch.dtype) -> tuple[nn.Linear, nn.Module]:
    path = next(iter(sorted(layer.folder.glob("*.safetensors")) or sorted(layer.folder.glob("*.bin"))))
    tensors = _read_tensors(path, prefix="linear.")
    weight, bias = tensors["linear.weight"], tensors.get("linear.bias")
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    linear.load_state_dict({"weight": weight} | ({"bias": bias} if bias is not None else {}))
    activation = {"Tanh": nn.Tanh, "Identity": nn.Identity, "ReLU": nn.ReLU, "GELU": nn.GELU}.get(
        layer.activation.rsplit(".", 1)[-1]
    )
    if activation is None:
        raise EncoderError(f"{layer.folder}: activation {layer.activation} is not supported, expected Tanh or Identity")
    return linear.to(dtype).eval(), activation()


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
