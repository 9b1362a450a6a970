"""The training loop.

Source: SimCSE paper, Appendix A; SimCSE (49fa580) train.py and simcse/trainers.py, re-implemented from their behaviour.
What we do otherwise: random numbers are drawn per step (see `batches`), and only the development pairs are encoded.
"""

import hashlib
import json
import math
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from baselines.simcse import processes
from baselines.simcse.augment import Augment, make_augment, thesaurus_sha256
from baselines.simcse.batches import DROPOUT, INIT, MASKING, Batches, draw_seed
from baselines.simcse.checkpoints import restore, save_checkpoint
from baselines.simcse.corpus import Corpus, load_tokenizer
from baselines.simcse.dev import DevSet
from baselines.simcse.folder import CARD, LOG, WORK, check_folder, cut_log, read_card, write_json
from baselines.simcse.mlm import Masker, predicted_words, vocabulary_layer
from baselines.simcse.model import make_model, save_model
from baselines.simcse.objective import contrastive_loss
from baselines.simcse.optimizer import Optimizer
from baselines.simcse.settings import TrainSettings
from baselines.simcse.trainee import Trainee
from harness.encoders.checkpoint import Checkpoint, weights_sha256
from harness.encoders.context import Progress, silent
from harness.errors import EncoderError, UsageError

_SELECTED = "selected.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What to train, on what, and where to put it.

    Attributes:
        settings: all knobs.
        backbone: pretrained checkpoint to start from.
        corpus: tokenised data.
        dev: chooses the best step; None: the last step's weights are kept.
        folder: becomes a Hugging Face folder with `card.json` and `log.jsonl`; holds the checkpoint until then.
        device: torch device string.
        progress: told of steps.
        checkpoint_seconds: a checkpoint is at least so old before the next one is written.
        log_every: steps per line of the log; the losses are looked at as often, so that a GPU need not wait.
        compile: run the model through torch.compile; same dropout masks, results differ by rounding.
    """

    settings: TrainSettings
    backbone: Checkpoint
    corpus: Corpus
    dev: DevSet | None
    folder: Path
    device: str = "cpu"
    progress: Progress = silent
    checkpoint_seconds: float = 120.0
    log_every: int = 10
    compile: bool = False

    def identity(self) -> dict[str, Any]:
        """Everything that decides the weights; of a thesaurus the name and the content, wherever the file lies.

        Raises:
            DataError: if the thesaurus cannot be read.
        """
        settings, thesaurus = asdict(self.settings), self.settings.thesaurus
        parts: dict[str, Any] = {
            "settings": settings,
            "backbone": {"name": self.backbone.name, "sha256": weights_sha256(self.backbone)},
            "data": {"name": self.corpus.name, "sha256": self.corpus.sha256, **asdict(self.corpus.facts)},
            "dev": {"name": self.dev.name, "sha256": self.dev.sha256} if self.dev else None,
        }
        if thesaurus is not None:
            settings["thesaurus"] = Path(thesaurus).name
            parts["thesaurus"] = {"name": Path(thesaurus).name, "sha256": thesaurus_sha256(thesaurus)}
        return parts


def _augment(job: Job, tokenizer: Any) -> Augment | None:
    name = job.settings.augmentation
    if name.startswith("mlm-"):
        return predicted_words(job.backbone, tokenizer, int(name.removeprefix("mlm-")) / 100)
    return make_augment(name, tokenizer, job.settings.thesaurus)


def fingerprint(identity: Mapping[str, Any]) -> str:
    """Sha256 (hex) of `Job.identity`."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


@dataclass(slots=True)
class _Window:
    """What happened since the last line of the log; tensors, so that nothing waits for the device."""

    losses: list[Tensor] = field(default_factory=list)
    norm: Tensor | None = None


class _Run:
    """A job in progress."""

    def __init__(self, job: Job) -> None:
        self.job = job
        device, self.rank, self.world = processes.join(job.device)
        self.device = torch.device(device)
        self.work = job.folder / WORK
        self.checkpoint = self.work / "checkpoint.safetensors"
        self.identity = job.identity()
        self.key = fingerprint(self.identity)
        tokenizer = load_tokenizer(job.backbone)
        augment = _augment(job, tokenizer)
        share = (self.rank, self.world)
        self.batches = Batches(job.corpus, job.settings, tokenizer.pad_token_id, augment, share)
        torch.manual_seed(draw_seed(job.settings.seed, INIT))
        self.masker = Masker(tokenizer, job.settings.mlm_probability) if job.settings.mlm_weight else None
        vocabulary = vocabulary_layer(job.backbone) if self.masker else None
        trainee = Trainee(make_model(job.backbone, job.settings), job.settings, vocabulary)
        self.trainee = trainee.to(self.device).train()
        self.optimizer = Optimizer(self.trainee, job.settings, self.batches.total)
        self.state = restore(self.checkpoint, self.key, self.trainee, self.optimizer.adam)
        self.saved = (self.state.step, time.monotonic())
        self.forward = _compiled(self.trainee) if job.compile else self.trainee
        self.window = _Window()

    def advance(self, step: int) -> None:
        settings = self.job.settings
        batch = self.batches[step]
        masked = self.masker(batch, draw_seed(settings.seed, MASKING, step, self.rank)) if self.masker else None
        batch = batch.to(self.device)
        z = self.forward(batch, draw_seed(settings.seed, DROPOUT, step, self.rank))
        loss = contrastive_loss(
            processes.gather(z.float(), self.batches.sizes(step) if self.world > 1 else [len(z)]),
            temperature=settings.temperature,
            similarity=settings.similarity,
            hard_negative_weight=settings.hard_negative_weight,
        )
        if masked is not None:
            loss = loss + settings.mlm_weight * self._share() * self.trainee.masked_loss(masked.to(self.device))
        loss.backward()  # type: ignore[no-untyped-call]
        parameters = list(self.trainee.parameters())
        processes.reduce_gradients(parameters, self.world, settings.gradient_scale)
        self.window.norm = torch.nn.utils.clip_grad_norm_(parameters, settings.clip)
        self.optimizer.advance(step)
        self.window.losses.append(loss.detach())
        self.state.step = step + 1

    def _share(self) -> float:
        """The masked loss is a process's own, and not gathered: summed gradients would count it once per process."""
        return 1 / self.world if self.job.settings.gradient_scale == "sum" else 1.0

    def report(self) -> dict[str, float]:
        """The log's line for the steps since the last one.

        Raises:
            EncoderError: if a loss is not finite.
        """
        losses = torch.stack(self.window.losses).tolist()
        done = self.state.step
        for step, loss in enumerate(losses, start=done - len(losses)):
            if not math.isfinite(loss):
                good = f"{self.checkpoint} (step {self.saved[0]})" if self.saved[0] else "none was written yet"
                raise EncoderError(
                    f"step {step + 1}: the loss is {loss} at learning rate {self.optimizer.rate(step):.3g}, expected a "
                    f"number; lower the learning rate or raise the temperature; last good checkpoint: {good}"
                )
        norm = float(self.window.norm) if self.window.norm is not None else 0.0
        self.window = _Window()
        return {
            "step": done,
            "loss": sum(losses) / len(losses),
            "learning_rate": self.optimizer.rate(done - 1),
            "gradient_norm": norm,
        }

    def evaluate(self) -> dict[str, float]:
        """Score the development set; keep the weights if they are the best so far."""
        if self.job.dev is None:
            return {}
        score = self.job.dev.score(self.trainee.first)
        if self.state.best_score is None or score.spearman > self.state.best_score:
            self.state.best_score, self.state.best_step = score.spearman, self.state.step
            self._keep()
        return {f"dev_{name}": value for name, value in asdict(score).items()}

    def _keep(self) -> None:
        draft, best = self.work / "draft", self.work / f"best-{self.state.best_step:09d}"
        shutil.rmtree(draft, ignore_errors=True)
        save_model(self.trainee.first, self.job.backbone, draft)
        write_json(draft / _SELECTED, {"step": self.state.best_step, "dev_spearman": self.state.best_score})
        shutil.rmtree(best, ignore_errors=True)
        draft.replace(best)
        for older in self.work.glob("best-*"):
            if older != best:
                shutil.rmtree(older)

    def save(self) -> None:
        save_checkpoint(self.checkpoint, self.key, self.trainee, self.optimizer.adam, self.state)
        self.saved = (self.state.step, time.monotonic())

    def finish(self, seconds: float) -> dict[str, Any]:
        """Move the chosen weights into the folder; the card comes last, and says that the folder is whole."""
        selected: dict[str, Any] = {"step": self.state.step, "dev_spearman": None}
        if self.state.best_score is None:
            save_model(self.trainee.first, self.job.backbone, self.job.folder)
        else:
            best = max(self.work.glob("best-*"))
            selected = json.loads((best / _SELECTED).read_text(encoding="utf-8"))
            shutil.copytree(best, self.job.folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(_SELECTED))
        card = self.identity | {
            "fingerprint": self.key,
            "pooling": self.job.settings.pooling,
            "steps": self.batches.total,
            "selected": selected,
            "run": {
                "seconds": round(seconds, 1),
                "device": str(self.device),
                "processes": self.world,
                "threads": torch.get_num_threads(),
                "compiled": self.job.compile,
                "torch": torch.__version__,
            },
        }
        write_json(self.job.folder / CARD, card)
        shutil.rmtree(self.work)
        return card


def _compiled(trainee: Trainee) -> Any:
    """Through torch.compile, with the uncompiled run's random numbers, so that the dropout masks are the same."""
    return torch.compile(trainee, dynamic=True, options={"fallback_random": True})


def train(job: Job) -> dict[str, Any]:
    """Train, from the start or from the folder's checkpoint; a finished folder is left as it is.

    Same seed, settings, data and machine: the same weights, bit for bit on a CPU, however often the run was killed.

    Returns:
        The card, as in `card.json`.

    Raises:
        UsageError: if the folder belongs to another run or holds other files, or the settings do not fit the data.
        DataError: if the thesaurus cannot be read.
        EncoderError: if the loss is not finite; the last good checkpoint stays.
        ResultError: if a checkpoint cannot be written or read, or the card is damaged.
    """
    check_folder(job.folder)
    finished = read_card(job.folder)
    if finished is not None:
        return _same_run(job, finished)
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        run = _Run(job)
        run.work.mkdir(parents=True, exist_ok=True)
        cut_log(job.folder / LOG, run.state.step)
        started = time.monotonic()
        _loop(run)
        card = run.finish(time.monotonic() - started) if run.rank == 0 else {}
        processes.wait(run.world)
        return card or json.loads((job.folder / CARD).read_text(encoding="utf-8"))


def _same_run(job: Job, card: dict[str, Any]) -> dict[str, Any]:
    wanted = job.identity()
    if card["fingerprint"] == fingerprint(wanted):
        return card
    names = dict.fromkeys([*wanted, *(["thesaurus"] if "thesaurus" in card else [])])
    parts = ", ".join(part for part in names if card.get(part) != json.loads(json.dumps(wanted.get(part))))
    raise UsageError(
        f"{job.folder}: holds the finished run of another {parts}, expected this run's or nothing; name another folder"
    )


def _loop(run: _Run) -> None:
    job, total = run.job, run.batches.total
    for step in range(run.state.step, total):
        run.advance(step)
        done = step + 1
        evaluates = job.dev is not None and done % job.settings.eval_every == 0
        if not (evaluates or done % job.log_every == 0 or done == total):
            continue
        line = run.report()
        if run.rank == 0:
            if evaluates:
                line |= run.evaluate()
            with (job.folder / LOG).open("a", encoding="utf-8") as log:
                log.write(json.dumps(line) + "\n")
            if time.monotonic() - run.saved[1] >= job.checkpoint_seconds and done < total:
                run.save()
            job.progress("training", done, total)
