"""The encoders of `simcse-unsup` and `simcse-sup`: released weights, or trained here if not there yet."""

import hashlib
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from baselines.simcse import devices
from baselines.simcse.ablations import thesaurus_sha256
from baselines.simcse.checkpoint import LOG, check_folder, fingerprint
from baselines.simcse.data import Batches, DevSet, open_corpus
from baselines.simcse.recipe import Job, train
from baselines.simcse.settings import Settings, SimcseUnsup, published
from baselines.transformers import find_backbone, without_place
from harness import files
from harness.data.locate import BUNDLED, data_root
from harness.data.named_texts import find_text, name_in_records
from harness.data.sts import sts_benchmark
from harness.data.text import Text
from harness.derived import lock_of
from harness.encoders.checkpoint import load_tokenizer, weight_files
from harness.encoders.context import Context
from harness.encoders.entry import Cost, Work
from harness.encoders.protocol import Encoder
from harness.encoders.registry import Resolved, fill
from harness.encoders.repository import find_checkpoint, open_checkpoint
from harness.encoders.training import TrainingOptions, TrainingRun
from harness.encoders.transformer import Backbone, TransformerEncoder, build_transformer
from harness.errors import UsageError, WriteError
from harness.integrations.trackers import FollowedLog
from harness.names import STS_B_DEV, Spec, Value

_log = logging.getLogger(__name__)

# https://github.com/princeton-nlp/SimCSE/blob/49fa580/README.md?plain=1#L52-L63
_RELEASED = ("bert-base-uncased", "bert-large-uncased", "roberta-base", "roberta-large")
_DATA = {"simcse-unsup": ("wiki", "mini-wiki"), "simcse-sup": ("nli", "mini-nli")}  # of the paper; with backbone=tiny


def make_job(settings: Settings, context: Context, options: TrainingOptions | None = None) -> Job:
    """Make the training run behind a method's parameters: data and backbone are found, nothing is trained yet.

    Args:
        settings: parameters; what is not set is taken from the paper's table.
        context: where data, cache and device are.
        options: how to train, and the folder; without one the model goes below `trained/` in the cache, under the run's
            fingerprint.

    Raises:
        UsageError: if a name or a setting is impossible.
        DataError: if data are missing or damaged.
    """
    options = options or TrainingOptions()
    settings, name = published(settings), settings.backbone
    backbone = find_backbone(name, context)
    tokenizer = load_tokenizer(backbone)
    longest = Backbone(backbone, context).max_tokens or backbone_limit(tokenizer)
    if settings.train_tokens > longest:
        raise UsageError(f"train_tokens={settings.train_tokens}: {name} reads {longest} at the most; lower it")
    text = _text(settings, context)
    job = Job(
        settings=settings,
        backbone=backbone,
        corpus=open_corpus(text.files[0], tokenizer, settings, context.cache_dir, context.progress),
        dev=_dev_set(settings, context, tokenizer, longest),
        folder=options.output or context.cache_dir,
        device=context.device,
        progress=context.progress,
        compile=options.compile,
        deterministic=options.deterministic,
    )
    if options.output is not None:
        return job
    return replace(job, folder=context.cache_dir / "trained" / fingerprint(job.identity())[:32], in_cache=True)


def _text(settings: Settings, context: Context) -> Text:
    text = find_text(settings.data or _DATA[settings.method][settings.backbone == "tiny"], context, settings.sentences)
    if len(text.files) > 1:
        raise UsageError(f"data={text.label}: {len(text.files)} files, expected one to train on; name a file")
    columns = text.files[0].sentence_columns
    if settings.sentences is not None and len(columns) > 1:
        raise UsageError(
            f"sentences={settings.sentences}: {text.label} has {len(columns)} columns of sentences, expected one "
            "sentence a line; drop it"
        )
    return text


def _dev_set(settings: Settings, context: Context, tokenizer: Any, longest: int) -> DevSet | None:
    name = settings.dev
    if name == "auto":
        name = "mini" if settings.backbone == "tiny" else "sts-b"
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


def train_once(job: Job, cache_dir: Path) -> dict[str, Any]:
    """Train, or find it trained, and return the card. A second process that asks for the same folder waits.

    The lock is in the cache: nothing is left beside a folder that the user named.
    """
    if devices.size() > 1:
        return train(job)
    name = hashlib.sha256(os.fsencode(job.folder.resolve())).hexdigest()[:32]
    with files.lock_if_possible(lock_of(cache_dir / "trained" / name)):
        return train(job)


def _trained(job: Job, cache_dir: Path) -> Path:
    """The folder of the trained model: in the cache, or where that takes nothing in a temporary one."""
    try:
        train_once(job, cache_dir)
        return job.folder
    except WriteError as error:
        if devices.size() > 1:  # each would have a folder of its own
            raise
        _log.warning("%s; the model is trained in a temporary folder and not kept", error)
    folder = Path(_room().name) / job.folder.name
    train_once(replace(job, folder=folder), cache_dir)
    return folder


@cache
def _room() -> "TemporaryDirectory[str]":
    """A folder that is there as long as this process."""
    return TemporaryDirectory(prefix="bench-")


def train_spec(asked: Resolved, context: Context, options: TrainingOptions) -> TrainingRun:
    """Train what the specification says: the entry point `bench.trainers`.

    Args:
        asked: a specification of `simcse-unsup` or `simcse-sup`.
        context: where data, cache and device are.
        options: how, and into which folder.

    Raises:
        UsageError: if the specification asks for released weights.
        BenchError: as `make_job` and `train`.
    """
    if asked.parameters.weights == "released":
        raise UsageError(f"{asked.spec}: released weights are not trained here; drop weights=released")
    if _wants_release(asked.spec, asked.parameters):
        asked = fill(asked.entry, asked.spec.replaced(weights="trained").given)
    if options.output is not None:
        check_folder(options.output)
    job = make_job(asked.parameters, context, options)
    with _follow_log(job, options) as tracked:
        card = train_once(tracked, context.cache_dir)
    return TrainingRun(
        model=str(_without_paths(asked.spec, asked.parameters, context)[0]),
        folder=job.folder,
        steps=card["steps"],
        selected_step=card["selected"]["step"],
        dev_spearman=card["selected"]["dev_spearman"],
        rows=card["data"]["rows"],
        blank=card["data"]["blank"],
        card=card,
    )


@contextmanager
def _follow_log(job: Job, options: TrainingOptions) -> Iterator[Job]:
    """The job, whose log also goes to the trackers; of several processes one sends it."""
    if not (options.track and devices.is_leader()):
        yield job
        return
    identity = job.identity()
    card = identity | {"fingerprint": fingerprint(identity)}
    with FollowedLog(options.track, options.track_dir, card, job.folder / LOG) as log:

        def follow(what: str, done: int, total: int, detail: str = "", /) -> None:
            job.progress(what, done, total, detail)
            if what == "training":
                log.follow()

        yield replace(job, progress=follow)


def _without_paths(spec: Spec, settings: Settings, context: Context) -> tuple[Spec, dict[str, Value | None]]:
    """The specification and the parameters for cards: files and folders by name and content, not by their paths."""
    spec, parameters = without_place(spec, settings, context)
    shown: dict[str, Value | None] = {}
    if settings.data is not None:
        shown["data"] = name_in_records(settings.data, _text(settings, context), context.cache_dir)
    if isinstance(settings, SimcseUnsup) and settings.thesaurus is not None:
        shown["thesaurus"] = f"{Path(settings.thesaurus).name}@{thesaurus_sha256(settings.thesaurus)[:12]}"
    return spec.replaced(**shown), parameters | shown


def build_simcse(spec: Spec, chosen: Settings, context: Context) -> Encoder:
    """The encoder of a specification.

    Raises:
        BenchError: as `make_job` and `train_once`.
    """
    if _wants_release(spec, chosen):
        return _build_released(spec, chosen, context)
    job = make_job(chosen, context)
    folder = _trained(job, context.cache_dir)
    encoder = build_transformer(
        str(spec),
        spec.name,
        open_checkpoint(folder, str(folder)),
        context,
        pooling=job.settings.pooling,
        parameters=asdict(job.settings),
    )
    text = _text(chosen, context)
    shown, parameters = _without_paths(spec, job.settings, context)
    card = replace(
        encoder.card,
        name=str(shown),
        parameters=parameters,
        backbone=job.backbone.title,
        revision=job.backbone.revision,
        trained_on=text.name,
        selected_on={"sts-b": STS_B_DEV, "mini": "mini STS dev"}[job.dev.name] if job.dev else None,
        seed=job.settings.seed,
    )
    return TransformerEncoder(encoder.backbone, encoder.pooling, card)


def training_of(spec: Spec, chosen: Settings) -> Work | None:
    """A training, unless the weights are released."""

    def cost(context: Context) -> Cost:
        job = make_job(chosen, context)
        steps = Batches(job.corpus, job.settings, 0, None, (0, 1)).total
        return Cost(
            done=(job.folder / "card.json").is_file(),
            steps=steps,
            texts=steps * (job.settings.batch_size or 0),
            model_bytes=sum(path.stat().st_size for path in weight_files(job.backbone)),
        )

    return None if _wants_release(spec, chosen) else Work("train", cost)


def _wants_release(spec: Spec, chosen: Settings) -> bool:
    changed = [name for name in spec.given if name not in ("backbone", "weights", "max_tokens")]
    if chosen.weights == "released" and changed:
        raise UsageError(
            f"{spec}: weights=released goes with no training parameter, found {', '.join(changed)}; drop one"
        )
    if chosen.weights == "released" and chosen.backbone not in _RELEASED:
        raise UsageError(
            f"{spec}: released are the backbones {', '.join(_RELEASED)}, found {chosen.backbone}; use weights=trained"
        )
    return chosen.weights == "released" or (chosen.weights == "auto" and chosen.backbone in _RELEASED and not changed)


def _build_released(spec: Spec, chosen: Settings, context: Context) -> Encoder:
    """The authors' weights. Unsupervised ones hold a head that was for training only, so it is left out."""
    kind = spec.name.removeprefix("simcse-")
    return build_transformer(
        str(spec),
        spec.name,
        find_checkpoint(f"princeton-nlp/{kind}-simcse-{chosen.backbone}", offline=context.offline),
        context,
        pooling="cls_before_pooler" if kind == "unsup" else "cls",
        parameters=asdict(chosen),
    )
