"""SentEval's classifiers one head at a time, in ordinary PyTorch with autograd: the second route for the batched ones.

Written from the description of the protocol, step by step, with the global generators that the reference seeds. It
shares no code with `harness.tasks.probes` but the settings.
"""

import copy
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.model_selection import StratifiedKFold
from torch import nn

L2 = (1e-5, 1e-4, 1e-3, 1e-2)


@dataclass
class Run:
    """A fitted classifier: its model, the passes it took, and its best dev accuracy (0..1)."""

    model: nn.Linear
    epochs: int
    best: float


def fit(x, y, dev, settings, l2):
    """Train one head on x (n, d), y (n,); dev is (x, y), or None to hold out 5 %."""
    np.random.seed(settings.seed)  # noqa: NPY002 - the reference seeds globally
    torch.manual_seed(settings.seed)
    model = nn.Linear(x.shape[1], int(y.max()) + 1)
    optimizer = {"adam": torch.optim.Adam, "rmsprop": torch.optim.RMSprop}[settings.optimizer]
    optimizer = optimizer(model.parameters(), weight_decay=l2)
    x, y = torch.from_numpy(x), torch.from_numpy(y)
    if dev is None:
        order = torch.from_numpy(np.random.permutation(len(x)))  # noqa: NPY002
        held_out, rest = order[: int(0.05 * len(x))], order[int(0.05 * len(x)) :]
        dev = x[held_out].numpy(), y[held_out].numpy()
        x, y = x[rest], y[rest]
    epochs, misses, best, kept = 0, 0, -1.0, None
    while epochs <= settings.max_epoch:
        for _ in range(settings.epoch_size):
            order = torch.from_numpy(np.random.permutation(len(x)))  # noqa: NPY002
            for start in range(0, len(x), settings.batch_size):
                rows = order[start : start + settings.batch_size]
                loss = nn.functional.cross_entropy(model(x[rows]), y[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        epochs += settings.epoch_size
        accuracy = score(model, *dev)
        if accuracy > best:
            best, kept = accuracy, copy.deepcopy(model)
        elif misses >= settings.tenacity:
            break
        else:
            misses += 1
    return Run(kept, epochs, best)


@torch.no_grad()
def predictions(model, x):
    return model(torch.from_numpy(x)).argmax(dim=1).numpy()


def score(model, x, y):
    return float((predictions(model, x) == y).sum()) / len(y)


def folds(y, k, seed):
    return list(StratifiedKFold(k, shuffle=True, random_state=seed).split(np.zeros(len(y)), y))


def choose(x, y, splits, settings):
    """Rounded dev means for every l2, and the runs behind them as [l2][fold]."""
    runs = [[fit(x[a], y[a], (x[b], y[b]), settings, l2) for a, b in splits] for l2 in L2]
    return [round(100 * np.mean([run.best for run in row]), 2) for row in runs], runs


def nested(x, y, settings):
    """(dev, test, per outer fold (means, chosen l2, test, refit's epochs), runs as [outer][l2][inner])."""
    rows, runs = [], []
    for train, test in folds(y, settings.kfold, 1111):
        means, found = choose(x[train], y[train], folds(y[train], settings.kfold, 1111), settings)
        l2 = L2[int(np.argmax(means))]
        last = fit(x[train], y[train], None, settings, l2)
        rows.append((means, l2, round(100 * score(last.model, x[test], y[test]), 2), last.epochs))
        runs.append(found)
    dev = round(np.mean([max(row[0]) for row in rows]), 2)
    return dev, round(np.mean([row[2] for row in rows]), 2), rows, runs


def kfold(train, test, settings):
    """(means, chosen l2, test, refit)."""
    means, _ = choose(*train, folds(train[1], settings.kfold, settings.seed), settings)
    l2 = L2[int(np.argmax(means))]
    last = fit(*train, None, settings, l2)
    return means, l2, round(100 * score(last.model, *test), 2), last


def split(train, dev, test, settings):
    """(means, chosen l2, test, refit)."""
    means = [round(100 * fit(*train, dev, settings, l2).best, 2) for l2 in L2]
    l2 = L2[int(np.argmax(means))]
    last = fit(*train, dev, settings, l2)
    return means, l2, round(100 * score(last.model, *test), 2), last
