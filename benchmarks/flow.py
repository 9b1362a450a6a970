"""bert-flow: seconds to encode sentences, and to fit a flow of one epoch on them with their vectors in the cache.

    python benchmarks/flow.py --backbone tiny --sentences 2560

The sentences are the bundled training texts. Encoding starts with an empty cache and the weights in memory; the fit
reads the vectors from that cache. "With dropout" is the published code's way, where every step encodes its own batch
with dropout on and no cache can help. Times are of the processor and of the clock; one thread.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from harness.data.named_texts import find_text
from harness.encoders.context import Context
from harness.encoders.protocol import Encoder, embed
from harness.encoders.registry import build


def texts(context: Context, count: int) -> list[str]:
    found = [text for name in ("mini-wiki", "mini-nli") for text in find_text(name, context).sentences()]
    distinct = list(dict.fromkeys(found))
    if len(distinct) < count:
        raise SystemExit(f"--sentences {count}: the bundled texts have {len(distinct)} different ones")
    return distinct[:count]


def seconds(action: Callable[[], object]) -> tuple[float, float]:
    clock, processor = time.perf_counter(), time.process_time()
    action()
    return time.perf_counter() - clock, time.process_time() - processor


def encoder_of(text: str, context: Context) -> Encoder:
    found = build(text, context)
    assert hasattr(found, "encode")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="tiny")
    parser.add_argument("--sentences", type=int, default=2560)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        context = Context(cache_dir=Path(folder) / "cache", backbone=arguments.backbone)
        found = texts(context, arguments.sentences)
        path = Path(folder) / "text.txt"
        path.write_text("\n".join(found), encoding="utf-8")
        whitening = encoder_of(f"bert-whitening[fit={path},dim=1]", context)
        fits = {
            "fitting, vectors in the cache": encoder_of(f"bert-flow[fit={path},dropout=false]", context),
            "fitting with dropout": encoder_of(f"bert-flow[fit={path}]", context),
        }
        base = whitening._base  # type: ignore[attr-defined]
        embed(base, ["One sentence loads the weights."])
        embed(fits["fitting with dropout"]._base, ["One sentence loads the weights."])  # type: ignore[attr-defined]
        clock, processor = seconds(lambda: embed(base, found))
        print(f"{len(found)} sentences, {arguments.backbone}, {base.card.dim} dimensions")
        print(f"{'encoding':<30} {processor:7.2f} s of processor, {clock:7.2f} s of clock")
        for name, encoder in fits.items():
            taken, spent = seconds(lambda encoder=encoder: embed(encoder, found[:1]))
            print(
                f"{name:<30} {spent:7.2f} s of processor, {taken:7.2f} s of clock; {processor / spent:.1f} and "
                f"{clock / taken:.1f} times faster than encoding"
            )


if __name__ == "__main__":
    main()
