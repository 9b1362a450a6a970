"""BERT-whitening and BERT-flow: a map on a frozen encoder, fitted on a text or on the evaluated sentences themselves.

Sources: Su et al. 2021, https://arxiv.org/abs/2103.15316; Li et al. 2020, https://aclanthology.org/2020.emnlp-main.733/
"""

from collections.abc import Callable, Sequence
from functools import cache, partial

from baselines.transformers import backbone_parameter, max_tokens_parameter
from harness.data.named_texts import NAMED
from harness.encoders.context import Context
from harness.encoders.entry import Built, Cost, EncoderEntry, Work, parameter, parameters
from harness.encoders.pooling import POOLINGS
from harness.encoders.protocol import Embeddings, Encoder, Releasable, embed
from harness.names import EncoderCard, Spec

Map = Callable[[Embeddings], Embeddings]  # a fitted map of vectors, (n, d) -> (n, k) float32

TARGET = "target"


class Mapped:
    """A base encoder with a map on top, which is fitted or loaded at the first sentence: finished work needs none."""

    is_cheap = True  # its base is cheap, or its base's vectors are kept on disk

    def __init__(self, base: Encoder, fitted: Callable[[], Map], card: EncoderCard) -> None:
        self.card = card
        self.base, self._fitted = base, cache(fitted)

    def encode(self, sentences: Sequence[str], /) -> Embeddings:
        """(n, k) float32, not normalised; raises what the fit raises."""
        return self._fitted()(embed(self.base, sentences))

    def release(self) -> None:
        """Drop the weights of the base encoder."""
        if isinstance(self.base, Releasable):
            self.base.release()


class FittedPerTask:
    """A base encoder with a map that is fitted on each task's own sentences, all splits together."""

    def __init__(self, base: Encoder, fit: Callable[[Sequence[str]], Map], card: EncoderCard) -> None:
        self.card = card
        self.base, self._fit = base, fit

    def fit_target(self, sentences: Sequence[str], /) -> Encoder:
        """Fit on these sentences, duplicates kept."""
        return Mapped(self.base, partial(self._fit, sentences), self.card)


@parameters
class FitParameters:
    """What is frozen, and what is fitted on."""

    backbone: str = backbone_parameter()
    pooling: str = parameter(
        "avg_first_last",
        "pooling of the frozen encoder; the code of both methods averages block 1 and the last one",
        choices=tuple(POOLINGS),
    )
    max_tokens: int | None = max_tokens_parameter(64)
    fit: str = parameter("nli", f"a text: {TARGET} (each task's own sentences), {', '.join(NAMED)}, or a file")
    sentences: int | None = parameter(
        None, "fit on the first so many sentences of the text; not set: on all of them", ge=2
    )


@parameters
class WhiteningParameters(FitParameters):
    dim: int | None = parameter(None, "axes to keep, 256 in the paper's best rows; not set: all of them", ge=1)


@parameters
class FlowParameters(FitParameters):
    ddi: bool = parameter(False, "data-dependent initialisation; the published code never runs it")
    dropout: bool = parameter(True, "dropout of the frozen encoder while fitting, on in the published code")
    epochs: float = parameter(1.0, "passes over the sentences", gt=0)
    batch: int = parameter(64, "sentences per step", ge=2)
    seed: int = parameter(1234, "seed of weights, order and dropout")
    levels: int = parameter(3, "after each but the last, half of the channels leave")
    depth: int = parameter(3, "steps per level")
    width: int = parameter(32, "hidden units of a coupling")
    coupling: str = parameter("additive", "how one half moves the other", choices=("additive", "affine"))
    permutation: str = parameter("reversal", "how channels are mixed", choices=("reversal", "learned"))


def _build(spec: Spec, chosen: FitParameters, context: Context) -> Built:
    from baselines.fits import build_fitted  # with torch, which names and parameters do not need

    return build_fitted(spec, chosen, context)


def _work(spec: Spec, chosen: FitParameters) -> Work | None:
    """The fit that the encoder needs; none where it is fitted on each task's sentences while that is scored."""
    if chosen.fit == TARGET:
        return None

    def cost(context: Context) -> Cost:
        from baselines.fits import cost_of_fit

        return cost_of_fit(spec, chosen, context)

    read = (chosen.backbone, chosen.pooling, chosen.max_tokens, chosen.fit, chosen.sentences)
    own_vectors = isinstance(chosen, FlowParameters) and chosen.dropout
    return Work("fit", cost, "" if own_vectors else "|".join(map(str, read)))


BERT_WHITENING = EncoderEntry(
    name="bert-whitening",
    summary="sentence vectors of a plain encoder, made isotropic by a linear map",
    parameters=WhiteningParameters,
    build=_build,
    work=_work,
)
BERT_FLOW = EncoderEntry(
    name="bert-flow",
    summary="sentence vectors of a plain encoder, made Gaussian by an invertible network",
    parameters=FlowParameters,
    build=_build,
    work=_work,
)
