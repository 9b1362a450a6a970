"""Selection: Spearman's correlation on a development set, from the dev pairs alone, tokenised once."""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from baselines.simcse.model import SentenceModel
from harness.data.records import Pairs
from harness.encoders.batching import pad, plan_batches
from harness.tasks.metrics import cosine, spearman

_CPU_BUDGET, _GPU_BUDGET = 1024, 32768  # padded tokens per batch
_SIMILAR = 4.0  # gold above which the paper takes a pair as a positive for alignment


@dataclass(frozen=True, slots=True, kw_only=True)
class DevScore:
    """Spearman -1..1; alignment and uniformity as in the paper's Figure 2, of unit vectors, lower is better."""

    spearman: float
    alignment: float
    uniformity: float


class DevSet:
    """Scored sentence pairs; each distinct sentence is tokenised and encoded once, and never cut.

    Attributes:
        name: for the card.
        sha256: of the pairs and scores.
    """

    def __init__(self, name: str, pairs: Pairs, tokenizer: Any, max_positions: int) -> None:
        self.name = name
        self.sha256 = hashlib.sha256(repr((pairs.left, pairs.right, pairs.gold)).encode()).hexdigest()
        place = {text: i for i, text in enumerate(dict.fromkeys([*pairs.left, *pairs.right]))}
        self._left = np.array([place[text] for text in pairs.left])
        self._right = np.array([place[text] for text in pairs.right])
        self._gold = np.array(pairs.gold)
        self._ids = tokenizer(list(place), truncation=True, max_length=max_positions)["input_ids"]
        self._pad_id = tokenizer.pad_token_id

    def score(self, model: SentenceModel) -> DevScore:
        """Evaluate in float32 with the evaluation pooler; the model is left in training mode and draws nothing."""
        x = self._encode(model)
        unit = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
        left, right = unit[self._left], unit[self._right]
        similar = self._gold > _SIMILAR
        return DevScore(
            spearman=spearman(self._gold, cosine(x[self._left], x[self._right])),
            alignment=float(((left - right)[similar] ** 2).sum(axis=1).mean()) if similar.any() else float("nan"),
            uniformity=_uniformity(unit),
        )

    @torch.inference_mode()
    def _encode(self, model: SentenceModel) -> NDArray[np.float32]:
        device = next(model.parameters()).device
        out = np.empty((len(self._ids), model.width), dtype=np.float32)
        model.eval()
        for batch in plan_batches([len(t) for t in self._ids], _CPU_BUDGET if device.type == "cpu" else _GPU_BUDGET):
            ids, mask = pad([self._ids[row] for row in batch.rows], self._pad_id)
            out[batch.rows] = model(ids.to(device), mask.to(device)).float().cpu().numpy()
        model.train()
        return out


def _uniformity(unit: NDArray[np.float32]) -> float:
    """Log of the mean over pairs i < j of exp(-2 |x_i - x_j|^2), in blocks of rows.

    Source: Wang & Isola 2020, https://arxiv.org/abs/2005.10242
    """
    n, total = len(unit), 0.0
    for start in range(0, n, 1024):
        products = unit[start : start + 1024] @ unit.T
        total += float(np.exp(4.0 * products - 4.0).sum(dtype=np.float64))
    return float(np.log((total - n) / (n * (n - 1)))) if n > 1 else float("nan")
