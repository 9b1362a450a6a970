"""The registry's entries `simcse-unsup` and `simcse-sup`: released weights, or trained here if not there yet."""

from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from baselines.backbones import find_backbone
from baselines.corpora import NAMED, find_corpus
from baselines.simcse import processes
from baselines.simcse.corpus import open_corpus
from baselines.simcse.dev import DevSet
from baselines.simcse.folder import WORK, check_folder, read_card
from baselines.simcse.job import Job, fingerprint
from baselines.simcse.settings import TrainSettings, published
from baselines.simcse.train import train
from harness.data.hub import locked, writing
from harness.data.locate import BUNDLED, data_root
from harness.data.sts import sts_benchmark
from harness.encoders.catalog import MAX_TOKENS, EncoderEntry
from harness.encoders.checkpoint import Checkpoint, find_checkpoint
from harness.encoders.context import Context
from harness.encoders.loading import load_tokenizer
from harness.encoders.protocol import Encoder
from harness.encoders.transformer import Backbone, TransformerEncoder, build_transformer
from harness.errors import UsageError
from harness.registry import Parameter, Spec

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


def _parameters(method: str) -> tuple[Parameter, ...]:
    defaults: dict[str, Any] = asdict(published(method, "bert-base-uncased"))
    defaults |= {name: type(defaults[name])(0) for name in _PUBLISHED}
    named, bundled = _DATA[method]
    return (
        Parameter(name="backbone", default="bert-base-uncased", help="tiny (bundled), a hub name, or a folder"),
        Parameter(
            name="weights",
            default="auto",
            choices=("auto", "released", "trained"),
            help="auto: the authors' release where nothing but one of its backbones is asked for, else trained here",
        ),
        Parameter(
            name="data", default=None, help=f"{', '.join(NAMED)}, or a file; default: {named}, for tiny {bundled}"
        ),
        Parameter(
            name="dev",
            default="auto",
            choices=("auto", "sts-b", "mini", "none"),
            help="chooses the best step; auto: sts-b, for tiny the bundled mini set",
        ),
        Parameter(name="train_tokens", default=defaults["max_tokens"], help="training sentences are cut there"),
        *(Parameter(name=name, default=defaults[name], help=text) for name, text in _HELP.items()),
        MAX_TOKENS,
    )


def train_settings(spec: Spec) -> TrainSettings:
    """The specification's settings; what it leaves at 0 is taken from the paper's table.

    Raises:
        UsageError: if a value is impossible.
    """
    base = published(spec.name, str(spec.parameters["backbone"]))
    given: dict[str, Any] = {name: spec.parameters[name] for name in _HELP}
    given["max_tokens"] = spec.parameters["train_tokens"]
    given |= {name: getattr(base, name) for name in _PUBLISHED if not given[name]}
    return replace(base, **given)


def make_job(spec: Spec, context: Context, folder: Path | None = None, **options: Any) -> Job:
    """The training run behind a specification: data found and tokenised, backbone found, nothing trained yet.

    Args:
        spec: of `simcse-unsup` or `simcse-sup`.
        context: where data, cache and device are.
        folder: for the trained model; None: below `trained/` in the cache, under the run's fingerprint.
        **options: further attributes of `Job`.

    Raises:
        UsageError: if a name or a setting is impossible.
        DataError: if data are missing or damaged.
    """
    settings = train_settings(spec)
    name = str(spec.parameters["backbone"])
    backbone = find_backbone(name, offline=context.offline)
    tokenizer = load_tokenizer(backbone)
    longest = Backbone(backbone, context).max_tokens or backbone_limit(tokenizer)
    if settings.max_tokens > longest:
        raise UsageError(f"train_tokens={settings.max_tokens}: {name} reads {longest} at the most; lower it")
    text = find_corpus(str(spec.parameters["data"] or _DATA[spec.name][name == "tiny"]), context)
    if len(text.paths) > 1:
        raise UsageError(f"data={text.name}: {len(text.paths)} files, expected one to train on; name a file")
    job = Job(
        settings=settings,
        backbone=backbone,
        corpus=open_corpus(text.paths[0], tokenizer, settings, context.cache_dir, context.progress),
        dev=_dev_set(spec, context, tokenizer, longest),
        folder=folder or context.cache_dir,
        device=context.device,
        progress=context.progress,
        **options,
    )
    if folder is not None:
        return job
    return replace(job, folder=context.cache_dir / "trained" / fingerprint(job.identity())[:32])


def _dev_set(spec: Spec, context: Context, tokenizer: Any, longest: int) -> DevSet | None:
    name = str(spec.parameters["dev"])
    if name == "auto":
        name = "mini" if spec.parameters["backbone"] == "tiny" else "sts-b"
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
    with writing(job.folder, "--output or --cache-dir", "the model"), locked(job.folder / WORK / "lock"):
        return train(job)


def train_spec(spec: Spec, context: Context, output: Path | None = None, *, compile: bool = False) -> Mapping[str, Any]:
    """Train what the specification says and tell where it is: the entry point `bench.trainers`.

    Args:
        spec: of `simcse-unsup` or `simcse-sup`.
        context: where data, cache and device are.
        output: folder for the model; None: in the cache, where encoders look for it.
        compile: run the model through torch.compile.

    Returns:
        The card (`card.json`), `folder`, and `model`, the name under which a run finds the weights in the cache.

    Raises:
        UsageError: if the specification asks for released weights.
        BenchError: as `make_job` and `train`.
    """
    if spec.parameters["weights"] == "released":
        raise UsageError(f"{spec}: released weights are not trained here; drop weights=released")
    if _wants_release(spec):
        spec = replace(spec, parameters={**spec.parameters, "weights": "trained"})
    if output is not None:
        check_folder(output)
    job = make_job(spec, context, output, compile=compile)
    return {"model": str(spec), "folder": str(job.folder), **trained(job)}


def _build(spec: Spec, context: Context) -> Encoder:
    if _wants_release(spec):
        return _build_released(spec, context)
    job = make_job(spec, context)
    trained(job)
    encoder = build_transformer(
        str(spec),
        spec.name,
        Checkpoint(str(job.folder), job.folder),
        context,
        pooling=job.settings.pooling,
        parameters={**spec.parameters, **{name: getattr(job.settings, name) for name in _HELP}},
    )
    card = replace(
        encoder.card,
        backbone=job.backbone.name,
        revision=job.backbone.revision,
        trained_on=f"{job.corpus.name}@{job.corpus.sha256[:12]}",
        seed=job.settings.seed,
    )
    return TransformerEncoder(encoder.backbone, encoder.pooling, card)


def _wants_release(spec: Spec) -> bool:
    weights, backbone = spec.parameters["weights"], spec.parameters["backbone"]
    changed = [
        name
        for name, value in spec.parameters.items()
        if name not in ("backbone", "weights", "max_tokens") and value != spec.defaults[name]
    ]
    if weights == "released" and changed:
        raise UsageError(
            f"{spec}: weights=released goes with no training parameter, found {', '.join(changed)}; drop one"
        )
    if weights == "released" and backbone not in _RELEASED:
        raise UsageError(
            f"{spec}: released are the backbones {', '.join(_RELEASED)}, found {backbone}; use weights=trained"
        )
    return weights == "released" or (weights == "auto" and backbone in _RELEASED and not changed)


def _build_released(spec: Spec, context: Context) -> Encoder:
    """The authors' weights. Unsupervised ones hold a head that was for training only, so it is left out."""
    kind = spec.name.removeprefix("simcse-")
    repository = f"princeton-nlp/{kind}-simcse-{spec.parameters['backbone']}"
    return build_transformer(
        str(spec),
        spec.name,
        find_checkpoint(repository, offline=context.offline),
        context,
        pooling="cls_before_pooler" if kind == "unsup" else "cls",
        parameters=dict(spec.parameters),
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
