"""AdamW with the paper's placement of epsilon, on torch's fused kernel."""

import math

import torch
from torch import Tensor, nn

from baselines.simcse.settings import TrainSettings

_BETAS = (0.9, 0.999)


class Optimizer:
    """AdamW, linear decay to 0 without warm-up.

    epsilon="hf" is transformers 4.2's update, lr * sqrt(1 - b2^t) / (1 - b1^t) * m / (sqrt(v) + eps): torch's with an
    epsilon of eps / sqrt(1 - b2^t), which changes from step to step; decay is applied after the update. "torch" is
    torch's own.
    """

    def __init__(self, module: nn.Module, settings: TrainSettings, total: int) -> None:
        self._settings = settings
        self._total = total
        decayed: list[Tensor] = [p for name, p in module.named_parameters() if _decays(name)]
        others = [p for name, p in module.named_parameters() if not _decays(name)]
        self._decayed = decayed if settings.weight_decay and settings.epsilon == "hf" else []
        decay = settings.weight_decay if settings.epsilon == "torch" else 0.0
        self.adam = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}],
            betas=_BETAS,
            eps=settings.adam_epsilon,
            fused=True,
        )

    def rate(self, step: int) -> float:
        """The learning rate of the step, counted from 0."""
        return self._settings.learning_rate * (self._total - step) / self._total

    def advance(self, step: int) -> None:
        """Update the weights and clear the gradients."""
        rate, epsilon = self.rate(step), self._settings.adam_epsilon
        if self._settings.epsilon == "hf":
            epsilon /= math.sqrt(1 - _BETAS[1] ** (step + 1))
        for group in self.adam.param_groups:
            group["lr"], group["eps"] = rate, epsilon
        self.adam.step()
        if self._decayed:
            with torch.no_grad():
                torch._foreach_mul_(self._decayed, 1 - rate * self._settings.weight_decay)
        self.adam.zero_grad(set_to_none=True)


def _decays(name: str) -> bool:
    return "bias" not in name and "LayerNorm.weight" not in name
