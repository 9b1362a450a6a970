"""Encoders that sentence-transformers computes itself: folders with modules that our own forward pass does not have."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from harness.encoders.checkpoint import Checkpoint, library_content, quiet_transformers
from harness.encoders.configuration import one_line
from harness.encoders.context import Context
from harness.encoders.jsonfiles import read_object
from harness.encoders.protocol import Embeddings
from harness.errors import EncoderError, UsageError
from harness.names import EncoderCard, Value

_CLASSES = {"wordembedding_config.json": "tokenizer_class", "router_config.json": "types"}  # names of code in settings


class LibraryEncoder:
    """A folder of sentence-transformers, a sentence at a time, so that a row depends on its sentence alone."""

    def __init__(self, checkpoint: Checkpoint, context: Context, card: EncoderCard, prompt: str) -> None:
        self.card = card
        self._checkpoint, self._context, self._prompt = checkpoint, context, prompt
        self._model: Any = None

    def encode(self, sentences: Sequence[str], /) -> Embeddings:
        """(n, d) float32.

        Raises:
            EncoderError: if the folder cannot be loaded.
        """
        if self._model is None:
            self._model = _load(self._checkpoint, self._context, self.card.max_tokens)
        out = np.empty((len(sentences), self.card.dim), dtype=np.float32)
        for row, sentence in enumerate(sentences):
            x = self._model.encode(
                [sentence], prompt=self._prompt, batch_size=1, truncate_dim=self.card.dim, show_progress_bar=False
            )
            out[row] = x[0]
            self._context.progress("encoding", row + 1, len(sentences))
        return out

    def release(self) -> None:
        """Drop the weights; they are loaded again if another sentence is to be encoded."""
        self._model = None


def build_library(  # noqa: PLR0913  what a card needs
    name: str,
    method: str,
    checkpoint: Checkpoint,
    context: Context,
    *,
    parameters: dict[str, Value | None],
    prompt: str | None = None,
    dim: int | None = None,
) -> LibraryEncoder:
    """An encoder through sentence-transformers, with its card. The model is loaded once to know its width.

    Raises:
        UsageError: if sentence-transformers is not installed, or the pooling is to be overruled.
        EncoderError: if the folder cannot be loaded.
    """
    model = checkpoint.model
    if parameters.get("pooling") is not None:
        raise UsageError(
            f"{name}: sentence-transformers computes this folder because of {model.library}, so its pooling cannot be "
            "overruled; leave pooling out"
        )
    if find_spec("sentence_transformers") is None:
        raise UsageError(
            f"{name}: {model.library} needs sentence-transformers itself; install simcse-bench[sentence-transformers]"
        )
    _refuse_foreign_classes(checkpoint.folder)
    text = model.prompt if prompt is None else model.prompts.get(prompt, prompt)
    limit = parameters.get("max_tokens")
    loaded = _load(checkpoint, context, int(limit) if limit else None)
    width = loaded.get_sentence_embedding_dimension()
    kept = dim or model.truncate_dim or width
    if not isinstance(width, int) or kept > width:
        raise UsageError(f"{name}: dim={kept}, expected 1 to the vector's {width}")
    content = library_content(checkpoint)
    digest = content["library"]
    card = EncoderCard(
        name=name,
        method=method,
        parameters=parameters,
        backbone=checkpoint.title,
        revision=checkpoint.revision,
        weights_sha256=str(digest),
        dim=kept,
        max_tokens=int(limit) if limit else None,
        dtype=context.dtype,
        content={**content, "prompt": text or None, "max_tokens": limit, "dtype": context.dtype},
    )
    return LibraryEncoder(checkpoint, context, card, text)


def _refuse_foreign_classes(folder: Path) -> None:
    """Settings of some modules name classes that the library would import."""
    for name, key in _CLASSES.items():
        for path in folder.rglob(name):
            named = read_object(path).get(key) or []
            for each in named.values() if isinstance(named, dict) else [named]:
                if each and not str(each).startswith("sentence_transformers."):
                    raise UsageError(f"{path}: {each} needs code of its own, which is never run")


def _load(checkpoint: Checkpoint, context: Context, max_tokens: int | None) -> Any:
    import torch
    from sentence_transformers import SentenceTransformer

    quiet_transformers()
    try:
        model = SentenceTransformer(
            str(checkpoint.folder), device=context.device, trust_remote_code=False, local_files_only=True
        )
    except Exception as error:  # the library and all its modules raise what they like
        raise EncoderError(f"{checkpoint.folder}: sentence-transformers cannot load it: {one_line(error)}") from error
    if max_tokens is not None:
        model.max_seq_length = max_tokens
    return model.to(getattr(torch, context.dtype)).eval()
