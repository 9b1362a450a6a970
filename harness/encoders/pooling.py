"""The poolings: how token vectors become one sentence vector.

Letters: b sentences, s tokens, d dimensions; h[0] is the embedding layer's output, h[k] that of block k of L. Names are
those of SimCSE's evaluation script. Names are listed without torch, which is imported where it is used.

Sources: SimCSE (49fa580) simcse/models.py and evaluation.py, where averages include the special tokens and leave out
padding; sentence-transformers 6.2 Pooling for the maximum, the last token and the weighted means.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from harness.encoders.forward import Head

POOLINGS = {
    "cls": "tanh(W h[L][CLS] + b) with the checkpoint's trained head",
    "cls_before_pooler": "h[L][CLS]",
    "avg": "mean of h[L] over tokens",
    "avg_top2": "mean of (h[L-1] + h[L]) / 2",
    "avg_first_last": "mean of (h[1] + h[L]) / 2: SimCSE's code since January 2022, BERT-flow, BERT-whitening",
    "avg_static_last": "mean of (h[0] + h[L]) / 2: what the SimCSE paper's tables used",
}
FURTHER_POOLINGS = {
    "max": "maximum of h[L] over tokens",
    "last_token": "h[L] of the last token, special tokens included: what decoders are trained with",
    "weighted_mean": "mean of h[L] over tokens with the weights 1, 2, 3 ...: SGPT",
    "sqrt_mean": "sum of h[L] over tokens, divided by the square root of their number",
}
_AVERAGED_WITH = {"avg_top2": -2, "avg_first_last": 1, "avg_static_last": 0}  # the layer beside the last one


def parse_pooling(text: str) -> tuple[str, ...]:
    """The parts of a pooling such as `avg` or `cls_before_pooler+max`, whose vectors are concatenated.

    Raises:
        UsageError: if a part is unknown.
    """
    parts = tuple(part.strip() for part in text.split("+"))
    known = (*POOLINGS, *FURTHER_POOLINGS)
    for part in parts:
        if part not in known:
            raise UsageError(f"pooling {part!r} is unknown; known: {', '.join(known)}, and several of them joined by +")
    return parts


def needs_all_layers(poolings: Sequence[str]) -> bool:
    """Whether any of these looks below the last block."""
    return any(part in _AVERAGED_WITH for name in poolings for part in name.split("+"))


def needs_head(pooling: str) -> bool:
    """Whether the pooling applies the trained head."""
    return "cls" in pooling.split("+")


def _masked_mean(x: "Tensor", mask: "Tensor") -> "Tensor":
    """(b, s, d) and (b, s) of 0/1 -> (b, d): the mean over positions where the mask is 1; zeros where there is none."""
    weights = mask.unsqueeze(-1).to(x.dtype)  # (b, s, 1)
    return (x * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)


def pool(name: str, layers: Sequence["Tensor"], mask: "Tensor", head: "Head | None", *, cls: int = 0) -> "Tensor":
    """One sentence vector per row.

    Args:
        name: a key of `POOLINGS` or `FURTHER_POOLINGS`, or several joined by `+`, whose vectors are concatenated.
        layers: h[0]..h[L], each (b, s, d); poolings of the last block need only a list that ends in h[L].
        mask: (b, s), 1 on tokens that are pooled, special ones included, and 0 on others, such as padding.
        head: for `cls`; the caller has made sure that it is there.
        cls: the place of the token that the architecture calls CLS: 0, or -1 in sentences without padding.

    Returns:
        (b, d), in the dtype of the layers, not normalised; of n concatenated poolings (b, n d).
    """
    import torch

    parts = [_pool(part, layers, mask, head, cls) for part in name.split("+")]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)


def _pool(name: str, layers: Sequence["Tensor"], mask: "Tensor", head: "Head | None", cls: int) -> "Tensor":
    last = layers[-1]
    if name in _AVERAGED_WITH:
        return _masked_mean((layers[_AVERAGED_WITH[name]] + last) / 2, mask)
    match name:
        case "cls":
            if head is None:
                raise ValueError("the pooling cls needs a head")
            return head(last[:, cls])  # type: ignore[no-any-return]
        case "cls_before_pooler":
            return last[:, cls]
        case "avg":
            return _masked_mean(last, mask)
    return _pool_further(name, last, mask)


def _pool_further(name: str, x: "Tensor", mask: "Tensor") -> "Tensor":
    import torch

    weights = mask.unsqueeze(-1).to(x.dtype)  # (b, s, 1)
    match name:
        case "max":
            return x.masked_fill(weights == 0, float("-inf")).amax(dim=1)
        case "last_token":
            last = (mask * torch.arange(x.shape[1], device=x.device)).argmax(dim=1)  # (b,)
            return x[torch.arange(len(x), device=x.device), last]
        case "weighted_mean":
            weights = weights * torch.arange(1, x.shape[1] + 1, device=x.device, dtype=x.dtype)[:, None]  # (b, s, 1)
            return (x * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)
        case "sqrt_mean":
            return (x * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1).sqrt()
    raise ValueError(f"no pooling is named {name!r}")
