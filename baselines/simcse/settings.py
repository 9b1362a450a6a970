"""Every knob of a training run, with the published values as defaults."""

import math
import re
from dataclasses import dataclass, fields, replace

from baselines.simcse.objective import SIMILARITIES
from harness.encoders.pooling import POOLINGS
from harness.errors import UsageError

METHODS = ("simcse-unsup", "simcse-sup")
AUGMENTATIONS = "none, crop-K, delete-K, delete-one, synonym, mlm-K, next or next-3"
_AUGMENTATION = re.compile(r"none|delete-one|synonym|next|next-3|(crop|delete|mlm)-[1-9]\d?")
POSITIVES = ("entailment", "neutral", "contradiction", "all", "captions")
HARD_NEGATIVES = ("given", "none", "neutral", "both")
EPSILONS = ("hf", "torch")
GRADIENT_SCALES = ("sum", "mean")
DTYPES = ("float32", "bfloat16")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings:
    """Everything that decides the weights, beside backbone, data and development set.

    The defaults are those of unsupervised SimCSE on BERT-base; `published` gives those of the other runs.

    Attributes:
        method: "simcse-unsup" or "simcse-sup".
        seed: of the head's initial weights, the data order, dropout and augmentation.
        batch_size: rows of a step, over all processes.
        learning_rate: at the first step; falls linearly to 0 at the last, no warm-up.
        epochs: passes over the data.
        max_steps: if not 0, so many steps instead.
        max_tokens: sentences are cut there, special tokens included.
        temperature: divides the similarity.
        similarity: "cosine" or "dot" (Table D.1).
        hard_negative_weight: log of the paper's alpha (Table 7).
        pooler: a key of `harness.encoders.pooling.POOLINGS`; cls has a fresh MLP head, the others have none (Table 6).
        mlp_only_train: the head is used in training only; evaluation takes the vector below it.
        dropout: probability in all hidden and attention layers; negative: the checkpoint's own (Table 3).
        fixed_mask: both views of a sentence get the same dropout mask (Table 3, "Fixed 0.1").
        towers: 2 trains a second backbone for the second views; the first is kept (Table 2).
        augmentation: of the second copy in unsupervised training (Tables 1 and 2): crop-K and delete-K take K % of the
            words away, delete-one one word, synonym replaces one word, mlm-K replaces K % of the tokens by what the
            backbone's masked language model predicts, next and next-3 take the next line or one of the next three.
        thesaurus: file for augmentation=synonym.
        positives: what of the data is the positive of the first column (Table 4).
        hard_negatives: which columns are hard negatives: the first after the second that is not named "neutral"
            (given), none, the one that is (neutral), or both (Table 7).
        mlm_weight: of the auxiliary masked-language-model loss; 0: there is none (Table D.2).
        mlm_probability: share of tokens that it selects.
        epsilon: where Adam adds it: "hf" to the uncorrected square root (transformers 4.2's AdamW, the paper's),
            "torch" to the corrected one.
        adam_epsilon: what is added.
        weight_decay: decoupled, of all weights but biases and LayerNorm.
        clip: largest norm of the whole gradient.
        eval_every: steps between evaluations on the development set; the best one's weights are kept. As in the
            original, steps after the last multiple are not evaluated.
        gradient_scale: of several processes: "sum" gives the single-process gradient, "mean" divides by their number,
            which is what DistributedDataParallel does in the original.
        dtype: bfloat16 runs the forward pass under autocast; weights and loss stay float32.
        length_groups: the rows of a step go through the backbone in so many groups of similar length, which saves
            padding; the negatives stay those of the whole random batch.
    """

    method: str = "simcse-unsup"
    seed: int = 42
    batch_size: int = 64
    learning_rate: float = 3e-5
    epochs: float = 1.0
    max_steps: int = 0
    max_tokens: int = 32
    temperature: float = 0.05
    similarity: str = "cosine"
    hard_negative_weight: float = 0.0
    pooler: str = "cls"
    mlp_only_train: bool = True
    dropout: float = -1.0
    fixed_mask: bool = False
    towers: int = 1
    augmentation: str = "none"
    thesaurus: str | None = None
    positives: str = "entailment"
    hard_negatives: str = "given"
    mlm_weight: float = 0.0
    mlm_probability: float = 0.15
    epsilon: str = "hf"
    adam_epsilon: float = 1e-8
    weight_decay: float = 0.0
    clip: float = 1.0
    eval_every: int = 125
    gradient_scale: str = "sum"
    dtype: str = "float32"
    length_groups: int = 1

    def __post_init__(self) -> None:
        """Refuse what cannot work.

        Raises:
            UsageError: naming the setting, its value, and what is possible.
        """
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                raise UsageError(f"{name}={getattr(self, name)} is unknown; known: {', '.join(map(str, known))}")
        for name, (low, high, expected) in _RANGES.items():
            value = getattr(self, name)
            if not (math.isfinite(value) and low <= value <= high):
                raise UsageError(f"{_WRITTEN.get(name, name)}={value}: expected {expected}")
        self._check_data()

    def _check_data(self) -> None:
        """What the method can do with its data."""
        if not _AUGMENTATION.fullmatch(self.augmentation):
            raise UsageError(f"augmentation={self.augmentation} is unknown; expected {AUGMENTATIONS}, K in percent")
        if self.method == "simcse-sup" and self.augmentation != "none":
            raise UsageError(f"augmentation={self.augmentation}: supervised training has none, its data hold the pairs")
        if self.thesaurus is not None and self.augmentation != "synonym":
            raise UsageError(f"thesaurus={self.thesaurus}: only augmentation=synonym reads one; drop it")
        for field in fields(self):
            value = getattr(self, field.name)
            if self.method == "simcse-unsup" and field.name in _SUPERVISED and value != field.default:
                raise UsageError(f"{field.name}={value}: only supervised training has it; drop it, or train simcse-sup")

    @property
    def pooling(self) -> str:
        """How the trained encoder pools: without the head where it is for training only."""
        return "cls_before_pooler" if self.pooler == "cls" and self.mlp_only_train else self.pooler


_CHOICES: dict[str, tuple[object, ...]] = {
    "method": METHODS,
    "similarity": SIMILARITIES,
    "pooler": tuple(POOLINGS),
    "towers": (1, 2),
    "positives": POSITIVES,
    "hard_negatives": HARD_NEGATIVES,
    "epsilon": EPSILONS,
    "gradient_scale": GRADIENT_SCALES,
    "dtype": DTYPES,
}
_TINY = math.ulp(0.0)  # the smallest number above 0
_POSITIVE = (_TINY, math.inf, "a finite number above 0")
_NOT_NEGATIVE = (0.0, math.inf, "a finite number, 0 or more")
_COUNT = (1, math.inf, "a whole number, 1 or more")
_RANGES: dict[str, tuple[float, float, str]] = {  # lowest and highest, and the range in words; all are finite
    "seed": (0, math.inf, "a whole number, 0 or more"),
    "batch_size": _COUNT,
    "learning_rate": _POSITIVE,
    "epochs": (_TINY, 1e6, "a number above 0, a million at the most"),
    "max_steps": (0, math.inf, "a whole number, 0 or more"),
    "max_tokens": (3, math.inf, "3 or more, of which the first and the last are special tokens"),
    "temperature": _POSITIVE,
    "hard_negative_weight": (-math.inf, math.inf, "a finite number"),
    "dropout": (-math.inf, math.nextafter(1.0, 0.0), "less than 1, or a negative number for the checkpoint's"),
    "mlm_weight": _NOT_NEGATIVE,
    "mlm_probability": (0.0, 1.0, "0 to 1"),
    "adam_epsilon": _POSITIVE,
    "weight_decay": _NOT_NEGATIVE,
    "clip": _POSITIVE,
    "eval_every": _COUNT,
    "length_groups": _COUNT,
}
_WRITTEN = {"max_tokens": "train_tokens"}  # in a specification; `max_tokens` is evaluation's there
_SUPERVISED = ("positives", "hard_negatives", "hard_negative_weight")


def published(method: str, backbone: str) -> TrainSettings:
    """The paper's settings (Table A.1 and run_*_example.sh of SimCSE 49fa580) for that method and backbone.

    Unsupervised: BERT batch 64, RoBERTa 512; supervised: 512 and 3 epochs. Learning rates of the large models are
    those of the released scripts' table. Any other backbone gets the values of BERT-base, but the bundled `tiny`,
    three layers of 192, gets our own, which no paper has: learning rates ten times as high, batch 64 for both,
    and an evaluation every 50 steps.

    Raises:
        UsageError: on an unknown method.
    """
    name = backbone.rstrip("/").rsplit("/", 1)[-1].lower()
    large, roberta = "large" in name, "roberta" in name
    settings = TrainSettings(method=method)
    if method == "simcse-sup":
        settings = replace(
            settings, batch_size=512, learning_rate=1e-5 if large else 5e-5, epochs=3.0, mlp_only_train=False
        )
    elif roberta:
        settings = replace(settings, batch_size=512, learning_rate=3e-5 if large else 1e-5)
    elif large:
        settings = replace(settings, learning_rate=1e-5)
    if name == "tiny":
        settings = replace(settings, batch_size=64, learning_rate=10 * settings.learning_rate, eval_every=50)
    return settings
