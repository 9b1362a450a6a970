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
from harness.tasks.probes import MODES, Examples, ProbeScore, ProbeSettings, probe_device
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
    """One classification benchmark.

    Attributes:
        name: e.g. `MR`.
        title: for people.
        scheme: what chooses the regulariser and what is tested. `nested folds`: inner folds of one set choose, outer
            folds of it are tested. `folds, test`: folds of the training rows choose. `train, dev, test`: dev rows do.
        load: reads the parts that the scheme needs: `all`; `train`, `test`; or `train`, `dev`, `test`.
        mode: `test` and `fasttest` report test accuracy, `dev` the dev accuracy that chose the regulariser.
        classifier: `senteval` (the reference's PyTorch classifier) or `senteval-sklearn` (its logistic regression).
        bundled: whether the data come with the package.
        folds: of the outer and of the inner split; None: as many as the mode has.
    """

    name: str
    title: str
    scheme: Scheme
    load: Callable[[Path], ClassificationData]
    mode: str = "test"
    classifier: Protocol = "senteval"
    bundled: bool = False
    folds: int | None = None

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
        examples = [
            Examples(f"{self.name}, {name}", features(part, encoder), np.asarray(part.labels, dtype=np.int64))
            for name, part in parts.items()
        ]
        score = self._fit(examples, context)
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

    def _fit(self, examples: Sequence[Examples], context: Context) -> ProbeScore:
        # Here and not above, so that tasks can be listed and their data checked without torch.
        from harness.tasks.schemes import kfold_then_test, nested_kfold, train_dev_test

        def tell(done: int, total: int, epoch: int) -> None:
            context.progress(f"{self.name} probes", done, total)

        device = probe_device(context.device)
        match self.scheme:
            case "nested folds":
                return nested_kfold(examples[0], self._settings, device=device, progress=tell)
            case "folds, test":
                return kfold_then_test(examples[0], examples[1], self._settings, device=device, progress=tell)
            case "train, dev, test":
                train, dev, test = examples
                return train_dev_test((train, dev, test), self._settings, device=device, progress=tell)


def _share(percent: float) -> float:
    """The reference rounds percents to two places; four places of a share are the same number."""
    return round(percent / 100, 4)


def senteval_order(part: Sentences) -> Sentences:
    """The order in which the reference sees the rows: by words of the first sentence, of the second, and label.

    The sort is stable, and it matters: folds and shuffles are drawn by position. Sentences come out as the encoder
    receives them.
    """
    first = [as_senteval_text(text) for text in part.first]
    second = None if part.second is None else [as_senteval_text(text) for text in part.second]
    lengths = [[len(text.split()) for text in side] for side in ([first] if second is None else [first, second])]
    order = sorted(range(len(first)), key=lambda i: (*(side[i] for side in lengths), part.labels[i]))
    return Sentences(
        [first[i] for i in order],
        None if second is None else [second[i] for i in order],
        [part.labels[i] for i in order],
    )


def features(part: Sentences, encoder: Encoder) -> Embeddings:
    """(n, d) vectors of single sentences; for pairs (n, 2d): |u - v| beside u * v."""
    u = embed(encoder, part.first)
    return u if part.second is None else pair_features(u, embed(encoder, part.second))


def pair_features(u: Embeddings, v: Embeddings) -> Embeddings:
    """(n, d) and (n, d) -> (n, 2d): |u - v| beside u * v. Source: SentEval senteval/mrpc.py."""
    return np.hstack([np.abs(u - v), u * v])
