"""What runs on a GPU gives what a CPU gives: `make test-gpu`, or `pytest -m gpu tests/test_gpu.py`."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from simcse_models import SETTINGS, make_job, random_bert, sentences

from baselines.simcse.recipe import train
from harness.encoders.context import Context
from harness.encoders.protocol import embed
from harness.encoders.registry import build

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA"),
]

QUICK = replace(SETTINGS, dropout=0.0, max_steps=20, learning_rate=1e-4)


def run(tmp_path, name, settings=QUICK, **options):
    """Train and return the losses of all steps, the weights and the card."""
    job = make_job(tmp_path, settings, name=name, log_every=1, **{"dev": False, "device": "cuda", **options})
    card = train(job)
    lines = [json.loads(line) for line in (job.folder / "log.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines], load_file(job.folder / "model.safetensors"), card


@pytest.mark.parametrize("epsilon", ["hf", "torch"])
@pytest.mark.parametrize("capture", [False, True])
def test_losses_are_those_of_a_cpu(tmp_path, capture, epsilon):
    settings = replace(QUICK, epsilon=epsilon, weight_decay=0.01)
    expected, _, _ = run(tmp_path, "cpu", settings, device="cpu")
    losses, _, card = run(tmp_path, "gpu", settings, capture=capture)
    assert card["run"]["captured"] is capture
    assert losses == pytest.approx(expected, rel=1e-3)


def test_a_recorded_step_draws_the_dropout_masks_of_a_plain_one(tmp_path):
    settings = replace(QUICK, dropout=0.1)
    plain, _, _ = run(tmp_path, "plain", settings, capture=False)
    recorded, _, _ = run(tmp_path, "recorded", settings, capture=True)
    other, _, _ = run(tmp_path, "other", replace(settings, seed=2), capture=True)
    assert recorded == pytest.approx(plain, rel=1e-3)
    assert other != pytest.approx(plain, rel=1e-3)


def test_bfloat16_follows_float32(tmp_path):
    expected, _, _ = run(tmp_path, "float32")
    losses, _, _ = run(tmp_path, "bfloat16", replace(QUICK, dtype="bfloat16"), capture=True)
    assert losses == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("options", [{"capture": False}, {"capture": True}, {"capture": True, "deterministic": True}])
def test_a_resumed_run_is_the_uninterrupted_one(tmp_path, options):
    settings = replace(QUICK, dropout=0.1, eval_every=5)
    _, whole, _ = run(tmp_path, "whole", settings, dev=True, **options)
    with pytest.raises(ZeroDivisionError):
        stop = {"checkpoint_seconds": 0.0, "progress": lambda what, done, total, *_: 1 / (done < 13)}
        run(tmp_path, "again", settings, dev=True, **options, **stop)
    _, again, _ = run(tmp_path, "again", settings, dev=True, **options)
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_what_cannot_be_recorded_runs_step_by_step(tmp_path):
    for changes in ({"mlm_weight": 0.1}, {"fixed_mask": True}):
        name = next(iter(changes))
        losses, _, card = run(tmp_path, name, replace(QUICK, max_steps=3, **changes))
        assert len(losses) == 3 and card["run"]["captured"] is False


@pytest.mark.slow
def test_a_compiled_step_differs_by_rounding(tmp_path):
    plain, _, _ = run(tmp_path, "plain")
    compiled, _, card = run(tmp_path, "compiled", capture=True, compile=True)
    assert card["run"]["compiled"] and compiled == pytest.approx(plain, rel=1e-3)


@pytest.mark.parametrize("pooling", ["cls_before_pooler", "avg", "avg_first_last"])
def test_vectors_are_those_of_a_cpu(tmp_path, pooling):
    random_bert(tmp_path / "bert")
    texts = [*sentences(300), "", "the cat " * 30]
    x, y = (
        embed(
            build(
                f"hf:{tmp_path / 'bert'}[pooling={pooling}]",
                Context(cache_dir=tmp_path / device, device=device, offline=True),
            ),
            texts,
        )
        for device in ("cpu", "cuda")
    )
    assert np.allclose(x, y, atol=1e-4)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_the_second_gpu_is_used_where_it_is_named(tmp_path):
    losses, _, card = run(tmp_path, "second", device="cuda:1", capture=False)
    assert card["run"]["device"] == "cuda:1" and len(losses) == 20
