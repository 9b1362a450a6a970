"""Checkpoints: what a model folder says of itself, what decides its vectors, and the model that its files hold.

Nothing is unpickled, and no code of a folder is run.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from harness import files
from harness.encoders.forward import Head, Module
from harness.encoders.model import Configuration, load_model, read_configuration
from harness.encoders.modelfiles import (
    check_content,
    digest_files,
    find_weights,
    one_line,
    read_tensors,
    weights_digest,
)
from harness.encoders.tokens import TOKENIZER_FILES, cls_place, load_tokenizer_of
from harness.errors import EncoderError, UsageError
from harness.names import STS_B_DEV, Value

# Weights whose origin is known wherever the files lie: sha256 -> repository.
KNOWN_WEIGHTS = {
    "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db": "sentence-transformers/all-MiniLM-L6-v2",
    "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658": "sentence-transformers/all-mpnet-base-v2",
}
MODULES = "modules.json"
MAIN = "config_sentence_transformers.json"
# One name per family in the first versions of sentence-transformers.
SENTENCE_CONFIGS = (
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
)
_ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin")


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A model folder on this machine, as it describes itself.

    Attributes:
        name: a hub repository, the bundled `tiny`, or the folder as it was written.
        folder: the root.
        revision: the hub's commit; None for folders and for bundled models.
        transformer: the folder of config.json and the weights, mostly the root; of an adapter, the base model's.
        tokenizer: the folder of the tokenizer's files; an adapter may bring its own.
        adapter: the folder of adapter_config.json, or None.
        pooling: what is declared, in our names; None where nothing is.
        max_tokens: sentences are cut there, special tokens included; None if not stated.
        prompt: put before every sentence unless another one is asked for.
        prompts: further prompts by name.
        include_prompt: whether the prompt's tokens are pooled like the others.
        lower_case: whether texts are lower-cased before they are tokenised.
        modules: layers after the pooling, in order.
        truncate_dim: so many first numbers of a vector are kept; None: all.
        declares_modules: whether there is a modules.json.
        library: why sentence-transformers has to compute the vectors; empty where our own forward pass does.
    """

    name: str
    folder: Path
    revision: str | None = None
    transformer: Path
    tokenizer: Path
    adapter: Path | None = None
    pooling: str | None = None
    max_tokens: int | None = None
    prompt: str = ""
    prompts: Mapping[str, str] = field(default_factory=dict)
    include_prompt: bool = True
    lower_case: bool = False
    modules: tuple[Module, ...] = ()
    truncate_dim: int | None = None
    declares_modules: bool = False
    library: str = ""

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
        return read_configuration(self.transformer, declares_modules=self.declares_modules)

    @cached_property
    def weights_sha256(self) -> str:
        """Sha256 (hex) of the weight files; see `weights_digest`, also for what it raises."""
        with files.reading(self.folder):
            return weights_digest(weight_files(self))

    @cached_property
    def content(self) -> dict[str, Value | None]:
        """Digests of every file that decides the vectors, for the card; read once."""
        with files.reading(self.folder):
            adapter = [self.adapter / name for name in _ADAPTER_FILES] if self.adapter else []
            return {
                "weights": self.weights_sha256,
                "config": digest_files([self.transformer / "config.json"]),
                "tokenizer": digest_files([self.tokenizer / name for name in TOKENIZER_FILES]),
                "adapter": digest_files(adapter) if adapter else None,
            }

    @cached_property
    def library_content(self) -> dict[str, Value | None]:
        """Digests of every file of the folder that sentence-transformers reads by itself, in place of `content`."""
        suffixes = {".json", ".txt", ".model", ".safetensors", ".bin", ".spm"}
        with files.reading(self.folder):
            paths = [path for path in self.folder.rglob("*") if path.suffix in suffixes and path.is_file()]
            kept = [path for path in paths if path.parent != self.folder or path.name not in ("README.md", "card.json")]
            first = [self.folder / name for name in (MODULES, MAIN, *SENTENCE_CONFIGS)]
            return {"library": digest_files([*first, *sorted(kept)], self.folder)}

    def as_declared(self) -> "Checkpoint":
        """The checkpoint with the library's reading of modules.json where our forward pass takes other states.

        Of an encoder-decoder such as BART the library pools the decoder's states, and CLS pooling takes the first
        token, which is not XLNet's CLS. A pooling that the user names is of the encoder's states, and of the
        architecture's CLS.
        """
        if self.library or not self.declares_modules:
            return self
        found = self.configuration
        if found.has_decoder and not found.encodes_text:
            return replace(self, library=f"the decoder of {found.kind}")
        if found.kind == "xlnet" and "cls_before_pooler" in (self.pooling or "").split("+"):
            return replace(self, library="the first token of xlnet")
        return self


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


def weight_files(checkpoint: Checkpoint) -> list[Path]:
    """The weight files that loading reads: the transformer's, those of further modules, the adapter's."""
    folders = [checkpoint.transformer, *(module.folder for module in checkpoint.modules)]
    found = [path for folder in folders for path in find_weights(folder)]
    adapter = checkpoint.adapter
    return found + ([path for name in _ADAPTER_FILES[1:] if (path := adapter / name).is_file()] if adapter else [])


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
    return load_tokenizer_of(checkpoint.tokenizer, lower_case=checkpoint.lower_case)


def load(checkpoint: Checkpoint, *, dtype: torch.dtype) -> Loaded:
    """Load weights and tokenizer; the model is in evaluation mode on the CPU.

    Raises:
        EncoderError: if the weights do not fit the configuration, hold tensors that go nowhere, or are fewer than the
            tokenizer's tokens.
        UsageError: if the configuration holds what is not understood.
    """
    configuration = checkpoint.configuration
    weights = find_weights(checkpoint.transformer)
    check_content(weights)
    tokenizer = load_tokenizer(checkpoint)
    with loading(checkpoint):
        model, head = load_model(checkpoint.transformer, configuration, weights, dtype, checkpoint.adapter)
    rows = getattr(model.get_input_embeddings(), "num_embeddings", None)
    if isinstance(rows, int) and len(tokenizer) > rows:
        raise EncoderError(
            f"{checkpoint.tokenizer}: the tokenizer has {len(tokenizer)} tokens, and the model has rows for {rows}; "
            "the added tokens would have no vector"
        )
    return Loaded(model.eval(), tokenizer, head.to(dtype).eval() if head else None, cls_place(tokenizer))
