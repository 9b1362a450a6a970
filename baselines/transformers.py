"""Plain pretrained encoders with the poolings of the paper's tables."""

from baselines.backbones import find_backbone
from harness.encoders.catalog import MAX_TOKENS, EncoderEntry
from harness.encoders.checkpoint import find_checkpoint
from harness.encoders.context import Context
from harness.encoders.pooling import POOLINGS
from harness.encoders.protocol import Encoder
from harness.encoders.transformer import build_transformer
from harness.registry import Parameter, Spec


def _build(spec: Spec, context: Context) -> Encoder:
    checkpoint = find_backbone(str(spec.parameters["backbone"]), offline=context.offline)
    return build_transformer(
        str(spec),
        spec.name,
        checkpoint,
        context,
        pooling=str(spec.parameters["pooling"]),
        parameters=dict(spec.parameters),
    )


def _entry(name: str, backbone: str, summary: str) -> EncoderEntry:
    return EncoderEntry(
        name=name,
        summary=summary,
        parameters=(
            Parameter(name="backbone", default=backbone, help="tiny (bundled), a hub name, or a folder"),
            # The paper's "first-last avg." rows were measured with the embedding layer as the first (SimCSE #285).
            Parameter(
                name="pooling",
                default="avg_static_last",
                choices=tuple(POOLINGS),
                help="avg_static_last is what the paper's 56.70 used; avg_first_last gives 60.73",
            ),
            MAX_TOKENS,
        ),
        build=_build,
    )


def _released(name: str, repository: str, summary: str) -> EncoderEntry:
    """Weights that somebody trained and released, with the pooling that they were trained with."""

    def build(spec: Spec, context: Context) -> Encoder:
        checkpoint = find_checkpoint(repository, offline=context.offline)
        return build_transformer(str(spec), name, checkpoint, context, pooling="avg", parameters=dict(spec.parameters))

    return EncoderEntry(name=name, summary=summary, parameters=(MAX_TOKENS,), build=build)


BERT = _entry("bert", "bert-base-uncased", "plain BERT; no training, one of six poolings")
ROBERTA = _entry("roberta", "roberta-base", "plain RoBERTa; no training, one of six poolings")

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
