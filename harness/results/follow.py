"""Whether the scores of a result follow from its per-item scores: what could have been edited is computed again."""

import numpy as np

from harness.errors import ResultError
from harness.names import ScoreKey
from harness.results.correlation import METRICS, correlations, subset_slices
from harness.results.items import Items, PairItems, RowItems
from harness.results.record import Result

_CORRELATION = 1e-9  # sums in another order differ by 1e-15
_ROUNDED = 1e-4  # SentEval rounds accuracies, those of folds too, to two digits of a percent


def check_scores(result: Result, items: Items | None) -> None:
    """Refuse a result whose scores are not those of its items; what items do not decide is not checked.

    Raises:
        ResultError: if a score differs from what the items give.
    """
    if items is None:
        return
    tolerance = _tolerance(result, items)
    for key, expected in scores_of(items, ScoreKey.parse(result.metric).split).items():
        found = result.scores.get(key, expected)
        if not abs(found - expected) <= tolerance:
            raise ResultError(
                f"{result.file or result.encoder.name}: score {key} is {found}, but the per-item scores give "
                f"{expected}; run {result.task} again with --force"
            )


def _tolerance(result: Result, items: Items) -> float:
    if not isinstance(items, RowItems) or not np.issubdtype(items.gold.dtype, np.integer):
        return _CORRELATION
    folded = "rows/all" in result.counts  # the mean over folds, whose sizes differ by one row
    return _ROUNDED + (2 / len(items.gold) if folded else 0)


def scores_of(items: Items, split: str) -> dict[str, float]:
    """The scores that items decide, by key: correlations of pairs, and accuracy or correlation of a probe's rows.

    Args:
        items: of one result.
        split: last part of the keys.
    """
    if isinstance(items, PairItems):
        found = correlations(subset_slices(items.subset), items.gold, items.cosine)
        return {f"{key}/{split}": value for key, value in found.items()}
    if not isinstance(items, RowItems):
        return {}
    if np.issubdtype(items.gold.dtype, np.integer):
        return {"accuracy/test": float(np.mean(items.gold == items.predicted))}
    return {f"{name}/all/test": metric(items.gold, items.predicted) for name, metric in METRICS.items()}
