"""The evaluators of the package sentence-transformers, on our vectors."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from harness.encoders.foreign import foreign
from harness.encoders.protocol import Embeddings, Encoder
from harness.errors import UsageError
from harness.tasks.outcome import Task
from harness.tasks.similarity import SimilarityTask, as_senteval_text


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
