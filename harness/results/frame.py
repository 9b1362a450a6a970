"""Results as one tidy table, a line per score, for pandas."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from harness.names import ScoreKey
from harness.results.record import Result

if TYPE_CHECKING:
    import pandas as pd

_COLUMNS = (
    "encoder",
    "method",
    "backbone",
    "seed",
    "folder",
    "task",
    "protocol",
    "metric",
    "aggregation",
    "split",
    "bound",
    "score",
    "main",
    "flags",
    "identity",
    "started",
    "commit",
)


def frame(results: Iterable[Result]) -> "pd.DataFrame":
    """Every score of some results, a line each.

    Returns:
        Columns: `encoder` (its full name), `method`, `backbone`, `seed` (the encoder's), `folder` (in the results
        folder, empty in memory), `task`, `protocol`; `metric`, `aggregation`, `split` and `bound` of the score's key;
        `score` at full precision (correlations -1..1, accuracies 0..1), `main` (whether tables show it), `flags`
        (joined by "; "), `identity` of the encoder, `started` (UTC) and `commit` of the run.
    """
    import pandas as pd  # takes half a second, and only this function needs it

    return pd.DataFrame([line for result in results for line in _lines(result)], columns=list(_COLUMNS))


def _lines(result: Result) -> Iterable[tuple[object, ...]]:
    card, run = result.encoder, result.run
    made = (card.name, card.method, card.backbone, card.seed, result.file.parent.name if result.file else "")
    marks = ("; ".join(result.flags), card.identity, run.started, run.commit)
    for text, score in result.scores.items():
        key = ScoreKey.parse(text)
        place = (result.task, result.protocol, key.metric, key.aggregation, key.split, key.bound)
        yield (*made, *place, score, text == result.metric, *marks)
