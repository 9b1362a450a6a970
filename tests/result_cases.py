"""A result with its items, by hand, for the tests of the store."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from harness.errors import ResultError
from harness.names import EncoderCard
from harness.results import store
from harness.results.items import PairItems
from harness.results.record import Result, Run

CARD = EncoderCard(
    name="bert[pooling=avg,backbone=tiny]",
    method="bert",
    parameters={"pooling": "avg", "backbone": "tiny", "prompt": None, "lower": True, "tau": 0.05, "dim": 256},
    backbone="tiny",
    revision=None,
    weights_sha256="53aa",
    pooling="avg",
    dim=256,
    max_tokens=128,
    dtype="float32",
    normalized=False,
    fitted_on=None,
    trained_on=None,
    seed=None,
)


RUN = Run(
    started="2026-01-02T03:04:05+00:00",
    seconds=1.5,
    encoding_seconds=0.5,
    machine={"processor": "p", "cores": 2},
    packages={"numpy": "2.4"},
    commit=None,
    dirty=None,
    device="cpu",
    threads=2,
)


RESULT = Result(
    task="STS12",
    protocol="sts",
    metric="spearman/all/test",
    scores={"spearman/all/test": 1.0, "spearman/subset:MSRpar/test": 1.0, "other/all/test": 0.1 + 0.2},
    counts={"pairs": 3},
    data={"STS/STS12-en-test/STS.gs.MSRpar.txt": "ab" * 32},
    flags=("fitted on the evaluated sentences",),
    encoder=CARD,
    seed=None,
    run=RUN,
)


def pairs(cosine: Sequence[float] = (0.1, 0.2, 0.9), gold: Sequence[float] = (1.0, 2.0, 4.5)) -> PairItems:
    n = len(gold)
    return PairItems(
        subset=["MSRpar"] * n,
        left=["5f" * 8] * n,
        right=[f"{i:016x}" for i in range(n)],
        words=np.arange(n),
        overlap=np.zeros(n),
        gold=np.array(gold),
        cosine=np.array(cosine),
    )


ITEMS = pairs()


FULL = RESULT.with_items(ITEMS)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.*")) if path.is_file()}


def edit(path: Path, *, honest: bool = False, **changes: object) -> None:
    """Change a document; an honest forger makes the checksum fit."""
    document = json.loads(path.read_text()) | changes
    if honest:
        del document["checksum"]
        canonical = json.dumps(document, sort_keys=True, separators=(",", ":"))
        document["checksum"] = hashlib.sha256(canonical.encode()).hexdigest()
    path.write_text(json.dumps(document))


def refusal(path: Path, **options: bool) -> str:
    with pytest.raises(ResultError) as caught:
        store.read(path, **options)
    return str(caught.value)
