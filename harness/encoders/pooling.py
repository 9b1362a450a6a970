"""How token vectors become one sentence vector, by the names of SimCSE's evaluation script.

Letters: b sentences, s tokens, d dimensions; h[0] is the embedding layer's output, h[k] that of block k of L.

Source: SimCSE (49fa580) simcse/models.py and evaluation.py; the averages include the special tokens and leave out
padding.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

POOLINGS = {
    "cls": "tanh(W h[L][CLS] + b) with the checkpoint's trained head",
    "cls_before_pooler": "h[L][CLS]",
    "avg": "mean of h[L] over tokens",
    "avg_top2": "mean of (h[L-1] + h[L]) / 2",
    "avg_first_last": "mean of (h[1] + h[L]) / 2: SimCSE's code since January 2022, BERT-flow, BERT-whitening",
    "avg_static_last": "mean of (h[0] + h[L]) / 2: what the SimCSE paper's tables used",
}


class Head(torch.nn.Module):
    """The trained layer on top of CLS: tanh(W x + b), (b, d) -> (b, d)."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.dense = torch.nn.Linear(weight.shape[1], weight.shape[0])
        self.dense.weight = torch.nn.Parameter(weight.detach().clone())
        self.dense.bias = torch.nn.Parameter(bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.dense(x))


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """(b, s, d) and (b, s) of 0/1 -> (b, d): the mean over positions where the mask is 1; zeros where there is none."""
    weights = mask.unsqueeze(-1).to(x.dtype)  # (b, s, 1)
    return (x * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)


def needs_all_layers(poolings: Sequence[str]) -> bool:
    """Whether any of these looks below the last block."""
    return any(name in ("avg_top2", "avg_first_last", "avg_static_last") for name in poolings)


def pool(name: str, layers: Sequence[Tensor], mask: Tensor, head: Head | None) -> Tensor:
    """One sentence vector per row.

    Args:
        name: a key of `POOLINGS`.
        layers: h[0]..h[L], each (b, s, d); poolings of the last block need only a list that ends in h[L].
        mask: (b, s), 1 on tokens, special ones included, and 0 on padding.
        head: for `cls`; the caller has made sure that it is there.

    Returns:
        (b, d), in the dtype of the layers, not normalised.
    """
    last = layers[-1]
    match name:
        case "cls":
            if head is None:
                raise ValueError("the pooling cls needs a head")
            return head(last[:, 0])  # type: ignore[no-any-return]
        case "cls_before_pooler":
            return last[:, 0]
        case "avg":
            return masked_mean(last, mask)
        case "avg_top2":
            return masked_mean((layers[-2] + last) / 2, mask)
        case "avg_first_last":
            return masked_mean((layers[1] + last) / 2, mask)
        case "avg_static_last":
            return masked_mean((layers[0] + last) / 2, mask)
    raise ValueError(f"no pooling is named {name!r}")
