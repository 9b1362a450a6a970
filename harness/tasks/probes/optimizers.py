"""Adam and RMSprop in torch's formulas, for many heads stacked in one tensor and with gradients made by hand.

`torch.optim` would need autograd and one parameter group for each regulariser, and could not let finished heads leave.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor


class Optimizer(Protocol):
    """Keeps running moments of the same shape as the parameters."""

    def step(self, parameters: Tensor, gradient: Tensor) -> None:
        """Change the parameters in place; the gradient already holds the weight decay."""

    def keep(self, pick: Callable[[Tensor], Tensor]) -> None:
        """Forget the moments of the heads that `pick` leaves out."""


class Adam:
    """`torch.optim.Adam` at its defaults: lr 1e-3, betas 0.9 and 0.999, eps 1e-8.

    Source: Kingma & Ba 2015, https://arxiv.org/abs/1412.6980; order of operations as torch's `_single_tensor_adam`.
    """

    def __init__(self, parameters: Tensor) -> None:
        self.mean = torch.zeros_like(parameters)
        self.square = torch.zeros_like(parameters)
        self.steps = 0

    def step(self, parameters: Tensor, gradient: Tensor) -> None:
        self.steps += 1
        self.mean.lerp_(gradient, 1 - 0.9)
        self.square.mul_(0.999).addcmul_(gradient, gradient, value=1 - 0.999)
        step_size = 1e-3 / (1 - 0.9**self.steps)
        scale = torch.sqrt(self.square).div_((1 - 0.999**self.steps) ** 0.5).add_(1e-8)
        parameters.addcdiv_(self.mean, scale, value=-step_size)

    def keep(self, pick: Callable[[Tensor], Tensor]) -> None:
        self.mean, self.square = pick(self.mean), pick(self.square)


class RMSprop:
    """`torch.optim.RMSprop` at its defaults: lr 1e-2, alpha 0.99, eps 1e-8, no momentum.

    Order of operations as torch's `_single_tensor_rmsprop`.
    """

    def __init__(self, parameters: Tensor) -> None:
        self.square = torch.zeros_like(parameters)

    def step(self, parameters: Tensor, gradient: Tensor) -> None:
        self.square.mul_(0.99).addcmul_(gradient, gradient, value=1 - 0.99)
        parameters.addcdiv_(gradient, torch.sqrt(self.square).add_(1e-8), value=-1e-2)

    def keep(self, pick: Callable[[Tensor], Tensor]) -> None:
        self.square = pick(self.square)


OPTIMIZERS: dict[str, Callable[[Tensor], Optimizer]] = {"adam": Adam, "rmsprop": RMSprop}
