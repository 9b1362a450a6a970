"""Checkpoints: where a name leads, what is declared about its pooling, and the loaded model. Nothing is unpickled."""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from harness.encoders.pooling import Head
from harness.errors import EncoderError, UsageError

_CONFIGURATION = ["*.json", "*.txt", "*.model", "1_*/*", "2_*/*", "3_*/*"]
_WEIGHTS = ("*.safetensors", "*.bin")
_LEGACY_POOLINGS = {"pooling_mode_cls_token": "cls_before_pooler", "pooling_mode_mean_tokens": "avg"}
_POOLING_MODES = {"cls": "cls_before_pooler", "mean": "avg"}


@dataclass(frozen=True, slots=True)
class Dense:
    """A sentence-transformers Dense module: activation(W x + b), applied to the sentence vector."""

    folder: Path
    activation: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """What a folder says of itself: sentence-transformers' in modules.json, one of `bench train` in card.json.

    Attributes:
        transformer: folder of the transformer.
        pooling: in our names.
        max_tokens: sentences are cut there, special tokens included; None if not stated.
        dense: layers after the pooling, in order.
        normalize: whether vectors are scaled to length 1 at the end.
    """

    transformer: Path
    pooling: str
    max_tokens: int | None = None
    dense: tuple[Dense, ...] = ()
    normalize: bool = False


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model folder on this machine, the hub revision it came from, and what it declares (None: nothing)."""

    name: str
    folder: Path
    revision: str | None = None
    declared: Declared | None = None

    @property
    def transformer(self) -> Path:
        return self.declared.transformer if self.declared else self.folder


@dataclass(slots=True)
class Loaded:
    """A model in evaluation mode with its tokenizer; `head` is the trained layer over CLS, if the weights hold one."""

    model: nn.Module
    tokenizer: Any
    head: Head | None
    dense: list[tuple[nn.Linear, nn.Module]] = field(default_factory=list)


def find_checkpoint(name: str, *, offline: bool) -> Checkpoint:
    """A folder as it is; anything else is a hub repository, downloaded if need be.

    Raises:
        UsageError: if the folder is not a checkpoint, or nothing of that name can be had.
    """
    folder = Path(name)
    if folder.is_dir():
        return _checked(Checkpoint(name, folder))
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise UsageError(f"{name}: no such folder; expected a checkpoint folder or a hub repository such as org/model")
    folder = _download(name, offline=offline)
    return _checked(Checkpoint(name, folder, revision=folder.name))


def _checked(found: Checkpoint) -> Checkpoint:
    modules = found.folder / "modules.json"
    declared = _read_modules(found.folder) if modules.is_file() else _read_training_card(found.folder)
    checkpoint = Checkpoint(found.name, found.folder, found.revision, declared)
    if not (checkpoint.transformer / "config.json").is_file():
        raise UsageError(f"{checkpoint.transformer}: no config.json, expected a Hugging Face checkpoint folder")
    if not weight_files(checkpoint):
        raise UsageError(
            f"{checkpoint.transformer}: no weights, expected *.safetensors or pytorch_model*.bin; copy them there"
        )
    return checkpoint


def _download(repo: str, *, offline: bool) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled

    try:
        for weights in _WEIGHTS:
            path = Path(snapshot_download(repo, allow_patterns=[*_CONFIGURATION, weights], local_files_only=offline))
            if any(path.glob(weights)) or any(path.glob(f"*/{weights}")):
                return path
    except HFValidationError as error:
        raise UsageError(f"{repo}: not a folder and not a repository name ({error})") from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        raise UsageError(
            f"{repo}: not on this machine, and the hub cannot be asked; copy the checkpoint here and name its folder, "
            "or run once with a network"
        ) from error
    except HfHubHTTPError as error:
        raise UsageError(
            f"{repo}: the hub answers {error.response.status_code}; check the name and HF_TOKEN"
        ) from error
    raise UsageError(f"{repo}: the repository has no weights, expected *.safetensors or *.bin")


def weight_files(checkpoint: Checkpoint) -> list[Path]:
    """The weight files that loading reads, safetensors first, those of Dense modules included."""
    folders = [
        checkpoint.transformer,
        *(dense.folder for dense in (checkpoint.declared.dense if checkpoint.declared else ())),
    ]
    found: list[Path] = []
    for folder in folders:
        found += sorted(folder.glob("*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))
    return found


def weights_sha256(checkpoint: Checkpoint) -> str:
    """Sha256 (hex) of the weight file; of several, the digest of their digests in name order."""
    digests = []
    for path in weight_files(checkpoint):
        with path.open("rb") as file:
            digests.append(hashlib.file_digest(file, "sha256").hexdigest())
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def _read_modules(folder: Path) -> Declared:
    """Read a sentence-transformers folder, of any version.

    Raises:
        UsageError: if it has a module that is not Transformer, Pooling, Dense or Normalize, or an unknown pooling.
    """
    transformer, pooling, dense, normalize = folder, None, [], False
    for module in json.loads((folder / "modules.json").read_text(encoding="utf-8")):
        place, kind = folder / module["path"], module["type"].rsplit(".", 1)[-1]
        match kind:
            case "Transformer":
                transformer = place
            case "Pooling":
                pooling = _read_pooling(place / "config.json")
            case "Dense":
                settings = json.loads((place / "config.json").read_text(encoding="utf-8"))
                dense.append(Dense(place, settings.get("activation_function", "torch.nn.modules.activation.Tanh")))
            case "Normalize":
                normalize = True
            case _:
                raise UsageError(
                    f"{folder / 'modules.json'}: module {kind} is not supported, expected Transformer, Pooling, Dense "
                    "or Normalize"
                )
    if pooling is None:
        raise UsageError(f"{folder / 'modules.json'}: no Pooling module, expected one after the Transformer")
    return Declared(
        transformer=transformer,
        pooling=pooling,
        max_tokens=_read_max_tokens(transformer),
        dense=tuple(dense),
        normalize=normalize,
    )


def _read_training_card(folder: Path) -> Declared | None:
    """What `bench train` wrote; None where there is no card, or another program's."""
    try:
        card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    ours = isinstance(card, dict) and "fingerprint" in card and isinstance(card.get("pooling"), str)
    return Declared(transformer=folder, pooling=card["pooling"]) if ours else None


def _read_pooling(path: Path) -> str:
    settings = json.loads(path.read_text(encoding="utf-8"))
    mode = settings.get("pooling_mode")
    active = [key for key, on in settings.items() if key.startswith("pooling_mode_") and on is True]
    names = [_POOLING_MODES.get(mode)] if isinstance(mode, str) else [_LEGACY_POOLINGS.get(key) for key in active]
    if len(names) != 1 or names[0] is None:
        raise UsageError(f"{path}: pooling {mode or active} is not supported, expected one of mean tokens or cls token")
    return names[0]


def _read_max_tokens(transformer: Path) -> int | None:
    """From sentence_bert_config.json, or since version 6 from the tokenizer's configuration."""
    for name, key in (("sentence_bert_config.json", "max_seq_length"), ("tokenizer_config.json", "model_max_length")):
        path = transformer / name
        value = json.loads(path.read_text(encoding="utf-8")).get(key) if path.is_file() else None
        if value is not None and value < 10**6:  # tokenizers write 10^30 for "no limit"
            return int(value)
    return None


def quiet_transformers() -> None:
    """No bars and no load reports of the library's: what is wrong with weights, our errors say."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()


def load(checkpoint: Checkpoint, *, dtype: torch.dtype) -> Loaded:
    """Load weights and tokenizer; the model is in evaluation mode on the CPU.

    Raises:
        EncoderError: if the weights do not fit the configuration.
    """
    from transformers import AutoModel, AutoTokenizer

    quiet_transformers()
    folder = str(checkpoint.transformer)
    try:
        model, report = AutoModel.from_pretrained(folder, dtype=dtype, output_loading_info=True, local_files_only=True)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise EncoderError(f"{folder}: cannot be loaded as a checkpoint: {_first_line(error)}") from error
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
