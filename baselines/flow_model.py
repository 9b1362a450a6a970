"""The normalising flow of BERT-flow: Glow on a sentence vector seen as an image of one pixel and C channels.

Source: Li et al. 2020, https://arxiv.org/abs/2011.05864, as its code runs (bohanli/BERT-flow at 7fa8f6d): at one pixel
every convolution is a matrix product and nothing is squeezed, and both priors are the standard normal distribution, so
the latent vector is all that the levels emit, side by side.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from harness.errors import UsageError

_FACTOR = 3.0  # Glow multiplies every stored log-scale by this, so that it learns faster than the weights


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowShape:
    """The architecture; the defaults are the `config_l3_d3_w32` that the paper's commands use.

    Attributes:
        levels: after each but the last, half of the channels leave for the latent vector.
        depth: steps per level.
        width: hidden channels of a coupling network.
        coupling: "additive" shifts one half by a function of the other; "affine" scales it too.
        permutation: "reversal" of the channel order, fixed; or a "learned" matrix, kept as its LU factors.
    """

    levels: int = 3
    depth: int = 3
    width: int = 32
    coupling: Literal["additive", "affine"] = "additive"
    permutation: Literal["reversal", "learned"] = "reversal"

    def require_fit(self, dim: int) -> None:
        """Refuse an architecture that vectors of `dim` numbers cannot go through.

        Raises:
            UsageError: if there is nothing to build, or `dim` cannot be halved once per level.
        """
        if self.levels < 1 or self.depth < 1 or self.width < 1:
            raise UsageError(f"flow: {self} is no flow, expected levels, depth and width of 1 or more")
        if dim % 2**self.levels:
            raise UsageError(
                f"flow: vectors of {dim} numbers cannot be halved {self.levels} times, expected a multiple of "
                f"{2**self.levels}; choose fewer levels"
            )


class ActNorm(nn.Module):
    """y = (x + bias) * exp(3 * log_scale), channel by channel."""

    def __init__(self, channels: int, generator: torch.Generator) -> None:
        """Draw both from the Glorot-uniform distribution, TensorFlow's default, which the original never changes."""
        super().__init__()
        reach = math.sqrt(6 / (1 + channels))
        self.bias = nn.Parameter(torch.empty(channels).uniform_(-reach, reach, generator=generator))
        self.log_scale = nn.Parameter(torch.empty(channels).uniform_(-reach, reach, generator=generator))

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.bias) * torch.exp(_FACTOR * self.log_scale)

    def inverse(self, y: Tensor) -> Tensor:
        return y * torch.exp(-_FACTOR * self.log_scale) - self.bias

    def log_det(self) -> Tensor:
        return _FACTOR * self.log_scale.sum()


class Reversal(nn.Module):
    """The channels in reverse order."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flip(1)

    def inverse(self, y: Tensor) -> Tensor:
        return y.flip(1)

    def log_det(self) -> float:
        return 0.0


class LearnedPermutation(nn.Module):
    """y = x @ W with W = P L (U + diag(sign * exp(log_diagonal))); P and sign stay as drawn, the rest is learned.

    Starts as the orthogonal factor of a matrix drawn uniformly from [0, 1), as in the original.
    """

    order: Tensor
    sign: Tensor

    def __init__(self, channels: int, generator: torch.Generator) -> None:
        super().__init__()
        drawn = torch.empty(channels, channels, dtype=torch.float64).uniform_(generator=generator)
        order, lower, upper = torch.linalg.lu(torch.linalg.qr(drawn).Q)
        diagonal = upper.diagonal()
        self.register_buffer("order", order.float())
        self.register_buffer("sign", diagonal.sign().float())
        self.lower = nn.Parameter(lower.tril(-1).float())
        self.upper = nn.Parameter(upper.triu(1).float())
        self.log_diagonal = nn.Parameter(diagonal.abs().log().float())

    def weight(self) -> Tensor:
        lower = self.lower.tril(-1) + torch.eye(len(self.sign), dtype=self.sign.dtype)
        upper = self.upper.triu(1) + torch.diag(self.sign * self.log_diagonal.exp())
        return self.order @ lower @ upper

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight()

    def inverse(self, y: Tensor) -> Tensor:
        x: Tensor = torch.linalg.solve(self.weight(), y, left=False)
        return x

    def log_det(self) -> Tensor:
        return self.log_diagonal.sum()


class Coupling(nn.Module):
    """The first half of the channels passes; the second is shifted, and scaled if affine, by a network of the first.

    The network is two layers of normalised ReLU units and a linear one that starts at zero, so that the coupling
    starts as the identity (affine: as a scaling by sigmoid(2)). The inner normalisations are no part of the log-det.
    """

    def __init__(self, channels: int, shape: FlowShape, generator: torch.Generator) -> None:
        super().__init__()
        self.affine = shape.coupling == "affine"
        half, outputs = channels // 2, channels if self.affine else channels // 2
        self.weight_1 = nn.Parameter(torch.empty(shape.width, half).normal_(0, 0.05, generator=generator))
        self.norm_1 = ActNorm(shape.width, generator)
        self.weight_2 = nn.Parameter(torch.empty(shape.width, shape.width).normal_(0, 0.05, generator=generator))
        self.norm_2 = ActNorm(shape.width, generator)
        self.weight_3 = nn.Parameter(torch.zeros(outputs, shape.width))
        self.bias_3 = nn.Parameter(torch.zeros(outputs))
        self.log_scale_3 = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | float]:
        first, second = x.chunk(2, dim=1)
        shift, log_scale = self._shift_and_log_scale(first)
        if log_scale is None:
            return torch.cat([first, second + shift], dim=1), 0.0
        return torch.cat([first, (second + shift) * log_scale.exp()], dim=1), log_scale.sum(dim=1)

    def inverse(self, y: Tensor) -> Tensor:
        first, second = y.chunk(2, dim=1)
        shift, log_scale = self._shift_and_log_scale(first)
        if log_scale is not None:
            second = second * torch.exp(-log_scale)
        return torch.cat([first, second - shift], dim=1)

    def _shift_and_log_scale(self, first: Tensor) -> tuple[Tensor, Tensor | None]:
        hidden = self.norm_1(linear(first, self.weight_1)).relu()
        hidden = self.norm_2(linear(hidden, self.weight_2)).relu()
        out = linear(hidden, self.weight_3, self.bias_3) * torch.exp(_FACTOR * self.log_scale_3)
        if not self.affine:
            return out, None
        return out[:, 0::2], nn.functional.logsigmoid(out[:, 1::2] + 2)


class Step(nn.Module):
    """Normalise, permute, couple."""

    def __init__(self, channels: int, shape: FlowShape, generator: torch.Generator) -> None:
        super().__init__()
        self.norm = ActNorm(channels, generator)
        learned = shape.permutation == "learned"
        self.permutation = LearnedPermutation(channels, generator) if learned else Reversal()
        self.coupling = Coupling(channels, shape, generator)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y, log_det = self.coupling(self.permutation(self.norm(x)))
        return y, log_det + self.norm.log_det() + self.permutation.log_det()

    def inverse(self, y: Tensor) -> Tensor:
        return self.norm.inverse(self.permutation.inverse(self.coupling.inverse(y)))


class Glow(nn.Module):
    """An invertible map between sentence vectors and latent vectors of the same length.

    The latent vector is [what level 1 emits (C/2), what level 2 emits (C/4), ..., what the last level leaves].
    Training and evaluation mode are the same: nothing in it is random or keeps statistics.
    """

    def __init__(self, dim: int, shape: FlowShape, generator: torch.Generator) -> None:
        """Build with random weights, float32; `.double()` makes it float64.

        Args:
            dim: C, length of a vector.
            shape: the architecture.
            generator: draws the weights.

        Raises:
            UsageError: if C cannot be halved once per level.
        """
        super().__init__()
        shape.require_fit(dim)
        self.dim, self.shape = dim, shape
        self._levels = [
            [Step(dim // 2**level, shape, generator) for _ in range(shape.depth)] for level in range(shape.levels)
        ]
        self.steps = nn.ModuleList(step for steps in self._levels for step in steps)
        self._sizes = [dim // 2**level for level in range(1, shape.levels)] + [dim // 2 ** (shape.levels - 1)]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors (n, C) to latent vectors (n, C), and log|det dz/dx| (n,), natural logarithm."""
        emitted: list[Tensor] = []
        log_det = x.new_zeros(len(x))
        for number, steps in enumerate(self._levels, start=1):
            for step in steps:
                x, added = step(x)
                log_det = log_det + added
            if number < self.shape.levels:
                x, leaving = x.chunk(2, dim=1)
                emitted.append(leaving)
        return torch.cat([*emitted, x], dim=1), log_det

    def inverse(self, z: Tensor) -> Tensor:
        """Latent vectors (n, C) to the vectors (n, C) that `forward` maps to them."""
        *emitted, x = torch.split(z, self._sizes, dim=1)
        for steps in reversed(self._levels):
            for step in reversed(steps):
                x = step.inverse(x)
            if emitted:
                x = torch.cat([x, emitted.pop()], dim=1)
        return x

    @torch.no_grad()
    def initialise(self, x: Tensor) -> None:
        """Data-dependent initialisation: let every normalisation, in order, standardise what reaches it for these x.

        With couplings still at zero, z is then the z-score of each dimension of x (population standard deviation),
        permuted. The paper's code contains this and never runs it; UKPLab/pytorch-bertflow (at 14cdc30) always does.

        Args:
            x: (n, C), enough to estimate a mean and a standard deviation of each dimension.
        """
        norms = [module for module in self.modules() if isinstance(module, ActNorm)]
        hooks = [norm.register_forward_pre_hook(_standardise) for norm in norms]
        self(x)
        for hook in hooks:
            hook.remove()


def _standardise(norm: nn.Module, inputs: tuple[Tensor]) -> None:
    assert isinstance(norm, ActNorm)
    norm.bias.copy_(-inputs[0].mean(dim=0))
    deviation = (inputs[0] + norm.bias).square().mean(dim=0).sqrt()
    norm.log_scale.copy_(-torch.log(deviation + 1e-6) / _FACTOR)


def bits_per_dimension(z: Tensor, log_det: Tensor) -> Tensor:
    """-log2 p(x) / C of each vector under the flow with a standard normal prior.

    Args:
        z: (n, C) latent vectors.
        log_det: (n,) natural logarithm, as `Glow.forward` returns it.

    Returns:
        (n,), any sign: densities of real vectors have no lower bound. No dequantisation, no bin width.
    """
    log_prior = -0.5 * (z.square().sum(dim=1) + z.shape[1] * math.log(2 * math.pi))
    return -(log_prior + log_det) / (math.log(2) * z.shape[1])
