"""SimCSE's training, from a job to a folder: the run's step, and the loop.

Source: SimCSE paper, Appendix A; re-implemented from the behaviour of princeton-nlp/SimCSE at commit 49fa580. What is
done otherwise: random numbers are drawn per step (see `data`), and of the development sets only the chosen one is
encoded, where the reference runs SentEval: https://github.com/princeton-nlp/SimCSE/blob/49fa580/simcse/trainers.py#L93-L134
"""

import json
import logging
import math
import shutil
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from baselines.simcse import devices
from baselines.simcse.ablations import (
    Augment,
    Masked,
    Masker,
    make_augment,
    predict_words,
    vocabulary_layer,
)
from baselines.simcse.checkpoint import (
    CARD,
    WORK,
    RunFolder,
    check_folder,
    read_card,
    restore,
    save_checkpoint,
    write_card,
)
from baselines.simcse.data import DROPOUT, INIT, MASKING, Batch, Batches, draw_seed
from baselines.simcse.job import Job, fingerprint
from baselines.simcse.model import Optimizer, Trainee, contrastive_loss, make_model
from baselines.simcse.sealed import Damage
from baselines.simcse.settings import SimcseSup, SimcseUnsup
from harness import files
from harness.encoders.batching import prefetch
from harness.encoders.checkpoint import load_tokenizer
from harness.errors import EncoderError, ResultError, UsageError

_log = logging.getLogger(__name__)

# On an H200 recording a step of BERT-base takes 3 s, and a replay is 25 ms faster than the step; compiling it takes 35
# s more and saves a fifth, which is as much in a run of 170 s. Measured by benchmarks/gpu.py.
_RECORD_FROM = 100  # steps
_COMPILE_FROM = 3e16  # floating-point operations of a run


@dataclass(slots=True)
class _Window:
    """What happened since the last line of the log; tensors, so that nothing waits for the device."""

    losses: list[Tensor] = field(default_factory=list)
    norm: Tensor | None = None


def _augment(job: Job, tokenizer: Any) -> Augment | None:
    if not isinstance(job.settings, SimcseUnsup):
        return None
    name = job.settings.augmentation
    if name.startswith("mlm-"):
        return predict_words(job.backbone, tokenizer, int(name.removeprefix("mlm-")) / 100, job.device)
    return make_augment(name, tokenizer, job.settings.thesaurus)


class _Run:
    """A job in progress."""

    def __init__(self, job: Job) -> None:
        self.job, settings = job, job.settings
        device, self.rank, self.world = devices.join(job.device)
        self.device = torch.device(device)
        self.identity = job.identity()
        tokenizer = load_tokenizer(job.backbone)
        share = (self.rank, self.world)
        self.batches = Batches(job.corpus, settings, tokenizer.pad_token_id, _augment(job, tokenizer), share)
        torch.manual_seed(draw_seed(settings.seed, INIT))
        self.masker = Masker(tokenizer, settings.mlm_probability) if settings.mlm_weight else None
        vocabulary = vocabulary_layer(job.backbone) if self.masker else None
        trainee = Trainee(make_model(job.backbone, settings), settings, vocabulary)
        self.trainee = trainee.to(self.device).train()
        self.optimizer = Optimizer(self.trainee, settings, self.batches.total)
        self.folder = RunFolder(job.folder, fingerprint(self.identity), in_cache=job.in_cache)
        self.folder.claim()
        self.state = restore(self.folder.checkpoint, self.trainee, self.optimizer.adam)
        if self.state.best_score is not None:
            self.folder.best()
        self.optimizer.resume(self.state.step)
        self.saved = (self.state.step, time.monotonic())
        self.captured, self.compiled = self._plan()
        self.forward = self._compile() if self.compiled else self.trainee
        self.graphs = devices.Graphs(self._gradient, self.optimizer.update) if self.captured else None
        if self.device.type == "cuda":
            self.batches.quantum = 8 * -(-settings.train_tokens // 32)  # four shapes at the most
        self.window = _Window()
        self.clock = devices.Clock()

    def _plan(self) -> tuple[bool, bool]:
        """Whether the step is recorded, and whether it is compiled: by the job alone, so that a resumed run agrees."""
        job, total = self.job, self.batches.total
        possible = self.device.type == "cuda" and self.world == 1 and not (self.masker or job.settings.fixed_mask)
        if job.capture and not possible:
            raise UsageError("a step is recorded on one CUDA device, without mlm_weight and fixed_mask; drop capture")
        captured = possible and (total >= _RECORD_FROM if job.capture is None else job.capture)
        if job.compile is not None:
            return captured, job.compile
        blocks = sum(p.numel() for name, p in self.trainee.named_parameters() if "embeddings" not in name)
        tokens = total * (job.settings.batch_size or 0) * max(self.job.corpus.columns, 2) * job.settings.train_tokens
        long = 6 * blocks * tokens >= _COMPILE_FROM  # forward and backward
        return captured, captured and long and not job.deterministic and devices.can_compile()

    def _compile(self) -> Any:
        if self.captured:
            return torch.compile(self.trainee, dynamic=False)
        # With the uncompiled run's random numbers, so that the dropout masks are the same.
        return torch.compile(self.trainee, dynamic=True, options={"fallback_random": True})

    def prepare(self, step: int) -> tuple[Batch, Masked | None]:
        """Make a step's batch, on the CPU."""
        batch, masked = self.batches[step], None
        if self.masker:
            seed = draw_seed(self.job.settings.seed, MASKING, step, self.rank)
            masked = self.masker(batch.ids, batch.mask, seed)
        return batch.pinned() if self.device.type == "cuda" else batch, masked

    def advance(self, step: int, batch: Batch, masked: Masked | None) -> None:
        """Do one step; nothing here waits for a GPU."""
        self.optimizer.schedule(step)
        seed = draw_seed(self.job.settings.seed, DROPOUT, step, self.rank)
        if self.graphs is not None and len(batch.ids) == self.job.settings.batch_size:
            loss, norm = self.graphs(batch.ids, batch.mask, seed)
        else:
            batch = batch.to(self.device)
            sizes = self.batches.sizes(step) if self.world > 1 else None
            loss, norm = self._gradient(batch.ids, batch.mask, seed, masked, sizes)
            self.optimizer.update()
        self.window.losses.append(loss)
        self.window.norm = norm
        self.state.step = step + 1

    def _gradient(
        self,
        ids: Tensor,
        mask: Tensor,
        seed: int | None = None,
        masked: Masked | None = None,
        sizes: list[int] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Loss and gradient norm of (b, c, s) ids and mask; the clipped gradients stay with the weights."""
        settings = self.job.settings
        self.optimizer.adam.zero_grad(set_to_none=True)
        z = self.forward(ids, mask, seed).float()  # (b, c, d)
        loss = contrastive_loss(
            devices.gather(z, sizes or [len(z)]),
            temperature=settings.temperature,
            similarity=settings.similarity,
            hard_negative_weight=settings.hard_negative_weight if isinstance(settings, SimcseSup) else 0.0,
        )
        if masked is not None:
            loss = loss + settings.mlm_weight * self._share() * self.trainee.masked_loss(masked.to(self.device))
        loss.backward()  # type: ignore[no-untyped-call]
        parameters = list(self.trainee.parameters())
        devices.reduce_gradients(parameters, self.world, settings.gradient_scale)
        return loss.detach(), torch.nn.utils.clip_grad_norm_(parameters, settings.clip)

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
        good = f"{self.folder.checkpoint} (step {self.saved[0]})" if self.saved[0] else "none was written yet"
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
            self.folder.keep(self.trainee.first, self.job.backbone, self.state)
        return {f"dev_{name}": value for name, value in asdict(score).items()}

    def log_start(self) -> None:
        """Log the development scores before the first step, where curves begin; they choose no weights."""
        if self.job.dev is not None:
            scores = asdict(self.job.dev.score(self.trainee.first))
            self.folder.log({"step": 0} | {f"dev_{name}": value for name, value in scores.items()})

    def save(self) -> None:
        save_checkpoint(self.folder.checkpoint, self.trainee, self.optimizer.adam, self.state)
        self.saved = (self.state.step, time.monotonic())

    def finish(self, seconds: float) -> dict[str, Any]:
        """Move the chosen weights into the folder; the card comes last, and says that the folder is whole."""
        chosen = self.folder.settle(self.trainee.first, self.job.backbone, self.state)
        rate = self.clock.rate
        card = self.identity | {
            "fingerprint": self.folder.fingerprint,
            "pooling": self.job.settings.pooling,
            "steps": self.batches.total,
            **chosen,
            "run": {
                "seconds": round(seconds, 1),
                "sentences_per_second": rate and round(rate * (self.job.settings.batch_size or 0), 1),
                "device": str(self.device),
                "processes": self.world,
                "threads": torch.get_num_threads(),
                "length_groups": self.job.settings.length_groups,
                "captured": self.captured,
                "compiled": self.compiled,
                "deterministic": self.job.deterministic,
                "torch": torch.__version__,
            },
        }
        return write_card(self.job.folder, card)


def train(job: Job) -> dict[str, Any]:
    """Train, from the start or from the folder's checkpoint; a finished folder is left as it is.

    Damage to what an unfinished run left, or to a model in the cache, is one warning, and training starts anew.

    Same seed, settings, data and machine: the same weights, bit for bit on a CPU, however often the run was killed.

    Returns:
        The card, as in `card.json`.

    Raises:
        UsageError: if the folder belongs to another run or holds other files, or the settings do not fit the data.
        DataError: if the thesaurus cannot be read.
        EncoderError: if loss, weights or dev score are not finite; the last good checkpoint stays.
        ResultError: if a file of a finished folder outside the cache is not what training wrote.
    """
    if not job.in_cache:
        check_folder(job.folder)
    with files.writing(job.folder):
        card = _finished(job) or _train_or_restart(job)
        if devices.is_leader():
            shutil.rmtree(job.folder / WORK, ignore_errors=True)  # also what a kill behind the card has left
        return card


def _finished(job: Job) -> dict[str, Any] | None:
    """The card of the folder's run; None where there is none yet, or not any more because it was damaged."""
    try:
        card = read_card(job.folder)
        return None if card is None else _same_run(job, card)
    except Damage as damage:
        if not job.in_cache or devices.size() > 1:
            raise ResultError(f"{damage}; name another folder, or delete this one and train again") from damage
        _log.warning("%s; the model is trained anew", damage)
        shutil.rmtree(job.folder)
        return None


def _train_or_restart(job: Job) -> dict[str, Any]:
    try:
        return _train(job)
    except Damage as damage:
        if devices.size() > 1:  # they would delete under one another
            raise ResultError(f"{damage}; delete {job.folder / WORK} and train again") from damage
        _log.warning("%s; training starts anew", damage)
    RunFolder(job.folder, "").restart()
    return _train(job)


def _train(job: Job) -> dict[str, Any]:
    with (
        torch.random.fork_rng(devices=range(torch.cuda.device_count())),
        devices.gpu_settings(deterministic=job.deterministic),
    ):
        run = _Run(job)
        run.folder.cut_log(run.state.step or -1)
        started = time.monotonic()
        if run.state.step == 0 and run.rank == 0:
            run.log_start()
        _loop(run)
        card = run.finish(time.monotonic() - started) if run.rank == 0 else {}
        devices.wait(run.world)
        return card or json.loads((job.folder / CARD).read_text(encoding="utf-8"))


def _same_run(job: Job, card: dict[str, Any]) -> dict[str, Any]:
    wanted = job.identity()
    if card["fingerprint"] == fingerprint(wanted):
        return card
    if job.in_cache:
        raise Damage(f"{job.folder / CARD}: the card of another run, expected that of the folder's name")
    names = dict.fromkeys([*wanted, *(["thesaurus"] if "thesaurus" in card else [])])
    parts = ", ".join(part for part in names if card.get(part) != json.loads(json.dumps(wanted.get(part))))
    raise UsageError(
        f"{job.folder}: holds the finished run of another {parts}, expected this run's or nothing; name another folder"
    )


def _loop(run: _Run) -> None:
    job, total = run.job, run.batches.total
    assert job.settings.eval_every is not None
    steps = range(run.state.step, total)
    with closing(prefetch(run.prepare, steps)) as prepared:
        for step, (batch, masked) in zip(steps, prepared, strict=True):
            run.advance(step, batch, masked)
            done = step + 1
            # As in the reference, steps after the last multiple are not evaluated.
            evaluates = job.dev is not None and done % job.settings.eval_every == 0
            if not (evaluates or done % job.log_every == 0 or done == total):
                continue
            line = run.report()
            run.clock.stop(done, run.graphs.recorded if run.graphs else 0)
            if run.rank == 0:
                if evaluates:
                    line |= run.evaluate()
                run.folder.log(line)
                if time.monotonic() - run.saved[1] >= job.checkpoint_seconds and done < total:
                    run.save()
                job.progress("training", done, total, _figures(line, run.state.best_score))
            run.clock.start(done)


def _figures(line: Mapping[str, float], best: float | None) -> str:
    """The loss, and the best dev score so far, as progress shows them."""
    return f"loss {line['loss']:.4f}" + ("" if best is None else f", best dev Spearman {100 * best:.2f}")
