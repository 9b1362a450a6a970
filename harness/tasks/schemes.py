"""SentEval's three evaluation schemes: choose a regulariser on dev rows, test the classifier that has it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import StratifiedKFold

from harness.errors import TaskError
from harness.tasks.heads import L2_GRID, Head, Report, table, train_heads
from harness.tasks.probes import (
    Examples,
    Features,
    Fold,
    Integers,
    ProbeScore,
    ProbeSettings,
    Problem,
    Progress,
    Selection,
)

_NESTED_FOLDS_SEED = 1111  # upstream ignores the configured seed here
SPLIT_GRID = tuple(2.0**t for t in range(-2, 4))  # of C; nested folds use it as well
KFOLD_GRID = tuple(2.0**t for t in range(-1, 6))


def nested_kfold(
    data: Examples, settings: ProbeSettings, *, device: str = "cpu", progress: Progress | None = None
) -> ProbeScore:
    """Each of k outer folds is tested by a classifier whose regulariser k inner folds of the other rows chose.

    MR, CR, SUBJ, MPQA. Trains k (4k + 1) heads, or k (6k + 1) logistic regressions.

    Args:
        data: all rows, in the task's sort order.
        settings: one of `MODES`, or another.
        device: `cpu` or `cuda`; logistic regression stays on the CPU.
        progress: called at every check.

    Returns:
        Means over the outer folds.

    Raises:
        TaskError: for a class with too few rows for two levels of folds, or fewer than two classes.

    Source: `InnerKFoldClassifier` in SentEval's validation.py.
    """
    k = settings.kfold
    count_classes(data, per_class=k + 2)  # an outer fold may take two of them, and k are needed for the inner ones
    outer = stratified(data.y, k, _NESTED_FOLDS_SEED)
    grid = _grid(settings, SPLIT_GRID)
    fit = _fitter([data], settings, device, progress, k * (k * len(grid) + 1))
    inner = [
        Problem(fold.train[part.train], fold.train[part.dev], grid)
        for fold in outer
        for part in stratified(data.y[fold.train], k, _NESTED_FOLDS_SEED)
    ]
    found = fit(inner)
    scores = [_grid_scores(found[i : i + k]) for i in range(0, len(found), k)]
    chosen = [grid[int(np.argmax(means))] for means in scores]
    refits = fit([Problem(fold.train, None, (value,)) for fold, value in zip(outer, chosen, strict=True)])
    predictions = np.empty(len(data.y), dtype=np.int64)
    selections = []
    for fold, means, value, (model,) in zip(outer, scores, chosen, refits, strict=True):
        predictions[fold.dev] = model.predict(fold.dev)
        test = _percent(np.mean(predictions[fold.dev] == data.y[fold.dev]))
        selections.append(Selection(value, means, test, model.epochs))
    dev = round(float(np.mean([max(means) for means in scores])), 2)
    test = round(float(np.mean([selection.test for selection in selections])), 2)
    return ProbeScore(dev, test, None, tuple(selections), predictions)


def kfold_then_test(
    train: Examples, test: Examples, settings: ProbeSettings, *, device: str = "cpu", progress: Progress | None = None
) -> ProbeScore:
    """Folds of the training rows choose the regulariser; one more classifier, trained on all of them, is tested.

    TREC and MRPC. Trains 4k + 1 heads, or 7k + 1 logistic regressions. With two classes the score has an F1.

    Source: `KFoldClassifier` in SentEval's validation.py.
    """
    classes = count_classes(train, test, per_class=settings.kfold)
    grid = _grid(settings, KFOLD_GRID)
    fit = _fitter([train, test], settings, device, progress, settings.kfold * len(grid) + 1)
    folds = stratified(train.y, settings.kfold, settings.seed)
    means = _grid_scores(fit([Problem(fold.train, fold.dev, grid) for fold in folds]))
    value = grid[int(np.argmax(means))]
    ((model,),) = fit([Problem(np.arange(len(train.y)), None, (value,))])
    predictions = model.predict(_rows_after(train, size=len(test.y)))
    score = _percent(np.mean(predictions == test.y))
    f1 = _percent(f1_score(test.y, predictions)) if classes == 2 else None
    return ProbeScore(max(means), score, f1, (Selection(value, means, score, model.epochs),), predictions)


def train_dev_test(
    train: Examples,
    dev: Examples,
    test: Examples,
    settings: ProbeSettings,
    *,
    device: str = "cpu",
    progress: Progress | None = None,
) -> ProbeScore:
    """The dev rows stop the classifiers and choose the regulariser.

    SST2, SST5, SICK-E and the probing tasks. Trains 4 heads, or 6 logistic regressions. The reference trains the
    chosen one a second time, from the same seed to the same weights; here it is used as it is.

    Source: `SplitClassifier` in SentEval's validation.py.
    """
    count_classes(train, dev, test)
    grid = _grid(settings, SPLIT_GRID)
    fit = _fitter([train, dev, test], settings, device, progress, len(grid))
    (found,) = fit([Problem(np.arange(len(train.y)), _rows_after(train, size=len(dev.y)), grid)])
    means = _grid_scores([found])
    best = int(np.argmax(means))
    predictions = found[best].predict(_rows_after(train, dev, size=len(test.y)))
    score = _percent(np.mean(predictions == test.y))
    selection = Selection(grid[best], means, score, found[best].epochs)
    return ProbeScore(max(means), score, None, (selection,), predictions)


# By what chooses the regulariser; each takes the parts of a task's data in order.
SCHEMES: Mapping[str, Callable[..., ProbeScore]] = {
    "nested folds": nested_kfold,
    "folds, test": kfold_then_test,
    "train, dev, test": train_dev_test,
}


@dataclass(frozen=True, eq=False)
class _Logistic:
    """A fitted logistic regression, in the form of a `Head`."""

    accuracy: float  # NaN without dev rows
    model: LogisticRegression
    x: Features
    epochs: int = 0

    def predict(self, rows: Integers) -> Integers:
        found: Integers = self.model.predict(self.x[rows])
        return found


Classifiers = Sequence[Sequence[Head | _Logistic]]  # of each problem one for each value of its grid


def _grid(settings: ProbeSettings, c: tuple[float, ...]) -> tuple[float, ...]:
    return L2_GRID if settings.protocol == "senteval" else c


def _fitter(
    splits: Sequence[Examples], settings: ProbeSettings, device: str, progress: Progress | None, total: int
) -> Callable[[Sequence[Problem]], Classifiers]:
    """What trains classifiers on the rows of the splits, numbered from the first split's first row on."""
    done = 0

    def report(finished: int, epoch: int) -> None:
        nonlocal done
        done += finished
        if progress is not None:
            progress(done, total, epoch)

    x, y = [split.x for split in splits], [split.y for split in splits]
    if settings.protocol == "senteval":
        return partial(train_heads, table(x, y, device), settings=settings, report=report)
    return partial(_fit_logistic, np.concatenate(x), np.concatenate(y), settings.seed, report)


def _fit_logistic(
    x: Features, y: Integers, seed: int, report: Report, problems: Sequence[Problem]
) -> list[list[_Logistic]]:
    """scikit-learn's logistic regression at its defaults, on features as they are.

    Its 100 iterations may end before convergence, as they do upstream: the warning is silenced, the number kept.

    Source: `InnerKFoldClassifier`, `KFoldClassifier` and `SplitClassifier` in SentEval's validation.py.
    """

    def fit(problem: Problem, c: float) -> _Logistic:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model = LogisticRegression(C=c, random_state=seed).fit(x[problem.train], y[problem.train])
        report(1, 0)
        dev = problem.dev
        accuracy = math.nan if dev is None else float(np.mean(model.predict(x[dev]) == y[dev]))
        return _Logistic(accuracy, model, x)

    return [[fit(problem, c) for c in problem.grid] for problem in problems]


def _grid_scores(found: Classifiers) -> tuple[float, ...]:
    """For each value of the grid the mean dev accuracy over folds, in percent, rounded before the best is chosen."""
    return tuple(_percent(np.mean([model.accuracy for model in models])) for models in zip(*found, strict=True))


def _percent(share: float | np.floating) -> float:
    return round(100 * float(share), 2)


def _rows_after(*splits: Examples, size: int) -> Integers:
    start = sum(len(split.y) for split in splits)
    return np.arange(start, start + size)


def stratified(y: Integers, k: int, seed: int) -> list[Fold]:
    """Upstream's folds: scikit-learn's shuffled StratifiedKFold, whose algorithm is that of version 0.22 and later.

    Args:
        y: (n,) labels in the task's sort order, on which the folds depend; every class has at least k rows.
        k: number of folds.
        seed: restarts with each call, so equal labels give equal folds.

    Source: `InnerKFoldClassifier` and `KFoldClassifier` in SentEval's validation.py.
    """
    splits = StratifiedKFold(n_splits=k, shuffle=True, random_state=seed).split(np.zeros(len(y)), y)
    return [Fold(train, dev) for train, dev in splits]


def count_classes(train: Examples, *others: Examples, per_class: int = 1) -> int:
    """Number of classes C, after checking that the labels are 0..C-1.

    Args:
        train: must hold every class.
        others: may lack a class but have no further one.
        per_class: rows of each class that the scheme needs in `train`.

    Raises:
        TaskError: if a class has too few rows, if there is one class, or if another split has a class more.
    """
    counts = np.bincount(train.y)
    short = np.flatnonzero(counts < per_class)
    if short.size:
        raise TaskError(
            f"{train.where}: class {short[0]} has {counts[short[0]]} of {len(train.y)} rows, expected at least "
            f"{per_class} of every class from 0 to {len(counts) - 1}; give more rows or fewer folds"
        )
    if len(counts) < 2:
        raise TaskError(f"{train.where}: every label is 0, expected two classes or more; check the labels' file")
    for other in others:
        if other.y.max() >= len(counts):
            raise TaskError(
                f"{other.where}: label {other.y.max()}, expected 0 to {len(counts) - 1} as in {train.where}; "
                "map the labels to the task's convention"
            )
    return len(counts)
