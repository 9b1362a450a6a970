"""The poolings by name: how token vectors become one sentence vector. `pool` in `forward` computes them.

Letters: h[0] is the embedding layer's output, h[k] that of block k of L. Names are those of SimCSE's evaluation script.
"""

from collections.abc import Sequence

from harness.errors import UsageError

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
_EVERY_LAYER = ("avg_top2", "avg_first_last", "avg_static_last")


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
    return any(part in _EVERY_LAYER for name in poolings for part in name.split("+"))


def needs_head(pooling: str) -> bool:
    """Whether the pooling applies the trained head."""
    return "cls" in pooling.split("+")
