"""The registry's entries `simcse-unsup` and `simcse-sup`: released weights, or trained here if not there yet."""

from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from baselines.backbones import find_backbone
from baselines.simcse import processes
from baselines.simcse.corpus import open_corpus
from baselines.simcse.dev import DevSet
from baselines.simcse.folder import WORK, check_folder, read_card
from baselines.simcse.job import Job, fingerprint
from baselines.simcse.settings import TrainSettings, published
from baselines.simcse.train import train
from baselines.transformers import backbone_parameter, max_tokens_parameter
from harness import files
from harness.data.locate import BUNDLED, data_root
from harness.data.named_texts import NAMED, find_text
from harness.data.sts import sts_benchmark
from harness.encoders.checkpoint import find_checkpoint, load_tokenizer, open_checkpoint
from harness.encoders.context import Context
from harness.encoders.protocol import Encoder
from harness.encoders.registry import EncoderEntry, Resolved, fill, parameter, parameters
from harness.encoders.transformer import Backbone, TransformerEncoder, build_transformer
from harness.errors import UsageError
from harness.names import STS_B_DEV, Spec

_RELEASED = ("bert-base-uncased", "bert-large-uncased", "roberta-base", "roberta-large")
_DATA = {"simcse-unsup": ("wiki", "mini-wiki"), "simcse-sup": ("nli", "mini-nli")}  # of the paper; with backbone=tiny
_FROM_PAPER = "0: as published for the backbone"

# `max_tokens` is that of evaluation, as everywhere; training's own is `train_tokens`.
_HELP = {
    "seed": "of the head, the data order, dropout and augmentation",
    "batch_size": f"rows of a step; {_FROM_PAPER}",
    "learning_rate": f"at the first step, falls linearly to 0; {_FROM_PAPER}",
    "epochs": f"passes over the data; {_FROM_PAPER}",
    "max_steps": "so many steps instead of epochs; 0: by epochs",
    "temperature": "divides the similarity",
    "similarity": "cosine or dot",
    "hard_negative_weight": "log of the paper's alpha",
    "pooler": "of training; cls has an MLP head, the others have none",
    "mlp_only_train": "evaluate without the MLP head",
    "dropout": "in all layers; negative: the checkpoint's own",
    "fixed_mask": "both views get the same dropout mask",
    "towers": "2: another backbone for the second views",
    "augmentation": "of the second view: none, crop-20, delete-20, delete-one, synonym, mlm-15, next, next-3",
    "thesaurus": "file for augmentation=synonym",
    "positives": "entailment, neutral, contradiction, all, captions",
    "hard_negatives": "given (a third column), none, neutral, both",
    "mlm_weight": "of the auxiliary masked-language-model loss; 0: none",
    "mlm_probability": "share of tokens that it selects",
    "epsilon": "where Adam adds it: hf (the paper's) or torch",
    "adam_epsilon": "what Adam adds",
    "weight_decay": "of all weights but biases and LayerNorm",
    "clip": "largest norm of the gradient",
    "eval_every": f"steps between evaluations on dev; {_FROM_PAPER}",
    "gradient_scale": "of several processes: sum, or mean as in the original",
    "dtype": "float32, or bfloat16 autocast",
    "length_groups": "passes per step over rows of similar length; saves padding",
}
_PUBLISHED = ("batch_size", "learning_rate", "epochs", "eval_every")


def _parameters(method: str) -> type[Any]:
    defaults: dict[str, Any] = asdict(published(method, "bert-base-uncased"))
    defaults |= {name: type(defaults[name])(0) for name in _PUBLISHED}
    named, bundled = _DATA[method]
    declared: dict[str, tuple[Any, Any]] = {
        "backbone": (str, backbone_parameter()),
        "weights": (
            str,
            parameter(
                "auto",
                "auto: the authors' release where nothing but one of its backbones is asked for, else trained here",
                choices=("auto", "released", "trained"),
            ),
        ),
        "data": (str | None, parameter(None, f"{', '.join(NAMED)}, or a file; default: {named}, for tiny {bundled}")),
        "dev": (
            str,
            parameter(
                "auto",
                "chooses the best step; auto: sts-b, for tiny the bundled mini set",
                choices=("auto", "sts-b", "mini", "none"),
            ),
        ),
        "train_tokens": (int, parameter(defaults["max_tokens"], "training sentences are cut there")),
    }
    for name, text in _HELP.items():
        kind = str | None if defaults[name] is None else type(defaults[name])
        declared[name] = (kind, parameter(defaults[name], text, recorded_only=name == "length_groups"))
    declared["max_tokens"] = (int | None, max_tokens_parameter())
    members: dict[str, Any] = {name: value for name, (_, value) in declared.items()}
    annotations = {name: kind for name, (kind, _) in declared.items()}
    return parameters(type("SimcseParameters", (), {**members, "__annotations__": annotations}))


def train_settings(asked: Resolved) -> TrainSettings:
    """The specification's settings; what it leaves at 0 is taken from the paper's table.

    Raises:
        UsageError: if a value is impossible.
    """
    values = asdict(asked.parameters)
    base = published(asked.spec.name, str(values["backbone"]))
    given: dict[str, Any] = {name: values[name] for name in _HELP}
    given["max_tokens"] = values["train_tokens"]
    given |= {name: getattr(base, name) for name in _PUBLISHED if not given[name]}
    return replace(base, **given)


def make_job(asked: Resolved, context: Context, folder: Path | None = None, **options: Any) -> Job:
    """The training run behind a specification: data found and tokenised, backbone found, nothing trained yet.

    Args:
        asked: a specification of `simcse-unsup` or `simcse-sup`.
        context: where data, cache and device are.
        folder: for the trained model; None: below `trained/` in the cache, under the run's fingerprint.
        **options: further attributes of `Job`.

    Raises:
        UsageError: if a name or a setting is impossible.
        DataError: if data are missing or damaged.
    """
    settings = train_settings(asked)
    name = asked.parameters.backbone
    backbone = find_backbone(name, offline=context.offline)
    tokenizer = load_tokenizer(backbone)
    longest = Backbone(backbone, context).max_tokens or backbone_limit(tokenizer)
    if settings.max_tokens > longest:
        raise UsageError(f"train_tokens={settings.max_tokens}: {name} reads {longest} at the most; lower it")
    text = find_text(asked.parameters.data or _DATA[asked.spec.name][name == "tiny"], context)
    if len(text.files) > 1:
        raise UsageError(f"data={text.label}: {len(text.files)} files, expected one to train on; name a file")
    job = Job(
        settings=settings,
        backbone=backbone,
        corpus=open_corpus(text.files[0].path, tokenizer, settings, context.cache_dir, context.progress),
        dev=_dev_set(asked, context, tokenizer, longest),
        folder=folder or context.cache_dir,
        device=context.device,
        progress=context.progress,
        **options,
    )
    if folder is not None:
        return job
    return replace(job, folder=context.cache_dir / "trained" / fingerprint(job.identity())[:32])


def _dev_set(asked: Resolved, context: Context, tokenizer: Any, longest: int) -> DevSet | None:
    name = asked.parameters.dev
    if name == "auto":
        name = "mini" if asked.parameters.backbone == "tiny" else "sts-b"
    if name == "none":
        return None
    if name == "mini":
        pairs = sts_benchmark(BUNDLED, splits=("dev",), folder="MiniBenchmark").subsets[0]
    else:
        root = data_root(context.data_dir, context.cache_dir, offline=context.offline, progress=False)
        pairs = sts_benchmark(root, splits=("dev",)).subsets[0]
    return DevSet(name, pairs, tokenizer, longest)


def backbone_limit(tokenizer: Any) -> int:
    """Longest input in tokens, for a backbone whose configuration has no positions to run out of."""
    return int(min(tokenizer.model_max_length, 512))


def trained(job: Job) -> dict[str, Any]:
    """Train, or find it trained; the card. A second process that asks for the same one waits."""
    check_folder(job.folder)
    if processes.size() > 1 or read_card(job.folder) is not None:
        return train(job)
    with files.writing(job.folder), files.lock(job.folder / WORK / "lock"):
        return train(job)


def train_spec(
    asked: Resolved, context: Context, output: Path | None = None, *, compile: bool = False
) -> Mapping[str, Any]:
    """Train what the specification says and tell where it is: the entry point `bench.trainers`.

    Args:
        asked: a specification of `simcse-unsup` or `simcse-sup`.
        context: where data, cache and device are.
        output: folder for the model; None: in the cache, where encoders look for it.
        compile: run the model through torch.compile.

    Returns:
        The card (`card.json`), `folder`, and `model`, the name under which a run finds the weights in the cache.

    Raises:
        UsageError: if the specification asks for released weights.
        BenchError: as `make_job` and `train`.
    """
    if asked.parameters.weights == "released":
        raise UsageError(f"{asked.spec}: released weights are not trained here; drop weights=released")
    if _wants_release(asked):
        asked = fill(asked.entry, asked.spec.replaced(weights="trained").given)
    if output is not None:
        check_folder(output)
    job = make_job(asked, context, output, compile=compile)
    return {"model": str(asked.spec), "folder": str(job.folder), **trained(job)}


def _build(spec: Spec, chosen: Any, context: Context) -> Encoder:
    asked = Resolved(SIMCSE_UNSUP if spec.name == "simcse-unsup" else SIMCSE_SUP, spec, chosen)
    if _wants_release(asked):
        return _build_released(asked, context)
    job = make_job(asked, context)
    trained(job)
    encoder = build_transformer(
        str(spec),
        spec.name,
        open_checkpoint(job.folder, str(job.folder)),
        context,
        pooling=job.settings.pooling,
        parameters={**asdict(chosen), **{name: getattr(job.settings, name) for name in _HELP}},
    )
    card = replace(
        encoder.card,
        backbone=job.backbone.name,
        revision=job.backbone.revision,
        trained_on=f"{job.corpus.name}@{job.corpus.sha256[:12]}",
        selected_on={"sts-b": STS_B_DEV, "mini": "mini STS dev"}[job.dev.name] if job.dev else None,
        seed=job.settings.seed,
    )
    return TransformerEncoder(encoder.backbone, encoder.pooling, card)


def _wants_release(asked: Resolved) -> bool:
    spec, weights, backbone = asked.spec, asked.parameters.weights, asked.parameters.backbone
    changed = [name for name in spec.given if name not in ("backbone", "weights", "max_tokens")]
    if weights == "released" and changed:
        raise UsageError(
            f"{spec}: weights=released goes with no training parameter, found {', '.join(changed)}; drop one"
        )
    if weights == "released" and backbone not in _RELEASED:
        raise UsageError(
            f"{spec}: released are the backbones {', '.join(_RELEASED)}, found {backbone}; use weights=trained"
        )
    return weights == "released" or (weights == "auto" and backbone in _RELEASED and not changed)


def _build_released(asked: Resolved, context: Context) -> Encoder:
    """The authors' weights. Unsupervised ones hold a head that was for training only, so it is left out."""
    spec = asked.spec
    kind = spec.name.removeprefix("simcse-")
    repository = f"princeton-nlp/{kind}-simcse-{asked.parameters.backbone}"
    return build_transformer(
        str(spec),
        spec.name,
        find_checkpoint(repository, offline=context.offline),
        context,
        pooling="cls_before_pooler" if kind == "unsup" else "cls",
        parameters=asdict(asked.parameters),
    )


assert {*_HELP, "max_tokens", "method"} == {field.name for field in fields(TrainSettings)}

SIMCSE_UNSUP = EncoderEntry(
    name="simcse-unsup",
    summary="unsupervised SimCSE: dropout as the only augmentation; released weights, or trained here",
    parameters=_parameters("simcse-unsup"),
    build=_build,
)
SIMCSE_SUP = EncoderEntry(
    name="simcse-sup",
    summary="supervised SimCSE: NLI pairs with hard negatives; released weights, or trained here",
    parameters=_parameters("simcse-sup"),
    build=_build,
)
