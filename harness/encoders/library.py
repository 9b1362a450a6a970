"""Encoders that sentence-transformers computes itself: folders with modules that our own forward pass does not have."""

from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from harness.encoders.checkpoint import MODULES, Checkpoint, load, quiet_transformers
from harness.encoders.context import Context
from harness.encoders.folder import find_adapter
from harness.encoders.foreign import foreign
from harness.encoders.modelfiles import find_weights, parsing, read_json, read_object, read_tensors
from harness.encoders.protocol import Embeddings
from harness.encoders.tokens import differing_texts
from harness.errors import EncoderError, UsageError
from harness.names import EncoderCard

# Names of code in settings, and where this code may come from.
_CLASSES = {
    "wordembedding_config.json": ("tokenizer_class", "sentence_transformers."),
    "router_config.json": ("types", "sentence_transformers."),
    "config.json": ("activation_function", "torch.nn."),
}
_ALIASES = {"embeddings"}  # model2vec's name of the only tensor of static embeddings


class LibraryEncoder:
    """A folder of sentence-transformers, a sentence at a time, so that a row depends on its sentence alone."""

    def __init__(self, checkpoint: Checkpoint, context: Context, card: EncoderCard, prompt: str) -> None:
        self.card = card
        self._checkpoint, self._context, self._prompt = checkpoint, context, prompt
        self._model: Any = None

    def encode(self, sentences: Sequence[str], /) -> Embeddings:
        """(n, d) float32.

        Raises:
            EncoderError: if the folder cannot be loaded, or the library fails on a sentence.
        """
        if self._model is None:
            self._model = _load(self._checkpoint, self._context, self.card.max_tokens)
        out = np.empty((len(sentences), self.card.dim), dtype=np.float32)
        for row, sentence in enumerate(sentences):
            with foreign(self.card.name, "encoding by sentence-transformers"):
                x = self._model.encode(
                    [sentence], prompt=self._prompt, batch_size=1, truncate_dim=self.card.dim, show_progress_bar=False
                )
            out[row] = x[0]
            self._context.progress("encoding", row + 1, len(sentences))
        return out

    def release(self) -> None:
        """Drop the weights; they are loaded again if another sentence is to be encoded."""
        self._model = None


def build_library(
    name: str, method: str, checkpoint: Checkpoint, context: Context, parameters: Mapping[str, Any]
) -> LibraryEncoder:
    """An encoder through sentence-transformers, with its card. The model is loaded once to know its width.

    The parameters of the specification are those of `build_transformer`.

    Raises:
        UsageError: if sentence-transformers is not installed, or the pooling is to be overruled.
        EncoderError: if the folder cannot be loaded.
    """
    if parameters.get("pooling") is not None:
        raise UsageError(
            f"{name}: sentence-transformers computes this folder because of {checkpoint.library}, so its pooling "
            "cannot be overruled; leave pooling out"
        )
    if find_spec("sentence_transformers") is None:
        raise UsageError(
            f"{name}: {checkpoint.library} needs sentence-transformers itself; install "
            "simcse-bench[sentence-transformers]"
        )
    _refuse_foreign_classes(checkpoint.folder)
    prompt, limit = parameters.get("prompt"), parameters.get("max_tokens")
    text = checkpoint.prompt if prompt is None else checkpoint.prompts.get(prompt, prompt)
    loaded = _load(checkpoint, context, limit)
    _check_modules(checkpoint, loaded)
    width = loaded.get_embedding_dimension()
    kept = parameters.get("dim") or checkpoint.truncate_dim or width
    if not isinstance(width, int) or kept > width:
        raise UsageError(f"{name}: dim={kept}, expected 1 to the vector's {width}")
    card = EncoderCard(
        name=name,
        method=method,
        parameters=parameters,
        backbone=checkpoint.title,
        revision=checkpoint.revision,
        weights_sha256=str(checkpoint.library_content["library"]),
        dim=kept,
        max_tokens=limit,
        dtype=context.dtype,
        content={**checkpoint.library_content, "prompt": text or None, "max_tokens": limit, "dtype": context.dtype},
    )
    return LibraryEncoder(checkpoint, context, card, text)


def _refuse_foreign_classes(folder: Path) -> None:
    """Settings of some modules name classes that the library would import."""
    for name, (key, origin) in _CLASSES.items():
        for path in folder.rglob(name):
            settings = read_object(path)
            named = [] if "model_type" in settings else settings.get(key) or []
            for each in named.values() if isinstance(named, dict) else [named]:
                if each and not str(each).startswith(origin):
                    raise UsageError(f"{path}: {each} needs code of its own, which is never run")


def _check_modules(checkpoint: Checkpoint, loaded: Any) -> None:
    """Hold each module to what our own reading of its files says: settings, tensors, ids of tokens.

    Raises:
        UsageError, EncoderError: as `load`; if tensors go nowhere, or a tokenizer gives other ids than tokenizer.json.
    """
    for place, module in _modules(checkpoint.folder, loaded):
        if hasattr(module, "auto_model"):
            described = Checkpoint(
                name=checkpoint.name,
                folder=place,
                transformer=place,
                tokenizer=place,
                adapter=find_adapter(place),
                lower_case=bool(module.do_lower_case),
                declares_modules=True,
            )
            ours = load(described, dtype=next(module.parameters()).dtype)
            if differing := differing_texts(ours.tokenizer, module.tokenizer):
                raise EncoderError(
                    f"{place}: sentence-transformers builds a {type(module.tokenizer).__name__}, which gives other ids "
                    f"than tokenizer.json for texts such as {differing[0]!r}; correct tokenizer_class in "
                    "tokenizer_config.json"
                )
            continue
        stored = {key for path in find_weights(place) for key in read_tensors(path)}
        odd = sorted(stored - set(module.state_dict()) - _ALIASES)
        if odd:
            raise EncoderError(
                f"{place}: {type(module).__name__} has no place for {len(odd)} tensors of the weights, first {odd[0]}; "
                "without them the vectors would be another model's"
            )


def _modules(root: Path, loaded: Any) -> Iterator[tuple[Path, Any]]:
    """Each module of the library with its folder; of a router, those of all routes."""
    listed = [each["path"] for each in read_json(root / MODULES)] if (root / MODULES).is_file() else [""]
    for name, module in zip(listed, loaded.children(), strict=False):  # without a list, the library adds a pooling
        router = root / name / "router_config.json"
        if not router.is_file():
            yield root / name, module
            continue
        for route, names in read_object(router)["structure"].items():
            yield from ((root / name / part, each) for part, each in zip(names, module.sub_modules[route], strict=True))


def _load(checkpoint: Checkpoint, context: Context, max_tokens: int | None) -> Any:
    import torch
    from sentence_transformers import SentenceTransformer

    quiet_transformers()
    for path in checkpoint.folder.rglob("pytorch_model*.bin"):
        read_tensors(path, prefixes=("\0",))  # so that a pickled model is called one
    with parsing(f"{checkpoint.folder}: sentence-transformers cannot load it"):
        model = SentenceTransformer(
            str(checkpoint.folder), device=context.device, trust_remote_code=False, local_files_only=True
        )
    if max_tokens is not None:
        model.max_seq_length = max_tokens
    return model.to(getattr(torch, context.dtype)).eval()
