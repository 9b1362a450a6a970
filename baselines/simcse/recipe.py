"""SimCSE's training, from a job to a folder: what a run is asked, its step, and the loop.

Source: SimCSE paper, Appendix A; re-implemented from the behaviour of princeton-nlp/SimCSE at commit 49fa580. What is
done otherwise: random numbers are drawn per step (see `data`), and of the development sets only the chosen one is
encoded, where the reference runs SentEval: https://github.com/princeton-nlp/SimCSE/blob/49fa580/simcse/trainers.py#L93-L134
"""

import hashlib
import json
import logging
import math
import shutil
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from baselines.simcse import checkpoint, devices
from baselines.simcse.ablations import Masked, Masker, make_augment, thesaurus_sha256, vocabulary_layer
from baselines.simcse.data import DROPOUT, INIT, MASKING, Batches, Corpus, draw_seed
from baselines.simcse.model import DevSet, Optimizer, Trainee, contrastive_loss, make_model, save_model
from baselines.simcse.settings import Settings, SimcseSup, SimcseUnsup
from harness import files
from harness.encoders.batching import prefetch
from harness.encoders.checkpoint import Checkpoint, load_tokenizer
from harness.encoders.context import to_device
from harness.errors import EncoderError, ResultError, UsageError
from harness.progress import Progress, silent

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What to train, on what, and where to put it.

    Attributes:
        settings: the parameters, completed by `settings.published`.
        backbone: pretrained checkpoint to start from.
        corpus: tokenised data.
        dev: chooses the best step; None: the last step's weights are kept.
        folder: becomes a Hugging Face folder with `card.json` and `log.jsonl`; holds the checkpoint until then.
        in_cache: the folder is named after the run in the cache, and is made anew where it is damaged.
        device: torch device string.
        progress: told of steps.
        checkpoint_seconds: a checkpoint is at least so old before the next one is written.
        log_every: steps per line of the log; the losses are looked at as often, so that a GPU need not wait.
        compile: run the step through torch.compile; results differ by rounding. None: on a GPU, where a run is so long
            that it pays.
        capture: on a GPU, record the step as a CUDA graph and replay it; None: where it can be done and pays.
        deterministic: on a GPU, take only operations that give the same bits each time.
    """

    settings: Settings
    backbone: Checkpoint
    corpus: Corpus
    dev: DevSet | None
    folder: Path
    in_cache: bool = False
    device: str = "cpu"
    progress: Progress = silent
    checkpoint_seconds: float = 120.0
    log_every: int = 10
    compile: bool | None = None
    capture: bool | None = None
    deterministic: bool = False

    def identity(self) -> dict[str, Any]:
        """Everything that decides the weights; of a thesaurus the name and the content, wherever the file lies.

        Raises:
            DataError: if the thesaurus cannot be read.
        """
        settings = self.settings.decisive
        parts: dict[str, Any] = {
            "settings": settings,
            "backbone": _backbone(self.backbone),
            "data": {"name": self.corpus.name, "sha256": self.corpus.sha256, **asdict(self.corpus.facts)},
            "dev": {"name": self.dev.name, "sha256": self.dev.sha256} if self.dev else None,
        }
        if isinstance(self.settings, SimcseUnsup) and self.settings.thesaurus is not None:
            path = self.settings.thesaurus
            settings["thesaurus"] = Path(path).name
            parts["thesaurus"] = {"name": Path(path).name, "sha256": thesaurus_sha256(path)}
        return parts


def _backbone(source: Checkpoint) -> dict[str, str]:
    """Its weights; of a folder also the other files that decide the network, and not how its path was written."""
    facts = {"name": source.title, "sha256": source.weights_sha256}
    if source.revision:
        return facts | {"revision": source.revision}
    if source.name != str(source.folder):  # bundled
        return facts
    return facts | {key: str(value) for key, value in source.content.items() if key in ("config", "tokenizer")}


def fingerprint(identity: Mapping[str, Any]) -> str:
    """Sha256 (hex) of `Job.identity` without the names of files, which decide nothing."""
    parts = {
        part: {k: v for k, v in facts.items() if k != "name"} if facts else None for part, facts in identity.items()
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


class _Run:
    """A job in progress."""

    def __init__(self, job: Job) -> None:
        self.job, settings = job, job.settings
        device, self.rank, self.world = devices.join(job.device)
        self.device = torch.device(device)
        self.identity = job.identity()
        tokenizer = load_tokenizer(job.backbone)
        augment = None
        if isinstance(settings, SimcseUnsup):
            augment = make_augment(settings.augmentation, tokenizer, settings.thesaurus, job.backbone, device)
        self.batches = Batches(job.corpus, settings, tokenizer.pad_token_id, augment, (self.rank, self.world))
        torch.manual_seed(draw_seed(settings.seed, INIT))
        self.masker = Masker(tokenizer, settings.mlm_probability) if settings.mlm_weight else None
        vocabulary = vocabulary_layer(job.backbone) if self.masker else None
        trainee = Trainee(make_model(job.backbone, settings), settings, vocabulary)
        self.trainee = trainee.to(self.device).train()
        self.write = partial(save_model, self.trainee.first, job.backbone)
        self.optimizer = Optimizer(self.trainee, settings, self.batches.total)
        self.folder = checkpoint.RunFolder(job.folder, fingerprint(self.identity), in_cache=job.in_cache)
        self.folder.claim()
        self.state = checkpoint.restore(self.folder.checkpoint, self.trainee, self.optimizer.adam)
        if self.state.best_score is not None:
            self.folder.best()
        self.optimizer.resume(self.state.step)
        self.saved = (self.state.step, time.monotonic())
        self.captured, self.compiled = self._plan()
        self.forward = devices.compiled(self.trainee, recorded=self.captured) if self.compiled else self.trainee
        self.graphs = devices.Graphs(self._gradient, self.optimizer.update, self.device) if self.captured else None
        if self.captured or self.device.type == "cuda":
            self.batches.quantum = 8 * -(-settings.train_tokens // 32)  # four shapes at the most
        # Since the last line of the log; tensors, so that nothing waits for the device.
        self.losses, self.norm = list[Tensor](), torch.zeros(())
        self.clock = devices.Clock()

    def _plan(self) -> tuple[bool, bool]:
        """Whether the step is recorded, and whether it is compiled: by the job alone, so that a resumed run agrees."""
        job, total = self.job, self.batches.total
        # The views of a fixed mask start from one seed, and a generator cannot be set back within a recording.
        possible = self.device.type == "cuda" and self.world == 1 and not job.settings.fixed_mask
        if job.capture and not possible:
            raise UsageError("a step is recorded on one CUDA device and without fixed_mask; drop capture")
        blocks = sum(p.numel() for name, p in self.trainee.named_parameters() if "embeddings" not in name)
        tokens = total * (job.settings.batch_size or 0) * max(self.job.corpus.columns, 2) * job.settings.train_tokens
        record, compiles = devices.pays(total, 6 * blocks * tokens)  # forward and backward
        captured = possible and (record if job.capture is None else job.capture)
        compiles = captured and compiles and not job.deterministic
        return captured, compiles if job.compile is None else job.compile

    def prepare(self, step: int) -> tuple[Tensor, ...]:
        """Make what a step reads, on the CPU: ids and mask (b, c, s), and the fields of `Masked` if there are any."""
        batch = self.batches[step]
        read: tuple[Tensor, ...] = batch
        if self.masker:
            seed = draw_seed(self.job.settings.seed, MASKING, step, self.rank)
            read = *batch, *self.masker(batch.ids, batch.mask, seed, filled=self.captured)
        return tuple(x.pin_memory() for x in read) if self.device.type == "cuda" else read

    def advance(self, step: int, read: tuple[Tensor, ...]) -> None:
        """Do one step on what `prepare` made; nothing here waits for a GPU."""
        self.optimizer.schedule(step)
        seed = draw_seed(self.job.settings.seed, DROPOUT, step, self.rank)
        if self.graphs is not None and len(read[0]) == self.job.settings.batch_size:
            loss, norm = self.graphs(seed, read)
        else:
            sizes = self.batches.sizes(step) if self.world > 1 else None
            loss, norm = self._gradient(*(to_device(x, self.device) for x in read), seed=seed, sizes=sizes)
            self.optimizer.update()
        self.losses.append(loss)
        self.norm = norm
        self.state.step = step + 1

    def _gradient(
        self, ids: Tensor, mask: Tensor, *masked: Tensor, seed: int | None = None, sizes: list[int] | None = None
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
        if masked:
            # This loss is a process's own, and not gathered: summed gradients would count it once per process.
            share = 1 / self.world if settings.gradient_scale == "sum" else 1.0
            loss = loss + settings.mlm_weight * share * self.trainee.masked_loss(Masked(*masked))
        loss.backward()  # type: ignore[no-untyped-call]
        parameters = list(self.trainee.parameters())
        devices.reduce_gradients(parameters, self.world, settings.gradient_scale)
        return loss.detach(), torch.nn.utils.clip_grad_norm_(parameters, settings.clip)

    def report(self) -> dict[str, float]:
        """The log's line for the steps since the last one.

        Raises:
            EncoderError: if a loss or a weight is not finite, so that nothing broken is evaluated or saved.
        """
        losses = torch.stack(self.losses).tolist()
        done = self.state.step
        for step, loss in enumerate(losses, start=done - len(losses)):
            if not math.isfinite(loss):
                raise self._divergence(step, f"the loss is {loss}")
        if not torch.stack(torch._foreach_norm(list(self.trainee.parameters()))).isfinite().all():
            raise self._divergence(done - 1, "the weights are not finite")
        self.losses = []
        return {
            "step": done,
            "loss": sum(losses) / len(losses),
            "learning_rate": self.optimizer.rate(done - 1),
            "gradient_norm": float(self.norm),
        }

    def _divergence(self, step: int, found: str) -> EncoderError:
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
            raise self._divergence(self.state.step - 1, f"the score on {self.job.dev.name} dev is undefined")
        if self.state.best_score is None or score.spearman > self.state.best_score:
            self.state.best_score, self.state.best_step = score.spearman, self.state.step
            self.folder.keep(self.write, self.state)
        return {f"dev_{name}": value for name, value in asdict(score).items()}

    def log_start(self) -> None:
        """Log the development scores before the first step, where curves begin; they choose no weights."""
        if self.job.dev is not None:
            scores = asdict(self.job.dev.score(self.trainee.first))
            self.folder.log({"step": 0} | {f"dev_{name}": value for name, value in scores.items()})

    def save(self) -> None:
        checkpoint.save_checkpoint(self.folder.checkpoint, self.trainee, self.optimizer.adam, self.state)
        self.saved = (self.state.step, time.monotonic())

    def finish(self, seconds: float) -> dict[str, Any]:
        """Move the chosen weights into the folder; the card comes last, and says that the folder is whole."""
        chosen = self.folder.settle(self.write, self.state)
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
        return checkpoint.write_card(self.job.folder, card)


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
        checkpoint.check_folder(job.folder)
    with files.writing(job.folder):
        card = _read_finished(job) or _train_or_restart(job)
        if devices.is_leader():
            shutil.rmtree(job.folder / checkpoint.WORK, ignore_errors=True)  # also what a kill behind the card has left
        return card


def _read_finished(job: Job) -> dict[str, Any] | None:
    """The card of the folder's run; None where there is none yet, or not any more because it was damaged."""
    try:
        card = checkpoint.read_card(job.folder)
        return None if card is None else _same_run(job, card)
    except checkpoint.Damage as damage:
        if not job.in_cache or devices.size() > 1:
            raise ResultError(f"{damage}; mend it, name another folder, or train again in an empty one") from damage
        _log.warning("%s; the model is trained anew", damage)
        shutil.rmtree(job.folder)
        return None


def _train_or_restart(job: Job) -> dict[str, Any]:
    try:
        return _train(job)
    except checkpoint.Damage as damage:
        if devices.size() > 1:  # they would delete under one another
            raise ResultError(f"{damage}; delete {job.folder / checkpoint.WORK} and train again") from damage
        _log.warning("%s; training starts anew", damage)
    checkpoint.RunFolder(job.folder, "").restart()
    return _train(job)


def _train(job: Job) -> dict[str, Any]:
    with (
        torch.random.fork_rng(devices=range(torch.cuda.device_count())),
        devices.gpu_settings(job.device, deterministic=job.deterministic),
    ):
        run = _Run(job)
        run.folder.cut_log(run.state.step or -1)
        started = time.monotonic()
        if run.state.step == 0 and run.rank == 0:
            run.log_start()
        _loop(run)
        card = run.finish(time.monotonic() - started) if run.rank == 0 else {}
        devices.wait(run.world)
        return card or json.loads((job.folder / checkpoint.CARD).read_text(encoding="utf-8"))


def _same_run(job: Job, card: dict[str, Any]) -> dict[str, Any]:
    wanted = job.identity()
    if card["fingerprint"] == fingerprint(wanted):
        return card
    if job.in_cache:
        raise checkpoint.Damage(
            f"{job.folder / checkpoint.CARD}: the card of another run, expected that of the folder's name"
        )
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
        for step, read in zip(steps, prepared, strict=True):
            run.advance(step, read)
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
