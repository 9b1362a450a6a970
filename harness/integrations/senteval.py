"""SentEval itself, from a checkout that the user names, on today's Python and on a plain CPU.

Upstream needs CUDA for its classifiers, Python below 3.11 and numpy below 1.24. It is imported here as it stands in the
checkout, and while it runs, a few names mean something else to its modules. None of them takes part in arithmetic:

    senteval.sts           np.array           makes an array of objects of lists of unequal length, as numpy did
                                              before 1.24 (sentences as token lists)
    senteval.utils         inspect.getargspec is getfullargspec, which replaced it in Python 3.11
    senteval.tools.*       torch.device, torch.cuda.FloatTensor, torch.cuda.is_available
                                              name the CPU, its float tensors, and yes
    torch                  Tensor.cuda, Module.cuda
                                              return the object itself

Two copies of SentEval are in use. The original (facebookresearch/SentEval) has no `all` aggregation and trains a
regressor on STSBenchmark and SICKRelatedness; SimCSE's copy scores these two by cosine, as the paper does.
"""

import importlib
import inspect
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch

from harness.encoders.foreign import foreign
from harness.encoders.protocol import Embeddings, Encoder
from harness.errors import UsageError
from harness.names import STS
from harness.tasks.classification import ClassificationTask
from harness.tasks.outcome import Task
from harness.tasks.probes import MODES, one_core_each
from harness.tasks.regression import RegressionTask
from harness.tasks.similarity import SimilarityTask, as_senteval_text

_SEMEVAL = STS[:5]
# Our task -> the task of SimCSE's copy, and the part of its answer.
_COSINE = {
    "STSBenchmark": ("STSBenchmark", "test"),
    "STSBenchmark-dev": ("STSBenchmark", "dev"),
    "SICKRelatedness": ("SICKRelatedness", "test"),
    "SICKRelatedness-dev": ("SICKRelatedness", "dev"),
    "SICKRelatedness-full": ("SICKRelatedness", "all"),
}
_ACCURACIES = {"devacc": "accuracy/dev", "acc": "accuracy/test", "f1": "f1/test"}
_REGRESSION = {
    "pearson": "pearson/all/test",
    "spearman": "spearman/all/test",
    "mse": "mse/all/test",
    "devpearson": "pearson/all/dev",
    "devspearman": "spearman/all/dev",
}


@dataclass(frozen=True, slots=True)
class SentEval:
    """A checkout of SentEval, imported.

    Attributes:
        module: the package `senteval`.
        has_cosine: whether it is SimCSE's copy, which scores STSBenchmark and SICKRelatedness by cosine.
    """

    module: ModuleType
    has_cosine: bool
    name: str = "senteval"

    def counterpart(self, task: Task) -> Task | str:
        """Our task under the protocol that this copy has for it, or the reason why there is none."""
        if isinstance(task, ClassificationTask):
            known = self.module.engine.SE({}, None).list_tasks
            return task if task.name in known else f"senteval has no task {task.name}"
        if isinstance(task, RegressionTask):
            return task if self.has_cosine else replace(task, stop_on="pearson")
        if isinstance(task, SimilarityTask) and task.name in _SEMEVAL:
            return task
        if isinstance(task, SimilarityTask) and task.name in _COSINE:
            return task if self.has_cosine else "this copy trains a regressor for it; SimCSE's copy takes cosines"
        return f"senteval has no task {task.name}"

    def scores(self, encoder: Encoder, task: Task, root: Path) -> dict[str, float]:
        """Upstream's numbers on a task that has a counterpart, in our keys and units.

        Raises:
            EncoderError: if upstream fails; its own message is quoted.
        """
        name = _COSINE[task.name][0] if task.name in _COSINE else task.name
        if isinstance(task, RegressionTask) and not self.has_cosine:
            name = name.removesuffix("-finetune")
        with foreign(self.name, f"scoring on {task.name}"), _adapted(self.module), one_core_each("cpu"):
            engine = self.module.engine.SE(_parameters(task, root), _batcher(encoder), lambda params, samples: None)
            return _translated(engine.eval(name), task)


def open_senteval(checkout: Path) -> SentEval:
    """Import the SentEval of a checkout: its folder, SimCSE's folder, or the package's own.

    Raises:
        UsageError: if there is none in the folder, or it cannot be imported.
    """
    places = (checkout, checkout / "SentEval", checkout.parent)
    folder = next((place for place in places if (place / "senteval" / "engine.py").is_file()), None)
    if folder is None:
        raise UsageError(
            f"--senteval {checkout}: no senteval/engine.py in it, expected a checkout of facebookresearch/SentEval or "
            "princeton-nlp/SimCSE; clone one of them and name its folder"
        )
    for name in [name for name in sys.modules if name.partition(".")[0] == "senteval"]:
        del sys.modules[name]  # another checkout's
    sys.path.insert(0, str(folder.resolve()))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # escapes in strings that newer Pythons warn of
            module = importlib.import_module("senteval")
    except Exception as error:  # foreign code may raise anything
        raise UsageError(
            f"--senteval {checkout}: importing it failed with {type(error).__name__}: {error}, expected SentEval's "
            "code as published; clone it again"
        ) from error
    finally:
        sys.path.remove(str(folder.resolve()))
    return SentEval(module, has_cosine=hasattr(module.sts, "STSBenchmarkFinetune"))


def _batcher(encoder: Encoder) -> Any:
    """Upstream's door to an encoder. It joins tokens by one space and decodes byte strings, as SimCSE's does."""

    def vectors(params: Any, batch: list[list[str | bytes]]) -> Embeddings:
        texts = [" ".join(t.decode("utf-8") if isinstance(t, bytes) else t for t in tokens) for tokens in batch]
        return encoder.encode([as_senteval_text(text) for text in texts])

    return vectors


def _parameters(task: Task, root: Path) -> dict[str, Any]:
    """The settings of SimCSE's evaluation.py, for the task's mode."""
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


def _translated(found: Mapping[str, Any], task: Task) -> dict[str, float]:
    """Upstream's answer in our keys: correlations -1..1, accuracies 0..1."""
    if isinstance(task, ClassificationTask):
        return {ours: float(found[theirs]) / 100 for theirs, ours in _ACCURACIES.items() if theirs in found}
    if isinstance(task, RegressionTask):
        return {ours: float(found[theirs]) for theirs, ours in _REGRESSION.items() if theirs in found}
    split = task.metric.rpartition("/")[2]
    part = _COSINE[task.name][1] if task.name in _COSINE else "all"
    scores: dict[str, float] = {}
    for metric in ("spearman", "pearson"):
        if part == "all":
            scores |= {f"{metric}/{name}/{split}": float(value) for name, value in found["all"][metric].items()}
        else:
            scores[f"{metric}/all/{split}"] = float(found[part][metric][0])
    return scores


class _Numpy:
    """Numpy, but lists of unequal length become an array of objects."""

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    def array(self, values: Any, *args: Any, **options: Any) -> Any:
        try:
            return np.array(values, *args, **options)
        except ValueError:
            return np.array(values, *args, **{**options, "dtype": object})


class _Torch:
    """Torch, but its CUDA device is the CPU."""

    cuda = SimpleNamespace(FloatTensor=torch.FloatTensor, is_available=lambda: True, manual_seed=lambda seed: None)

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    def device(self, name: str) -> torch.device:
        return torch.device("cpu")


@contextmanager
def _adapted(module: ModuleType) -> Iterator[None]:
    """Give upstream's modules the names of this module's docstring; everybody else's are as before afterwards."""
    cuda = torch.Tensor.cuda, torch.nn.Module.cuda
    module.sts.np = _Numpy()
    module.utils.inspect = SimpleNamespace(getargspec=inspect.getfullargspec)
    for name in ("classifier", "relatedness"):
        importlib.import_module(f"senteval.tools.{name}").torch = _Torch()  # type: ignore[attr-defined]
    torch.Tensor.cuda = torch.nn.Module.cuda = lambda self, *args, **options: self  # type: ignore[method-assign,assignment]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.Tensor.cuda, torch.nn.Module.cuda = cuda  # type: ignore[method-assign]
