"""Samples training sentences from the cleaned pretraining text, in as equal parts of each source as there are.

What `bench train` and the small-scale reruns of the paper's tables read, a sentence a line, in random order:

    python -m baselines.pretraining.sample --work-dir WORK --sentences 100000 --output sentences-100k.txt
"""

import argparse
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from baselines.pretraining.corpus import MIN_WORDS, documents, sources
from harness.errors import DataError

log = logging.getLogger(__name__)


def equal_parts(available: Mapping[str, int], total: int) -> dict[str, int]:
    """How many to take of each, as equally as possible: what a small one lacks, the larger ones give.

    Raises:
        DataError: if there are fewer than `total` in all.
    """
    if sum(available.values()) < total:
        raise DataError(f"{sum(available.values())} sentences of {MIN_WORDS} words or more, expected {total} at least")
    parts: dict[str, int] = {}
    left = total
    for place, name in enumerate(sorted(available, key=lambda name: (available[name], name))):
        parts[name] = min(available[name], left // (len(available) - place))
        left -= parts[name]
    return parts


def sample(sentences: Mapping[str, Sequence[str]], total: int, seed: int) -> list[str]:
    """`total` sentences without replacement, shuffled; the same for the same seed."""
    draw = np.random.default_rng(seed)
    chosen: list[str] = []
    for name, count in equal_parts({name: len(texts) for name, texts in sentences.items()}, total).items():
        log.info("%s: %d of %d", name, count, len(sentences[name]))
        chosen += [sentences[name][i] for i in draw.choice(len(sentences[name]), count, replace=False)]
    return [chosen[i] for i in draw.permutation(len(chosen))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--work-dir", type=Path, required=True, help="where `corpus` put the cleaned text")
    parser.add_argument("--sentences", type=int, required=True, help="how many")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, required=True, help="the file to write")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    texts = {
        source.name: [
            sentence
            for document in documents(source.path(args.work_dir))
            for sentence in document
            if len(sentence.split()) >= MIN_WORDS
        ]
        for source in sources(args.work_dir)
    }
    args.output.write_text("".join(f"{text}\n" for text in sample(texts, args.sentences, args.seed)), encoding="utf-8")


if __name__ == "__main__":
    main()
