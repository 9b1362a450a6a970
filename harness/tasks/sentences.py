"""The sentences behind the digests of per-item scores, for a reader who has the data."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from harness.data import sts
from harness.data.locate import BUNDLED
from harness.data.records import SimilarityData
from harness.data.sts import YEARS
from harness.errors import DataError
from harness.results.items import text_id
from harness.tasks.similarity import as_senteval_text

_SPLITS = ("train", "dev", "test")
_LOADERS: tuple[Callable[[Path], SimilarityData], ...] = (
    *(partial(sts.semeval, year=year) for year in YEARS),
    partial(sts.sts_benchmark, splits=_SPLITS),
    partial(sts.sick_relatedness, splits=_SPLITS),
)


def sentences_by_id(root: Path | None) -> tuple[Mapping[str, str], list[str]]:
    """Map each `text_id` of the similarity tasks to its sentence, as encoders receive it.

    Args:
        root: the folder with `downstream/`; None leaves the sentences of the bundled mini suite alone.

    Returns:
        The sentences, and one sentence for each data set that cannot be read.
    """
    found = _sentences(sts.semeval(BUNDLED, year="MINI"))
    problems: list[str] = []
    if root is None:
        return found, problems
    for load in _LOADERS:
        try:
            found |= _sentences(load(root))
        except DataError as error:
            problems.append(str(error))
    return found, problems


def _sentences(data: SimilarityData) -> dict[str, str]:
    texts = (as_senteval_text(text) for subset in data.subsets for text in [*subset.left, *subset.right])
    return {text_id(text): text for text in texts}
