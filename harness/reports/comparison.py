"""Two encoders on the same items: paired differences, from result files and their per-item files alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from harness.errors import ResultError, UsageError
from harness.reports.bootstrap import draw
from harness.reports.draws import make_statistic, task_seed
from harness.reports.layouts import LAYOUTS, Layout
from harness.reports.rows import score_key
from harness.reports.statistics import bootstrap_p, holm, mcnemar, percentile_interval, williams
from harness.results.items import PairItems, RowItems
from harness.results.record import Result

Verdict = Literal["a", "b", "tied"]
Vector = NDArray[np.float64]

LEVEL = 0.05
AVERAGE = "average"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Encoder a against encoder b on one task, or on the average of a table's tasks.

    Attributes:
        table: name of the layout.
        task: as in results, or `average`.
        protocol: of both results.
        score: key of the score, e.g. `spearman/all/test`.
        n: pairs or rows; of all tasks for an average.
        a: percent.
        b: percent.
        difference: a minus b in points.
        low: of the 95% paired bootstrap interval of the difference.
        high: of it.
        p: two-sided; McNemar's for accuracies, else that of the paired bootstrap.
        p_williams: of Williams' test, which takes pairs for independent; None where it does not apply.
        p_holm: p adjusted for all tasks of the comparison (an average, which repeats them, is not adjusted).
        verdict: which one is higher at 5 % after the adjustment.
    """

    table: str
    task: str
    protocol: str
    score: str
    n: int
    a: float
    b: float
    difference: float
    low: float
    high: float
    p: float
    p_williams: float | None
    p_holm: float
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Comparison:
    """Every difference, tables in order, the average after its tasks; and one sentence per task left out."""

    rows: tuple[Difference, ...]
    left_out: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Cell:
    """A task in both results, before p-values are adjusted: draws are (2, b) in percent."""

    result: Result
    key: str
    n: int
    scores: tuple[float, float]
    draws: NDArray[np.float64]
    p: float
    p_williams: float | None

    @property
    def differences(self) -> Vector:
        return np.asarray(self.draws[0] - self.draws[1])


@dataclass(frozen=True, slots=True)
class _Group:
    """The tasks of one table under one protocol."""

    layout: Layout
    protocol: str
    cells: Sequence[_Cell]


def compare(results: Sequence[Result], names: tuple[str, str], resamples: int) -> Comparison:
    """Compare two encoders on all tasks that both were scored on, from the same data and under the same protocol.

    Args:
        results: of a folder, as `read_all` gives them.
        names: of encoders a and b, as in results.
        resamples: of the bootstrap.

    Raises:
        ResultError: if there is no task to compare them on.
        UsageError: if the resamples are too few to tell any difference on so many tasks.
    """
    by_place: dict[tuple[str, str], dict[str, Result]] = {}
    for result in results:
        if result.encoder.name in names:
            by_place.setdefault((result.task, result.protocol), {})[result.encoder.name] = result
    shared = {place: (both[names[0]], both[names[1]]) for place, both in by_place.items() if len(both) == 2}
    left_out: list[str] = []
    groups: list[_Group] = []
    for layout in _layouts():
        for protocol in dict.fromkeys(protocol for _, protocol in shared):
            found: list[_Cell] = []
            for column in layout.columns:
                if (column.task, protocol) in shared:
                    a, b = shared[column.task, protocol]
                    found += _cell(a, b, score_key(a, layout, column), resamples, left_out)
            groups += [_Group(layout, protocol, found)] if found else []
    if not groups:
        why = f": {left_out[0]}" if left_out else ""
        raise ResultError(
            f"the results hold no task to compare {names[0]} and {names[1]} on{why}; `bench run` both on one suite"
        )
    _check(resamples, sum(len(group.cells) for group in groups))
    return Comparison(tuple(_rows(groups)), tuple(left_out))


def _check(resamples: int, tasks: int) -> None:
    """The smallest p-value of a bootstrap, 2 / (resamples + 1), times the number of tasks must be below the level."""
    enough = round(2 * tasks / LEVEL)
    if resamples < enough:
        raise UsageError(
            f"--resamples {resamples}: too few to tell encoders apart on {tasks} tasks, as no p-value could be below "
            f"{LEVEL:g} after Holm's correction; give at least {enough}"
        )


def _layouts() -> list[Layout]:
    """One per kind of score: the tables that repeat tasks under other aggregations are left out."""
    return [layout for layout in LAYOUTS if layout.aggregation in ("all", "")]


def _cell(a: Result, b: Result, key: str | None, resamples: int, left_out: list[str]) -> list[_Cell]:
    try:
        return [] if key is None else _compared(a, b, key, resamples)
    except ResultError as error:
        left_out.append(f"{a.task}: {error}")
        return []


def _compared(a: Result, b: Result, key: str, resamples: int) -> list[_Cell]:
    """One cell, or none where the items do not give that score."""
    if a.data != b.data:
        raise ResultError("the two were scored on different data files; run one of them again")
    found = make_statistic(a, key)
    found_other = make_statistic(b, key)
    if found is None or found_other is None:
        return []
    (design, one), (_, other) = found, found_other
    gold, predictions = _items(a, b)
    drawn = 100 * draw(design, [one, other], resamples, task_seed(a.task))
    p_williams = None
    if key.startswith("accuracy"):
        right = [prediction == gold for prediction in predictions]
        p = mcnemar(int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum()))
    else:
        p = bootstrap_p(drawn[0] - drawn[1])
        metric, aggregation, _ = key.split("/")
        p_williams = _williams(metric, gold, predictions) if aggregation == "all" else None
    scores = (100 * a.scores[key], 100 * b.scores[key])
    return [_Cell(a, key, len(gold), scores, drawn, p, p_williams)]


def _items(a: Result, b: Result) -> tuple[NDArray[np.generic], list[NDArray[np.generic]]]:
    """Gold (n,) of both, and what each predicts, (n,)."""
    items = [result.items() for result in (a, b)]
    golds = [one.gold for one in items if isinstance(one, PairItems | RowItems)]
    if len(golds) < 2 or not np.array_equal(golds[0], golds[1]):
        raise ResultError("the two have other items or another order; run one of them again")
    predictions = [one.predicted if isinstance(one, RowItems) else one.cosine for one in items]  # type: ignore[union-attr]
    return golds[0], [values.astype(golds[0].dtype) for values in predictions]


def _williams(metric: str, gold: NDArray[np.generic], predictions: Sequence[NDArray[np.generic]]) -> float:
    from scipy.stats import rankdata

    columns = [rankdata(x) if metric == "spearman" else x for x in (gold, *predictions)]
    r = np.corrcoef(np.stack(columns))
    return williams(float(r[0, 1]), float(r[0, 2]), float(r[1, 2]), len(gold))[1]


def _rows(groups: Sequence[_Group]) -> list[Difference]:
    adjusted = iter(holm([cell.p for group in groups for cell in group.cells]))
    rows = []
    for group in groups:
        rows += [_difference(group, cell.result.task, [cell], cell.p, next(adjusted)) for cell in group.cells]
        if len(group.cells) > 1 and group.layout.average:
            p = bootstrap_p(np.mean([cell.differences for cell in group.cells], axis=0))
            rows.append(_difference(group, AVERAGE, group.cells, p, p))
    return rows


def _difference(group: _Group, task: str, cells: Sequence[_Cell], p: float, p_holm: float) -> Difference:
    a, b = (float(np.mean([cell.scores[i] for cell in cells])) for i in (0, 1))
    interval = percentile_interval(np.mean([cell.differences for cell in cells], axis=0))
    return Difference(
        table=group.layout.name,
        task=task,
        protocol=group.protocol,
        score=cells[0].key,
        n=sum(cell.n for cell in cells),
        a=a,
        b=b,
        difference=a - b,
        low=interval.low,
        high=interval.high,
        p=p,
        p_williams=cells[0].p_williams if len(cells) == 1 else None,
        p_holm=p_holm,
        verdict="tied" if p_holm >= LEVEL else "a" if a > b else "b",
    )
