"""What runs on a GPU gives what a CPU gives: `make test-gpu`, or `pytest -m gpu tests/test_gpu.py`."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from simcse_models import SETTINGS, make_job, random_bert, sentences

from baselines.simcse.recipe import train
from harness.encoders import transformer
from harness.encoders.context import Context
from harness.encoders.protocol import embed
from harness.encoders.registry import build
from harness.errors import UsageError
from harness.tasks.probes import MODES, Examples
from harness.tasks.regression import Scored, relatedness
from harness.tasks.schemes import nested_kfold

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA"),
]

FLOW = "bert-flow[backbone=tiny,fit=mini-wiki,sentences=200,dropout=false]"
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


@pytest.mark.parametrize("changes", [{"towers": 2}, {"mlm_weight": 0.1}], ids=["towers", "masked words"])
def test_a_recorded_step_of_two_towers_and_of_masked_words_is_a_plain_one(tmp_path, changes):
    settings = replace(QUICK, dropout=0.1, **changes)
    plain, _, _ = run(tmp_path, "plain", settings, capture=False)
    recorded, _, card = run(tmp_path, "recorded", settings, capture=True)
    assert card["run"]["captured"] is True
    assert recorded[:4] == pytest.approx(plain[:4], rel=1e-3)
    assert recorded == pytest.approx(plain, rel=1e-2)


def test_a_fixed_mask_runs_step_by_step(tmp_path):
    settings = replace(QUICK, max_steps=3, dropout=0.1, fixed_mask=True)
    losses, _, card = run(tmp_path, "fixed", settings)
    assert len(losses) == 3 and card["run"]["captured"] is False
    with pytest.raises(UsageError, match="without fixed_mask; drop capture"):
        run(tmp_path, "asked", settings, capture=True)


@pytest.mark.slow
def test_a_compiled_step_differs_by_rounding(tmp_path):
    plain, _, _ = run(tmp_path, "plain")
    compiled, _, card = run(tmp_path, "compiled", capture=True, compile=True)
    assert card["run"]["compiled"] and compiled == pytest.approx(plain, rel=1e-3)


def vectors(tmp_path, device, specification, texts, **context):
    """Of an encoder with a cache of its own."""
    cache = tmp_path / f"{device}-{'-'.join(context.values())}"
    return embed(build(specification, Context(cache_dir=cache, device=device, offline=True, **context)), texts)


TEXTS = [*sentences(300), "", "the cat " * 30]


@pytest.mark.parametrize("pooling", ["cls_before_pooler", "avg", "avg_first_last", "last_token"])
def test_vectors_are_those_of_a_cpu(tmp_path, pooling):
    random_bert(tmp_path / "bert")
    x, y = (
        vectors(tmp_path, device, f"hf:{tmp_path / 'bert'}[pooling={pooling}]", TEXTS) for device in ("cpu", "cuda")
    )
    assert np.allclose(x, y, atol=1e-4)


@pytest.mark.parametrize(("dtype", "limit"), [("bfloat16", 0.1), ("float16", 0.02)])
def test_vectors_of_half_precision_are_near(tmp_path, dtype, limit):
    random_bert(tmp_path / "bert")
    name = f"hf:{tmp_path / 'bert'}[pooling=avg]"
    x, y = vectors(tmp_path, "cpu", name, TEXTS), vectors(tmp_path, "cuda", name, TEXTS, dtype=dtype)
    assert np.abs(x - y).max() < limit * np.abs(x).max()


def test_many_windows_give_the_vectors_of_one(tmp_path, monkeypatch):
    random_bert(tmp_path / "bert")
    name = f"hf:{tmp_path / 'bert'}[pooling=avg]"
    expected = vectors(tmp_path, "cuda", name, TEXTS)
    monkeypatch.setattr(transformer, "_PLAN_AT_ONCE", 16)
    found = vectors(tmp_path / "again", "cuda", name, TEXTS)
    assert np.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("method", ["bert-whitening[backbone=tiny,fit=mini-wiki]", FLOW], ids=["whitening", "flow"])
def test_fits_on_vectors_of_a_gpu_are_those_of_a_cpu(tmp_path, method):
    texts = [f"{one} {two}" for one, two in zip(sentences(60), sentences(60, seed=1), strict=True)]
    x, y = (vectors(tmp_path, device, method, texts).astype(np.float64) for device in ("cpu", "cuda"))
    cosines = (x * y).sum(1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1)
    assert cosines.min() > 0.999


def examples(n, classes, dim=64):
    """Noisy points around a centre for each class."""
    draw = np.random.default_rng(0)
    y = draw.integers(0, classes, n)
    return Examples("made up", (draw.normal(size=(classes, dim))[y] + 2 * draw.normal(size=(n, dim))).astype("f4"), y)


@pytest.mark.parametrize("mode", ["test", "fasttest"])
def test_probes_have_the_accuracies_of_a_cpu(mode):
    data = examples(600, 3)
    one, other = (nested_kfold(data, MODES[mode], device=device) for device in ("cpu", "cuda"))
    assert other.test == pytest.approx(one.test, abs=0.6)  # three rows of 600
    assert np.mean(one.predictions == other.predictions) > 0.98


def test_the_regressor_has_the_correlations_of_a_cpu():
    draw = np.random.default_rng(0)
    weights = draw.normal(size=16)
    splits = []
    for name in ("train", "dev", "test"):
        x = draw.normal(size=(200, 16)).astype("f4")
        splits.append(Scored(name, x, np.clip(3 + x @ weights / 4, 1, 5)))
    one, other = (relatedness(tuple(splits), device=device) for device in ("cpu", "cuda"))
    assert other.pearson == pytest.approx(one.pearson, abs=0.01)


def test_probes_need_a_gibibyte_at_most():
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    nested_kfold(examples(4000, 2, dim=768), replace(MODES["test"], max_epoch=4), device="cuda")
    assert torch.cuda.max_memory_allocated() - before < 2**30


two_gpus = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")


@two_gpus
@pytest.mark.parametrize("capture", [False, True])
def test_the_second_gpu_is_used_where_it_is_named(tmp_path, capture):
    torch.cuda.reset_peak_memory_stats(0)
    before = torch.cuda.memory_allocated(0)
    losses, _, card = run(tmp_path, "second", device="cuda:1", capture=capture)
    assert card["run"]["device"] == "cuda:1" and len(losses) == 20
    random_bert(tmp_path / "bert")
    vectors(tmp_path, "cuda:1", f"hf:{tmp_path / 'bert'}[pooling=avg]", TEXTS)
    nested_kfold(examples(300, 2), MODES["fasttest"], device="cuda:1")
    assert torch.cuda.max_memory_allocated(0) == before


@two_gpus
def test_all_gpus_give_what_one_gives(tmp_path, monkeypatch):
    random_bert(tmp_path / "bert")
    monkeypatch.setattr(transformer, "_PLAN_AT_ONCE", 16)
    name = f"hf:{tmp_path / 'bert'}[pooling=avg]"
    one, several = (vectors(tmp_path, device, name, TEXTS) for device in ("cuda:0", "cuda"))
    assert np.array_equal(one, several)
