"""Checkpoints: where a name leads, what decides its vectors, and the model and tokenizer that its files hold.

Nothing is unpickled, and no code of a folder is run.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from harness import files
from harness.encoders.folder import MAIN, MODULES, SENTENCE_CONFIGS, ModelFolder, Module, read_folder
from harness.encoders.forward import Head
from harness.encoders.model import Configuration, load_model, read_configuration
from harness.encoders.modelfiles import (
    check_weights,
    describe_absence,
    find_weights,
    one_line,
    read_object,
    read_tensors,
    weights_digest,
)
from harness.encoders.repository import download
from harness.encoders.tokens import TOKENIZER_FILES, TOKENIZERS, cls_place, load_tokenizer_of
from harness.errors import BenchError, EncoderError, UsageError
from harness.names import STS_B_DEV, Value

# Weights whose origin is known wherever the files lie: sha256 -> repository.
KNOWN_WEIGHTS = {
    "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db": "sentence-transformers/all-MiniLM-L6-v2",
    "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658": "sentence-transformers/all-mpnet-base-v2",
}
_ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin")


@dataclass(frozen=True)
class Checkpoint:
    """A model folder on this machine.

    Attributes:
        name: a hub repository, the bundled `tiny`, or the folder as it was written.
        model: what the folder says of itself.
        revision: the hub's commit; None for folders and for bundled models.
        base: of an adapter without its base model, that model.
    """

    name: str
    model: ModelFolder
    revision: str | None = None
    base: "Checkpoint | None" = None

    @property
    def folder(self) -> Path:
        return self.model.root

    @property
    def transformer(self) -> Path:
        """The folder of config.json and the weights; of an adapter, the base model's."""
        return self.base.transformer if self.base else self.model.transformer

    @property
    def tokenizer(self) -> Path:
        """The folder of the tokenizer; an adapter may bring its own."""
        own = any((self.model.transformer / name).is_file() for name in TOKENIZERS)
        return self.model.transformer if own or not self.base else self.base.tokenizer

    @property
    def title(self) -> str:
        """For cards: the hub's name, or that of a bundled model; of any other folder, its own name without the path."""
        return self.folder.resolve().name if self.name == str(self.folder) else self.name

    @property
    def selected_on(self) -> str | None:
        """The development set that chose the weights, where their authors say so: SimCSE's used STS-B dev."""
        released = self.name.startswith(("princeton-nlp/sup-simcse-", "princeton-nlp/unsup-simcse-"))
        return STS_B_DEV if released else None

    @cached_property
    def configuration(self) -> Configuration:
        """The checked config.json; see `read_configuration` for what it raises."""
        return read_configuration(self.transformer, declares_modules=self.model.declares_modules)

    @cached_property
    def weights_sha256(self) -> str:
        """Sha256 (hex) of the weight file; of several, the digest of their digests in name order.

        Raises:
            EncoderError: if a file is no weight file but, for instance, a Git LFS pointer.
        """
        with files.reading(self.folder):
            paths = weight_files(self)
            check_weights(paths)
            return weights_digest(paths)

    @cached_property
    def content(self) -> dict[str, Value | None]:
        """Digests of every file that decides the vectors, for the card; read once."""
        adapter = [self.model.adapter / name for name in _ADAPTER_FILES] if self.model.adapter else []
        with files.reading(self.folder):
            return {
                "weights": self.weights_sha256,
                "config": _digest([self.transformer / "config.json"]),
                "tokenizer": _digest([self.tokenizer / name for name in TOKENIZER_FILES]),
                "adapter": _digest(adapter) if adapter else None,
            }


@dataclass(slots=True)
class Loaded:
    """A model in evaluation mode with its tokenizer.

    Attributes:
        model: gives hidden states.
        tokenizer: see `token_ids`.
        head: the trained layer over CLS, if the weights hold one.
        cls: the place of the token that the architecture calls CLS, 0 or -1.
    """

    model: nn.Module
    tokenizer: Any
    head: Head | None
    cls: int = 0


def open_checkpoint(folder: Path, name: str, *, pooling_is_given: bool = False) -> Checkpoint:
    """The checkpoint in a folder, under the name that it goes by.

    Raises:
        UsageError: as `find_checkpoint`.
    """
    with files.reading(folder):
        return _complete(Checkpoint(name, read_folder(folder, pooling_is_given=pooling_is_given)), offline=True)


def find_checkpoint(name: str, *, offline: bool, pooling_is_given: bool = False) -> Checkpoint:
    """A folder as it is; anything else is a hub repository, downloaded if need be.

    Args:
        name: a folder, `org/model`, or `org/model@revision`.
        offline: never use the network.
        pooling_is_given: a declared pooling that is unknown is then no reason to refuse.

    Raises:
        UsageError: if the folder is not a checkpoint or holds what is not understood, or nothing of that name can be
            had.
        ReadError: if a file of it may not be read.
    """
    if not name:
        raise UsageError("hf: names no checkpoint, expected a folder or a hub repository, such as hf:org/model")
    folder = Path(name).expanduser()
    with files.reading(folder):
        if folder.is_dir():
            found = Checkpoint(str(folder), read_folder(folder, pooling_is_given=pooling_is_given))
            return _complete(found, offline=offline)
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise UsageError(f"{name}: no such folder; expected a checkpoint folder or a hub repository such as org/model")
    repository, folder = download(name, offline=offline)
    model = read_folder(folder, pooling_is_given=pooling_is_given)
    return _complete(Checkpoint(repository, model, folder.name), offline=offline)


def as_declared(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint as the library computes what its modules.json declares, where our forward pass takes other states.

    Of an encoder-decoder such as BART the library pools the decoder's states, and CLS pooling takes the first token,
    which is not XLNet's CLS. A pooling that the user names is of the encoder's states, and of the architecture's CLS.
    """
    model = checkpoint.model
    if model.library or not model.declares_modules:
        return checkpoint
    found, reason = checkpoint.configuration, ""
    if found.has_decoder and not found.encodes_text:
        reason = f"the decoder of {found.kind}"
    elif found.kind == "xlnet" and "cls_before_pooler" in (model.pooling or "").split("+"):
        reason = "the first token of xlnet"
    return replace(checkpoint, model=replace(model, library=reason))


def place_title(place: str) -> str:
    """What names a place without the path of this machine: a repository as it is, a folder by its name and content."""
    folder = Path(place).expanduser()
    if not place or not folder.is_dir():
        return place
    title = folder.resolve().name
    try:
        found = open_checkpoint(folder, title, pooling_is_given=True)
        decisive = library_content(found) if found.model.library else found.content
    except BenchError:  # which is said when the encoder is built
        return title
    return f"{title}@{hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:8]}"


def _complete(found: Checkpoint, *, offline: bool) -> Checkpoint:
    """The checkpoint with the base of its adapter; refuses what has no configuration or no weights."""
    folder = found.model.transformer
    if found.model.library and not (folder / "config.json").is_file():
        return found
    if found.model.adapter and not ((folder / "config.json").is_file() and find_weights(folder)):
        return Checkpoint(found.name, found.model, found.revision, _find_base(found.model.adapter, offline=offline))
    if not (folder / "config.json").is_file():
        raise UsageError(f"{folder}: no config.json, expected a Hugging Face checkpoint folder")
    read_object(folder / "config.json")
    if not find_weights(folder):
        raise UsageError(f"{folder}: {describe_absence(folder)}")
    return found


def _find_base(adapter: Path, *, offline: bool) -> Checkpoint:
    path = adapter / "adapter_config.json"
    base = read_object(path).get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise UsageError(f"{path}: an adapter that names no base model, expected base_model_name_or_path")
    try:
        return find_checkpoint(base, offline=offline)
    except UsageError as error:
        raise UsageError(f"{path}: an adapter of the base model {base}, which cannot be had: {error}") from error


def read_config(checkpoint: Checkpoint) -> dict[str, Any]:
    """The model's `config.json` as it stands.

    Raises:
        UsageError: if it is damaged.
    """
    return read_object(checkpoint.transformer / "config.json")


def weight_files(checkpoint: Checkpoint) -> list[Path]:
    """The weight files that loading reads: the transformer's, those of further modules, the adapter's."""
    folders = [checkpoint.transformer, *(module.folder for module in checkpoint.model.modules)]
    found = [path for folder in folders for path in find_weights(folder)]
    adapter = checkpoint.model.adapter
    return found + ([path for name in _ADAPTER_FILES[1:] if (path := adapter / name).is_file()] if adapter else [])


def modules_content(modules: Sequence[Module]) -> str | None:
    """The layers after the pooling, for the card; None where there are none. The digest of weights has theirs."""
    layers = [{key: value for key, value in asdict(module).items() if key != "folder"} for module in modules]
    return json.dumps(layers, sort_keys=True) if layers else None


def library_content(checkpoint: Checkpoint) -> dict[str, Value | None]:
    """Digests of every file of a folder that sentence-transformers reads by itself."""
    names = (MODULES, MAIN, *SENTENCE_CONFIGS)
    read = {".json", ".txt", ".model", ".safetensors", ".bin", ".spm"}
    folder = checkpoint.folder
    with files.reading(folder):
        paths = [path for path in folder.rglob("*") if path.suffix in read and path.is_file()]
        kept = [path for path in paths if path.parent != folder or path.name not in ("README.md", "card.json")]
        return {"library": _digest([*(folder / name for name in names), *sorted(kept)], folder)}


def _digest(paths: list[Path], root: Path | None = None) -> str:
    """Sha256 over names and contents of those files that are there; names are relative to the root, or without path."""
    digest = hashlib.sha256()
    for path in paths:
        if path.is_file():
            name = path.relative_to(root).as_posix() if root else path.name
            digest.update(f"{name}\n{files.sha256(path)}\n".encode())
    return digest.hexdigest()


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
    except (EncoderError, UsageError):
        raise
    except Exception as error:  # parsers of many formats, each with its own errors
        place = checkpoint.transformer
        for path in find_weights(place):
            read_tensors(path, prefixes=("\0",))  # says what is wrong with the file if that is the reason
        raise EncoderError(f"{place}: cannot be loaded as a checkpoint: {one_line(error)}") from error


def load_tokenizer(checkpoint: Checkpoint) -> Any:
    """The checkpoint's tokenizer.

    Raises:
        EncoderError: if its files are missing or damaged.
    """
    quiet_transformers()
    return load_tokenizer_of(checkpoint.tokenizer, lower_case=checkpoint.model.lower_case)


def load(checkpoint: Checkpoint, *, dtype: torch.dtype) -> Loaded:
    """Load weights and tokenizer; the model is in evaluation mode on the CPU.

    Raises:
        EncoderError: if the weights do not fit the configuration, hold tensors that go nowhere, or are fewer than the
            tokenizer's tokens.
        UsageError: if the configuration holds what is not understood.
    """
    configuration = checkpoint.configuration
    weights = find_weights(checkpoint.transformer)
    check_weights(weights)
    tokenizer = load_tokenizer(checkpoint)
    with loading(checkpoint):
        model, head = load_model(checkpoint.transformer, configuration, weights, dtype, checkpoint.model.adapter)
    _check_rows(checkpoint, model, tokenizer)
    return Loaded(model.eval(), tokenizer, head.to(dtype).eval() if head else None, cls_place(tokenizer))


def _check_rows(checkpoint: Checkpoint, model: Any, tokenizer: Any) -> None:
    embeddings = model.get_input_embeddings()
    rows = getattr(embeddings, "num_embeddings", None) if embeddings is not None else None
    if isinstance(rows, int) and len(tokenizer) > rows:
        raise EncoderError(
            f"{checkpoint.tokenizer}: the tokenizer has {len(tokenizer)} tokens, and the model has rows for {rows}; "
            "the added tokens would have no vector"
        )
