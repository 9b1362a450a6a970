"""What one GPU does: training through `bench train`, encoding, sentence-transformers beside both, and the card's peak.

Every measurement runs in a process of its own. The model has BERT-base's shape and random weights, or is a folder that
you name. Training counts sentences per second of the steps alone; encoding counts seconds after a warm-up.

    python benchmarks/gpu.py --text wiki.txt --data-dir SentEval/data
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

TOKENIZER = Path(__file__).parents[1] / "baselines" / "assets" / "small"
STEPS = {64: 600, 512: 110}  # of a training run; the text has to hold as many batches
BLOCKS = 85_054_464  # weights of BERT-base's blocks, which do 6 operations per token and step


def make_model(folder: Path) -> None:
    """BERT-base's shape with random weights, and a tokenizer that is bundled."""
    import shutil

    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    BertModel(BertConfig()).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(TOKENIZER / name, folder / name)


def card(args: argparse.Namespace) -> dict[str, Any]:
    """The card's name and its rate in matrix products."""
    import torch

    found: dict[str, Any] = {"card": torch.cuda.get_device_name(), "torch": torch.__version__}
    for dtype in (torch.bfloat16, torch.float32):
        n = 8192
        a, b = (torch.randn(n, n, device="cuda", dtype=dtype) for _ in range(2))
        for _ in range(3):
            a @ b
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(10):
            a @ b
        torch.cuda.synchronize()
        found[str(dtype).removeprefix("torch.")] = f"{10 * 2 * n**3 / (time.perf_counter() - start) / 1e12:.0f} TFLOP/s"
    return found


def train(args: argparse.Namespace) -> dict[str, Any]:
    """`bench train`, from the text to the folder."""
    folder = args.work / f"{args.batch}-{args.how}"
    command = [sys.executable, "-m", "harness", "train", "simcse-unsup", "--backbone", args.model, "--data", args.text]
    command += [
        "--batch-size",
        args.batch,
        "--max-steps",
        STEPS[args.batch],
        "--set",
        "dev=none",
        "--dtype",
        "bfloat16",
    ]
    command += ["--device", args.device, "--cache-dir", args.work / "cache", "--output", folder, "--offline", "--quiet"]
    command += ["--compile" if args.how == "compiled" else "--no-compile"]
    start = time.perf_counter()
    subprocess.run([str(part) for part in command], check=True)
    run = json.loads((folder / "card.json").read_text())["run"]
    rate = run["sentences_per_second"]
    return {
        "sentences/s": rate,
        "TFLOP/s": round(rate * 2 * 32 * 6 * BLOCKS / 1e12) if rate else None,
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
    steps, warm_up = 60 if args.batch == 64 else 25, 10
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
        return [line for line in args.text.read_text(encoding="utf-8").splitlines() if line][:26_083]
    from harness.data.sts import semeval, sick_relatedness, sts_benchmark

    sets = [semeval(args.data_dir, year=f"STS{number}") for number in range(12, 17)]
    sets += [sts_benchmark(args.data_dir, splits=("test",)), sick_relatedness(args.data_dir, splits=("test",))]
    return [text for one in sets for pairs in one.subsets for text in (*pairs.left, *pairs.right)]


SIDES: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "card": card,
    "train": train,
    "train, sentence-transformers": train_theirs,
    "encode": encode,
    "encode, sentence-transformers": encode_theirs,
}
PLAN: list[tuple[str, int, str]] = [
    ("card", 0, ""),
    *(("train", batch, how) for batch in STEPS for how in ("recorded", "compiled")),
    *(("train, sentence-transformers", batch, "") for batch in STEPS),
    *(("encode", 0, dtype) for dtype in ("float32", "bfloat16", "float16")),
    ("encode, sentence-transformers", 32, "float32"),
    *(("encode, sentence-transformers", 256, dtype) for dtype in ("float32", "bfloat16")),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--text", type=Path, required=True, help="sentences to train on, one a line, 60,000 or more")
    parser.add_argument("--data-dir", type=Path, help="SentEval's data, for the sentences to encode")
    parser.add_argument("--model", type=Path, help="checkpoint folder; by default one is made")
    parser.add_argument("--device", default="cuda")
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
            make_model(model)
        for side, batch, how in PLAN:
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
