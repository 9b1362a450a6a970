"""SimCSE's training in one file: the network, its objective, the optimiser, the step, and the loop.

Letters: b sentences (the rows of a batch), c views of each (columns of the data; 2 copies for one-column data), s
tokens, d dimensions; n rows of tokens, which are b * c where all views go through the network together.

Source: SimCSE paper, Appendix A; re-implemented from the behaviour of princeton-nlp/SimCSE at commit 49fa580. What is
done otherwise: random numbers are drawn per step (see `data`), and of the development sets only the chosen one is
encoded, where the reference runs SentEval: https://github.com/princeton-nlp/SimCSE/blob/49fa580/simcse/trainers.py#L93-L134
"""

import copy
import math
import time
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from baselines.simcse import checkpoint, devices
from baselines.simcse.ablations import (
    Masked,
    Masker,
    make_augment,
    masked_loss,
    thesaurus_sha256,
    vocabulary_layer,
)
from baselines.simcse.data import DROPOUT, INIT, MASKING, Batches, Corpus, DevSet, draw_seed
from baselines.simcse.settings import Settings, SimcseSup, SimcseUnsup
from harness import files
from harness.encoders.batching import prefetch
from harness.encoders.checkpoint import Checkpoint, load, load_tokenizer
from harness.encoders.forward import BERTS, Head, forward_pooled
from harness.errors import EncoderError, UsageError
from harness.progress import Progress, silent

_FIRST_TOKEN = ("cls", "cls_before_pooler")
_EPSILON = 1e-8  # that of torch.nn.CosineSimilarity, which the reference takes
_BETAS = (0.9, 0.999)
_MANY = 1e9  # steps after which both of Adam's bias corrections are 1; in float32 one step more changes nothing


class SentenceModel(nn.Module):
    """Token ids to sentence vectors.

    Attributes:
        backbone: the transformer, without its pretrained pooler, which SimCSE never uses.
        head: tanh(W x + b) over CLS; None for poolers other than cls.
        pooling: how evaluation pools.
    """

    def __init__(self, backbone: nn.Module, head: Head | None, settings: Settings) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.pooling = settings.pooling
        self._pooler = settings.pooler

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """(n, s) ids and mask -> (n, d): pooled as in training or as in evaluation, by the module's mode."""
        name = self._pooler if self.training else self.pooling
        return forward_pooled(self.backbone, ids, mask, [name], self.head)[name]


def make_model(checkpoint: Checkpoint, settings: Settings) -> SentenceModel:
    """Backbone from the checkpoint, in float32; the head drawn from torch's generator, N(0, initializer_range), bias 0.

    Raises:
        UsageError: if the checkpoint is of a family that is not BERT's.
        EncoderError: if the weights do not fit the configuration.
    """
    family = checkpoint.configuration.kind
    if family not in BERTS:
        raise UsageError(f"{checkpoint.name}: model_type {family} cannot be trained, expected {', '.join(BERTS)}")
    with torch.random.fork_rng(devices=[]):  # a pooler that the weights lack is drawn, and not used
        backbone: Any = load(checkpoint, dtype=torch.float32).model
    backbone.requires_grad_(True)  # merging an adapter has frozen it
    if hasattr(backbone, "pooler"):
        backbone.pooler = None
    if settings.dropout is not None:
        for module in backbone.modules():
            if isinstance(module, nn.Dropout):
                module.p = settings.dropout
    if settings.pooler in _FIRST_TOKEN and not settings.mlm_weight:  # the masked language model needs every token
        last = backbone.encoder.layer[-1]
        last.forward = partial(_first_token, last)
    head = None
    if settings.pooler == "cls":
        # Drawn as `init_weights` does: https://github.com/princeton-nlp/SimCSE/blob/49fa580/simcse/models.py#L19-L33
        width, spread = backbone.config.hidden_size, backbone.config.initializer_range
        head = Head(torch.empty(width, width).normal_(0.0, spread), torch.zeros(width))
    return SentenceModel(backbone, head, settings)


def _first_token(block: Any, states: Tensor, mask: Tensor | None = None, *_: object, **__: object) -> Tensor:
    """The last block for CLS alone, (n, s, d) -> (n, 1, d).

    Nobody looks at the outputs of the other tokens, so their queries and feed-forward layer, two thirds of a block,
    need not be computed. Same function, same gradient.
    """
    attention, first = block.attention.self, states[:, :1]
    shape = (len(states), -1, attention.num_attention_heads, attention.attention_head_size)
    query, key, value = (
        layer(x).view(shape).transpose(1, 2)  # (n, heads, 1 or s, d / heads)
        for layer, x in ((attention.query, first), (attention.key, states), (attention.value, states))
    )
    context = functional.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=None if mask is None else mask[..., :1, :],
        dropout_p=attention.dropout.p if block.training else 0.0,
    )
    attended = block.attention.output(context.transpose(1, 2).flatten(2), first)
    return block.feed_forward_chunk(attended)  # type: ignore[no-any-return]


class Trainee(nn.Module):
    """All that learns in a run: one or two towers, and what else has weights.

    Attributes:
        first: the tower that is kept.
        second: of the views after the first one, where there are two towers.
        vocabulary: output layer of the auxiliary masked language model, where there is one.
    """

    def __init__(self, model: SentenceModel, settings: Settings, vocabulary: nn.Module | None = None) -> None:
        super().__init__()
        self.first = model
        self.second = copy.deepcopy(model) if settings.towers == 2 else None
        self.vocabulary = vocabulary
        self._settings = settings

    def forward(self, ids: Tensor, mask: Tensor, seed: int | None = None) -> Tensor:
        """Embeddings of all views of a batch, (b, c, s) -> (b, c, d).

        One pass over all rows, example by example; with a fixed mask or two towers one pass per view, and a fixed mask
        starts the generator anew for each.

        Args:
            ids: token ids.
            mask: 1 on tokens, 0 on padding.
            seed: of the dropout masks; None: the caller has seeded.
        """
        b, c, s = ids.shape
        if seed is not None:
            torch.manual_seed(seed)
        with torch.autocast(ids.device.type, torch.bfloat16, enabled=self._settings.dtype == "bfloat16"):
            if self.second is None and not self._settings.fixed_mask:
                return self._embed(self.first, ids.view(b * c, s), mask.view(b * c, s)).view(b, c, -1)
            views = []
            for view in range(c):
                if self._settings.fixed_mask and seed is not None:
                    torch.manual_seed(seed)
                tower = self.first if view == 0 or self.second is None else self.second
                views.append(self._embed(tower, ids[:, view], mask[:, view]))
            return torch.stack(views, dim=1)

    def masked_loss(self, masked: Masked) -> Tensor:
        """The auxiliary loss: a second pass over the corrupted rows, with dropout masks of its own."""
        assert self.vocabulary is not None
        with torch.autocast(masked.ids.device.type, torch.bfloat16, enabled=self._settings.dtype == "bfloat16"):
            return masked_loss(self.first.backbone, self.vocabulary, masked)

    def _embed(self, tower: SentenceModel, ids: Tensor, mask: Tensor) -> Tensor:
        """(n, s) -> (n, d); on a CPU in `length_groups` passes over rows of similar length."""
        if self._settings.length_groups == 1 or ids.is_cuda:
            return tower(ids, mask)  # type: ignore[no-any-return]
        lengths = mask.sum(dim=1)
        order = lengths.argsort(stable=True)
        parts = []
        for part in order.chunk(self._settings.length_groups):
            longest = int(lengths[part[-1]])
            parts.append(tower(ids[part, :longest], mask[part, :longest]))
        return torch.cat(parts)[order.argsort()]


def contrastive_loss(
    z: Tensor, *, temperature: float, similarity: str = "cosine", hard_negative_weight: float = 0.0
) -> Tensor:
    """Mean over rows of -log softmax at the positive, in float32 whatever autocast says.

    One-directional: the rows are the first views, each against every second view, then against every hard negative.
    Equal similarities give log(b * (c - 1)); a single row of two views gives 0.

    Source: the paper's equations 1, 4 and 5; https://github.com/princeton-nlp/SimCSE/blob/49fa580/simcse/models.py#L194-L212

    Args:
        z: (b, c, d), c >= 2. View 0 is the sentence, view 1 its positive, views 2.. its hard negatives.
        temperature: divides the similarity, > 0.
        similarity: "cosine" or "dot".
        hard_negative_weight: added, after the division, where a row meets its own hard negative; the paper's alpha is
            exp of it, so 0 is alpha = 1.
    """
    with torch.autocast(z.device.type, enabled=False):
        z = z.float()
        if similarity == "cosine":
            z = functional.normalize(z, dim=-1, eps=_EPSILON)
        anchors, others = z[:, 0], z[:, 1:].transpose(0, 1)  # (b, d), (c - 1, b, d)
        blocks = anchors @ others.transpose(1, 2) / temperature  # (c - 1, b, b)
        if hard_negative_weight and len(blocks) > 1:
            own = torch.eye(len(anchors), dtype=blocks.dtype, device=blocks.device)
            blocks = torch.cat([blocks[:1], blocks[1:] + hard_negative_weight * own])
        logits = blocks.transpose(0, 1).flatten(1)  # (b, (c - 1) b): the positives are on the diagonal
        return functional.cross_entropy(logits, torch.arange(len(z), device=z.device))


class Optimizer:
    """AdamW on torch's fused kernel, with a rate that falls linearly to 0, without warm-up.

    epsilon="hf" is transformers 4.2's update, lr * sqrt(1 - b2^t) / (1 - b1^t) * m / (sqrt(v) + eps), with decay after
    the update; "torch" is torch's own, which adds eps to sqrt(v / (1 - b2^t)). To torch's kernel the former is an
    epsilon of eps / sqrt(1 - b2^t), which changes from step to step. A recorded step cannot change it: on a GPU the
    kernel is told of so many steps that it corrects nothing, and the rate, a tensor, holds the corrections.
    """

    def __init__(self, module: nn.Module, settings: Settings, total: int) -> None:
        assert settings.learning_rate is not None
        self._settings, self._first, self._total = settings, settings.learning_rate, total
        device = next(module.parameters()).device
        self._on_gpu = device.type == "cuda"
        self._rate = torch.zeros((), device=device)
        self._kept = torch.ones((), device=device)
        decayed: list[Tensor] = [p for name, p in module.named_parameters() if _decays(name)]
        others = [p for name, p in module.named_parameters() if not _decays(name)]
        self._decayed = decayed if settings.weight_decay and settings.epsilon == "hf" else []
        decay = settings.weight_decay if settings.epsilon == "torch" else 0.0
        self.adam = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}],
            lr=self._rate if self._on_gpu else 1e-3,
            betas=_BETAS,
            eps=settings.adam_epsilon,
            fused=True,
            capturable=self._on_gpu,
        )

    def rate(self, step: int) -> float:
        """The learning rate of the step, counted from 0."""
        return self._first * (self._total - step) / self._total

    def resume(self, step: int) -> None:
        """Give every weight its moments before a step is recorded, and the count of steps that the kernel is told."""
        if not self._on_gpu:
            return
        count = _MANY if self._settings.epsilon == "hf" else float(step)
        for group in self.adam.param_groups:
            for p in group["params"]:
                state = self.adam.state[p] or {"exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
                self.adam.state[p] = state | {"step": torch.tensor(count, device=p.device)}

    def schedule(self, step: int) -> None:
        """Set what changes from step to step."""
        rate, epsilon = self.rate(step), self._settings.adam_epsilon
        self._kept.fill_(1 - rate * self._settings.weight_decay)
        second = math.sqrt(1 - _BETAS[1] ** (step + 1)) if self._settings.epsilon == "hf" else 1.0
        if self._on_gpu:
            self._rate.fill_(rate * second / (1 - _BETAS[0] ** (step + 1)) if self._settings.epsilon == "hf" else rate)
            return
        for group in self.adam.param_groups:
            group["lr"], group["eps"] = rate, epsilon / second

    def update(self) -> None:
        """Take the gradients to the weights."""
        self.adam.step()
        if self._decayed:
            with torch.no_grad():
                torch._foreach_mul_(self._decayed, self._kept)


def _decays(name: str) -> bool:
    return "bias" not in name and "LayerNorm.weight" not in name


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
            "data": {"name": self.corpus.name, "sha256": self.corpus.sha256, **self.corpus.facts},
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
    parts = ("config", "tokenizer", "adapter") if source.adapter else ("config", "tokenizer")
    return facts | {key: str(value) for key, value in source.content.items() if key in parts}


class _Run:
    """A job in progress."""

    def __init__(self, job: Job, folder: checkpoint.RunFolder) -> None:
        self.job, settings, self.folder = job, job.settings, folder
        device, self.rank, self.world = devices.join(job.device)
        self.device = torch.device(device)
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
        kept = self.trainee.first
        self._write = partial(
            checkpoint.save_model,
            source=job.backbone,
            backbone=kept.backbone,
            head=kept.head,
            pooling=kept.pooling,
        )
        self.optimizer = Optimizer(self.trainee, settings, self.batches.total)
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
            loss, norm = self._gradient(*(x.to(self.device, non_blocking=True) for x in read), seed=seed, sizes=sizes)
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
            devices.gather(z, sizes) if sizes else z,
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
        if self.world > 1:
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
            self.folder.keep(self._write, self.state)
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
        chosen = self.folder.settle(self._write, self.state)
        rate = self.clock.rate
        card = {
            **self.folder.identity,
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

    def loop(self) -> None:
        """Do the steps that are left: the objective is in `_gradient`, what is looked at between them here."""
        job, total = self.job, self.batches.total
        assert job.settings.eval_every is not None
        steps = range(self.state.step, total)
        with closing(prefetch(self.prepare, steps)) as prepared:
            for step, read in zip(steps, prepared, strict=True):
                self.advance(step, read)
                done = step + 1
                # As in the reference, steps after the last multiple are not evaluated.
                evaluates = job.dev is not None and done % job.settings.eval_every == 0
                if evaluates or done % job.log_every == 0 or done == total:
                    self._look(evaluates=evaluates)

    def _look(self, *, evaluates: bool) -> None:
        """Log the steps since the last look, evaluate, and write a checkpoint if the last one is old."""
        job, done = self.job, self.state.step
        line = self.report()
        self.clock.stop(done, self.graphs.recorded if self.graphs else 0)
        if self.rank == 0:
            if evaluates:
                line |= self.evaluate()
            self.folder.log(line)
            if time.monotonic() - self.saved[1] >= job.checkpoint_seconds and done < self.batches.total:
                self.save()
            best = self.state.best_score
            told = f"loss {line['loss']:.4f}" + ("" if best is None else f", best dev Spearman {100 * best:.2f}")
            job.progress("training", done, self.batches.total, told)
        self.clock.start(done)


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
    folder = checkpoint.RunFolder(job.folder, job.identity(), in_cache=job.in_cache)
    with files.writing(job.folder):
        card = folder.finished()
        if card is None:
            try:
                card = _train(job, folder)
            except checkpoint.Damage as damage:
                folder.restart(damage)
                card = _train(job, folder)
        if devices.is_leader():
            folder.clean()  # also what a kill behind the card has left
        return card


def _train(job: Job, folder: checkpoint.RunFolder) -> dict[str, Any]:
    with (
        torch.random.fork_rng(devices=range(torch.cuda.device_count())),
        devices.gpu_settings(job.device, deterministic=job.deterministic),
    ):
        run = _Run(job, folder)
        folder.cut_log(run.state.step or -1)
        started = time.monotonic()
        if run.state.step == 0 and run.rank == 0:
            run.log_start()
        run.loop()
        card = run.finish(time.monotonic() - started) if run.rank == 0 else {}
        if run.world > 1:
            devices.wait()
        return card or checkpoint.read_sealed(job.folder / checkpoint.CARD)
