"""Linear layers whose weights are laid out for the processor once instead of at every call.

oneDNN multiplies a float32 matrix 1.1 to 1.6 times faster when the weights are in its own blocked layout; PyTorch uses
that only inside compiled graphs, which take longer to build than a whole evaluation takes here. The operators are the
ones that its compiler emits. Results differ from `torch.nn.Linear` by rounding (1e-6 relative).
"""

import torch
from torch import Tensor, nn
from transformers.activations import GELUActivation


class PackedLinear(nn.Module):
    """`torch.nn.Linear` for inference on the CPU in float32, and a GELU after it if asked: (..., in) -> (..., out)."""

    def __init__(self, linear: nn.Linear, *, gelu: bool = False, keep_weight: bool = False) -> None:
        super().__init__()
        self.packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach())
        if keep_weight:  # some models look at its type, or multiply by it themselves
            self.weight = linear.weight
        self.bias = linear.bias
        self.then: tuple[str, list[float], str] = ("gelu", [], "none") if gelu else ("none", [], "")

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, *self.then)  # type: ignore[no-any-return]


def can_pack() -> bool:
    """Whether this build of PyTorch has the operators."""
    return bool(torch._C._has_mkldnn) and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")


def pack_linears(module: nn.Module) -> None:
    """Replace every plain float32 `nn.Linear` below `module`; the module can no longer be trained or saved.

    Its weights are in memory twice afterwards, once in each layout.
    """
    # The first half of the feed-forward in relatives of BERT, such as MPNet.
    if isinstance(getattr(module, "intermediate_act_fn", None), GELUActivation):
        module.dense = PackedLinear(module.dense, gelu=True, keep_weight=True)  # type: ignore[arg-type]
        module.intermediate_act_fn = nn.Identity()
    for name, child in module.named_children():
        if type(child) is nn.Linear and child.weight.dtype == torch.float32:
            setattr(module, name, PackedLinear(child, keep_weight=True))
        else:
            pack_linears(child)
