"""The model of a checkpoint: loaded by the library, with every tensor of its files accounted for."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from harness.encoders.configuration import Configuration, model_class
from harness.encoders.forward import Head
from harness.encoders.jsonfiles import read_object, refuse_unknown
from harness.encoders.weights import check_weights, read_tensors
from harness.errors import EncoderError, UsageError

# Layers over the encoder's states that pretraining, a classifier or SimCSE's training leaves in a file: none of them
# has a part in the states. `mlp` is the head of SimCSE and its kin, which the pooling cls uses.
_HEADS = re.compile(
    r"(cls|lm_head|mlm_head|mlp|generator|discriminator|predictions|generator_predictions|generator_lm_head|discriminator_predictions|"
    r"vocab_transform|vocab_layer_norm|vocab_projector|classifier|pre_classifier|score|qa_outputs|sop_classifier|"
    r"pred_layer|lm_loss|proj_out|entity_predictions|mask_lm|nsp_cls|sequence_summary|logits_proj|decoder_bias)"
    r"(\.|$)|final_logits_bias$"
)
# Numbers that follow from the configuration and that older versions of the library stored.
_BUFFERS = re.compile(
    r"(^|\.)(position_ids|token_type_ids|inv_freq|attn\.bias|attn\.masked_bias|attention\.bias|attention\.masked_bias|"
    r"embed_positions\.weights|num_batches_tracked)$"
)
_DECODER = re.compile(r"(model\.)?(decoder|encoder_attn)\.|(model\.)?shared\.|lm_head\.")
_OPTIONAL = ("pooler", "position_ids")  # a pooler that is missing is no head; positions are counted
_MERGEABLE = ("LORA", "ADALORA", "LOHA", "LOKR", "IA3", "OFT", "BOFT", "VERA", "HRA", "FOURIERFT", "LN_TUNING")


def load_model(
    folder: Path, configuration: Configuration, weights: Sequence[Path], dtype: torch.dtype, adapter: Path | None
) -> tuple[Any, Head | None]:
    """The encoder of a checkpoint, with its adapter merged, and the trained head over CLS.

    Raises:
        EncoderError: if tensors are missing, are of another size, or go nowhere. What the library raises passes.
    """
    with _without_adapter(folder, weights, adapter) as place:
        model, report = model_class(configuration.library).from_pretrained(
            str(place),
            dtype=dtype,
            output_loading_info=True,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=weights[0].suffix == ".safetensors",
            ignore_mismatched_sizes=True,
        )
    _check_report(folder, configuration, report)
    has_pooler = not any("pooler" in key for key in report["missing_keys"])
    if configuration.has_decoder and hasattr(model, "get_encoder"):
        model = model.get_encoder()
    if adapter is not None:
        model = _merge_adapter(model, adapter)
    model.config.use_cache = False  # nothing is generated
    model.config.return_dict = True
    return model, _find_head(model, weights, has_pooler=has_pooler)


@contextmanager
def _without_adapter(folder: Path, weights: Sequence[Path], adapter: Path | None) -> Iterator[Path]:
    """The folder as it is seen without adapter files, which the library would apply where peft happens to be there."""
    if adapter is None or adapter != folder:
        yield folder
        return
    with TemporaryDirectory() as place:
        index = [Path(f"{path.parent / name}") for path in weights[:1] for name in _indexes(path)]
        for path in (folder / "config.json", *weights, *index):
            if path.is_file():
                (Path(place) / path.name).symlink_to(path.resolve())
        yield Path(place)


def _indexes(path: Path) -> tuple[str, ...]:
    return ("model.safetensors.index.json",) if path.suffix == ".safetensors" else ("pytorch_model.bin.index.json",)


def _check_report(folder: Path, configuration: Configuration, report: dict[str, Any]) -> None:
    for key, found, expected in sorted(report["mismatched_keys"]):
        raise EncoderError(
            f"{folder}: the tensor {key} has the shape {tuple(found)}, expected {tuple(expected)} by config.json"
        )
    missing = sorted(key for key in report["missing_keys"] if not any(part in key for part in _OPTIONAL))
    if configuration.has_decoder:
        missing = [key for key in missing if not _DECODER.match(key)]
    if missing:
        raise EncoderError(
            f"{folder}: the weights lack {len(missing)} tensors of the configuration, first {missing[0]}; "
            "they would stay random"
        )
    unused = sorted(key for key in report["unexpected_keys"] if not _is_accounted_for(key, configuration))
    if unused:
        raise EncoderError(
            f"{folder}: the configuration has no place for {len(unused)} tensors of the weights, first {unused[0]}; "
            "without them the vectors would be another model's"
        )


def _is_accounted_for(key: str, configuration: Configuration) -> bool:
    if _HEADS.match(key) or _BUFFERS.search(key) or "pooler" in key.split("."):
        return True
    return configuration.has_decoder and _DECODER.match(key) is not None


def _find_head(model: nn.Module, weights: Sequence[Path], *, has_pooler: bool) -> Head | None:
    """The MLP of an unconverted SimCSE checkpoint, or else the pooler; None if neither is in the weights."""
    tensors: dict[str, Tensor] = {}
    for path in weights:
        tensors |= read_tensors(path, prefixes=("mlp.dense.",))
    if tensors:
        return Head(tensors["mlp.dense.weight"], tensors["mlp.dense.bias"])
    pooler = getattr(model, "pooler", None)
    layer = pooler if isinstance(pooler, nn.Linear) else getattr(pooler, "dense", None)
    if not has_pooler or not isinstance(layer, nn.Linear):
        return None
    activations = [getattr(pooler, "activation", None), getattr(model, "pooler_activation", None)]
    if any(isinstance(each, nn.Module) and not isinstance(each, nn.Tanh) for each in activations):
        return None  # a head of another form than tanh(W x + b)
    return Head(layer.weight, layer.bias)


def _merge_adapter(model: Any, folder: Path) -> Any:
    """The model with the adapter's changes in its own weights, so that it computes at the base model's speed.

    Raises:
        UsageError: if the adapter is of a kind that cannot be merged, or peft is not installed.
        EncoderError: if tensors of the adapter go nowhere or are missing.
    """
    path = folder / "adapter_config.json"
    settings = read_object(path)
    kind = str(settings.get("peft_type"))
    if kind not in _MERGEABLE:
        raise UsageError(f"{path}: an adapter of the kind {kind} cannot be merged into the weights, expected LORA")
    if find_spec("peft") is None:
        raise UsageError(f"{path}: applying this adapter needs the package peft; install simcse-bench[adapters]")
    from peft import PeftConfig, PeftModel, get_peft_model_state_dict

    refuse_unknown(path, settings, {one.name for one in fields(PeftConfig.from_pretrained(str(folder)))})
    tensors = _read_adapter(folder)
    wrapped = PeftModel.from_pretrained(model, str(folder), local_files_only=True)
    applied = get_peft_model_state_dict(wrapped)
    odd = sorted(tensors.keys() ^ applied.keys())
    if odd:
        what = "has no place in the base model" if odd[0] in tensors else "is missing"
        raise EncoderError(f"{folder}: {len(odd)} tensors of the adapter do not fit, first {odd[0]}, which {what}")
    return wrapped.merge_and_unload()


def _read_adapter(folder: Path) -> dict[str, Any]:
    for name in ("adapter_model.safetensors", "adapter_model.bin"):
        if (folder / name).is_file():
            check_weights([folder / name])
            return dict(read_tensors(folder / name))
    raise EncoderError(f"{folder}: an adapter without its weights, expected adapter_model.safetensors; copy it there")
