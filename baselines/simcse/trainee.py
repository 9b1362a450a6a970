"""All that learns in a run, and the loss of one batch."""

import copy

import torch
from torch import Tensor, nn

from baselines.simcse.batches import Batch
from baselines.simcse.mlm import Masked, masked_loss
from baselines.simcse.model import SentenceModel
from baselines.simcse.settings import TrainSettings


class Trainee(nn.Module):
    """One or two towers, and what else has weights.

    Attributes:
        first: the tower that is kept.
        second: of the views after the first one, where there are two towers.
        vocabulary: output layer of the auxiliary masked language model, where there is one.
    """

    def __init__(self, model: SentenceModel, settings: TrainSettings, vocabulary: nn.Module | None = None) -> None:
        super().__init__()
        self.first = model
        self.second = copy.deepcopy(model) if settings.towers == 2 else None
        self.vocabulary = vocabulary
        self._settings = settings

    def forward(self, batch: Batch, seed: int) -> Tensor:
        """Embeddings of all views of a batch, (b, c, d); `seed` is that of the dropout masks.

        One pass over all rows, example by example; with a fixed mask or two towers one pass per view, and a fixed mask
        starts the generator anew for each.
        """
        b, c, s = batch.ids.shape
        torch.manual_seed(seed)
        with torch.autocast(batch.ids.device.type, torch.bfloat16, enabled=self._settings.dtype == "bfloat16"):
            if self.second is None and not self._settings.fixed_mask:
                rows = batch.ids.view(b * c, s), batch.mask.view(b * c, s), batch.lengths.view(b * c)
                return self._embed(self.first, *rows).view(b, c, -1)
            views = []
            for view in range(c):
                if self._settings.fixed_mask:
                    torch.manual_seed(seed)
                tower = self.first if view == 0 or self.second is None else self.second
                views.append(self._embed(tower, batch.ids[:, view], batch.mask[:, view], batch.lengths[:, view]))
            return torch.stack(views, dim=1)

    def masked_loss(self, masked: Masked) -> Tensor:
        """The auxiliary loss: a second pass over the corrupted rows, with dropout masks of its own."""
        assert self.vocabulary is not None
        with torch.autocast(masked.ids.device.type, torch.bfloat16, enabled=self._settings.dtype == "bfloat16"):
            return masked_loss(self.first.backbone, self.vocabulary, masked)

    def _embed(self, tower: SentenceModel, ids: Tensor, mask: Tensor, lengths: Tensor) -> Tensor:
        """(n, s) -> (n, d), in `length_groups` passes over rows of similar length."""
        if self._settings.length_groups == 1:
            return tower(ids, mask)  # type: ignore[no-any-return]
        order = lengths.argsort(stable=True)
        parts = []
        for part in order.chunk(self._settings.length_groups):
            longest = int(lengths[part[-1]])
            place = part.to(ids.device)
            parts.append(tower(ids[place, :longest], mask[place, :longest]))
        return torch.cat(parts)[order.argsort().to(ids.device)]
