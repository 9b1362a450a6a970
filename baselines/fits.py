"""Maps fitted on a text's sentence vectors: made once, kept on disk, gone on with after an interruption.

A fit is a file in `fits/` of the cache folder, named after the digest of everything that decides it: the card of the
encoder, the text, and the settings. What is used is always what was read back, so that the run that fits and the runs
that load give the same vectors.
"""

import hashlib
import json
import logging
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from baselines.dropout import DropoutVectors
from baselines.flow import Flow, FlowSettings, Vectors, fit_flow, load_flow
from baselines.whitening import Whitening, fit_whitening, load_whitening
from harness import files
from harness.encoders.cached import CachedEncoder
from harness.encoders.context import Context
from harness.encoders.protocol import Embeddings, embed
from harness.encoders.transformer import TransformerEncoder
from harness.names import EncoderCard

_log = logging.getLogger(__name__)

_VERSION = 1  # to be raised when the same settings give other numbers than before: older files are then not found
_BLOCK = 16384  # sentences whose vectors are held at once
_STEPS_PER_LINE = 100


@dataclass(frozen=True, slots=True)
class Text:
    """Sentences to fit on: a digest (hex) that changes with them, and a function that reads them from the start."""

    sha256: str
    read: Callable[[], Iterable[str]]


def text_of(sentences: Sequence[str]) -> Text:
    """Sentences that are in memory."""
    digest = hashlib.sha256()
    for sentence in sentences:
        digest.update(sentence.encode("utf-8", "surrogatepass") + b"\n")
    return Text(digest.hexdigest(), lambda: sentences)


def whitening_fit(base: CachedEncoder, text: Text, card: EncoderCard, context: Context) -> Whitening:
    """Fit, or load what was fitted before; one pass, in memory for one block of sentences.

    Args:
        base: its vectors come from the cache as far as they are there.
        text: to fit on, duplicates as often as they occur.
        card: of the whitened encoder; its dim is the number of axes kept.
        context: where the cache is.

    Raises:
        EncoderError: if the sentences' vectors vary along fewer axes, or the file cannot be written or read.
        DataError: if the text cannot be read.
    """
    path = _place(context, base, text, {"kind": "whitening", "dim": card.dim})
    if not path.exists():
        fit_whitening(_blocks(base, text.read()), card.dim).save(path, card=card, base=base.card)
    return load_whitening(path, base.card)[0]


@dataclass(frozen=True, slots=True)
class FlowFit:
    """How a flow is fitted on a text, and whether the frozen encoder's dropout is on meanwhile."""

    settings: FlowSettings
    dropout: bool

    def __call__(self, base: CachedEncoder, text: Text, card: EncoderCard, context: Context) -> Flow:
        """Fit, or load what was fitted before; an interrupted fit goes on from its last 100 steps.

        Args:
            base: its vectors come from the cache as far as they are there; with dropout each step computes its own.
            text: to fit on, duplicates as often as they occur, the last sentence of an odd number left out.
            card: of the encoder that the flow makes.
            context: where the cache is, whom to tell of the steps; bits per dimension are logged.

        Raises:
            EncoderError: if the sentences do not make a step, the loss is not finite, or a file cannot be written or
                read.
            DataError: if the text cannot be read.
        """
        path = _place(context, base, text, {"kind": "flow", "dropout": self.dropout, **asdict(self.settings)})
        if not path.exists():
            sentences = list(text.read())
            sentences = sentences[: len(sentences) // 2 * 2]
            steps = self.settings.steps(len(sentences))

            def tell(step: int, bits: float) -> None:
                context.progress("fitting", step, steps)
                if step % _STEPS_PER_LINE == 0 or step == steps:
                    _log.info("%s: step %d of %d, %.4f bits/dim", card.name, step, steps, bits)

            checkpoint = path.with_suffix(".checkpoint")
            with self._vectors(base, sentences, context) as vectors:
                flow = fit_flow(vectors, self.settings, tell, checkpoint=checkpoint)
            flow.save(path, card=card, base=base.card)
            checkpoint.unlink(missing_ok=True)
        return load_flow(path, base.card)[0]

    @contextmanager
    def _vectors(self, base: CachedEncoder, sentences: Sequence[str], context: Context) -> Iterator[Vectors]:
        if self.dropout:
            assert isinstance(base.encoder, TransformerEncoder)
            yield DropoutVectors(base.encoder, sentences, context)
            return
        folder = _folder(context)
        with files.writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            file = tempfile.TemporaryFile(dir=folder)
        with file:
            for x in _blocks(base, sentences):
                with files.writing(folder):
                    file.write(x.tobytes())
            file.flush()
            yield np.memmap(file, dtype=np.float32, mode="r", shape=(len(sentences), base.card.dim))


def _blocks(base: CachedEncoder, sentences: Iterable[str]) -> Iterator[Embeddings]:
    """The sentences' vectors, a block at a time."""
    rest = iter(sentences)
    while block := list(islice(rest, _BLOCK)):
        yield embed(base, block)


def _place(context: Context, base: CachedEncoder, text: Text, settings: dict[str, object]) -> Path:
    facts = json.dumps([_VERSION, base.card.identity, text.sha256, settings], sort_keys=True)
    return _folder(context) / f"{hashlib.sha256(facts.encode()).hexdigest()[:32]}.safetensors"


def _folder(context: Context) -> Path:
    return context.cache_dir / "fits"
