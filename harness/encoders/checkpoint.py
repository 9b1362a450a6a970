"""Checkpoints: where a name leads, what its files are, and what it declares about its pooling."""

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.errors import UsageError
from harness.names import STS_B_DEV

_CONFIGURATION = ["*.json", "*.txt", "*.model", "1_*/*", "2_*/*", "3_*/*"]
_WEIGHTS = ("*.safetensors", "*.bin")
# One of the first six is in every folder that has a tokenizer.
TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json", "sentencepiece.bpe.model", "spiece.model", "tokenizer.model")
TOKENIZER_FILES = (*TOKENIZERS, "tokenizer_config.json", "merges.txt", "special_tokens_map.json", "added_tokens.json")
_FILES = "files:"
_READ = ("config.json", "modules.json", "sentence_bert_config.json", "[1-9]_*/config.json", *TOKENIZER_FILES)
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
    declared = _read_modules(found.folder) if modules.is_file() else _read_training_card(found.folder)
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
    return _read_object(checkpoint.transformer / "config.json")


def _read_object(path: Path) -> dict[str, Any]:
    found = _read_json(path)
    if not isinstance(found, dict):
        raise UsageError(f"{path}: holds a {type(found).__name__}, expected an object of settings; copy it again")
    return found


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(
            f"{path}: cannot be read ({error.strerror}), expected a configuration; copy it again"
        ) from error
    except ValueError as error:
        raise UsageError(f"{path}: damaged ({error}), expected a configuration in JSON; copy it again") from error


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
    for place, kind in _modules(folder):
        match kind:
            case "Transformer":
                transformer = place
            case "Pooling":
                pooling = _read_pooling(place / "config.json")
            case "Dense":
                settings = _read_object(place / "config.json")
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


def _modules(folder: Path) -> list[tuple[Path, str]]:
    """Folder and kind of each module."""
    path = folder / "modules.json"
    try:
        return [(folder / each["path"], each["type"].rsplit(".", 1)[-1]) for each in _read_json(path)]
    except (KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{path}: not a list of modules ({error}), expected path and type of each; copy it again"
        ) from error


def _read_training_card(folder: Path) -> Declared | None:
    """What `bench train` wrote; None where there is no card, or another program's."""
    try:
        card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    ours = isinstance(card, dict) and "fingerprint" in card and isinstance(card.get("pooling"), str)
    return Declared(transformer=folder, pooling=card["pooling"]) if ours else None


def _read_pooling(path: Path) -> str:
    settings = _read_object(path)
    mode = settings.get("pooling_mode")
    active = [key for key, on in settings.items() if key.startswith("pooling_mode_") and on is True]
    names = [_POOLING_MODES.get(mode)] if isinstance(mode, str) else [_LEGACY_POOLINGS.get(key) for key in active]
    if len(names) != 1 or names[0] is None:
        raise UsageError(
            f"{path}: pooling {mode or active} is not supported, expected mean or cls; name the "
            f"transformer's own folder with [pooling=...]"
        )
    return names[0]


def _read_max_tokens(transformer: Path) -> int | None:
    """From sentence_bert_config.json, or since version 6 from the tokenizer's configuration."""
    for name, key in (("sentence_bert_config.json", "max_seq_length"), ("tokenizer_config.json", "model_max_length")):
        path = transformer / name
        value = _read_object(path).get(key) if path.is_file() else None
        if value is not None and value < 10**6:  # tokenizers write 10^30 for "no limit"
            return int(value)
    return None
