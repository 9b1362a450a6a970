"""What one GPU does: training through `bench train`, encoding, sentence-transformers beside both, and the card's peak.

Every measurement runs in a process of its own. The model has BERT-base's shape and random weights, or is a folder that
you name. Training counts sentences per second of the steps alone; encoding counts seconds after a warm-up; a run of the
sts suite counts from a cold start, and says where its time went; probes are fitted on random features of CR's shape.
What feeds the card is measured on one CPU thread, which works beside it: --only feed needs no card.

    python benchmarks/gpu.py --text wiki.txt --data-dir SentEval/data

Whether all of it runs, a few seconds on a CPU show: add --quick --device cpu.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

TOKENIZER = Path(__file__).parents[1] / "baselines" / "assets" / "small"
STEPS = {64: 600, 512: 110}  # of a training run; the text has to hold as many batches
QUICK = {4: 24, 8: 24}  # the same with --quick
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}  # with --quick


def make_model(folder: Path, *, quick: bool) -> None:
    """BERT-base's shape with random weights, or with --quick a small one, and a tokenizer that is bundled."""
    import shutil

    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    BertModel(BertConfig(**SIZES) if quick else BertConfig()).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(TOKENIZER / name, folder / name)


def card(args: argparse.Namespace) -> dict[str, Any]:
    """The card's name and its rate in matrix products."""
    import torch

    on_gpu = args.device.startswith("cuda")
    wait = torch.cuda.synchronize if on_gpu else lambda: None
    found: dict[str, Any] = {"card": torch.cuda.get_device_name(args.device) if on_gpu else args.device}
    found["torch"] = torch.__version__
    n, times = (128, 2) if args.quick else (8192, 10)
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        a, b = (torch.randn(n, n, device=args.device).to(dtype) for _ in range(2))
        for _ in range(3):
            a @ b
        wait()
        start = time.perf_counter()
        for _ in range(times):
            a @ b
        wait()
        rate = times * 2 * n**3 / (time.perf_counter() - start) / 1e12
        found[str(dtype).removeprefix("torch.")] = f"{rate:.3g} TFLOP/s"
    return found


def block_weights(folder: Path) -> int:
    """Weights of the blocks, which do 6 operations per token and step."""
    from safetensors import safe_open

    with safe_open(folder / "model.safetensors", framework="pt") as file:
        return sum(file.get_tensor(name).numel() for name in file.keys() if "encoder.layer" in name)


def train(args: argparse.Namespace) -> dict[str, Any]:
    """`bench train`, from the text to the folder."""
    folder = args.work / f"{args.batch}-{args.how}"
    command = [sys.executable, "-m", "harness", "train", "simcse-unsup", "--backbone", args.model, "--data", args.text]
    command += ["--batch-size", args.batch, "--max-steps", (QUICK if args.quick else STEPS)[args.batch]]
    command += ["--set", "dev=none", "--dtype", "bfloat16", "--device", args.device, "--offline", "--quiet"]
    command += ["--cache-dir", args.work / "cache", "--output", folder]
    command += ["--compile" if args.how == "compiled" else "--no-compile"]
    start = time.perf_counter()
    subprocess.run([str(part) for part in command], check=True)
    run = json.loads((folder / "card.json").read_text())["run"]
    rate = run["sentences_per_second"]
    return {
        "sentences/s": rate,
        "TFLOP/s": float(f"{rate * 2 * 32 * 6 * block_weights(args.model) / 1e12:.3g}") if rate else None,
        "seconds in all": round(time.perf_counter() - start, 1),
        "recorded": run["captured"],
    }


def train_theirs(args: argparse.Namespace) -> dict[str, Any]:
    """Train with sentence-transformers' trainer: the same model, text, batch, length and objective."""
    import torch
    from datasets import Dataset
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
    from sentence_transformers.sentence_transformer import losses
    from transformers import TrainerCallback

    model = _their_model(args, max_tokens=32)
    steps, warm_up = (12, 4) if args.quick else (60, 10) if args.batch == 64 else (25, 10)
    clock: list[float] = []

    class Tick(TrainerCallback):
        def on_step_end(self, arguments: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step in (warm_up, steps):
                if torch.cuda.is_available():
                    torch.cuda.synchronize()
                clock.append(time.perf_counter())

    lines = [line for line in args.text.read_text(encoding="utf-8").splitlines() if line][: args.batch * (steps + 1)]
    with tempfile.TemporaryDirectory() as folder:
        arguments = SentenceTransformerTrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=args.batch,
            max_steps=steps,
            learning_rate=3e-5,
            bf16=args.device != "cpu",
            use_cpu=args.device == "cpu",
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            logging_steps=10**6,
        )
        SentenceTransformerTrainer(
            model=model,
            args=arguments,
            train_dataset=Dataset.from_dict({"anchor": lines, "positive": lines}),
            loss=losses.MultipleNegativesRankingLoss(model),
            callbacks=[Tick()],
        ).train()
    return {"sentences/s": round(args.batch * (steps - warm_up) / (clock[1] - clock[0]), 1)}


def encode(args: argparse.Namespace) -> dict[str, Any]:
    """Encode each distinct sentence once, as `bench run` does."""
    from harness.encoders.context import Context
    from harness.encoders.protocol import embed
    from harness.encoders.registry import build

    sides = _sides(args)
    distinct = list(dict.fromkeys(sides))
    context = Context(cache_dir=args.work / "cache", device=args.device, dtype=args.how, offline=True)
    encoder = build(f"hf:{args.model}[pooling=avg]", context)
    seconds = _seconds(lambda texts: embed(encoder, texts), distinct)
    return {"seconds": seconds, "sentences": len(sides), "distinct": len(distinct)}


def encode_theirs(args: argparse.Namespace) -> dict[str, Any]:
    """Encode every sentence with sentence-transformers."""
    import torch

    sides = _sides(args)
    model = _their_model(args).to(getattr(torch, args.how))
    seconds = _seconds(lambda texts: model.encode(texts, batch_size=args.batch), sides)
    return {"seconds": seconds, "sentences": len(sides)}


def run(args: argparse.Namespace) -> dict[str, Any]:
    """`bench run` on the sts suite from a cold start, nothing cached; without a data folder the bundled mini set."""
    tasks = ["--suite", "sts", "--data-dir", args.data_dir] if args.data_dir else ["--tasks", "mini-sts"]
    command = [sys.executable, "-m", "harness", "run", "--models", f"hf:{args.model}[pooling=avg]", *tasks, "--offline"]
    command += [
        "--device",
        args.device,
        "--dtype",
        args.how,
        "--timings",
        "--cache-dir",
        args.work / f"cold-{args.how}",
    ]
    command += ["--results-dir", args.work / f"results-{args.how}"]
    start = time.perf_counter()
    done = subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True)
    seconds = round(time.perf_counter() - start, 2)
    rows = [line.split() for line in done.stderr.splitlines()]
    where = {" ".join(row[:-2]): float(row[-2]) for row in rows if len(row) > 2 and row[-1].endswith("%")}
    return {"seconds": seconds, "where": where}


def probes(args: argparse.Namespace) -> dict[str, Any]:
    """Fit the probes of a task of CR's shape on the device, or with `how` on the CPU, and count the memory."""
    import numpy as np
    import torch

    from harness.tasks.probes import MODES, Examples
    from harness.tasks.schemes import nested_kfold

    device = args.how or args.device
    rows, dim = (300, 16) if args.quick else (3775, 768)
    draw = np.random.default_rng(0)
    y = draw.integers(0, 2, rows)
    x = (draw.normal(size=(rows, dim)) + 2 * y[:, None] * draw.normal(size=dim) / dim**0.5).astype(np.float32)
    start = time.perf_counter()
    score = nested_kfold(Examples("synthetic", x, y), MODES["fasttest"], device=device)
    found: dict[str, Any] = {"seconds": round(time.perf_counter() - start, 2), "accuracy": score.test, "device": device}
    if device.startswith("cuda"):
        found["GiB"] = round(torch.cuda.max_memory_allocated(device) / 2**30, 2)
    return found


def _seconds(encode: Callable[[list[str]], object], texts: list[str]) -> float:
    encode(texts[::10])  # loads the model and warms up
    start = time.perf_counter()
    encode(texts)
    return round(time.perf_counter() - start, 2)


def _their_model(args: argparse.Namespace, max_tokens: int = 512) -> Any:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import modules

    transformer = modules.Transformer(str(args.model), max_seq_length=max_tokens)
    pooling = modules.Pooling(transformer.get_embedding_dimension(), "mean")
    return SentenceTransformer(modules=[transformer, pooling], device=args.device)


def _sides(args: argparse.Namespace) -> list[str]:
    """Both sides of the seven STS test sets; without a data folder, lines of the text."""
    if args.data_dir is None:
        lines = [line for line in args.text.read_text(encoding="utf-8").splitlines() if line]
        return lines[: 200 if args.quick else 26_083]
    from harness.data.sts import semeval, sick_relatedness, sts_benchmark

    sets = [semeval(args.data_dir, year=f"STS{number}") for number in range(12, 17)]
    sets += [sts_benchmark(args.data_dir, splits=("test",)), sick_relatedness(args.data_dir, splits=("test",))]
    return [text for one in sets for pairs in one.subsets for text in (*pairs.left, *pairs.right)]


def feed(args: argparse.Namespace) -> dict[str, Any]:
    """What one CPU thread gives a card: sentences per second of batches to train on, or of windows to encode.

    The work beside which this happens is the card's own, so a rate above the card's costs no time.
    """
    import torch

    from baselines.simcse.data import Batches
    from baselines.simcse.encoders import make_job
    from baselines.simcse.settings import SimcseUnsup, published
    from harness.encoders.batching import plan_batches
    from harness.encoders.checkpoint import load_tokenizer
    from harness.encoders.context import Context
    from harness.encoders.tokens import token_ids

    os.environ["RAYON_NUM_THREADS"] = "1"  # of the tokenizer
    torch.set_num_threads(1)
    context = Context(cache_dir=args.work / "cache", offline=True)
    asked = SimcseUnsup(backbone=str(args.model), data=str(args.text), dev="none", batch_size=args.batch or 64)
    job = make_job(published(asked), context)
    if args.how == "batches":
        batches = Batches(job.corpus, job.settings, 0, None, (0, 1))
        steps = min(len(job.corpus) // args.batch, 400)
        start = time.perf_counter()
        for step in range(steps):
            batches[step]
        return {"sentences/s": round(steps * args.batch / (time.perf_counter() - start))}
    tokenizer, texts = load_tokenizer(job.backbone), list(dict.fromkeys(_sides(args)))
    start = time.perf_counter()
    plan_batches([len(ids) for ids in token_ids(tokenizer, texts, 512)], 32_768, padding=False)
    return {"sentences/s": round(len(texts) / (time.perf_counter() - start))}


SIDES: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "card": card,
    "train": train,
    "train, sentence-transformers": train_theirs,
    "encode": encode,
    "encode, sentence-transformers": encode_theirs,
    "run": run,
    "probes": probes,
    "feed": feed,
}


def plan(*, quick: bool, on_gpu: bool) -> list[tuple[str, int, str]]:
    """What is measured: the side, its batch size, and how. A CPU records no step, and compiles it too slowly."""
    batches = QUICK if quick else STEPS
    return [
        ("card", 0, ""),
        *(("train", batch, how) for batch in batches for how in (("recorded", "compiled") if on_gpu else ("plain",))),
        *(("train, sentence-transformers", batch, "") for batch in batches),
        *(("encode", 0, dtype) for dtype in ("float32", "bfloat16", "float16")),
        ("encode, sentence-transformers", 32, "float32"),
        *(("encode, sentence-transformers", 256, dtype) for dtype in ("float32", "bfloat16")),
        *(("run", 0, dtype) for dtype in ("float32", "bfloat16")),
        *(("probes", 0, device) for device in ("", "cpu") if on_gpu or device),
        *(("feed", batch, "batches") for batch in batches),
        ("feed", 0, "windows"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--text", type=Path, required=True, help="sentences to train on, one a line, 60,000 or more")
    parser.add_argument("--data-dir", type=Path, help="SentEval's data, for the sentences to encode")
    parser.add_argument("--model", type=Path, help="checkpoint folder; by default one is made")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="a small model and a few steps: whether everything runs")
    parser.add_argument("--only", default="", help="measurements that begin so")
    parser.add_argument("--limit", type=float, default=150.0, help="seconds for one measurement")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--batch", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--how", default="", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        print(json.dumps(SIDES[args.side](args)))
        return
    with tempfile.TemporaryDirectory() as work:
        model = args.model or Path(work) / "bert-base"
        if args.model is None:
            make_model(model, quick=args.quick)
        for side, batch, how in plan(quick=args.quick, on_gpu=args.device.startswith("cuda")):
            if not side.startswith(args.only):
                continue
            own = ["--side", side, "--batch", str(batch), "--how", how, "--work", work, "--model", str(model)]
            command = [sys.executable, *sys.argv, *own]
            print(f"{side:<30} {batch or '':>4} {how:<10}", _measured(command, args.limit), flush=True)


def _measured(command: list[str], limit: float) -> str:
    """What one measurement prints last, or why there is nothing; the others go on."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return f"not finished after {limit:.0f} s"
    lines = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
    return lines[-1] if lines else f"exit code {done.returncode}"


if __name__ == "__main__":
    main()
