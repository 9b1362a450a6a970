"""Plain pretrained encoders with the poolings of the paper's tables."""

from dataclasses import asdict
from typing import Any

from harness.encoders.context import Context
from harness.encoders.pooling import POOLINGS
from harness.encoders.protocol import Encoder
from harness.encoders.registry import EncoderEntry, parameter, parameters
from harness.names import Spec


def backbone_parameter(default: str = "bert-base-uncased") -> Any:
    """The checkpoint that an encoder starts from."""
    return parameter(default, "tiny or small (bundled), a hub name, or a folder")


def max_tokens_parameter(default: int | None = None) -> Any:
    """Where sentences are cut. Their first and last tokens are special, so a cut below 3 leaves none of their own."""
    return parameter(default, "cut sentences there; none: the checkpoint's own limit", ge=3)


def _pooling_parameter() -> Any:
    # The paper's "first-last avg." rows were measured with the embedding layer as the first (SimCSE #285).
    text = "avg_static_last is what the paper's 56.70 used; avg_first_last gives 60.73"
    return parameter("avg_static_last", text, choices=tuple(POOLINGS))


@parameters
class BertParameters:
    backbone: str = backbone_parameter()
    pooling: str = _pooling_parameter()
    max_tokens: int | None = max_tokens_parameter()


@parameters
class RobertaParameters:
    backbone: str = backbone_parameter("roberta-base")
    pooling: str = _pooling_parameter()
    max_tokens: int | None = max_tokens_parameter()


@parameters
class ReleasedParameters:
    max_tokens: int | None = max_tokens_parameter()


def _build(spec: Spec, chosen: Any, context: Context) -> Encoder:
    from baselines.backbones import find_backbone
    from harness.encoders.transformer import build_transformer

    checkpoint = find_backbone(chosen.backbone, offline=context.offline)
    return build_transformer(
        str(spec), spec.name, checkpoint, context, pooling=chosen.pooling, parameters=asdict(chosen)
    )


def _released(name: str, repository: str, summary: str) -> EncoderEntry:
    """Weights that somebody trained and released, with the pooling that they were trained with."""

    def build(spec: Spec, chosen: Any, context: Context) -> Encoder:
        from harness.encoders.checkpoint import find_checkpoint
        from harness.encoders.transformer import build_transformer

        checkpoint = find_checkpoint(repository, offline=context.offline)
        return build_transformer(str(spec), name, checkpoint, context, pooling="avg", parameters=asdict(chosen))

    return EncoderEntry(name=name, summary=summary, parameters=ReleasedParameters, build=build)


BERT = EncoderEntry(
    name="bert",
    summary="plain BERT; no training, one of six poolings",
    parameters=BertParameters,
    build=_build,
)
ROBERTA = EncoderEntry(
    name="roberta",
    summary="plain RoBERTa; no training, one of six poolings",
    parameters=RobertaParameters,
    build=_build,
)

SBERT = _released(
    "sbert",
    "sentence-transformers/bert-base-nli-mean-tokens",
    "SBERT of Reimers and Gurevych 2019, trained on NLI; released weights",
)
CT_BERT = _released(
    "ct-bert",
    "Contrastive-Tension/BERT-Base-CT",
    "BERT with Contrastive Tension, Carlsson et al. 2021; released weights",
)
DECLUTR = _released(
    "declutr",
    "johngiorgi/declutr-base",
    "DeCLUTR of Giorgi et al. 2021, a RoBERTa-base; released weights",
)
