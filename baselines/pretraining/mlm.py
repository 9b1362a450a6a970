"""Pretrains the bundled backbones: a BERT from scratch, by masked language modelling, on the text of `corpus`.

    python -m baselines.pretraining.mlm small --work-dir WORK --out baselines/assets/small

`tiny` takes an hour on one CPU thread, `small` a quarter of an hour on one GPU. All data are on the device, batches
have one of three shapes, and everything is drawn from the seed and the number of the step, so that a run that was
killed goes on from its last checkpoint: run the same command again. `--export-only` exports an unfinished run.
"""

import argparse
import csv
import json
import logging
import shutil
import time
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import BertConfig, BertForMaskedLM, BertTokenizerFast

from baselines.pretraining.spans import Batches, held_out_batches, make_tokenizer, prepare_spans
from baselines.simcse.ablations import Masked, masked_loss
from harness.derived import Derived, load, store
from harness.errors import DataError

log = logging.getLogger(__name__)

_COLUMNS = ("step", "tokens", "seconds", "train_loss", "heldout_loss", "heldout_accuracy")
_COMPILED, _TIMED = 20, 300  # the steps after which compilation is over, and those whose time is measured
_MARGIN = 1.02  # on the measured time of a step


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that decides the weights; the defaults are those of `tiny`.

    Attributes:
        vocabulary: pieces of the tokenizer.
        batch_tokens: positions of a step, padding included.
        steps: of the optimiser; None: as many as fit into `seconds`, which is decided after 320 steps.
        rate: the highest learning rate, after `warmup` steps; it falls to zero at the last step in a straight line.
        masked: share of the tokens that are to be predicted.
        compile: whether torch.compile makes the step faster; it pays from some minutes of GPU time on.
    """

    seed: int = 0
    vocabulary: int = 8000
    hidden: int = 192
    layers: int = 3
    heads: int = 3
    batch_tokens: int = 4096
    steps: int | None = 5400
    seconds: float = 1000.0
    rate: float = 1e-3
    warmup: int = 300
    weight_decay: float = 0.01
    masked: float = 0.15
    dropout: float = 0.1
    log_every: int = 300
    device: str = "cpu"
    compile: bool = False


PRESETS = {
    "tiny": Settings(),
    "small": Settings(
        vocabulary=16000,
        hidden=384,
        layers=6,
        heads=6,
        batch_tokens=131_072,
        steps=None,
        rate=1.2e-3,
        warmup=600,
        masked=0.2,
        log_every=1500,
        device="cuda",
        compile=True,
    ),
}


@dataclass(slots=True)
class Progress:
    """How far a run is: steps done and in all (None: not decided yet), and what the log has."""

    step: int = 0
    steps: int | None = None
    tokens: int = 0
    seconds: float = 0.0
    losses: list[Any] = field(default_factory=list)  # numbers, or tensors on the device, which wait for nobody
    rows: list[dict[str, float]] = field(default_factory=list)


class Run:
    """A model in training."""

    def __init__(self, work: Path, settings: Settings, checkpoint_seconds: float = 120.0) -> None:
        """Prepare the text and go on from the checkpoint in the work folder, if these settings have one."""
        self.settings, self._work, self._checkpoint_seconds = settings, work, checkpoint_seconds
        self._key, self.path = checkpoint_place(work, settings)
        tokenizer = make_tokenizer(work, settings.vocabulary)
        train, held = prepare_spans(work, tokenizer, settings.seed)
        self._batches = Batches(train, settings, tokenizer)
        self._held = held_out_batches(held, tokenizer, settings.device)
        self.model = new_model(settings, len(tokenizer)).to(settings.device)
        self._optimizer = _optimizer(self.model, settings)
        self.progress = Progress(steps=settings.steps)
        self._timed_from: tuple[int, float] | None = None  # a step, and when it was done
        self._restore()
        self._loss = torch.compile(_loss, dynamic=False) if settings.compile else _loss

    def train(self) -> None:
        """Train to the last step; `training_log.csv` in the work folder is written anew at every logged step."""
        state, before = self.progress, self.progress.seconds
        started = saved = time.monotonic()
        while state.steps is None or state.step < state.steps:
            self.advance()
            state.seconds = before + time.monotonic() - started
            self._decide_steps()
            last = state.step == state.steps
            if state.step % self.settings.log_every == 0 or last:
                self._note()
            if time.monotonic() - saved >= self._checkpoint_seconds or last:
                self._save()
                saved = time.monotonic()

    def advance(self) -> None:
        """One step of the optimiser."""
        step, chance = self.progress.step, self.settings.seed + self.progress.step
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate(self.settings, step, self.progress.steps)
        torch.manual_seed(chance)  # dropout then depends on the step alone: going on needs no state of the generator
        masked = self._batches.draw(step)
        loss = self._loss(self.model, masked)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self.progress.losses.append(loss.detach())
        self.progress.tokens += self._batches.tokens(step)
        self.progress.step += 1

    def _decide_steps(self) -> None:
        """Once enough steps were timed, decide how many fit into the time."""
        state = self.progress
        if state.steps is not None or state.step < _COMPILED:
            return
        if self._timed_from is None:
            self._timed_from = (state.step, self._now())
        elif state.step == self._timed_from[0] + _TIMED:
            of_a_step = (self._now() - self._timed_from[1]) / _TIMED * _MARGIN
            state.steps = state.step + max(1, int((self.settings.seconds - state.seconds) / of_a_step))
            log.info("%.4f s a step, %d steps in all", of_a_step, state.steps)

    def _now(self) -> float:
        """The time when all that was asked of the device is done."""
        if self.settings.device != "cpu":
            torch.cuda.synchronize()
        return time.monotonic()

    def _note(self) -> None:
        state = self.progress
        loss, accuracy = evaluate(self.model, self._held)
        mean = float(np.mean([float(one) for one in state.losses]))
        values = (state.step, state.tokens, state.seconds, mean, loss, accuracy)
        state.rows.append(dict(zip(_COLUMNS, (round(float(value), 4) for value in values), strict=True)))
        state.losses = []
        log.info("%s", state.rows[-1])
        write_log(state.rows, self._work / "training_log.csv")

    def _save(self) -> None:
        arrays = {f"model.{name}": tensor.cpu().numpy() for name, tensor in self.model.state_dict().items()}
        for number, parameter in enumerate(self.model.parameters()):
            for name, tensor in self._optimizer.state[parameter].items():
                arrays[f"optimizer.{number}.{name}"] = tensor.cpu().numpy()
        self.progress.losses = [float(loss) for loss in self.progress.losses]
        store(self.path, self._key, Derived(arrays, {"progress": json.dumps(asdict(self.progress))}))

    def _restore(self) -> None:
        found = load(self.path, self._key)
        if found is None:
            return
        self.model.load_state_dict(_tensors(found, "model.", self.settings.device))
        for number, parameter in enumerate(self.model.parameters()):
            self._optimizer.state[parameter] = _tensors(found, f"optimizer.{number}.", self.settings.device)
        self.progress = Progress(**json.loads(found.facts["progress"]))
        log.info("continuing after step %d", self.progress.step)


def checkpoint_place(work: Path, settings: Settings) -> tuple[str, Path]:
    """The key of a run's checkpoint, and its file, which other settings do not share."""
    key = json.dumps(asdict(settings))
    return key, work / "checkpoints" / f"{sha256(key.encode()).hexdigest()[:16]}.safetensors"


def new_model(settings: Settings, vocabulary: int) -> BertForMaskedLM:
    """A randomly initialised model. Attention dropout is off, for speed."""
    torch.manual_seed(settings.seed)
    config = BertConfig(
        vocab_size=vocabulary,
        hidden_size=settings.hidden,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        intermediate_size=4 * settings.hidden,
        hidden_dropout_prob=settings.dropout,
        attention_probs_dropout_prob=0.0,
    )
    return BertForMaskedLM(config).train()


def _optimizer(model: nn.Module, settings: Settings) -> torch.optim.AdamW:
    """AdamW; matrices decay, biases and the scales of layer norms do not."""
    parameters = list(model.parameters())
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, betas=(0.9, 0.98), eps=1e-6, fused=True)


def learning_rate(settings: Settings, step: int, steps: int | None) -> float:
    """The rate of a step, from 0: it rises, and falls to zero; before the last step is known it only rises."""
    rising = min(1.0, (step + 1) / settings.warmup)
    if steps is None:
        return settings.rate * rising
    return settings.rate * min(rising, (steps - step) / max(1, steps - settings.warmup))


def _loss(model: BertForMaskedLM, masked: Masked) -> Tensor:
    """Mean cross-entropy in nats; the vocabulary layer runs on the masked positions alone, most of its cost saved."""
    with torch.autocast(masked.ids.device.type, torch.bfloat16):
        return masked_loss(model.bert, model.cls, masked)


@torch.no_grad()
def evaluate(model: BertForMaskedLM, batches: list[Masked]) -> tuple[float, float]:
    """Mean cross-entropy over all masked tokens in nats, without dropout, and the share that is guessed exactly."""
    model.eval()
    total, right, count = 0.0, 0.0, 0
    for masked in batches:
        with torch.autocast(masked.ids.device.type, torch.bfloat16):
            states = model.bert(input_ids=masked.ids, attention_mask=masked.mask).last_hidden_state
            logits = model.cls(states.flatten(0, 1)[masked.positions]).float()
        total += float(nn.functional.cross_entropy(logits, masked.targets, reduction="sum"))
        right += float((logits.argmax(-1) == masked.targets).sum())
        count += len(masked.targets)
    model.train()
    return total / count, right / count


def write_log(rows: list[dict[str, float]], path: Path) -> None:
    """The log as CSV."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, _COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows({**row, "step": int(row["step"]), "tokens": int(row["tokens"])} for row in rows)


def _tensors(found: Derived, prefix: str, device: str) -> dict[str, Tensor]:
    """The arrays whose names begin so, by the rest of their names."""
    return {
        name.removeprefix(prefix): torch.from_numpy(array.copy()).to(device)
        for name, array in found.arrays.items()
        if name.startswith(prefix)
    }


@torch.no_grad()
def export(work: Path, settings: Settings, out: Path) -> None:
    """Write the checkpoint as a folder for `AutoModel.from_pretrained`, weights in float16.

    Positions 128 to 511 never occur in pretraining; they become copies of 64 to 127, so that long inputs do not crash.
    Segment 1 does not occur either, and becomes a copy of segment 0. The pooler is not trained, and becomes the
    identity: `pooler_output` is tanh of the [CLS] state.

    Raises:
        DataError: if there is no checkpoint of these settings.
    """
    key, path = checkpoint_place(work, settings)
    found = load(path, key)
    if found is None:
        raise DataError(f"{path}: no checkpoint of these settings, expected one; train first")
    tokenizer: BertTokenizerFast = make_tokenizer(work, settings.vocabulary)
    model = new_model(settings, len(tokenizer))
    model.load_state_dict(_tensors(found, "model.", "cpu"))
    embeddings = model.bert.embeddings
    embeddings.position_embeddings.weight[128:] = embeddings.position_embeddings.weight[64:128].repeat(6, 1)
    embeddings.token_type_embeddings.weight[1] = embeddings.token_type_embeddings.weight[0]
    model.config.attention_probs_dropout_prob = 0.1  # what fine-tuning (SimCSE's two views) should run with
    weights = {name: tensor for name, tensor in model.state_dict().items() if "predictions.decoder" not in name}
    weights["bert.pooler.dense.weight"] = torch.eye(settings.hidden)
    weights["bert.pooler.dense.bias"] = torch.zeros(settings.hidden)
    shutil.copytree(work / f"tokenizer-{settings.vocabulary}", out, dirs_exist_ok=True)
    target = out / "model.safetensors"
    save_file({name: tensor.half().contiguous() for name, tensor in weights.items()}, target, {"format": "pt"})
    target.chmod(0o644)  # safetensors writes for its owner alone
    # stored in float16, computed in float32: the newer transformers otherwise take the stored type
    config = {**json.loads(model.config.to_json_string()), "architectures": ["BertForMaskedLM"], "dtype": "float32"}
    (out / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    write_log(json.loads(found.facts["progress"])["rows"], out / "training_log.csv")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("preset", choices=PRESETS, help="which backbone")
    parser.add_argument("--work-dir", type=Path, required=True, help="holds the cleaned text; gets the checkpoint")
    parser.add_argument("--out", type=Path, required=True, help="the folder to export to")
    parser.add_argument("--steps", type=int, help="of the optimiser; not given: as the preset has it")
    parser.add_argument("--seconds", type=float, help="a time budget, where the preset has one")
    parser.add_argument("--device", help="cpu or cuda; not given: as the preset has it")
    parser.add_argument("--export-only", action="store_true", help="export the last checkpoint, finished or not")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    given = {name: value for name in ("steps", "seconds", "device") if (value := getattr(args, name)) is not None}
    settings = replace(PRESETS[args.preset], **given)
    if settings.device == "cpu":
        settings = replace(settings, compile=False)
        torch.set_num_threads(1)
    if not args.export_only:
        Run(args.work_dir, settings).train()
    export(args.work_dir, settings, args.out)


if __name__ == "__main__":
    main()
