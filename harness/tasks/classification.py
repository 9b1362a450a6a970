"""SentEval's classification tasks: a linear probe on frozen sentence vectors.

Source: SentEval (5d6dc11) senteval/{binary,sst,trec,mrpc,sick}.py and evaluation.py of SimCSE (49fa580). The
classifiers themselves are in `harness.tasks.schemes`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from harness.data.classification import ClassificationData
from harness.data.classification import Examples as Sentences
from harness.encoders.context import Context
from harness.encoders.protocol import Embeddings, Encoder, embed
from harness.errors import DataError
from harness.results.items import RowItems, text_id
from harness.tasks.outcome import Outcome, Prepared
from harness.tasks.probes import MODES, Examples, ProbeSettings, probe_device
from harness.tasks.similarity import as_senteval_text

Protocol = Literal["senteval", "senteval-sklearn"]
Scheme = Literal["nested folds", "folds, test", "train, dev, test"]
_PARTS: Mapping[Scheme, tuple[str, ...]] = {
    "nested folds": ("all",),
    "folds, test": ("train", "test"),
    "train, dev, test": ("train", "dev", "test"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassificationTask:
    """One classification benchmark, a linear probe on frozen vectors."""

    name: str  # e.g. `MR`
    title: str  # for people
    # What chooses the regulariser and what is tested. `nested folds`: inner folds of one set choose, outer folds of it
    # are tested. `folds, test`: folds of the training rows choose. `train, dev, test`: dev rows do.
    scheme: Scheme
    load: Callable[[Path], ClassificationData]  # reads `all`; `train`, `test`; or `train`, `dev`, `test`, by the scheme
    mode: str = "test"  # `test` and `fasttest` report test accuracy, `dev` the dev accuracy that chose
    classifier: Protocol = "senteval"  # the reference's PyTorch classifier; `senteval-sklearn`: its logistic regression
    bundled: bool = False  # whether the data come with the package
    folds: int | None = None  # of the outer and of the inner split; None: as many as the mode has

    @property
    def protocol(self) -> str:
        folds = "" if self.folds is None else f"folds={self.folds},"
        return f"{self.classifier}[{folds}mode={self.mode}]"

    @property
    def metric(self) -> str:
        return "accuracy/dev" if self.mode == "dev" else "accuracy/test"

    @property
    def seed(self) -> int:
        return self._settings.seed

    @property
    def _settings(self) -> ProbeSettings:
        mode = MODES[self.mode]
        return replace(mode, protocol=self.classifier, kfold=self.folds or mode.kfold)

    def prepare(self, root: Path) -> Prepared:
        """Read the data; see `Prepared`."""
        data = self.load(root)
        expected = _PARTS[self.scheme]
        if tuple(data.parts) != expected:
            raise DataError(
                f"{self.name}: its data have the parts {', '.join(data.parts)}, expected {', '.join(expected)} for the "
                f"scheme {self.scheme!r}; mend the row of the task"
            )
        parts = {name: senteval_order(part) for name, part in data.parts.items()}
        texts = [text for part in parts.values() for text in [*part.first, *(part.second or [])]]
        return Prepared(
            files=data.files,
            other_copies=data.other_copies,
            sentences=texts,
            target=texts,
            score=partial(self._score, parts),
        )

    def _score(self, parts: dict[str, Sentences], encoder: Encoder, context: Context) -> Outcome:
        # Here and not above, so that tasks can be listed and their data checked without torch.
        from harness.tasks.schemes import SCHEMES

        def tell(done: int, total: int, epoch: int) -> None:
            context.progress(f"{self.name} probes", done, total)

        examples = [
            Examples(f"{self.name}, {name}", features(part, encoder), np.asarray(part.labels, dtype=np.int64))
            for name, part in parts.items()
        ]
        device = probe_device(context.device)
        score = SCHEMES[self.scheme](*examples, self._settings, device=device, progress=tell)
        tested = list(parts.values())[-1]
        scores = {"accuracy/dev": _share(score.dev), "accuracy/test": _share(score.test)}
        if score.f1 is not None:
            scores["f1/test"] = _share(score.f1)
        counts = {f"rows/{name}": len(part.labels) for name, part in parts.items()}
        empty = sum(text == "" for part in parts.values() for text in [*part.first, *(part.second or [])])
        return Outcome(
            scores=scores,
            counts={**counts, "classes": len(set(tested.labels)), "empty sentences": empty},
            items=RowItems(
                first=[text_id(text) for text in tested.first],
                second=None if tested.second is None else [text_id(text) for text in tested.second],
                gold=np.array(tested.labels, dtype=np.int64),
                predicted=score.predictions,
            ),
        )


def _share(percent: float) -> float:
    """The reference rounds percents to two places; four places of a share are the same number."""
    return round(percent / 100, 4)


def row_order(sides: Sequence[Sequence[str]], gold: Sequence[float]) -> list[int]:
    """The order in which the reference sees the rows: by words of the first sentence, of the second, and gold value.

    The sort is stable, and it matters: folds and shuffles are drawn by position.
    """
    lengths = [[len(text.split()) for text in side] for side in sides]
    return sorted(range(len(gold)), key=lambda i: (*(side[i] for side in lengths), gold[i]))


def senteval_order(part: Sentences) -> Sentences:
    """The rows in `row_order`, with their sentences as the encoder receives them."""
    sides = [side for side in (part.first, part.second) if side is not None]
    order = row_order(sides, part.labels)
    first, *second = [[as_senteval_text(side[i]) for i in order] for side in sides]
    return Sentences(first, second[0] if second else None, [part.labels[i] for i in order])


def features(part: Sentences, encoder: Encoder) -> Embeddings:
    """(n, d) vectors of single sentences; for pairs (n, 2d): |u - v| beside u * v."""
    u = embed(encoder, part.first)
    return u if part.second is None else pair_features(u, embed(encoder, part.second))


def pair_features(u: Embeddings, v: Embeddings) -> Embeddings:
    """(n, d) and (n, d) -> (n, 2d): |u - v| beside u * v. Source: SentEval senteval/mrpc.py."""
    return np.hstack([np.abs(u - v), u * v])
