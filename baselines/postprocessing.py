"""BERT-whitening and BERT-flow: a map on a frozen encoder, fitted on a text or on the evaluated sentences themselves.

Sources: Su et al. 2021, https://arxiv.org/abs/2103.15316; Li et al. 2020, https://aclanthology.org/2020.emnlp-main.733/
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Any, Protocol, cast

from baselines.backbones import find_backbone
from baselines.corpora import NAMED, find_corpus, sentences
from baselines.fits import FlowFit, Text, text_of, whitening_fit
from baselines.flow import FlowSettings
from baselines.flow_model import FlowShape
from harness.encoders.cached import CachedEncoder, remembered
from harness.encoders.catalog import EncoderEntry
from harness.encoders.context import Context
from harness.encoders.pooling import POOLINGS
from harness.encoders.protocol import Embeddings, Encoder, EncoderCard, Transductive, embed
from harness.encoders.transformer import build_transformer
from harness.errors import UsageError
from harness.registry import Parameter, Spec

_TARGET = "target"


class Map(Protocol):
    """A fitted map of vectors, (n, d) -> (n, k) float32."""

    def transform(self, x: Embeddings, /) -> Embeddings: ...


FitOrLoad = Callable[[CachedEncoder, Text, EncoderCard, Context], Map]


class Mapped:
    """A base encoder with a map on top, which is fitted or loaded at the first sentence: finished work needs none."""

    def __init__(self, base: Encoder, fitted: Callable[[], Map], card: EncoderCard) -> None:
        self.card = card
        self._base, self._fitted = base, cache(fitted)

    def encode(self, sentences: Sequence[str], /) -> Embeddings:
        """(n, k) float32, not normalised; raises what the fit raises."""
        return self._fitted().transform(embed(self._base, sentences))


class FittedPerTask:
    """A base encoder with a map that is fitted on each task's own sentences, all splits together."""

    def __init__(self, base: Encoder, fit: Callable[[Text], Map], card: EncoderCard) -> None:
        self.card = card
        self._base, self._fit = base, fit

    def fit_target(self, task: str, sentences: Sequence[str], /) -> Encoder:
        """Fit on these sentences, duplicates kept."""
        return Mapped(self._base, partial(self._fit, text_of(sentences)), self.card)


def _build_whitening(spec: Spec, context: Context) -> Encoder | Transductive:
    base, dim = _base(spec, context), int(spec.parameters["dim"] or 0)
    if not 0 <= dim <= base.card.dim:
        raise UsageError(f"{spec}: dim={dim}, expected 1 to the backbone's {base.card.dim}, or 0 for all of them")
    card = replace(_card(spec, base), dim=dim or base.card.dim)
    return _fitted(base, whitening_fit, card, context)


def _build_flow(spec: Spec, context: Context) -> Encoder | Transductive:
    base, chosen = _base(spec, context), cast(dict[str, Any], spec.parameters)
    if chosen["batch"] < 2 or chosen["batch"] % 2:
        raise UsageError(
            f"{spec}: batch={chosen['batch']}, expected an even number: a step takes as many of both sides"
        )
    shape = FlowShape(**{name: chosen[name] for name in ("levels", "depth", "width", "coupling", "permutation")})
    shape.require_fit(base.card.dim)
    same = {name: chosen[name] for name in ("ddi", "batch", "epochs", "seed")}
    # The published code sums the losses of two sides. The sides of our texts are their halves, since the loss does not
    # ask what the pairs are.
    fit = FlowFit(FlowSettings(shape=shape, pairs=True, **same), dropout=chosen["dropout"])
    return _fitted(base, fit, replace(_card(spec, base), seed=chosen["seed"]), context)


def _fitted(base: CachedEncoder, fit: FitOrLoad, card: EncoderCard, context: Context) -> Encoder | Transductive:
    name = str(card.parameters["fit"])
    if name == _TARGET:
        card = replace(card, fitted_on=_TARGET)
        return FittedPerTask(base, lambda text: fit(base, text, card, context), card)
    corpus = find_corpus(name, context)
    card = replace(card, fitted_on=corpus.identity)
    text = Text(corpus.sha256, partial(sentences, corpus))
    return Mapped(base, lambda: fit(base, text, card, context), card)


def _card(spec: Spec, base: CachedEncoder) -> EncoderCard:
    return replace(base.card, name=str(spec), method=spec.name, parameters=spec.parameters)


def _base(spec: Spec, context: Context) -> CachedEncoder:
    """The frozen encoder with its vectors kept on disk, where every fit over it finds them."""
    name = str(spec.parameters["backbone"])
    pooling, cut = str(spec.parameters["pooling"]), int(spec.parameters["max_tokens"] or 0)
    encoder = build_transformer(
        f"hf:{name}[pooling={pooling},max_tokens={cut}]",
        "hf",
        find_backbone(name, offline=context.offline),
        context,
        pooling=pooling,
        parameters={"backbone": name, "pooling": pooling, "max_tokens": cut},
    )
    return cast(CachedEncoder, remembered(encoder, context))


_COMMON = (
    Parameter(name="backbone", default="bert-base-uncased", help="tiny (bundled), a hub name, or a folder"),
    Parameter(
        name="pooling",
        default="avg_first_last",
        choices=tuple(POOLINGS),
        help="of the frozen encoder; both methods' code averages block 1 and the last one",
    ),
    Parameter(name="max_tokens", default=64, help="cut sentences there; 0: the checkpoint's own limit"),
    Parameter(name="fit", default="nli", help=f"{_TARGET} (each task's own sentences), {', '.join(NAMED)}, or a file"),
)

BERT_WHITENING = EncoderEntry(
    name="bert-whitening",
    summary="sentence vectors of a plain encoder, made isotropic by a linear map",
    parameters=(
        *_COMMON,
        Parameter(name="dim", default=0, help="axes to keep, 256 in the paper's best rows; 0: all"),
    ),
    build=_build_whitening,
)

BERT_FLOW = EncoderEntry(
    name="bert-flow",
    summary="sentence vectors of a plain encoder, made Gaussian by an invertible network",
    parameters=(
        *_COMMON,
        Parameter(name="ddi", default=False, help="data-dependent initialisation; the published code never runs it"),
        Parameter(name="dropout", default=True, help="of the frozen encoder while fitting, on in the published code"),
        Parameter(name="epochs", default=1.0, help="passes over the sentences"),
        Parameter(name="batch", default=64, help="sentences per step"),
        Parameter(name="seed", default=1234, help="of weights, order and dropout"),
        Parameter(name="levels", default=3, help="after each but the last, half of the channels leave"),
        Parameter(name="depth", default=3, help="steps per level"),
        Parameter(name="width", default=32, help="hidden units of a coupling"),
        Parameter(name="coupling", default="additive", choices=("additive", "affine"), help="of the two halves"),
        Parameter(name="permutation", default="reversal", choices=("reversal", "learned"), help="of the channels"),
    ),
    build=_build_flow,
)
