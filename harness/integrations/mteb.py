"""mteb on our encoders and on a local SentEval folder, and our results in mteb's layout.

    mteb.evaluate(harness.as_mteb(encoder), harness.mteb_tasks("SentEval/data"), cache=None)

The tasks are mteb's own classes with the pairs of SentEval's files, so nothing is fetched. Their sentences are as
SentEval hands them to an encoder, tokens joined by one space. mteb's cosine is 1 - |a - b|^2 / 2 of vectors of length 1
(scikit-learn's), in which equal sentences tie exactly; by a dot product, as here, they are 1 but for the last bit of a
float32. On STS12, with 79 such pairs, that is worth 0.002 points.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from harness import files
from harness.encoders.foreign import foreign
from harness.encoders.protocol import Embeddings, Encoder, Transductive, embed
from harness.errors import UsageError
from harness.integrations.imports import METRICS, OUR_NAME, SENTEVAL_COPY, TASKS
from harness.integrations.mteb_models import open_mteb
from harness.names import EncoderCard, Spec, pick, value_text
from harness.results.record import Result
from harness.tasks.outcome import Task
from harness.tasks.similarity import SimilarityTask, as_senteval_text
from harness.tasks.suites import TASKS as OUR_TASKS

_OURS = {ours: (name, split) for name, splits in TASKS.items() for split, ours in splits.items()}
_ORGANISATION = "simcse-bench"  # mteb's names have one


class MtebEncoder:
    """An encoder of ours as mteb's `EncoderProtocol` asks for it."""

    def __init__(self, encoder: Encoder) -> None:
        self.mteb_model_meta = model_meta(encoder.card)
        self._encoder = encoder

    def encode(self, inputs: Any, **ignored: Any) -> Embeddings:
        """(n, d) float32 for batches of texts; task, split and prompt change nothing."""
        return embed(self._encoder, [text for batch in inputs for text in batch["text"]])

    def similarity(self, left: Any, right: Any) -> Any:
        """(n, m) cosines."""
        from mteb.similarity_functions import cos_sim

        return cos_sim(left, right)

    def similarity_pairwise(self, left: Any, right: Any) -> Any:
        """(n,) cosines."""
        from mteb.similarity_functions import pairwise_cos_sim

        return pairwise_cos_sim(left, right)


def as_mteb(encoder: Encoder | Transductive) -> MtebEncoder:
    """Hand an encoder of ours to `mteb.evaluate`.

    Args:
        encoder: as `harness.load_encoder` gives it.

    Raises:
        UsageError: if mteb is not installed, or the encoder is fitted anew for every task.
    """
    if isinstance(encoder, Transductive):
        raise UsageError(f"{encoder.card.name}: fitted per task, which mteb cannot do; name an encoder that is not")
    return MtebEncoder(encoder)


def mteb_tasks(data_dir: str | Path, names: Sequence[str] = tuple(TASKS)) -> list[Any]:
    """Tasks of mteb that read a folder in SentEval's layout, for `mteb.evaluate`.

    Args:
        data_dir: folder with `downstream/`.
        names: mteb's names: STS12 to STS16, STSBenchmark, STSBenchmark.v2, SICK-R.

    Raises:
        UsageError: if mteb is not installed, or a name is none of those.
        DataError: if a file is missing or damaged.
    """
    return [_local_task(name, Path(data_dir)) for name in names]


def _local_task(name: str, root: Path) -> Any:
    """An object of a class below mteb's own, with our data, and with what they are in its metadata."""
    own = pick("task of mteb", TASKS, name)
    theirs = type(open_mteb().get_task(name))
    tasks = {split: OUR_TASKS[own[split]] for split in theirs.metadata.eval_splits}
    data = {split: task.load(root) for split, task in tasks.items() if isinstance(task, SimilarityTask)}
    files = {path: digest for found in data.values() for path, digest in found.files.items()}
    revision = f"{SENTEVAL_COPY}, sha256 {data_digest(files)}"

    def load_data(self: Any, *args: Any, **options: Any) -> None:
        from datasets import Dataset, DatasetDict

        columns = {
            split: {
                "sentence1": [as_senteval_text(text) for subset in found.subsets for text in subset.left],
                "sentence2": [as_senteval_text(text) for subset in found.subsets for text in subset.right],
                "score": [gold for subset in found.subsets for gold in subset.gold],
            }
            for split, found in data.items()
        }
        self.dataset = DatasetDict({split: Dataset.from_dict(each) for split, each in columns.items()})
        self.data_loaded = True

    described = theirs.metadata.model_copy(
        update={"dataset": {"path": theirs.metadata.dataset["path"], "revision": revision}}
    )
    return type(theirs.__name__, (theirs,), {"load_data": load_data, "metadata": described})()


@dataclass(frozen=True, slots=True)
class Mteb:
    """mteb's task classes as another implementation of our similarity tasks: see `harness.verify`."""

    name: str = "mteb"

    def counterpart(self, task: Task) -> Task | str:
        """The task itself, or the reason why mteb has none of its protocol and pairs."""
        name, split = _OURS.get(task.name, ("", ""))
        if name and split in type(open_mteb().get_task(name)).metadata.eval_splits:
            return task
        return f"mteb has no task {task.name}"

    def scores(self, encoder: Encoder, task: Task, root: Path) -> dict[str, float]:
        """Mteb's correlations of cosines, in our keys.

        Raises:
            EncoderError: if mteb fails; its own message is quoted.
        """
        assert isinstance(task, SimilarityTask)
        name, split = _OURS[task.name]
        with foreign(self.name, f"scoring on {task.name}"):
            found = _local_task(name, root).evaluate(as_mteb(encoder), split, encode_kwargs={})["default"]
        return {f"{metric}/all/{task.split}": float(found[f"cosine_{metric}"]) for metric in METRICS}


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written, and the names of tasks that mteb does not have."""

    files: tuple[Path, ...]
    others: tuple[str, ...]


def write_mteb(results: Sequence[Result], folder: Path) -> Exported:
    """Write results as mteb's own command does, so that `ResultCache(folder).load_results()` reads them.

    mteb takes one correlation over all pairs of a task, so of our scores `all` alone can be written.
    Data are named "SentEval copy" with the sha256 of the file read; of several files, with that of their lines
    `<sha256>  <path>` in the order of paths.

    Raises:
        UsageError: if mteb is not installed, no result is of one of its tasks, or two encoders would be one model.
        WriteError: if the disk refuses.
    """
    own = [result for result in results if result.task in _OURS and result.protocol == "sts"]
    if not own:
        raise UsageError(f"none of the {len(results)} results is of a task of mteb, expected {', '.join(_OURS)}")
    groups: dict[tuple[str, str], list[Result]] = {}
    for result in own:
        groups.setdefault((result.encoder.name, _OURS[result.task][0]), []).append(result)
    cards = {result.encoder.name: result.encoder for result in own}
    metas = {name: model_meta(card) for name, card in cards.items()}
    cache = open_mteb().ResultCache(folder)
    places: dict[Path, str] = {}
    for name, task in groups:
        place = cache.get_task_result_path(task, metas[name])
        if place in places:
            raise UsageError(
                f"{name} and {places[place]} would both be {place.relative_to(folder)}; export one of them with "
                "--models"
            )
        places[place] = name
    with files.writing(folder):
        for (name, _), found in groups.items():
            cache.save_to_cache(_task_result(found), metas[name])
    return Exported(tuple(places), tuple(sorted({result.task for result in results} - {r.task for r in own})))


def _task_result(results: Sequence[Result]) -> Any:
    """The splits of one task as mteb's record of it."""
    first = results[0]
    scores = {_OURS[result.task][1]: [_entry(result)] for result in results}
    return open_mteb().TaskResult(
        dataset_revision=f"{SENTEVAL_COPY}, sha256 {data_digest(first.data)}",
        task_name=_OURS[first.task][0],
        mteb_version=version("mteb"),
        scores=scores,
        evaluation_time=sum(result.run.seconds for result in results),
        date=datetime.fromisoformat(first.run.started),
    )


def _entry(result: Result) -> dict[str, Any]:
    split = result.metric.rpartition("/")[2]
    found = {metric: result.scores[f"{metric}/all/{split}"] for metric in METRICS}
    return {
        **found,
        **{f"cosine_{metric}": value for metric, value in found.items()},
        "main_score": found["spearman"],
        "hf_subset": "default",
        "languages": ["eng-Latn"],
    }


def data_digest(data: Mapping[str, str]) -> str:
    """The sha256 of a task's one data file, or of the lines `<sha256>  <path>` of several."""
    if len(data) == 1:
        return next(iter(data.values()))
    lines = "".join(f"{digest}  {path}\n" for path, digest in sorted(data.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def model_meta(card: EncoderCard) -> Any:
    """The encoder as mteb's `ModelMeta`; parameters at their defaults are left out, because others hide a result."""
    spec = Spec.parse(card.name)
    prefix, _, place = spec.name.rpartition(":")
    released = card.backbone if card.method == spec.name and "backbone" not in card.parameters else None
    name = place if prefix in ("hf", "mteb") else released or spec.name
    if name.count("/") != 1:
        name = f"{_ORGANISATION}/{name.replace('/', '-')}"
    return open_mteb().models.ModelMeta.create_empty(
        overwrites={
            "name": re.sub(r"[^\w./-]+", "-", name),
            "revision": card.revision or f"sha256-{(card.weights_sha256 or card.identity)[:12]}",
            "embed_dim": card.dim,
            "max_tokens": card.max_tokens,
            "similarity_fn_name": open_mteb().models.model_meta.ScoringFunction.COSINE,
            "framework": ["PyTorch" if card.weights_sha256 else "NumPy"],
            "languages": ["eng-Latn"],
            "loader_kwargs": {OUR_NAME: card.name},
            "experiment_kwargs": {key: value_text(value) for key, value in spec.given.items()} or None,
        }
    )
