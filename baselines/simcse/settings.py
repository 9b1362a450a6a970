"""SimCSE's parameters: each is declared once, with its published value and the line of the reference that sets it.

Links lead to the reference implementation, princeton-nlp/SimCSE at commit 49fa580.
"""

import re
from dataclasses import asdict, dataclass, replace
from typing import ClassVar, TypeVar

from baselines.transformers import backbone_parameter, max_tokens_parameter
from harness.data.named_texts import NAMED
from harness.encoders.entry import parameter, parameters
from harness.encoders.pooling import POOLINGS
from harness.names import Value

AUGMENTATIONS = "none, crop-K, delete-K, delete-one, synonym, mlm-K, next or next-3"
_AUGMENTATION = re.compile(r"none|delete-one|synonym|next|next-3|(crop|delete|mlm)-[1-9]\d?")
_AS_PUBLISHED = "not set: as published for the backbone"

Method = TypeVar("Method", bound="Settings")


@parameters
class Settings:
    """What both methods share: data, schedule, network, objective and optimiser."""

    method: ClassVar[str]

    backbone: str = backbone_parameter()
    weights: str = parameter(
        "auto",
        "auto: the authors' release where nothing but one of its backbones is asked for, else trained here",
        choices=("auto", "released", "trained"),
    )
    data: str | None = parameter(
        None, f"{', '.join(NAMED)}, or a file; not set: the paper's (wiki or nli), for tiny the bundled one"
    )
    sentences: int | None = parameter(None, "train on the first so many sentences of data; not set: all", ge=1)
    # The reference evaluates on STS-B and SICK-R dev and selects by the first:
    # https://github.com/princeton-nlp/SimCSE/blob/49fa580/run_unsup_example.sh#L16
    dev: str = parameter(
        "auto",
        "chooses the best step; auto: sts-b, for tiny the bundled mini set",
        choices=("auto", "sts-b", "mini", "none"),
    )
    # https://github.com/princeton-nlp/SimCSE/blob/49fa580/run_unsup_example.sh#L14
    train_tokens: int = parameter(32, "training sentences are cut there, special tokens included", ge=3)
    # 42 is the default of transformers' TrainingArguments, which the scripts leave as it is:
    # https://github.com/princeton-nlp/SimCSE/blob/49fa580/train.py#L291
    seed: int = parameter(42, "seed of the head, the data order, dropout and augmentation", ge=0)
    # https://github.com/princeton-nlp/SimCSE/blob/49fa580/README.md?plain=1#L242
    batch_size: int | None = parameter(None, f"rows of a step, over all processes; {_AS_PUBLISHED}", ge=1)
    learning_rate: float | None = parameter(
        None, f"rate of the first step, which falls linearly to 0; {_AS_PUBLISHED}", gt=0
    )
    epochs: float | None = parameter(None, f"passes over the data; {_AS_PUBLISHED}", gt=0, le=1e6)
    max_steps: int | None = parameter(None, "number of steps in place of epochs; not set: by epochs", ge=1)
    # https://github.com/princeton-nlp/SimCSE/blob/49fa580/simcse/models.py#L40-L46
    temperature: float = parameter(0.05, "divides the similarity", gt=0)
    # The dot product is an ablation of the paper (Table D.1) that the reference's code does not have.
    similarity: str = parameter("cosine", "similarity of two vectors", choices=("cosine", "dot"))
    # https://github.com/princeton-nlp/SimCSE/blob/49fa580/simcse/models.py#L49-L57
    pooler: str = parameter(
        "cls", "pooling in training; cls has a fresh MLP head, the others have none", choices=tuple(POOLINGS)
    )
    # https://github.com/princeton-nlp/SimCSE/blob/49fa580/train.py#L119
    mlp_only_train: bool = parameter(True, "evaluate without the MLP head")
    dropout: float | None = parameter(
        None, "dropout probability in all layers; not set: the checkpoint's own", ge=0, lt=1
    )
    # Table 3's "Fixed 0.1"; the reference's code does not have it.
    fixed_mask: bool = parameter(False, "both views get the same dropout mask")
    towers: int = parameter(1, "2: a second backbone for the second views; the first one is kept", ge=1, le=2)
    # The reference adds it with --do_mlm and weight 0.1: https://github.com/princeton-nlp/SimCSE/blob/49fa580/train.py#L113
    mlm_weight: float = parameter(0.0, "weight of the auxiliary masked-language-model loss", ge=0)
    # https://github.com/princeton-nlp/SimCSE/blob/49fa580/train.py#L173
    mlm_probability: float = parameter(0.15, "share of tokens that the auxiliary loss selects", ge=0, le=1)
    # transformers 4.2's AdamW adds epsilon to the uncorrected square root, torch's to the corrected one:
    # https://github.com/princeton-nlp/SimCSE/blob/49fa580/simcse/trainers.py#L76
    epsilon: str = parameter("hf", "where Adam adds epsilon; hf: as the paper's library", choices=("hf", "torch"))
    adam_epsilon: float = parameter(1e-8, "epsilon of Adam", gt=0)
    weight_decay: float = parameter(0.0, "decay of all weights but biases and LayerNorm", ge=0)
    # https://github.com/princeton-nlp/SimCSE/blob/49fa580/simcse/trainers.py#L485
    clip: float = parameter(1.0, "largest norm of the whole gradient", gt=0)
    # https://github.com/princeton-nlp/SimCSE/blob/49fa580/run_unsup_example.sh#L18
    eval_every: int | None = parameter(None, f"steps between evaluations on dev; {_AS_PUBLISHED}", ge=1)
    # The reference takes the mean, as DistributedDataParallel does; a sum is the gradient of a single process.
    gradient_scale: str = parameter("sum", "gradients of several processes", choices=("sum", "mean"))
    # The reference trains in float16 with loss scaling; bfloat16 needs no scaling:
    # https://github.com/princeton-nlp/SimCSE/blob/49fa580/run_unsup_example.sh#L25
    dtype: str = parameter(
        "float32",
        "arithmetic of the forward pass; bfloat16: under autocast, weights and loss stay float32",
        choices=("float32", "bfloat16"),
    )
    length_groups: int = parameter(
        1, "passes per step over rows of similar length, which saves padding on a CPU", ge=1, recorded_only=True
    )
    max_tokens: int | None = max_tokens_parameter()

    @property
    def pooling(self) -> str:
        """How the trained encoder pools: without the head where it is for training only."""
        return "cls_before_pooler" if self.pooler == "cls" and self.mlp_only_train else self.pooler

    @property
    def decisive(self) -> dict[str, Value | None]:
        """What decides the weights, beside backbone, data and development set, which are known by their content."""
        facts = {name: value for name, value in asdict(self).items() if name not in _ELSEWHERE}
        return {"method": self.method, **facts}


@parameters
class SimcseUnsup(Settings):
    """Unsupervised SimCSE: a sentence and the same sentence under another dropout mask."""

    method: ClassVar[str] = "simcse-unsup"

    # Tables 1 and 2 of the paper; the reference's code does not have them.
    augmentation: str = parameter("none", f"change of the second view: {AUGMENTATIONS}; K is in percent")
    thesaurus: str | None = parameter(None, "file of synonyms for augmentation=synonym")

    def __post_init__(self) -> None:
        if not _AUGMENTATION.fullmatch(self.augmentation):
            raise ValueError(f"augmentation={self.augmentation} is unknown; expected {AUGMENTATIONS}, K in percent")
        if self.thesaurus is not None and self.augmentation != "synonym":
            raise ValueError(f"thesaurus={self.thesaurus}: only augmentation=synonym reads one; drop it")


@parameters
class SimcseSup(Settings):
    """Supervised SimCSE: a sentence, its positive, and hard negatives where the data have them."""

    method: ClassVar[str] = "simcse-sup"

    # The supervised script has no --mlp_only_train: https://github.com/princeton-nlp/SimCSE/blob/49fa580/run_sup_example.sh
    mlp_only_train: bool = parameter(False, "evaluate without the MLP head")
    # The logarithm of the paper's alpha: https://github.com/princeton-nlp/SimCSE/blob/49fa580/train.py#L101
    hard_negative_weight: float = parameter(0.0, "logarithm of the paper's alpha")
    positives: str = parameter(
        "entailment",
        "which texts are positives of the first column",
        choices=("entailment", "neutral", "contradiction", "all", "captions"),
    )
    hard_negatives: str = parameter(
        "given",
        "which columns are hard negatives; given: the first after the second that is not named neutral",
        choices=("given", "none", "neutral", "both"),
    )


_ELSEWHERE = ("backbone", "weights", "data", "sentences", "dev", "length_groups", "max_tokens")


@dataclass(frozen=True, slots=True)
class _Schedule:
    """What the paper chose for each backbone."""

    batch_size: int
    learning_rate: float
    epochs: float = 1.0
    eval_every: int = 125


# https://github.com/princeton-nlp/SimCSE/blob/49fa580/README.md?plain=1#L240-L244; the paper's Table A.1 is the same.
# Three passes of supervised training: https://github.com/princeton-nlp/SimCSE/blob/49fa580/run_sup_example.sh#L22
# The bundled `tiny` and `small` are in no paper; their values are our own, chosen on STS-B dev.
_PUBLISHED = {
    ("simcse-unsup", "bert-base"): _Schedule(64, 3e-5),
    ("simcse-unsup", "bert-large"): _Schedule(64, 1e-5),
    ("simcse-unsup", "roberta-base"): _Schedule(512, 1e-5),
    ("simcse-unsup", "roberta-large"): _Schedule(512, 3e-5),
    ("simcse-unsup", "tiny"): _Schedule(64, 10 * 3e-5, eval_every=50),
    ("simcse-unsup", "small"): _Schedule(64, 3e-4),
    ("simcse-sup", "bert-base"): _Schedule(512, 5e-5, epochs=3.0),
    ("simcse-sup", "bert-large"): _Schedule(512, 1e-5, epochs=3.0),
    ("simcse-sup", "roberta-base"): _Schedule(512, 5e-5, epochs=3.0),
    ("simcse-sup", "roberta-large"): _Schedule(512, 1e-5, epochs=3.0),
    ("simcse-sup", "tiny"): _Schedule(64, 10 * 5e-5, epochs=3.0, eval_every=50),
    ("simcse-sup", "small"): _Schedule(512, 3e-4, epochs=3.0, eval_every=6),
}


def published(settings: Method) -> Method:
    """The settings with the published schedule where none is set; unknown backbones get that of BERT-base."""
    name = settings.backbone.rstrip("/").rsplit("/", 1)[-1].partition("@")[0].lower()
    family, size = "roberta" if "roberta" in name else "bert", "large" if "large" in name else "base"
    kind = name if name in ("tiny", "small") else f"{family}-{size}"
    schedule = asdict(_PUBLISHED[settings.method, kind])
    return replace(settings, **{key: value for key, value in schedule.items() if getattr(settings, key) is None})
