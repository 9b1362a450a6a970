"""The `senteval-sklearn` protocol: upstream with `usepytorch=False`."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from harness.tasks.probes.heads import Report
from harness.tasks.probes.settings import Features, Fitted, Fold, Integers

SPLIT_GRID = tuple(2.0**t for t in range(-2, 4))  # of C; nested folds use it as well
KFOLD_GRID = tuple(2.0**t for t in range(-1, 6))


class LogisticTrainer:
    """scikit-learn's logistic regression at its defaults, on features as they are.

    Its 100 iterations may end before convergence, as they do upstream: the warning is silenced, the number kept.

    Source: `InnerKFoldClassifier`, `KFoldClassifier` and `SplitClassifier` in SentEval's validation.py.
    """

    def __init__(self, x: Features, y: Integers, grid: tuple[float, ...], seed: int, report: Report) -> None:
        self.x, self.y, self.grid, self.seed, self.report = x, y, grid, seed, report

    def search(self, folds: Sequence[Fold]) -> list[list[Fitted]]:
        return [[self._fit(fold.train, fold.dev, c) for c in self.grid] for fold in folds]

    def refit(self, train: Sequence[Integers], regularisation: Sequence[float]) -> list[Fitted]:
        return [self._fit(rows, None, c) for rows, c in zip(train, regularisation, strict=True)]

    def _fit(self, train: Integers, dev: Integers | None, c: float) -> Fitted:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model = LogisticRegression(C=c, random_state=self.seed).fit(self.x[train], self.y[train])
        self.report(1, 0)
        accuracy = math.nan if dev is None else float(np.mean(model.predict(self.x[dev]) == self.y[dev]))
        return Fitted(accuracy, 0, lambda rows: model.predict(self.x[rows]))
