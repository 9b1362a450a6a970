"""One forward pass of a model, and the poolings of its states.

Letters: b sentences, s tokens, d dimensions; h[0] is the embedding layer's output, h[k] that of block k of L.

Sources: SimCSE (49fa580) simcse/models.py and evaluation.py, where averages include the special tokens and leave out
padding; sentence-transformers 6.2 Pooling for the maximum, the last token and the weighted means.
"""

import inspect
from collections.abc import Hashable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from harness.encoders.pooling import needs_all_layers

BERTS = ("bert", "roberta", "xlm-roberta", "camembert", "electra")  # families whose blocks are BERT's


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


def forward_pooled(  # noqa: PLR0913  the one place where a model is run
    model: Any,
    ids: Tensor,
    mask: Tensor,
    poolings: Sequence[str],
    head: Head | None = None,
    *,
    skipped: int = 0,
    cls: int = 0,
) -> dict[str, Tensor]:
    """Run a model on token ids and pool its states: one forward pass for all poolings.

    Args:
        model: gives `last_hidden_state`, and `hidden_states` where poolings need every layer.
        ids: (b, s).
        mask: (b, s), 1 on tokens and 0 on padding.
        poolings: see `pool`.
        head: for the pooling `cls`.
        skipped: so many first tokens of each sentence, those of a prompt, are not pooled.
        cls: see `pool`.

    Returns:
        By pooling, (b, d) in the model's dtype.
    """
    every = needs_all_layers(poolings)
    output = model(input_ids=ids, output_hidden_states=every, **attention(model, mask))
    layers = output.hidden_states if every else (output.last_hidden_state,)
    if skipped:
        mask = mask.clone()
        mask[:, :skipped] = 0
    return {name: pool(name, layers, mask, head, cls=cls) for name in poolings}


def attention(model: Any, mask: Tensor) -> dict[str, Tensor]:
    """The argument that tells a model which of (b, s) positions are tokens; none for a model that is not told."""
    if not _takes_mask(model.__class__):
        return {}
    # Of a plain mask the library asks whether it is all ones, for which it would have to wait for the GPU.
    if mask.is_cuda and model.config.model_type in BERTS:
        mask = mask[:, None, None, :].bool()  # (b, 1, 1, s)
    return {"attention_mask": mask}


@cache
def _takes_mask(kind: Hashable) -> bool:
    """Whether the model is told which tokens there are; FNet, which mixes all of them, is not."""
    taken = inspect.signature(kind.forward).parameters  # type: ignore[attr-defined]
    return "attention_mask" in taken or any(one.kind is one.VAR_KEYWORD for one in taken.values())


def pool(name: str, layers: Sequence[Tensor], mask: Tensor, head: Head | None, *, cls: int = 0) -> Tensor:
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
    parts = [_pool(part, layers, mask, head, cls) for part in name.split("+")]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)


def _pool(name: str, layers: Sequence[Tensor], mask: Tensor, head: Head | None, cls: int) -> Tensor:
    last = layers[-1]
    match name:
        case "cls":
            if head is None:
                raise ValueError("the pooling cls needs a head")
            return head(last[:, cls])  # type: ignore[no-any-return]
        case "cls_before_pooler":
            return last[:, cls]
        case "avg_top2":
            return masked_mean((layers[-2] + last) / 2, mask)
        case "avg_first_last":
            return masked_mean((layers[1] + last) / 2, mask)
        case "avg_static_last":
            return masked_mean((layers[0] + last) / 2, mask)
    return _pool_last_block(name, last, mask)


def _pool_last_block(name: str, x: Tensor, mask: Tensor) -> Tensor:
    weights = mask.unsqueeze(-1).to(x.dtype)  # (b, s, 1)
    match name:
        case "avg":
            return masked_mean(x, mask)
        case "max":
            return x.masked_fill(weights == 0, float("-inf")).amax(dim=1)
        case "last_token":
            places = torch.arange(x.shape[1], device=x.device)
            last = (mask * places).argmax(dim=1)  # (b,)
            return x[torch.arange(len(x), device=x.device), last]
        case "weighted_mean":
            places = torch.arange(1, x.shape[1] + 1, device=x.device, dtype=x.dtype)[:, None]  # (s, 1)
            return (x * weights * places).sum(dim=1) / (weights * places).sum(dim=1).clamp(min=1)
        case "sqrt_mean":
            return (x * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1).sqrt()
    raise ValueError(f"no pooling is named {name!r}")
