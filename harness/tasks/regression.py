"""Relatedness with a trained regressor: what upstream SentEval calls STSBenchmark and SICKRelatedness.

Source: SentEval (5d6dc11) senteval/sick.py; SimCSE's copy (49fa580) names these tasks `-finetune` and stops on the dev
Spearman instead of Pearson. The regressor itself is in `harness.tasks.probes.relatedness`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from harness.data.records import Pairs, SimilarityData
from harness.encoders.context import Context
from harness.encoders.protocol import Encoder, embed
from harness.results.items import RowItems, text_id
from harness.tasks.classification import pair_features
from harness.tasks.outcome import Outcome, Prepared
from harness.tasks.similarity import as_senteval_text


@dataclass(frozen=True, slots=True, kw_only=True)
class RegressionTask:
    """One relatedness benchmark with train, dev and test pairs; the main score is the test Spearman.

    Attributes:
        name: e.g. `STSBenchmark-finetune`.
        title: for people.
        load: reads the three splits as three subsets, in that order.
        stop_on: the dev correlation that stops training: Spearman's in SimCSE's copy of SentEval, Pearson's upstream.
        seed: of the regressor.
    """

    name: str
    title: str
    load: Callable[[Path], SimilarityData]
    bundled: bool = False
    stop_on: Literal["spearman", "pearson"] = "spearman"
    metric: str = "spearman/all/test"
    seed: int = 1111

    @property
    def protocol(self) -> str:
        return "senteval-regressor" + ("" if self.stop_on == "spearman" else f"[stop_on={self.stop_on}]")

    def prepare(self, root: Path) -> Prepared:
        """Read the data; see `Prepared`."""
        data = self.load(root)
        splits = tuple(_senteval_order(subset) for subset in data.subsets)
        texts = [text for split in splits for text in [*split.left, *split.right]]
        return Prepared(
            files=data.files,
            other_copies=data.other_copies,
            sentences=texts,
            target=texts,
            score=partial(self._score, splits),
        )

    def _score(self, splits: tuple[Pairs, ...], encoder: Encoder, context: Context) -> Outcome:
        # Here and not above, so that tasks can be listed and their data checked without torch.
        from harness.tasks.cores import probe_device
        from harness.tasks.probes.relatedness import MOST_PASSES, Scored, relatedness

        def scored(split: Pairs) -> Scored:
            x = pair_features(embed(encoder, split.left), embed(encoder, split.right))
            return Scored(f"{self.name}, {split.name}", x, np.asarray(split.gold))

        def tell(done: int, total: int, epoch: int) -> None:
            context.progress(f"{self.name} regressor", epoch, MOST_PASSES)

        train, dev, test = splits
        found = relatedness(
            (scored(train), scored(dev), scored(test)),
            stop_on=self.stop_on,
            seed=self.seed,
            device=probe_device(context.device),
            progress=tell,
        )
        return Outcome(
            scores={
                "spearman/all/test": found.spearman,
                "pearson/all/test": found.pearson,
                "mse/all/test": found.mse,
                f"{self.stop_on}/all/dev": found.dev,
            },
            counts={f"pairs/{split.name}": len(split.gold) for split in splits},
            items=RowItems(
                first=[text_id(text) for text in test.left],
                second=[text_id(text) for text in test.right],
                gold=np.array(test.gold),
                predicted=found.predictions,
            ),
        )


def _senteval_order(split: Pairs) -> Pairs:
    """Sorted by words left, words right and gold score, as upstream does; sentences as the encoder receives them."""
    left, right = ([as_senteval_text(text) for text in side] for side in (split.left, split.right))
    rows = sorted(zip(left, right, split.gold, strict=True), key=lambda r: (len(r[0].split()), len(r[1].split()), r[2]))
    return Pairs(split.name, [r[0] for r in rows], [r[1] for r in rows], [r[2] for r in rows])
