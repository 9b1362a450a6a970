"""Side by side with upstream: the original `senteval` package and this harness on the same vectors.

The package is not on the package index, needs CUDA for its classifiers and Python below 3.11 for its optimiser parser;
where a user has it, this runs it unchanged.
"""

import importlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from harness.encoders.cached import Encoded
from harness.encoders.context import Context
from harness.encoders.protocol import Embeddings, Encoder
from harness.errors import EncoderError, UsageError
from harness.tasks.classification import ClassificationTask
from harness.tasks.outcome import Task
from harness.tasks.probes.settings import MODES
from harness.tasks.similarity import SimilarityTask, as_senteval_text

_SOURCE = "git+https://github.com/facebookresearch/SentEval"

Batch = Sequence[Sequence[str]]  # token lists, as senteval hands them over


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One number by both routes.

    Attributes:
        task: our name.
        score: our key, e.g. `spearman/mean/test`.
        ours: correlations -1..1, accuracies 0..1.
        theirs: the same unit.
        our_seconds: for the whole task, vectors looked up in memory.
        their_seconds: likewise.
    """

    task: str
    score: str
    ours: float
    theirs: float
    our_seconds: float
    their_seconds: float


def adapter(encoder: Encoder) -> tuple[Callable[..., None], Callable[[Any, Batch], Embeddings]]:
    """The (prepare, batcher) pair that the senteval package wants, for any of our encoders.

    The batcher joins tokens by one space, as SimCSE's does, and decodes the byte strings that some loaders give.
    """

    def prepare(params: Any, samples: Batch) -> None:
        return None

    def batcher(params: Any, batch: Batch) -> Embeddings:
        return encoder.encode([as_senteval_text(" ".join(map(_text, tokens))) for tokens in batch])

    return prepare, batcher


def _text(token: str | bytes) -> str:
    return token.decode("utf-8") if isinstance(token, bytes) else token


def find_senteval() -> ModuleType:
    """The installed package.

    Raises:
        UsageError: if it is not installed.
    """
    try:
        return importlib.import_module("senteval")
    except ImportError as error:
        raise UsageError(
            f"senteval is not installed and not on the package index; run `pip install {_SOURCE}`, whose classifiers "
            "need CUDA and Python below 3.11, or compare with the stored reference scores by `make test`"
        ) from error


def compare(encoder: Encoder, tasks: Sequence[Task], root: Path, context: Context) -> list[Comparison]:
    """Run both engines on the same vectors, task by task.

    Raises:
        UsageError: if senteval is missing or has no such task.
        EncoderError: if upstream's engine fails; its own message is quoted.
    """
    senteval = find_senteval()
    rows: list[Comparison] = []
    for task in tasks:
        data = task.prepare(root)
        encoded = Encoded(encoder, data.sentences)
        clock = time.perf_counter()
        ours = data.score(encoded, context).scores
        our_seconds = time.perf_counter() - clock
        clock = time.perf_counter()
        # Upstream also encodes the splits that it does not score, so it gets the encoder itself.
        theirs = their_scores(_run_upstream(senteval, encoder, task, root), task)
        their_seconds = time.perf_counter() - clock
        rows += [
            Comparison(
                task=task.name,
                score=key,
                ours=ours[key],
                theirs=value,
                our_seconds=our_seconds,
                their_seconds=their_seconds,
            )
            for key, value in theirs.items()
        ]
    return rows


def _run_upstream(senteval: ModuleType, encoder: Encoder, task: Task, root: Path) -> Mapping[str, Any]:
    prepare, batcher = adapter(encoder)
    engine = senteval.engine.SE(_parameters(task, root), batcher, prepare)
    try:
        found: Mapping[str, Any] = engine.eval(task.name)
    except (AssertionError, AttributeError, RuntimeError, OSError, KeyError, ValueError, TypeError) as error:
        raise EncoderError(
            f"{task.name}: upstream stopped with {type(error).__name__}: {error}; its classifiers need CUDA and "
            "Python below 3.11"
        ) from error
    return found


def _parameters(task: Task, root: Path) -> dict[str, Any]:
    parameters: dict[str, Any] = {"task_path": str(root), "usepytorch": True, "seed": 1111, "kfold": 10}
    if isinstance(task, ClassificationTask):
        settings = asdict(MODES[task.mode])
        parameters["kfold"] = settings["kfold"]
        parameters["usepytorch"] = task.classifier == "senteval"
        parameters["classifier"] = {
            "nhid": 0,
            "optim": settings["optimizer"],
            "batch_size": settings["batch_size"],
            "tenacity": settings["tenacity"],
            "epoch_size": settings["epoch_size"],
        }
    return parameters


def their_scores(found: Mapping[str, Any], task: Task) -> dict[str, float]:
    """Upstream's result dictionary in our keys and units; `all` is there only in SimCSE's copy.

    Raises:
        UsageError: if the task has no counterpart upstream.
    """
    if isinstance(task, SimilarityTask) and "all" in found:
        return {
            f"{metric}/{name}/{task.split}": float(np.asarray(found["all"][metric][name]))
            for metric in ("spearman", "pearson")
            for name in ("all", "mean", "wmean")
            if name in found["all"][metric]
        }
    if isinstance(task, ClassificationTask):
        keys = {"devacc": "accuracy/dev", "acc": "accuracy/test", "f1": "f1/test"}
        return {ours: float(found[theirs]) / 100 for theirs, ours in keys.items() if theirs in found}
    raise UsageError(
        f"{task.name}: upstream scores it under another protocol, expected STS12-16 or a classification task"
    )
