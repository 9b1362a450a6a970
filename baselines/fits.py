"""Maps fitted on a text's sentence vectors: made once, kept on disk, and resumed after an interruption.

A fit is a file in `fits/` of the cache folder, named after the digest of everything that decides it: the identity of
the encoder, the sentences that were read, and the settings. What is used is always what was read back, so that the run
that fits and the runs that load give the same vectors; see `harness.derived`.
"""

import hashlib
import json
import logging
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from baselines.flow import Flow, FlowSettings, Vectors, fit_flow
from baselines.whitening import Whitening, fit_whitening
from harness.data.text import RowsDigest, rows_sha256
from harness.derived import Derived, recall
from harness.encoders.batching import Tokens, pad, plan_batches
from harness.encoders.cached import CachedEncoder
from harness.encoders.checkpoint import load
from harness.encoders.context import Context
from harness.encoders.forward import forward_pooled
from harness.encoders.protocol import Embeddings, embed
from harness.encoders.tokens import token_ids
from harness.encoders.transformer import TransformerEncoder
from harness.errors import DataError, UsageError
from harness.names import EncoderCard

_log = logging.getLogger(__name__)

_VERSION = 1  # to be raised when the same settings give other numbers than before: older files are then not found
_BLOCK = 16384  # sentences whose vectors are held at once
_STEPS_PER_LINE = 100
_DROPOUT_BUDGET = 1024  # padded tokens of one batch: few enough for little padding and for the processor's cache


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


def text_of(sentences: Sequence[str]) -> FitText:
    """Sentences that are in memory."""
    return FitText(rows_sha256((sentence,) for sentence in sentences), lambda: sentences)


def whitening_fit(base: CachedEncoder, text: FitText, card: EncoderCard, context: Context) -> Whitening:
    """Fit, or load what was fitted before; one pass, in memory for one block of sentences.

    Args:
        base: its vectors come from the cache as far as they are there.
        text: to fit on, duplicates as often as they occur.
        card: of the whitened encoder; its dim is the number of axes kept.
        context: where the cache is, and whom to tell of the sentences.

    Raises:
        EncoderError: if the sentences' vectors vary along fewer axes.
        DataError: if the text cannot be read.
    """
    path, key = whitening_place(base, text, card, context)

    def make() -> Derived:
        fitted = fit_whitening(_told(_blocks(base, text.sentences()), context), card.dim)
        return Derived({"mean": fitted.mean, "kernel": fitted.kernel})

    stored = recall(path, key, make).arrays
    return Whitening(stored["mean"], stored["kernel"])


def whitening_place(base: CachedEncoder, text: FitText, card: EncoderCard, context: Context) -> tuple[Path, str]:
    """The file of a fitted whitening, and the key of its content."""
    return _place(context, base, text, {"kind": "whitening", "dim": card.dim})


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
            out[batch.rows] = self._forward([ids[row] for row in batch.rows])
        return out

    def _forward(self, ids: Sequence[Tokens]) -> NDArray[np.float32]:
        loaded, pooling = self._loaded, self._encoder.pooling
        padded, mask = (x.to(self._device) for x in pad(ids, loaded.tokenizer.pad_token_id or 0))
        x = forward_pooled(loaded.model, padded, mask, [pooling], loaded.head, cls=loaded.cls)[pooling]
        return self._encoder.layers(x.float().cpu().numpy())


@dataclass(frozen=True, slots=True)
class FlowFit:
    """How a flow is fitted on a text, and whether the frozen encoder's dropout is on meanwhile."""

    settings: FlowSettings
    dropout: bool

    def __call__(self, base: CachedEncoder, text: FitText, card: EncoderCard, context: Context) -> Flow:
        """Fit, or load what was fitted before; an interrupted fit goes on from its last 100 steps.

        Args:
            base: its vectors come from the cache as far as they are there; with dropout each step computes its own.
            text: to fit on, duplicates as often as they occur, the last sentence of an odd number left out.
            card: of the encoder that the flow makes.
            context: where the cache is, and whom to tell of the steps; bits per dimension are logged.

        Raises:
            EncoderError: if the sentences do not make a step, or the loss is not finite.
            DataError: if the text cannot be read.
        """
        path, key = self.place(base, text, card, context)
        checkpoint = path.with_suffix(".checkpoint.safetensors")

        def make() -> Derived:
            sentences = list(text.sentences())
            sentences = sentences[: len(sentences) // 2 * 2]
            steps = self.settings.steps(len(sentences))

            def tell(step: int, bits: float) -> None:
                context.progress("fitting", step, steps, f"{bits:.3f} bits per dimension")
                if step % _STEPS_PER_LINE == 0 or step == steps:
                    _log.info("%s: step %d of %d, %.4f bits/dim", card.name, step, steps, bits)

            vectors = self._vectors(base, sentences, context)
            return Derived(fit_flow(vectors, self.settings, tell, checkpoint=checkpoint).arrays())

        flow = Flow.from_arrays(recall(path, key, make).arrays, base.card.dim, self.settings.shape)
        with suppress(OSError):
            checkpoint.unlink(missing_ok=True)
        return flow

    def place(self, base: CachedEncoder, text: FitText, card: EncoderCard, context: Context) -> tuple[Path, str]:
        """The file of the fitted flow, and the key of its content."""
        return _place(context, base, text, {"kind": "flow", "dropout": self.dropout, **asdict(self.settings)})

    def _vectors(self, base: CachedEncoder, sentences: Sequence[str], context: Context) -> Vectors:
        """The sentences' vectors: computed anew at each step with dropout, else once."""
        if self.dropout:
            assert isinstance(base.encoder, TransformerEncoder)
            return DropoutVectors(base.encoder, sentences, context)
        return _gather(lambda: _blocks(base, sentences), context.cache_dir / "fits")


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


def _told(blocks: Iterable[Embeddings], context: Context) -> Iterator[Embeddings]:
    """The blocks, while progress is told how many sentences they hold."""
    rows = 0
    for x in blocks:
        rows += len(x)
        context.progress("fitting", rows, 0)
        yield x


def _place(context: Context, base: CachedEncoder, text: FitText, settings: dict[str, object]) -> tuple[Path, str]:
    """The file of a fit, and the key of its content."""
    key = json.dumps([_VERSION, base.card.identity, text.digest, settings], sort_keys=True)
    return context.cache_dir / "fits" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.safetensors", key
