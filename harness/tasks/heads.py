"""SentEval's logistic-regression classifier, trained for many folds and regularisers at once.

The reference fits one head after another. Every construction of its classifier reseeds both generators, so heads start
from the same weights, and those that train on equally many rows draw the same permutations. Heads that differ in the
regulariser alone therefore see the same minibatches: here a fold gathers a minibatch once for all of them, and folds of
equal size go in lockstep as one batched product. The gradient of softmax regression is written by hand.

Source: `PyTorchClassifier.fit` in SentEval's tools/classifier.py, with no hidden layer.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Event, Lock

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.errors import TaskError
from harness.tasks.probes import Features, Fold, Integers, ProbeSettings, Problem, one_core_each

L2_GRID = (1e-5, 1e-4, 1e-3, 1e-2)
# Numbers a block of folds works on: on a CPU they should stay in the cache, on a GPU they should fill it.
_BLOCK_NUMBERS = {"cpu": 1 << 19, "cuda": 1 << 26}
_EVALUATED_ROWS = 8192  # at once, so that a large test set is not copied whole

Report = Callable[[int, int], None]  # heads finished since the last report, passes so far of those in training


@dataclass(frozen=True, eq=False)
class Table:
    """All rows of a task, shared by all heads."""

    x: Tensor  # (n, d + 1) features with a constant 1 as the last one, whose weight is the bias
    y: Tensor  # (n,) labels in 0..classes-1
    classes: int


def table(x: Sequence[Features], y: Sequence[Integers], device: str) -> Table:
    """Put splits below one another on the device; row numbers run through them in the order given."""
    labels = np.concatenate(y).astype(np.int64)
    return Table(with_constant(x, device), torch.from_numpy(labels).to(device), int(labels.max()) + 1)


def with_constant(x: Sequence[Features], device: str) -> Tensor:
    """(n, d + 1): the splits below one another, and a last column of ones."""
    rows = np.ones((sum(map(len, x)), x[0].shape[1] + 1), dtype=np.float32)
    np.concatenate(x, out=rows[:, :-1])
    return torch.from_numpy(rows).to(device)


@dataclass(frozen=True, eq=False)
class Head:
    """A trained head."""

    accuracy: float  # best share of the dev rows, 0..1
    epochs: int  # passes over the training rows until it stopped
    weights: Tensor  # its best ones, (classes, d + 1)
    data: Table

    def predict(self, rows: Integers) -> Integers:
        """(n,) class with the largest logit for each of n row numbers."""
        return _argmax(self.data, self.weights[None], torch.from_numpy(rows))[0].cpu().numpy()


def initial_weights(dim: int, classes: int, seed: int) -> Tensor:
    """(classes, dim + 1): what `torch.manual_seed(seed); nn.Linear(dim, classes)` draws on the CPU, bias last."""
    stream = torch.Generator().manual_seed(seed)
    weight = torch.nn.init.kaiming_uniform_(torch.empty(classes, dim), a=math.sqrt(5), generator=stream)
    bias = torch.empty(classes, 1).uniform_(-1 / math.sqrt(dim), 1 / math.sqrt(dim), generator=stream)
    return torch.cat([weight, bias], dim=1)


def train_heads(data: Table, problems: Sequence[Problem], settings: ProbeSettings, report: Report) -> list[list[Head]]:
    """Train every head of every problem until its own early stop.

    Returns:
        For each problem its heads, in the order of its grid. Equal to training each head alone but for the order of
        float32 sums.

    Raises:
        TaskError: if a problem without dev rows has fewer than 20 training rows, of which 5 % is none.
    """
    stop, lock = Event(), Lock()

    def guarded(finished: int, epoch: int) -> None:
        with lock:
            report(finished, epoch)

    def train(numbers: list[int]) -> list[list[Head]]:
        return _Block(data, [problems[i] for i in numbers], settings).train(guarded, stop)

    heads: dict[int, list[Head]] = {}
    with one_core_each(data.x.device.type) as workers, ThreadPoolExecutor(workers) as pool:
        blocks = list(_blocks(data, problems, settings, workers))
        try:
            for numbers, found in zip(blocks, pool.map(train, blocks), strict=True):
                heads.update(zip(numbers, found, strict=True))
        finally:
            stop.set()  # after Ctrl-C the other blocks end at their next check
    return [heads[i] for i in range(len(problems))]


def _blocks(data: Table, problems: Sequence[Problem], settings: ProbeSettings, workers: int) -> Iterator[list[int]]:
    alike = defaultdict(list)
    for i, problem in enumerate(problems):
        alike[len(problem.train), problem.dev is None, len(problem.grid)].append(i)
    for (_, _, width), numbers in alike.items():
        parameters = 4 * width * data.classes  # with their gradient and moments
        per_fold = (settings.batch_size + parameters) * data.x.shape[1]
        size = min(_BLOCK_NUMBERS[data.x.device.type] // per_fold, math.ceil(len(numbers) / workers))
        yield from (numbers[i : i + max(1, size)] for i in range(0, len(numbers), max(1, size)))


class _Block:
    """Problems with equally many training rows and heads; F folds of R heads, some of which may have finished."""

    def __init__(self, data: Table, problems: Sequence[Problem], settings: ProbeSettings) -> None:
        self.data, self.settings = data, settings
        self.stream = np.random.RandomState(settings.seed)  # the generator behind the reference's np.random.seed
        folds = _with_dev(problems, self.stream)
        device = data.x.device
        self.train_rows = torch.from_numpy(np.stack([fold.train for fold in folds])).to(device)  # (F, n)
        self.dev_rows = [torch.from_numpy(fold.dev).to(device) for fold in folds]
        self.l2 = torch.tensor([problem.grid for problem in problems], device=device)[..., None, None]  # (F, R, 1, 1)
        shape = self.l2.shape[:2]
        start = initial_weights(data.x.shape[1] - 1, data.classes, settings.seed).to(device)
        self.weights = start.expand(*shape, *start.shape).contiguous()  # (F, R, C, d + 1)
        self.optimizer = _OPTIMIZERS[settings.optimizer](self.weights)
        self.slots = np.arange(shape.numel()).reshape(shape)  # which head a place of the stack holds
        self.live = np.ones(shape, dtype=bool)
        # By head, in the order the block began with:
        self.dev_sizes = np.repeat([len(fold.dev) for fold in folds], shape[1])
        self.best = self.weights.flatten(0, 1).clone()
        self.correct = np.full(shape.numel(), -1)
        self.misses = np.zeros(shape.numel(), dtype=int)
        self.epochs = np.zeros(shape.numel(), dtype=int)

    def train(self, report: Report, stop: Event) -> list[list[Head]]:
        folds, width = self.live.shape
        epoch = 0
        while self.live.any() and epoch <= self.settings.max_epoch and not stop.is_set():
            for _ in range(self.settings.epoch_size):
                self._one_pass()
            epoch += self.settings.epoch_size
            self.epochs[self.slots[self.live]] = epoch
            before = int(self.live.sum())
            self._check()
            report(before - int(self.live.sum()), epoch)
            self._drop_finished()
        report(int(self.live.sum()), epoch)
        accuracy = (self.correct / self.dev_sizes).tolist()
        found = zip(accuracy, self.epochs.tolist(), self.best, strict=True)
        heads = [Head(*parts, self.data) for parts in found]
        return [heads[i * width : (i + 1) * width] for i in range(folds)]

    def _one_pass(self) -> None:
        order = torch.from_numpy(self.stream.permutation(self.train_rows.shape[1])).to(self.train_rows.device)
        rows = self.train_rows[:, order]
        batches = (torch.split(part, self.settings.batch_size, dim=1) for part in (rows, self.data.y[rows]))
        for batch, labels in zip(*batches, strict=True):
            self._step(batch, labels[:, None, None])

    def _step(self, rows: Tensor, labels: Tensor) -> None:
        """Softmax regression on one minibatch for each fold; `rows` is (F, B) and `labels` (F, 1, 1, B)."""
        (folds, width, classes, dim), size = self.weights.shape, rows.shape[1]
        x = self.data.x.index_select(0, rows.reshape(-1)).view(folds, size, dim)
        logits = torch.bmm(self.weights.view(folds, -1, dim), x.transpose(1, 2))
        slope = torch.softmax(logits.view(folds, width, classes, size), dim=2)  # minus the one-hot labels:
        slope.scatter_(2, labels.expand(-1, width, -1, -1), -1.0, reduce="add")
        slope.div_(size)
        gradient = torch.bmm(slope.view(folds, -1, size), x).view_as(self.weights)
        self.optimizer.step(self.weights, gradient.addcmul_(self.weights, self.l2))

    def _check(self) -> None:
        """Early stopping with the reference's counter, which an improvement does not set back."""
        correct = np.stack([self._dev_correct(fold) for fold in range(len(self.dev_rows))])
        heads = self.slots
        better = self.live & (correct > self.correct[heads])
        self.correct[heads[better]] = correct[better]
        where = torch.from_numpy(np.flatnonzero(better)).to(self.best.device)
        self.best[torch.from_numpy(heads[better]).to(self.best.device)] = self.weights.flatten(0, 1)[where]
        missed = self.live & ~better
        self.live &= ~(missed & (self.misses[heads] >= self.settings.tenacity))
        self.misses[heads[missed]] += 1

    def _dev_correct(self, fold: int) -> NDArray[np.int64]:
        rows = self.dev_rows[fold]
        return (_argmax(self.data, self.weights[fold], rows) == self.data.y[rows]).sum(dim=1).cpu().numpy()

    def _drop_finished(self) -> None:
        """Keep the folds with a live head, and as many places for each as the one with most live heads needs."""
        folds, width = np.flatnonzero(self.live.any(axis=1)), self.live.sum(axis=1).max()
        if not folds.size or (len(folds), width) == self.live.shape:
            return
        first = np.argsort(~self.live, axis=1, kind="stable")[folds, :width]
        places = torch.from_numpy((folds[:, None] * self.live.shape[1] + first).ravel()).to(self.weights.device)

        def pick(stacked: Tensor) -> Tensor:
            return stacked.flatten(0, 1)[places].view(len(folds), int(width), *stacked.shape[2:])

        self.weights, self.l2 = pick(self.weights), pick(self.l2)
        self.optimizer.keep(pick)
        self.train_rows = self.train_rows[torch.from_numpy(folds).to(self.train_rows.device)]
        self.dev_rows = [self.dev_rows[fold] for fold in folds]
        self.slots = np.take_along_axis(self.slots[folds], first, axis=1)
        self.live = np.take_along_axis(self.live[folds], first, axis=1)


def _with_dev(problems: Sequence[Problem], stream: np.random.RandomState) -> list[Fold]:
    """The problems' rows, where need be with 5 % held out; those of equal size hold out the same positions.

    Source of the first draw of the stream: `PyTorchClassifier.prepare_split` in SentEval's tools/classifier.py.
    """
    given = [Fold(problem.train, problem.dev) for problem in problems if problem.dev is not None]
    if given:
        return given
    order = stream.permutation(len(problems[0].train))
    size = int(0.05 * len(order))
    if not size:
        raise TaskError(
            f"{len(order)} training rows, expected 20 or more, of which 5 % decide when to stop; give more rows"
        )
    return [Fold(problem.train[order[size:]], problem.train[order[:size]]) for problem in problems]


def _argmax(data: Table, weights: Tensor, rows: Tensor) -> Tensor:
    """(R, n) predicted classes of n rows under R heads; weights are (R, classes, d + 1)."""
    flat = weights.flatten(0, 1)
    parts = [
        (flat @ data.x[some].T).view(*weights.shape[:2], -1).argmax(dim=1)
        for some in torch.split(rows, _EVALUATED_ROWS)
    ]
    return torch.cat(parts, dim=1)


class Adam:
    """`torch.optim.Adam` at its defaults, lr 1e-3, betas 0.9 and 0.999, eps 1e-8, for many heads in one tensor.

    The running moments have the shape of the parameters. Gradients are made by hand and hold the weight decay already.
    `torch.optim` would need autograd and one parameter group for each regulariser, and could not let finished heads
    leave.

    Source: Kingma & Ba 2015, https://arxiv.org/abs/1412.6980; order of operations as torch's `_single_tensor_adam`.
    """

    def __init__(self, parameters: Tensor) -> None:
        self.mean = torch.zeros_like(parameters)
        self.square = torch.zeros_like(parameters)
        self.steps = 0

    def step(self, parameters: Tensor, gradient: Tensor) -> None:
        """Change the parameters in place."""
        self.steps += 1
        self.mean.lerp_(gradient, 1 - 0.9)
        self.square.mul_(0.999).addcmul_(gradient, gradient, value=1 - 0.999)
        step_size = 1e-3 / (1 - 0.9**self.steps)
        scale = torch.sqrt(self.square).div_((1 - 0.999**self.steps) ** 0.5).add_(1e-8)
        parameters.addcdiv_(self.mean, scale, value=-step_size)

    def keep(self, pick: Callable[[Tensor], Tensor]) -> None:
        """Forget the moments of the heads that `pick` leaves out."""
        self.mean, self.square = pick(self.mean), pick(self.square)


class RMSprop:
    """`torch.optim.RMSprop` at its defaults, lr 1e-2, alpha 0.99, eps 1e-8, no momentum; otherwise like `Adam`.

    Order of operations as torch's `_single_tensor_rmsprop`.
    """

    def __init__(self, parameters: Tensor) -> None:
        self.square = torch.zeros_like(parameters)

    def step(self, parameters: Tensor, gradient: Tensor) -> None:
        self.square.mul_(0.99).addcmul_(gradient, gradient, value=1 - 0.99)
        parameters.addcdiv_(gradient, torch.sqrt(self.square).add_(1e-8), value=-1e-2)

    def keep(self, pick: Callable[[Tensor], Tensor]) -> None:
        self.square = pick(self.square)


_OPTIMIZERS: dict[str, type[Adam | RMSprop]] = {"adam": Adam, "rmsprop": RMSprop}
