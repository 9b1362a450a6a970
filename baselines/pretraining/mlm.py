"""Pretrains the bundled `tiny` backbone: a small BERT, from scratch, on the text that `corpus` cleaned.

One CPU thread is enough. Everything is drawn from the seed and the step number, so a run that was killed continues from
its last checkpoint as if it had not been: run the same command again. `--export-only` salvages an unfinished run.

    python -m baselines.pretraining.mlm --work-dir WORK --out baselines/assets/tiny
"""

import argparse
import csv
import json
import logging
import shutil
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch.nn import functional
from transformers import AutoTokenizer, BertConfig, BertForMaskedLM, BertTokenizerFast

from baselines.pretraining.spans import Mixture, Spans, make_tokenizer, plan, split_corpora
from harness.errors import DataError, UsageError

log = logging.getLogger(__name__)

LOG_COLUMNS = ("step", "tokens", "seconds", "train_loss", "heldout_loss", "unigram_loss")
Row = dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that decides the weights. Tokens count [CLS] and [SEP], not padding."""

    seed: int = 0
    vocabulary: int = 8000
    hidden: int = 192
    layers: int = 3
    heads: int = 3
    tokens: int = 22_000_000
    batch_tokens: int = 4096
    rate: float = 1e-3
    warmup: int = 300
    weight_decay: float = 0.01
    masked: float = 0.15
    heldout_masked: int = 20_000
    log_every: int = 300
    # the corpora other than IMDb are small and nearer to sentence pairs; IMDb, read once, fills the rest of the budget
    repeats: dict[str, int] = field(default_factory=lambda: {"imdb": 1, "reuters": 2, "wiki": 6, "flickr8k": 4})


@dataclass(frozen=True, slots=True)
class Batch:
    """A masked batch: ids and attention (b, l), flat positions of the masked tokens (m,) and what they were (m,)."""

    ids: torch.Tensor
    attention: torch.Tensor
    positions: torch.Tensor
    targets: torch.Tensor


def masked_batch(
    spans: Spans, members: NDArray[np.int64], tokenizer: BertTokenizerFast, rng: np.random.Generator, masked: float
) -> Batch:
    """BERT's corruption: of the chosen tokens 80% become [MASK], 10% a random token, 10% stay (Devlin et al. 2019)."""
    width = int(spans.length[members].max()) + 2
    ids = np.full((len(members), width), tokenizer.pad_token_id, dtype=np.int64)
    for row, member in enumerate(members):
        start, length = spans.start[member], spans.length[member]
        ids[row, : length + 2] = [tokenizer.cls_token_id, *spans.tokens[start : start + length], tokenizer.sep_token_id]
    attention = np.arange(width) < spans.length[members, None] + 2
    inner = np.flatnonzero((np.arange(width) > 0) & (np.arange(width) < spans.length[members, None] + 1))
    positions = np.sort(rng.choice(inner, max(1, round(masked * len(inner))), replace=False))
    flat = ids.reshape(-1)
    targets = flat[positions].copy()
    draw = rng.random(len(positions))
    flat[positions[draw < 0.8]] = tokenizer.mask_token_id
    swapped = positions[draw >= 0.9]
    flat[swapped] = rng.integers(5, len(tokenizer), len(swapped))  # 0-4 are the special tokens
    return Batch(*(torch.from_numpy(one) for one in (ids, attention.astype(np.int64), positions, targets)))


def masked_loss(model: BertForMaskedLM, batch: Batch) -> torch.Tensor:
    """Mean cross-entropy in nats; the vocabulary layer runs on the masked positions alone, most of its cost saved."""
    with torch.autocast("cpu", torch.bfloat16):
        states = model.bert(input_ids=batch.ids, attention_mask=batch.attention).last_hidden_state
        logits = model.cls(states.flatten(0, 1)[batch.positions])
    return functional.cross_entropy(logits.float(), batch.targets)


@torch.no_grad()
def heldout_loss(model: BertForMaskedLM, batches: list[Batch]) -> float:
    """Mean over all masked tokens, nats, without dropout."""
    model.eval()
    total = sum(masked_loss(model, batch).item() * len(batch.targets) for batch in batches)
    model.train()
    return total / sum(len(batch.targets) for batch in batches)


def unigram_loss(train: Spans, batches: list[Batch], vocabulary: int) -> float:
    """Cross-entropy in nats of the held-out targets under the training tokens' frequencies, add-one smoothed."""
    counts = np.ones(vocabulary)
    for start, length in zip(train.start, train.length, strict=True):
        np.add.at(counts, train.tokens[start : start + length], 1)
    targets = np.concatenate([batch.targets.numpy() for batch in batches])
    return float(-np.log(counts[targets] / counts.sum()).mean())


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write atomically: a kill leaves the old checkpoint or the new one."""
    draft = path.with_suffix(".tmp")
    torch.save(state, draft)
    draft.replace(path)


def new_model(settings: Settings, vocabulary: int) -> BertForMaskedLM:
    """A randomly initialised model. Attention dropout is off, for speed; hidden dropout is 0.1."""
    torch.manual_seed(settings.seed)
    config = BertConfig(
        vocab_size=vocabulary,
        hidden_size=settings.hidden,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        intermediate_size=4 * settings.hidden,
        attention_probs_dropout_prob=0.0,
    )
    model = BertForMaskedLM(config).train()
    model.set_attn_implementation("eager")  # on short sequences a quarter faster than the fused kernel, on CPU
    return model


def decayed(settings: Settings, step: int, steps: int) -> float:
    """Linear warm-up, then linear decay to zero at the last step."""
    return settings.rate * min((step + 1) / settings.warmup, (steps - step) / max(1, steps - settings.warmup))


def train(work: Path, settings: Settings, checkpoint_seconds: float = 120.0) -> None:
    """Train from scratch or from `work/checkpoint.pt`, which ends as the finished model.

    `work/training_log.csv` is rewritten at every logged step.

    Raises:
        UsageError: if the checkpoint was written under other settings.
    """
    tokenizer = make_tokenizer(work, settings.vocabulary)
    mixture = Mixture(settings.repeats, settings.tokens, settings.heldout_masked / settings.masked)
    spans, held = split_corpora(work, tokenizer, mixture, settings.seed)
    rng = np.random.default_rng([settings.seed, 1])
    held_batches = [masked_batch(held, members, tokenizer, rng, settings.masked) for members in plan(held, 4096, rng)]
    batches = plan(spans, settings.batch_tokens, np.random.default_rng([settings.seed, 2]))
    unigram = unigram_loss(spans, held_batches, len(tokenizer))
    model = new_model(settings, len(tokenizer))
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=settings.weight_decay, betas=(0.9, 0.98), fused=True)
    path = work / "checkpoint.pt"
    state = restore(path, settings, model, optimizer)
    started, saved = time.monotonic() - state["seconds"], time.monotonic()
    for step in range(state["step"], len(batches)):
        chance = np.random.default_rng([settings.seed, 3, step])
        torch.manual_seed(settings.seed + step)  # dropout then depends on the step alone: resuming needs no RNG state
        batch = masked_batch(spans, batches[step], tokenizer, chance, settings.masked)
        state["losses"].append(advance(model, optimizer, batch, decayed(settings, step, len(batches))))
        state["step"] = step + 1
        state["tokens"] += int(batch.attention.sum())
        state["seconds"] = time.monotonic() - started
        last = state["step"] == len(batches)
        if state["step"] % settings.log_every == 0 or last:
            note(state, unigram, heldout_loss(model, held_batches), work / "training_log.csv")
        if time.monotonic() - saved >= checkpoint_seconds or last:
            save_checkpoint(path, {**state, "model": model.state_dict(), "optimizer": optimizer.state_dict()})
            saved = time.monotonic()


def restore(path: Path, settings: Settings, model: BertForMaskedLM, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Load model and optimiser from the checkpoint, if there is one; return the counters and the log so far."""
    if not path.exists():
        return {"settings": asdict(settings), "step": 0, "tokens": 0, "seconds": 0.0, "losses": [], "rows": []}
    state: dict[str, Any] = torch.load(path, weights_only=True)
    if state["settings"] != asdict(settings):
        raise UsageError(
            f"{path} was written under {state['settings']}, expected {asdict(settings)}; "
            "delete it to start again, or give another --work-dir."
        )
    model.load_state_dict(state.pop("model"))
    optimizer.load_state_dict(state.pop("optimizer"))
    log.info("continuing after step %d", state["step"])
    return state


def advance(model: BertForMaskedLM, optimizer: torch.optim.Optimizer, batch: Batch, rate: float) -> float:
    """One optimiser step at this learning rate; the loss before it."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    loss = masked_loss(model, batch)
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss.item()


def note(state: dict[str, Any], unigram: float, heldout: float, path: Path) -> None:
    """Append a row to the log kept in the checkpoint, and rewrite the file from it."""
    values = (state["step"], state["tokens"], state["seconds"], float(np.mean(state["losses"])), heldout, unigram)
    row = {name: round(float(value), 4) for name, value in zip(LOG_COLUMNS, values, strict=True)}
    state["losses"] = []
    state["rows"].append(row)
    log.info("%s", row)
    write_log(state["rows"], path)


def write_log(rows: list[Row], path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, LOG_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows({**row, "step": int(row["step"]), "tokens": int(row["tokens"])} for row in rows)


@torch.no_grad()
def export(work: Path, out: Path) -> None:
    """Write the checkpoint in `work` as a folder for `AutoModel.from_pretrained`, weights in float16.

    Positions 128 to 511 never occur in pretraining; they become copies of 64 to 127, so that long inputs do not crash.
    The pooler is not trained either, and becomes the identity: `pooler_output` is tanh of the [CLS] state.

    Raises:
        DataError: if there is no checkpoint.
    """
    path = work / "checkpoint.pt"
    if not path.exists():
        raise DataError(f"{path} is missing; train first.")
    state = torch.load(path, weights_only=True)
    tokenizer = AutoTokenizer.from_pretrained(work / "tokenizer")
    settings = Settings(**state["settings"])
    model = new_model(settings, len(tokenizer))
    model.load_state_dict(state["model"])
    positions = model.bert.embeddings.position_embeddings.weight
    positions[128:] = positions[64:128].repeat(6, 1)
    model.config.attention_probs_dropout_prob = 0.1  # what fine-tuning (SimCSE's two views) should run with
    weights = {name: tensor for name, tensor in model.state_dict().items() if "predictions.decoder" not in name}
    weights["bert.pooler.dense.weight"] = torch.eye(settings.hidden)
    weights["bert.pooler.dense.bias"] = torch.zeros(settings.hidden)
    shutil.copytree(work / "tokenizer", out, dirs_exist_ok=True)
    target = out / "model.safetensors"
    save_file({name: tensor.half().contiguous() for name, tensor in weights.items()}, target, {"format": "pt"})
    target.chmod(0o644)  # safetensors writes for its owner alone
    # stored in float16, computed in float32: the newer transformers otherwise take the stored type
    config = {**json.loads(model.config.to_json_string()), "architectures": ["BertForMaskedLM"], "dtype": "float32"}
    (out / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    write_log(state["rows"], out / "training_log.csv")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--work-dir", type=Path, required=True, help="holds the cleaned text; gets the checkpoint")
    parser.add_argument("--out", type=Path, required=True, help="the folder to export to")
    parser.add_argument("--export-only", action="store_true", help="export the last checkpoint, finished or not")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    if not args.export_only:
        train(args.work_dir, Settings())
    export(args.work_dir, args.out)


if __name__ == "__main__":
    main()
