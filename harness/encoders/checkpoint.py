"""Checkpoints: where a name leads, and the model and tokenizer that its files hold. Nothing is unpickled."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from harness.encoders.batching import Tokens
from harness.encoders.folder import Declared, Dense, read_modules, read_object, read_training_card
from harness.encoders.pooling import Head
from harness.errors import EncoderError, UsageError
from harness.names import STS_B_DEV

_CONFIGURATION = ["*.json", "*.txt", "*.model", "1_*/*", "2_*/*", "3_*/*"]
_WEIGHTS = ("*.safetensors", "*.bin")
# One of the first six is in every folder that has a tokenizer.
TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json", "sentencepiece.bpe.model", "spiece.model", "tokenizer.model")
TOKENIZER_FILES = (*TOKENIZERS, "tokenizer_config.json", "merges.txt", "special_tokens_map.json", "added_tokens.json")
_FILES = "files:"
_READ = ("config.json", "modules.json", "sentence_bert_config.json", "[1-9]_*/config.json", *TOKENIZER_FILES)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model folder on this machine.

    Attributes:
        name: a hub repository, the bundled `tiny`, or the folder as it was written.
        folder: where the files are.
        revision: the hub's commit; of a user's folder, `files:` and a digest of its configuration and tokenizer, which
            decide the vectors as the weights do. None for bundled models.
        declared: what the folder says of itself, None for nothing.
    """

    name: str
    folder: Path
    revision: str | None = None
    declared: Declared | None = None

    @property
    def title(self) -> str:
        """For cards: the hub's name with a revision, else the folder's own."""
        return self.name if self.revision and not self.revision.startswith(_FILES) else self.folder.resolve().name

    @property
    def selected_on(self) -> str | None:
        """The development set that chose the weights, where their authors say so: SimCSE's used STS-B dev."""
        released = self.name.startswith(("princeton-nlp/sup-simcse-", "princeton-nlp/unsup-simcse-"))
        return STS_B_DEV if released else None

    @property
    def transformer(self) -> Path:
        return self.declared.transformer if self.declared else self.folder


def open_checkpoint(folder: Path, name: str) -> Checkpoint:
    """The checkpoint in a folder of ours, under the name that it goes by."""
    return Checkpoint(name, folder)


def find_checkpoint(name: str, *, offline: bool) -> Checkpoint:
    """A folder as it is; anything else is a hub repository, downloaded if need be.

    Raises:
        UsageError: if the folder is not a checkpoint, or nothing of that name can be had.
    """
    if not name:
        raise UsageError("hf: names no checkpoint, expected a folder or a hub repository, such as hf:org/model")
    folder = Path(name)
    if folder.is_dir():
        found = _checked(Checkpoint(name, folder))
        return replace(found, revision=f"{_FILES}{_files_sha256(found)[:16]}")
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise UsageError(f"{name}: no such folder; expected a checkpoint folder or a hub repository such as org/model")
    folder = _download(name, offline=offline)
    return _checked(Checkpoint(name, folder, revision=folder.name))


def _files_sha256(checkpoint: Checkpoint) -> str:
    """Of what loading reads beside the weights, names and bytes."""
    digest = hashlib.sha256()
    folders = {checkpoint.folder, checkpoint.transformer}
    for path in sorted({path for folder in folders for pattern in _READ for path in folder.glob(pattern)}):
        name, content = path.relative_to(checkpoint.folder), path.read_bytes()
        digest.update(f"{name}\n{hashlib.sha256(content).hexdigest()}\n".encode())
    return digest.hexdigest()


def _checked(found: Checkpoint) -> Checkpoint:
    modules = found.folder / "modules.json"
    declared = read_modules(found.folder) if modules.is_file() else read_training_card(found.folder)
    checkpoint = Checkpoint(found.name, found.folder, found.revision, declared)
    if not (checkpoint.transformer / "config.json").is_file():
        raise UsageError(f"{checkpoint.transformer}: no config.json, expected a Hugging Face checkpoint folder")
    read_config(checkpoint)
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


def read_config(checkpoint: Checkpoint) -> dict[str, Any]:
    """The model's `config.json`.

    Raises:
        UsageError: if it is damaged.
    """
    return read_object(checkpoint.transformer / "config.json")


def weights_sha256(checkpoint: Checkpoint) -> str:
    """Sha256 (hex) of the weight file; of several, the digest of their digests in name order."""
    digests = []
    for path in weight_files(checkpoint):
        with path.open("rb") as file:
            digests.append(hashlib.file_digest(file, "sha256").hexdigest())
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


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


def token_ids(tokenizer: Any, sentences: Sequence[str], max_tokens: int | None) -> list[Tokens]:
    """What `tokenizer(sentences)` gives as input ids, in half its time.

    Args:
        tokenizer: of `load_tokenizer`.
        sentences: n texts.
        max_tokens: longer sentences are cut, special tokens included; None for no limit.

    Returns:
        n lists of ids.
    """
    if not tokenizer.is_fast:
        cut = {"truncation": max_tokens is not None, "max_length": max_tokens}
        ids: list[Tokens] = tokenizer(list(sentences), **cut)["input_ids"]
        return ids
    # The compiled tokenizer itself: around it the library builds a dictionary with offsets and masks per sentence.
    compiled = tokenizer.backend_tokenizer
    compiled.no_padding()
    if max_tokens is None:
        compiled.no_truncation()
    else:
        compiled.enable_truncation(max_tokens, direction=tokenizer.truncation_side)
    return [encoding.ids for encoding in compiled.encode_batch_fast(list(sentences))]
