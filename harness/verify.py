"""Score the same vectors by this harness and by another implementation, and put the numbers side by side."""

import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

from harness.encoders.cached import Encoded
from harness.encoders.context import Context
from harness.encoders.foreign import foreign
from harness.encoders.protocol import Embeddings, Encoder
from harness.errors import UsageError
from harness.integrations.mteb import Mteb
from harness.integrations.senteval import open_senteval
from harness.names import pick
from harness.tasks.outcome import Task
from harness.tasks.similarity import SimilarityTask, as_senteval_text


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One number by both routes, or the reason why the other implementation has none.

    Attributes:
        task: our name.
        score: our key, e.g. `spearman/mean/test`; empty where there is nothing to compare.
        ours: correlations -1..1, accuracies 0..1; None where there is nothing to compare.
        theirs: the same unit.
        our_seconds: for the whole task, vectors looked up in memory.
        their_seconds: likewise.
        note: why there is nothing to compare.
    """

    task: str
    score: str = ""
    ours: float | None = None
    theirs: float | None = None
    our_seconds: float = 0.0
    their_seconds: float = 0.0
    note: str = ""


class Upstream(Protocol):
    """Another implementation of our tasks."""

    @property
    def name(self) -> str: ...

    def counterpart(self, task: Task) -> Task | str:
        """Our task under the protocol that the other implementation has for it, or the reason why there is none."""

    def scores(self, encoder: Encoder, task: Task, root: Path) -> dict[str, float]:
        """The other implementation's numbers on such a task, in our keys and units."""


@dataclass(frozen=True, slots=True)
class SentenceTransformers:
    """The package's `EmbeddingSimilarityEvaluator`: the correlations of cosines with gold scores, over all pairs."""

    name: str = "sentence-transformers"

    def counterpart(self, task: Task) -> Task | str:
        """The task itself, or the reason why the package has no evaluator of its protocol."""
        if isinstance(task, SimilarityTask):
            return task
        return f"sentence-transformers has no evaluator with the protocol {task.protocol}"

    def scores(self, encoder: Encoder, task: Task, root: Path) -> dict[str, float]:
        """The evaluator's numbers on a similarity task, in our keys.

        Raises:
            UsageError: if the package is not installed.
            EncoderError: if the evaluator fails; its own message is quoted.
        """
        assert isinstance(task, SimilarityTask)
        subsets = task.load(root).subsets
        with foreign(self.name, f"scoring on {task.name}"):
            evaluator = _evaluator()(
                sentences1=[text for subset in subsets for text in subset.left],
                sentences2=[text for subset in subsets for text in subset.right],
                scores=[gold for subset in subsets for gold in subset.gold],
                main_similarity="cosine",
                write_csv=False,
            )
            found = evaluator(_Model(encoder))
        return {f"{metric}/all/{task.split}": float(found[f"{metric}_cosine"]) for metric in ("spearman", "pearson")}


class _Model:
    """What an evaluator asks of a SentenceTransformer."""

    similarity_fn_name = "cosine"
    model_card_data = SimpleNamespace(set_evaluation_metrics=lambda *args, **options: None)

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder

    def encode(self, sentences: list[str], **options: Any) -> Embeddings:
        return self._encoder.encode([as_senteval_text(text) for text in sentences])


def _evaluator() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the place of the class has changed between versions
            from sentence_transformers.evaluation import EmbeddingSimilarityEvaluator
    except ImportError as error:
        raise UsageError(
            "sentence-transformers is not installed, expected version 3 or later; "
            "run `pip install sentence-transformers`"
        ) from error
    return EmbeddingSimilarityEvaluator


def open_upstream(name: str, senteval: Path | None) -> Upstream:
    """The implementation of that name: `senteval`, from a checkout, `sentence-transformers`, or `mteb`.

    Raises:
        UsageError: if the name is unknown, or senteval's checkout is not given or none.
    """
    known = {"senteval": None, "sentence-transformers": SentenceTransformers(), "mteb": Mteb()}
    upstream: Upstream | None = pick("implementation", known, name)
    if upstream is None:
        if senteval is None:
            raise UsageError(
                "--against senteval: no checkout is named, and senteval is not on the package index; clone "
                "https://github.com/facebookresearch/SentEval or https://github.com/princeton-nlp/SimCSE and name the "
                "folder with --senteval"
            )
        return open_senteval(senteval)
    return upstream


def compare(
    encoder: Encoder, tasks: Sequence[Task], root: Path, context: Context, upstream: Upstream
) -> Iterator[Comparison]:
    """Run both implementations on the same vectors, task by task.

    Raises:
        EncoderError: if the encoder or the other implementation fails; its own message is quoted.
        DataError: if a data file is missing or damaged.
    """
    for asked in tasks:
        task = upstream.counterpart(asked)
        if isinstance(task, str):
            yield Comparison(task=asked.name, note=task)
            continue
        data = task.prepare(root)
        encoded = Encoded(encoder, data.sentences)
        clock = time.perf_counter()
        ours = data.score(encoded, context).scores
        our_seconds = time.perf_counter() - clock
        clock = time.perf_counter()
        # Others also encode splits that they do not score, so they get the encoder itself.
        theirs = upstream.scores(encoder, task, root)
        their_seconds = time.perf_counter() - clock
        for key, value in theirs.items():
            yield Comparison(
                task=task.name,
                score=key,
                ours=ours[key],
                theirs=value,
                our_seconds=our_seconds,
                their_seconds=their_seconds,
            )
