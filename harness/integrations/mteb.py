"""mteb on our encoders and on a local SentEval folder.

    mteb.evaluate(harness.as_mteb(encoder), harness.mteb_tasks("SentEval/data"), cache=None)

The tasks are mteb's own classes with the pairs of SentEval's files, so nothing is fetched. Their sentences are as
SentEval hands them to an encoder, tokens joined by one space. mteb's cosine is 1 - |a - b|^2 / 2 of vectors of length 1
(scikit-learn's), in which equal sentences tie exactly; by a dot product, as here, they are 1 but for the last bit of a
float32. On STS12, with 79 such pairs, that is worth 0.002 points.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.encoders.foreign import foreign
from harness.encoders.protocol import Embeddings, Encoder, Transductive, embed
from harness.errors import UsageError
from harness.integrations.mteb_results import SENTEVAL_COPY, TASKS, data_digest, model_meta, open_mteb
from harness.names import pick
from harness.tasks.outcome import Task
from harness.tasks.similarity import SimilarityTask, as_senteval_text
from harness.tasks.suites import TASKS as OUR_TASKS

_OURS = {ours: (name, split) for name, splits in TASKS.items() for split, ours in splits.items()}


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
        return {f"{metric}/all/{task.split}": float(found[f"cosine_{metric}"]) for metric in ("spearman", "pearson")}
