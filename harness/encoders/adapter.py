"""Adapters of peft, merged into the weights of their base model."""

from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from harness.encoders.jsonfiles import read_object, refuse_unknown
from harness.encoders.weights import check_weights, read_tensors
from harness.errors import EncoderError, UsageError

_MERGEABLE = ("LORA", "ADALORA", "LOHA", "LOKR", "IA3", "OFT", "BOFT", "VERA", "HRA", "FOURIERFT", "LN_TUNING")


def merge_adapter(model: Any, folder: Path) -> Any:
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
