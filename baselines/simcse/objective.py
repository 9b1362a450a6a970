"""The contrastive objective of SimCSE.

Letters: b sentences (the rows of a batch), c views of each (columns of the data; 2 copies for one-column data),
d dimensions.

Source: SimCSE paper, equations 1, 4 and 5; SimCSE (49fa580) simcse/models.py `cl_forward`.
"""

import torch
from torch import Tensor
from torch.nn import functional

SIMILARITIES = ("cosine", "dot")
_EPSILON = 1e-8  # that of torch.nn.CosineSimilarity


def similarity_logits(
    z: Tensor, *, temperature: float, similarity: str = "cosine", hard_negative_weight: float = 0.0
) -> Tensor:
    """What the cross-entropy is taken of: row i against every second view, then against every hard negative.

    Args:
        z: (b, c, d), c >= 2. View 0 is the sentence, view 1 its positive, views 2.. its hard negatives.
        temperature: divides the similarity, > 0.
        similarity: "cosine" or "dot".
        hard_negative_weight: added, after the division, where a row meets its own hard negative; the paper's alpha is
            exp of it, so 0 is alpha = 1.

    Returns:
        (b, b * (c - 1)) float32; the positives are on the diagonal of the first (b, b) block.
    """
    z = z.float()
    if similarity == "cosine":
        z = functional.normalize(z, dim=-1, eps=_EPSILON)
    anchors, others = z[:, 0], z[:, 1:].transpose(0, 1)  # (b, d), (c - 1, b, d)
    blocks = anchors @ others.transpose(1, 2) / temperature  # (c - 1, b, b)
    if hard_negative_weight and len(blocks) > 1:
        own = torch.eye(len(anchors), dtype=blocks.dtype, device=blocks.device)
        blocks = torch.cat([blocks[:1], blocks[1:] + hard_negative_weight * own])
    return blocks.transpose(0, 1).flatten(1)


def contrastive_loss(
    z: Tensor, *, temperature: float, similarity: str = "cosine", hard_negative_weight: float = 0.0
) -> Tensor:
    """Mean over rows of -log softmax at the positive: one-directional, rows are the first views. See above for Args.

    In float32 whatever autocast says. Equal similarities give log(b * (c - 1)); a single row of two views gives 0.
    """
    with torch.autocast(z.device.type, enabled=False):
        logits = similarity_logits(
            z, temperature=temperature, similarity=similarity, hard_negative_weight=hard_negative_weight
        )
        return functional.cross_entropy(logits, torch.arange(len(z), device=z.device))
