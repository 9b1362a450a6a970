"""Results as a pandas frame, one row per score."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from harness.names import ScoreKey
from harness.results.record import Result

if TYPE_CHECKING:
    import pandas as pd


def frame(results: Iterable[Result]) -> "pd.DataFrame":
    """One row per score, the main score of each result marked.

    Returns:
        Columns encoder, method, backbone, seed, task, protocol, metric, aggregation, split, bound, score (in its own
        unit: correlations -1..1, accuracies 0..1), main (whether tables show it), identity, commit.
    """
    import pandas as pd

    rows = []
    for result in results:
        card = result.encoder
        for key, score in result.scores.items():
            parsed = ScoreKey.parse(key)
            rows.append(
                {
                    "encoder": card.name,
                    "method": card.method,
                    "backbone": card.backbone,
                    "seed": card.seed,
                    "task": result.task,
                    "protocol": result.protocol,
                    **parsed._asdict(),
                    "score": score,
                    "main": key == result.metric,
                    "identity": card.identity,
                    "commit": result.run.commit,
                }
            )
    return pd.DataFrame(rows)
