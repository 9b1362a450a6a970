"""Maps fitted on a text's sentence vectors: made once, kept on disk, and resumed after an interruption.

A fit is a file in `fits/` of the cache folder, named after the digest of everything that decides it: the identity of
the encoder, the sentences that were read, and the settings. What is used is always what was read back, so that the run
that fits and the runs that load give the same vectors; see `harness.derived`.
"""

import hashlib
import json
import logging
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from baselines.flow import Flow, FlowSettings, Vectors, fit_flow
from baselines.flow_model import FlowShape
from baselines.postprocessing import (
    TARGET,
    FitParameters,
    FittedPerTask,
    FlowParameters,
    Map,
    Mapped,
    WhiteningParameters,
)
from baselines.transformers import find_backbone, without_place
from baselines.whitening import Whitening, fit_whitening
from harness.data.named_texts import find_text, name_in_records
from harness.data.text import RowsDigest, rows_sha256
from harness.derived import Derived, recall
from harness.encoders.batching import Tokens, pad, plan_batches
from harness.encoders.cached import CachedEncoder, cache_embeddings
from harness.encoders.checkpoint import load, weight_files
from harness.encoders.context import Context
from harness.encoders.entry import Built, Cost
from harness.encoders.forward import forward_pooled
from harness.encoders.protocol import Embeddings, embed
from harness.encoders.tokens import token_ids
from harness.encoders.transformer import TransformerEncoder, build_transformer
from harness.errors import DataError, UsageError
from harness.names import Spec

_log = logging.getLogger(__name__)

_VERSION = 1  # to be raised when the same settings give other numbers than before: older files are then not found
_BLOCK = 16384  # sentences whose vectors are held at once
_STEPS_PER_LINE = 100
_DROPOUT_BUDGET = 1024  # padded tokens of one batch: few enough for little padding and for the processor's cache

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class FitText:
    """Sentences to fit on.

    Attributes:
        digest: of the sentences, as `rows_sha256` has it.
        read: gives them from the start.
    """

    digest: str
    read: Callable[[], Iterable[str]]

    def sentences(self) -> Iterator[str]:
        """The sentences, if they are still those of the digest.

        Raises:
            DataError: at the end, if they are not, or whatever reading raises.
        """
        found = RowsDigest()
        for sentence in self.read():
            found.update((sentence,))
            yield sentence
        if found.hexdigest() != self.digest:
            raise DataError("the text to fit on changed while it was read, expected it as it was; run again")


@dataclass(frozen=True, slots=True)
class WhiteningFit:
    """A whitening that keeps `dim` axes.

    This class and `FlowFit` have the same methods. `settings` is what decides the map beside encoder and text, as the
    keys of stored fits have it; `make` fits, and `read` gives the map that was made.
    """

    dim: int

    @property
    def settings(self) -> Mapping[str, object]:
        return {"kind": "whitening", "dim": self.dim}

    def make(self, base: CachedEncoder, text: FitText, name: str, checkpoint: Path, context: Context) -> Arrays:
        """Fit in one pass, in memory for one block of sentences.

        Raises:
            EncoderError: if the sentences' vectors vary along fewer axes.
            DataError: if the text cannot be read.
        """

        def told() -> Iterator[Embeddings]:
            rows = 0
            for x in _blocks(base, text.sentences()):
                rows += len(x)
                context.progress("fitting", rows, 0)
                yield x

        fitted = fit_whitening(told(), self.dim)
        return {"mean": fitted.mean, "kernel": fitted.kernel}

    def read(self, arrays: Arrays) -> Map:
        return Whitening(arrays["mean"], arrays["kernel"]).transform


@dataclass(frozen=True, slots=True)
class FlowFit:
    """A flow of vectors of `dim` numbers; with `dropout`, that of the frozen encoder is on while it is fitted."""

    dim: int
    flow: FlowSettings
    dropout: bool

    @property
    def settings(self) -> Mapping[str, object]:
        return {"kind": "flow", "dropout": self.dropout, **asdict(self.flow)}

    def make(self, base: CachedEncoder, text: FitText, name: str, checkpoint: Path, context: Context) -> Arrays:
        """Fit on an even number of sentences, without the last one of an odd number.

        Args:
            base: its vectors come from the cache as far as they are there; with dropout each step computes its own.
            text: to fit on, duplicates as often as they occur.
            name: of the encoder that the flow makes, for the log.
            checkpoint: an interrupted fit goes on from the last 100 steps that are in this file.
            context: whom to tell of the steps, and where to compute; bits per dimension are logged.

        Raises:
            EncoderError: if the sentences do not make a step, or the loss is not finite.
            DataError: if the text cannot be read.
        """
        sentences = list(text.sentences())
        sentences = sentences[: len(sentences) // 2 * 2]
        steps = self.flow.steps(len(sentences))

        def tell(step: int, bits: float) -> None:
            context.progress("fitting", step, steps, f"{bits:.3f} bits per dimension")
            if step % _STEPS_PER_LINE == 0 or step == steps:
                _log.info("%s: step %d of %d, %.4f bits/dim", name, step, steps, bits)

        vectors: Vectors
        if self.dropout:
            assert isinstance(base.encoder, TransformerEncoder)
            vectors = DropoutVectors(base.encoder, sentences, context)
        else:
            vectors = _gather(lambda: _blocks(base, sentences), checkpoint.parent)
        return fit_flow(vectors, self.flow, tell, checkpoint=checkpoint).arrays()

    def read(self, arrays: Arrays) -> Map:
        return Flow.from_arrays(arrays, self.dim, self.flow.shape).transform


class DropoutVectors:
    """The vectors of n sentences from a frozen encoder whose dropout is on: other ones at every request.

    Attributes:
        shape: (n, d).
    """

    def __init__(self, encoder: TransformerEncoder, sentences: Sequence[str], context: Context) -> None:
        """Load the checkpoint a second time, since the encoder's own copy may be laid out for inference.

        Raises:
            UsageError: if the encoder changes sentences before it reads them.
        """
        checkpoint = encoder.backbone.checkpoint
        if encoder.backbone.prompt:
            raise UsageError(
                f"{checkpoint.name}: puts a prompt before sentences, which the fit with dropout does not; fit with "
                "dropout=false"
            )
        self.shape = (len(sentences), encoder.card.dim)
        self._encoder, self._sentences, self._device = encoder, sentences, context.device
        self._loaded = load(checkpoint, dtype=getattr(torch, context.dtype))
        self._loaded.model.train()
        for module in (self._loaded.model, self._loaded.head):
            if module is not None:
                module.to(context.device)

    @torch.no_grad()
    def __getitem__(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """(len(rows), d) float32; equal for the same rows and the same state of torch's global generator."""
        texts = [self._sentences[row] for row in rows]
        ids = token_ids(self._loaded.tokenizer, texts, self._encoder.backbone.max_tokens)
        out = np.empty((len(rows), self.shape[1]), dtype=np.float32)
        for batch in plan_batches([len(tokens) for tokens in ids], _DROPOUT_BUDGET):
            out[batch] = self._forward([ids[row] for row in batch])
        return out

    def _forward(self, ids: Sequence[Tokens]) -> NDArray[np.float32]:
        loaded, pooling = self._loaded, self._encoder.pooling
        padded, mask = (x.to(self._device) for x in pad(ids, loaded.tokenizer.pad_token_id or 0))
        x = forward_pooled(loaded.model, padded, mask, [pooling], loaded.head, cls=loaded.cls)[pooling]
        return self._encoder.layers(x.float().cpu().numpy())


def _gather(blocks: Callable[[], Iterable[Embeddings]], folder: Path) -> Embeddings:
    """All blocks as one array: in a file of the folder that has no name, or in memory where the disk refuses."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            rows = 0
            for x in blocks():
                file.write(x.tobytes())
                rows += len(x)
            file.flush()
            return np.memmap(file, np.float32, "r", shape=(rows, x.shape[1]))
    except OSError:
        return np.concatenate(list(blocks()))


def _blocks(base: CachedEncoder, sentences: Iterable[str]) -> Iterator[Embeddings]:
    """The sentences' vectors, a block at a time."""
    rest = iter(sentences)
    while block := list(islice(rest, _BLOCK)):
        yield embed(base, block)


def fit_or_load(fit: WhiteningFit | FlowFit, base: CachedEncoder, text: FitText, name: str, context: Context) -> Map:
    """The map that was fitted before, else a new one, which is kept. It raises what fitting raises."""
    path, key = _place(fit, base, text, context)
    checkpoint = path.with_suffix(".checkpoint.safetensors")
    stored = recall(path, key, lambda: Derived(fit.make(base, text, name, checkpoint, context)))
    found = fit.read(stored.arrays)
    with suppress(OSError):
        checkpoint.unlink(missing_ok=True)
    return found


def _place(fit: WhiteningFit | FlowFit, base: CachedEncoder, text: FitText, context: Context) -> tuple[Path, str]:
    """The file of a fit, and the key of its content."""
    key = json.dumps([_VERSION, base.card.identity, text.digest, fit.settings], sort_keys=True)
    return context.cache_dir / "fits" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.safetensors", key


def build_fitted(spec: Spec, chosen: FitParameters, context: Context) -> Built:
    """The encoder of a specification: fitted on its text, or on the sentences of each task.

    Raises:
        UsageError: if parameters do not fit each other or the backbone, or the text or the backbone is not known.
        DataError: if the text cannot be had.
    """
    base = _frozen(chosen, context)
    fit = _fit(spec, chosen, base)
    shown, parameters = without_place(spec, chosen, context)
    if chosen.fit == TARGET:
        if chosen.sentences:
            raise UsageError(f"{shown}: sentences={chosen.sentences}, expected none with fit=target; drop it")
        fitted_on = digest = TARGET
    else:
        text = find_text(chosen.fit, context, chosen.sentences)
        parameters["fit"] = name_in_records(chosen.fit, text, context.cache_dir)
        shown = shown.replaced(fit=parameters["fit"]) if text.by_path else shown
        fitted_on, digest = text.name, text.digest
    of_base = {"backbone", "pooling", "max_tokens", "fit", "sentences", "dim"}
    card = replace(
        base.card,
        name=str(shown),
        method=spec.name,
        parameters=parameters,
        dim=fit.dim,
        seed=chosen.seed if isinstance(chosen, FlowParameters) else base.card.seed,
        fitted_on=fitted_on,
        content={
            "method": spec.name,
            "base": base.card.identity,
            "fit": digest,
            "dim": fit.dim,
            **{name: value for name, value in parameters.items() if name not in of_base},
        },
    )

    def fit_on(text: FitText) -> Map:
        return fit_or_load(fit, base, text, card.name, context)

    def fit_on_target(sentences: Sequence[str]) -> Map:
        return fit_on(FitText(rows_sha256((sentence,) for sentence in sentences), lambda: sentences))

    if chosen.fit == TARGET:
        return FittedPerTask(base, fit_on_target, card)
    return Mapped(base, partial(fit_on, FitText(digest, text.sentences)), card)


def cost_of_fit(spec: Spec, chosen: FitParameters, context: Context) -> Cost:
    """What fitting on the text takes, and whether it is done; raises what `build_fitted` raises."""
    base, text = _frozen(chosen, context), find_text(chosen.fit, context, chosen.sentences)
    digest, texts, steps = text.digest, sum(1 for _ in text.sentences()), 0
    fit = _fit(spec, chosen, base)
    path, _ = _place(fit, base, FitText(digest, text.sentences), context)
    if isinstance(fit, FlowFit):
        steps = fit.flow.steps(texts // 2 * 2)
        texts = steps * fit.flow.batch
    size = sum(weight.stat().st_size for weight in weight_files(find_backbone(chosen.backbone, context)))
    return Cost(done=path.is_file(), steps=steps, texts=texts, model_bytes=size)


def _frozen(chosen: FitParameters, context: Context) -> CachedEncoder:
    """The frozen encoder with its vectors kept on disk, where every fit over it finds them."""
    _, parameters = without_place(Spec("hf"), chosen, context)
    name, pooling, cut = parameters["backbone"], chosen.pooling, chosen.max_tokens
    encoder = build_transformer(
        f"hf:{name}[pooling={pooling},max_tokens={cut}]",
        "hf",
        find_backbone(chosen.backbone, context),
        context,
        pooling=pooling,
        parameters={"backbone": name, "pooling": pooling, "max_tokens": cut},
    )
    return cast(CachedEncoder, cache_embeddings(encoder, context))


def _fit(spec: Spec, chosen: FitParameters, base: CachedEncoder) -> WhiteningFit | FlowFit:
    if isinstance(chosen, WhiteningParameters):
        if chosen.dim is not None and chosen.dim > base.card.dim:
            raise UsageError(
                f"{spec}: dim={chosen.dim}, expected 1 to the backbone's {base.card.dim}, or none for all of them"
            )
        return WhiteningFit(chosen.dim or base.card.dim)
    assert isinstance(chosen, FlowParameters)
    if chosen.batch % 2:
        raise UsageError(f"{spec}: batch={chosen.batch}, expected an even number: a step takes as many of both sides")
    given = asdict(chosen)
    shape = FlowShape(**{name: given[name] for name in ("levels", "depth", "width", "coupling", "permutation")})
    shape.require_fit(base.card.dim)
    same = {name: given[name] for name in ("ddi", "batch", "epochs", "seed")}
    # The published code sums the losses of two sides. The sides of our texts are their halves, since the loss does not
    # ask what the pairs are.
    return FlowFit(base.card.dim, FlowSettings(shape=shape, pairs=True, **same), chosen.dropout)
