"""The training loop.

Source: SimCSE paper, Appendix A; SimCSE (49fa580) train.py and simcse/trainers.py, re-implemented from their behaviour.
What we do otherwise: random numbers are drawn per step (see `batches`), and only the development pairs are encoded.
"""

import json
import math
import shutil
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from baselines.simcse import processes
from baselines.simcse.augment import Augment, make_augment
from baselines.simcse.batches import DROPOUT, INIT, MASKING, Batches, draw_seed
from baselines.simcse.checkpoints import restore, save_checkpoint
from baselines.simcse.folder import CARD, LOG, WORK, check_folder, claim, cut_log, log_line, read_card, write_json
from baselines.simcse.job import Job, fingerprint
from baselines.simcse.mlm import Masker, predicted_words, vocabulary_layer
from baselines.simcse.model import make_model, save_model
from baselines.simcse.objective import contrastive_loss
from baselines.simcse.optimizer import Optimizer
from baselines.simcse.trainee import Trainee
from harness import files
from harness.encoders.checkpoint import load_tokenizer
from harness.errors import EncoderError, ResultError, UsageError

_SELECTED = "selected.json"


def _augment(job: Job, tokenizer: Any) -> Augment | None:
    name = job.settings.augmentation
    if name.startswith("mlm-"):
        return predicted_words(job.backbone, tokenizer, int(name.removeprefix("mlm-")) / 100)
    return make_augment(name, tokenizer, job.settings.thesaurus)


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
        claim(self.work, self.key)
        self.state = restore(self.checkpoint, self.trainee, self.optimizer.adam)
        if self.state.best_score is not None:
            self._best()
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
            EncoderError: if a loss or a weight is not finite, so that nothing broken is evaluated or saved.
        """
        losses = torch.stack(self.window.losses).tolist()
        done = self.state.step
        for step, loss in enumerate(losses, start=done - len(losses)):
            if not math.isfinite(loss):
                raise self._diverged(step, f"the loss is {loss}")
        if not torch.stack(torch._foreach_norm(list(self.trainee.parameters()))).isfinite().all():
            raise self._diverged(done - 1, "the weights are not finite")
        norm = float(self.window.norm) if self.window.norm is not None else 0.0
        self.window = _Window()
        return {
            "step": done,
            "loss": sum(losses) / len(losses),
            "learning_rate": self.optimizer.rate(done - 1),
            "gradient_norm": norm,
        }

    def _diverged(self, step: int, found: str) -> EncoderError:
        good = f"{self.checkpoint} (step {self.saved[0]})" if self.saved[0] else "none was written yet"
        return EncoderError(
            f"step {step + 1}: {found} at learning rate {self.optimizer.rate(step):.3g}, expected a number; lower the "
            f"learning rate or raise the temperature; last good checkpoint: {good}"
        )

    def evaluate(self) -> dict[str, float]:
        """Score the development set; keep the weights if they are the best so far.

        Raises:
            EncoderError: if the score is undefined.
        """
        if self.job.dev is None:
            return {}
        score = self.job.dev.score(self.trainee.first)
        if not math.isfinite(score.spearman):
            raise self._diverged(self.state.step - 1, f"the score on {self.job.dev.name} dev is undefined")
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

    def _best(self) -> Path:
        found = max(self.work.glob("best-*"), default=None)
        if found is None:
            raise ResultError(
                f"{self.work}: no folder best-*, expected the weights of the best step so far; delete this folder and "
                "train again"
            )
        return found

    def save(self) -> None:
        save_checkpoint(self.checkpoint, self.trainee, self.optimizer.adam, self.state)
        self.saved = (self.state.step, time.monotonic())

    def finish(self, seconds: float) -> dict[str, Any]:
        """Move the chosen weights into the folder; the card comes last, and says that the folder is whole."""
        selected: dict[str, Any] = {"step": self.state.step, "dev_spearman": None}
        if self.state.best_score is None:
            save_model(self.trainee.first, self.job.backbone, self.job.folder)
        else:
            best = self._best()
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
        EncoderError: if loss, weights or dev score are not finite; the last good checkpoint stays.
        ResultError: if a checkpoint cannot be read, or the card is damaged.
    """
    check_folder(job.folder)
    with files.writing(job.folder):
        card = read_card(job.folder)
        card = _train(job) if card is None else _same_run(job, card)
        if processes.leads():
            shutil.rmtree(job.folder / WORK, ignore_errors=True)  # also what a kill behind the card has left
        return card


def _train(job: Job) -> dict[str, Any]:
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        run = _Run(job)
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
                log.write(log_line(line))
            if time.monotonic() - run.saved[1] >= job.checkpoint_seconds and done < total:
                run.save()
            job.progress("training", done, total)
