"""Steps per second of SimCSE training beside sentence-transformers' trainer: same model, data, batch, length, threads.

Both run in processes of their own, in turns, so that neither profits from the other's warm caches and both meet the
same load of the machine; times are CPU seconds of the process and wall seconds, of the steps alone.

    python benchmarks/simcse_training.py --data ../shared/data/corpora/wiki_for_simcse_head.txt --steps 30 --threads 1
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

TINY = Path(__file__).parents[1] / "baselines" / "assets" / "tiny"


def ours(args: argparse.Namespace, folder: Path, pooler: str, groups: int, dtype: str) -> dict[str, float]:
    from dataclasses import replace

    from baselines.simcse.data import open_corpus
    from baselines.simcse.recipe import Job, train
    from baselines.simcse.settings import SimcseUnsup, published
    from harness.data.text import open_text
    from harness.encoders.checkpoint import load_tokenizer
    from harness.encoders.repository import open_checkpoint
    from harness.progress import silent

    backbone = open_checkpoint(args.model, str(args.model))
    settings = replace(
        published(SimcseUnsup(backbone="tiny")),
        batch_size=args.batch,
        max_steps=args.steps,
        pooler=pooler,
        length_groups=groups,
        dtype=dtype,
    )
    corpus = open_corpus(open_text(args.data), load_tokenizer(backbone), settings, folder, silent)
    clock = Clock(args.warmup)
    job = Job(
        settings=settings,
        backbone=backbone,
        corpus=corpus,
        dev=None,
        folder=folder / "model",
        progress=lambda what, done, total: clock.tick(done),
        log_every=1,
    )
    train(job)
    return clock.result()


def their_model(args: argparse.Namespace) -> Any:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import modules

    transformer = modules.Transformer(str(args.model), max_seq_length=32)
    pooling = modules.Pooling(transformer.get_embedding_dimension(), "cls")
    return SentenceTransformer(modules=[transformer, pooling], device="cpu").float()


def their_trainer(args: argparse.Namespace, folder: Path) -> dict[str, float]:
    from datasets import Dataset
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
    from sentence_transformers.sentence_transformer import losses
    from transformers import TrainerCallback

    model, clock = their_model(args), Clock(args.warmup)
    lines = args.data.read_text(encoding="utf-8").splitlines()

    class Tick(TrainerCallback):
        def on_step_end(self, arguments: Any, state: Any, control: Any, **_: Any) -> None:
            clock.tick(state.global_step)

    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=args.batch,
        max_steps=args.steps,
        learning_rate=3e-4,
        lr_scheduler_type="linear",
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        logging_steps=10**6,
        use_cpu=True,
    )
    SentenceTransformerTrainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_dict({"anchor": lines, "positive": lines}),
        loss=losses.MultipleNegativesRankingLoss(model),
        callbacks=[Tick()],
    ).train()
    return clock.result()


def their_loop(args: argparse.Namespace, folder: Path) -> dict[str, float]:
    """Their own training loop, `old_fit`: the trainer needs the packages datasets and accelerate."""
    import torch
    from sentence_transformers import InputExample
    from sentence_transformers.sentence_transformer import losses

    model, clock = their_model(args), Clock(args.warmup)
    lines = args.data.read_text(encoding="utf-8").splitlines()
    examples = [InputExample(texts=[line, line]) for line in lines]
    done = 0

    class Ticking(torch.optim.AdamW):
        def step(self, *arguments: Any, **options: Any) -> Any:
            nonlocal done
            result = super().step(*arguments, **options)
            done += 1
            clock.tick(done)
            return result

    model.old_fit(
        [(torch.utils.data.DataLoader(examples, args.batch, shuffle=True), losses.MultipleNegativesRankingLoss(model))],
        steps_per_epoch=args.steps,
        warmup_steps=0,
        optimizer_class=Ticking,
        optimizer_params={"lr": 3e-4},
        show_progress_bar=False,
    )
    return clock.result()


class Clock:
    """CPU and wall seconds from the end of the warm-up to the last step."""

    def __init__(self, warmup: int) -> None:
        self._warmup = warmup
        self._start = self._stop = (0, 0.0, 0.0)

    def tick(self, step: int) -> None:
        now = (step, time.process_time(), time.perf_counter())
        if step <= self._warmup:
            self._start = now
        self._stop = now

    def result(self) -> dict[str, float]:
        steps, cpu, wall = (b - a for a, b in zip(self._start, self._stop, strict=True))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return {"steps_per_cpu_second": steps / cpu, "steps_per_second": steps / wall, "peak_mib": peak}


SIDES = {
    "ours": lambda args, folder: ours(args, folder, "cls", 1, "float32"),
    "ours, length_groups=4": lambda args, folder: ours(args, folder, "cls", 4, "float32"),
    "ours, length_groups=4, bfloat16": lambda args, folder: ours(args, folder, "cls", 4, "bfloat16"),
    "ours, pooler=avg": lambda args, folder: ours(args, folder, "avg", 1, "float32"),
    "sentence-transformers, trainer": their_trainer,
    "sentence-transformers, old_fit": their_loop,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True, help="text, one sentence a line")
    parser.add_argument("--model", type=Path, default=TINY, help="checkpoint folder")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--warmup", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--side", choices=SIDES)
    args = parser.parse_args()
    if args.side:
        import torch

        torch.set_num_threads(args.threads)
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(SIDES[args.side](args, Path(folder))))
        return
    for turn in range(args.rounds):
        for side in SIDES:
            if side.endswith("trainer") and not (find_spec("accelerate") and find_spec("datasets")):
                continue
            command = [sys.executable, *sys.argv, "--side", side]
            found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1]
            print(
                f"round {turn}  {side:<32}",
                {key: round(value, 2) for key, value in json.loads(found).items()},
                flush=True,
            )


if __name__ == "__main__":
    main()
