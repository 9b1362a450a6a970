"""BERT-whitening and BERT-flow: a map on a frozen encoder, fitted on a text or on the evaluated sentences themselves.

Sources: Su et al. 2021, https://arxiv.org/abs/2103.15316; Li et al. 2020, https://aclanthology.org/2020.emnlp-main.733/
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Protocol, cast

from baselines.transformers import backbone_parameter, max_tokens_parameter, without_place
from harness.data.named_texts import NAMED, find_text, name_in_records
from harness.encoders.context import Context
from harness.encoders.entry import Cost, EncoderEntry, Work, parameter, parameters
from harness.encoders.pooling import POOLINGS
from harness.encoders.protocol import Embeddings, Encoder, Releasable, Transductive, embed
from harness.errors import UsageError
from harness.names import EncoderCard, Spec, Value

if TYPE_CHECKING:
    from baselines.fits import FitText, FlowFit
    from harness.encoders.cached import CachedEncoder

_TARGET = "target"


def _pooling_parameter() -> Any:
    text = "pooling of the frozen encoder; the code of both methods averages block 1 and the last one"
    return parameter("avg_first_last", text, choices=tuple(POOLINGS))


def _fit_parameter() -> Any:
    return parameter("nli", f"a text: {_TARGET} (each task's own sentences), {', '.join(NAMED)}, or a file")


def _sentences_parameter() -> Any:
    return parameter(None, "fit on the first so many sentences of the text; not set: on all of them", ge=2)


@parameters
class WhiteningParameters:
    backbone: str = backbone_parameter()
    pooling: str = _pooling_parameter()
    max_tokens: int | None = max_tokens_parameter(64)
    fit: str = _fit_parameter()
    sentences: int | None = _sentences_parameter()
    dim: int | None = parameter(None, "axes to keep, 256 in the paper's best rows; not set: all of them", ge=1)


@parameters
class FlowParameters:
    backbone: str = backbone_parameter()
    pooling: str = _pooling_parameter()
    max_tokens: int | None = max_tokens_parameter(64)
    fit: str = _fit_parameter()
    sentences: int | None = _sentences_parameter()
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


class Map(Protocol):
    """A fitted map of vectors, (n, d) -> (n, k) float32."""

    def transform(self, x: Embeddings, /) -> Embeddings: ...


FitOrLoad = Callable[["CachedEncoder", "FitText", EncoderCard, Context], Map]


class Mapped:
    """A base encoder with a map on top, which is fitted or loaded at the first sentence: finished work needs none.

    Attributes:
        base: the frozen encoder.
    """

    is_cheap = True  # its base's vectors are kept on disk

    def __init__(self, base: Encoder, fitted: Callable[[], Map], card: EncoderCard) -> None:
        self.card = card
        self.base, self._fitted = base, cache(fitted)

    def encode(self, sentences: Sequence[str], /) -> Embeddings:
        """(n, k) float32, not normalised; raises what the fit raises."""
        return self._fitted().transform(embed(self.base, sentences))

    def release(self) -> None:
        """Drop the weights of the base encoder."""
        if isinstance(self.base, Releasable):
            self.base.release()


class FittedPerTask:
    """A base encoder with a map that is fitted on each task's own sentences, all splits together."""

    def __init__(self, base: Encoder, fit: "Callable[[FitText], Map]", card: EncoderCard) -> None:
        self.card = card
        self.base, self._fit = base, fit

    def fit_target(self, sentences: Sequence[str], /) -> Encoder:
        """Fit on these sentences, duplicates kept."""
        from baselines.fits import text_of

        return Mapped(self.base, partial(self._fit, text_of(sentences)), self.card)


def _build_whitening(spec: Spec, chosen: WhiteningParameters, context: Context) -> Encoder | Transductive:
    from baselines.fits import whitening_fit

    base = _base(chosen, context)
    return _fitted(base, whitening_fit, _whitened_card(spec, chosen, base, context), context)


def _whitened_card(spec: Spec, chosen: WhiteningParameters, base: "CachedEncoder", context: Context) -> EncoderCard:
    dim = chosen.dim
    if dim is not None and dim > base.card.dim:
        raise UsageError(f"{spec}: dim={dim}, expected 1 to the backbone's {base.card.dim}, or none for all of them")
    return replace(_card(spec, chosen, base, context), dim=dim or base.card.dim)


def _build_flow(spec: Spec, chosen: FlowParameters, context: Context) -> Encoder | Transductive:
    base = _base(chosen, context)
    fit = _flow_fit(spec, chosen, base)
    return _fitted(base, fit, replace(_card(spec, chosen, base, context), seed=chosen.seed), context)


def _flow_fit(spec: Spec, chosen: FlowParameters, base: "CachedEncoder") -> "FlowFit":
    from baselines.fits import FlowFit
    from baselines.flow import FlowSettings
    from baselines.flow_model import FlowShape

    if chosen.batch % 2:
        raise UsageError(f"{spec}: batch={chosen.batch}, expected an even number: a step takes as many of both sides")
    given = asdict(chosen)
    shape = FlowShape(**{name: given[name] for name in ("levels", "depth", "width", "coupling", "permutation")})
    shape.require_fit(base.card.dim)
    same = {name: given[name] for name in ("ddi", "batch", "epochs", "seed")}
    # The published code sums the losses of two sides. The sides of our texts are their halves, since the loss does not
    # ask what the pairs are.
    return FlowFit(FlowSettings(shape=shape, pairs=True, **same), dropout=chosen.dropout)


def _fitted(base: "CachedEncoder", fit: FitOrLoad, card: EncoderCard, context: Context) -> Encoder | Transductive:
    from baselines.fits import FitText

    chosen = card.parameters
    if chosen["fit"] == _TARGET:
        if chosen["sentences"]:
            raise UsageError(f"{card.name}: sentences={chosen['sentences']}, expected none with fit=target; drop it")
        card = replace(card, fitted_on=_TARGET, content=_content(base, card, _TARGET))
        return FittedPerTask(base, lambda text: fit(base, text, card, context), card)
    first = chosen["sentences"]
    text = find_text(str(chosen["fit"]), context, int(first) if first else None)
    shown = name_in_records(str(chosen["fit"]), text, context.cache_dir)
    card = replace(
        card,
        name=str(Spec.parse(card.name).replaced(fit=shown)) if text.by_path else card.name,
        parameters={**chosen, "fit": shown},
        fitted_on=text.name,
        content=_content(base, card, text.digest),
    )
    sentences = FitText(text.digest, text.sentences)
    return Mapped(base, lambda: fit(base, sentences, card, context), card)


def _work(spec: Spec, chosen: WhiteningParameters | FlowParameters) -> Work | None:
    """The fit that the encoder needs; none where it is fitted on each task's sentences while that is scored."""
    if chosen.fit == _TARGET:
        return None
    base_of = (chosen.backbone, chosen.pooling, chosen.max_tokens, chosen.fit, chosen.sentences)
    own_vectors = isinstance(chosen, FlowParameters) and chosen.dropout
    return Work("fit", partial(_cost, spec, chosen), "" if own_vectors else "|".join(map(str, base_of)))


def _cost(spec: Spec, chosen: WhiteningParameters | FlowParameters, context: Context) -> Cost:
    from baselines.fits import FitText, whitening_place
    from baselines.transformers import find_backbone
    from harness.encoders.checkpoint import weight_files

    base, text = _base(chosen, context), find_text(chosen.fit, context, chosen.sentences)
    fit_text, texts, steps = FitText(text.digest, text.sentences), sum(1 for _ in text.sentences()), 0
    if isinstance(chosen, FlowParameters):
        fit = _flow_fit(spec, chosen, base)
        path, _ = fit.place(base, fit_text, base.card, context)
        steps = fit.settings.steps(texts // 2 * 2)
        texts = steps * chosen.batch
    else:
        path, _ = whitening_place(base, fit_text, _whitened_card(spec, chosen, base, context), context)
    weights = weight_files(find_backbone(chosen.backbone, context))
    return Cost(
        done=path.is_file(), steps=steps, texts=texts, model_bytes=sum(weight.stat().st_size for weight in weights)
    )


def _content(base: "CachedEncoder", card: EncoderCard, fit: str) -> dict[str, Value | None]:
    """What decides the vectors: the frozen encoder's and the text's content, and the settings of the fit."""
    of_base = {"backbone", "pooling", "max_tokens", "fit", "sentences", "dim"}
    settings = {name: value for name, value in card.parameters.items() if name not in of_base}
    return {"method": card.method, "base": base.card.identity, "fit": fit, "dim": card.dim, **settings}


def _card(
    spec: Spec, chosen: WhiteningParameters | FlowParameters, base: "CachedEncoder", context: Context
) -> EncoderCard:
    shown, parameters = without_place(spec, chosen, context)
    return replace(base.card, name=str(shown), method=spec.name, parameters=parameters)


def _base(chosen: WhiteningParameters | FlowParameters, context: Context) -> "CachedEncoder":
    """The frozen encoder with its vectors kept on disk, where every fit over it finds them."""
    from baselines.transformers import find_backbone
    from harness.encoders.cached import cache_embeddings
    from harness.encoders.transformer import build_transformer

    _, parameters = without_place(Spec("hf"), chosen, context)
    name, pooling, cut = parameters["backbone"], chosen.pooling, chosen.max_tokens
    encoder = build_transformer(
        f"hf:{name}[pooling={pooling},max_tokens={cut}]",
        "hf",
        find_backbone(chosen.backbone, context),
        context,
        pooling=pooling,
        parameters={"backbone": name, "pooling": pooling, "max_tokens": cut},
    )
    return cast("CachedEncoder", cache_embeddings(encoder, context))


BERT_WHITENING = EncoderEntry(
    name="bert-whitening",
    summary="sentence vectors of a plain encoder, made isotropic by a linear map",
    parameters=WhiteningParameters,
    build=_build_whitening,
    work=_work,
)

BERT_FLOW = EncoderEntry(
    name="bert-flow",
    summary="sentence vectors of a plain encoder, made Gaussian by an invertible network",
    parameters=FlowParameters,
    build=_build_flow,
    work=_work,
)
