"""Two processes on a CPU are one: the loss, the gradient and the weights of the global batch."""

import json
import os
from dataclasses import replace

import pytest
import torch
from simcse_models import random_bert, sentences
from torch import distributed

from baselines.simcse import devices
from baselines.simcse.data import Batches, open_corpus
from baselines.simcse.recipe import Job, Trainee, contrastive_loss, make_model, train
from baselines.simcse.settings import SimcseSup, published
from harness.data.text import open_text
from harness.encoders.checkpoint import load_tokenizer
from harness.progress import silent

SETTINGS = published(SimcseSup(batch_size=7, max_steps=8, dropout=0.0, learning_rate=1e-3, hard_negative_weight=0.5))


def in_two_processes(tmp_path, work):
    """Run `work(rank)` in two forked processes that form a gloo group; the exit codes must be 0."""
    children = []
    for rank in (0, 1):
        child = os.fork()
        if child:
            children.append(child)
            continue
        code = 1
        try:
            torch.set_num_threads(1)
            os.environ |= {"WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": str(rank)}
            distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=rank, world_size=2)
            work(rank)
            distributed.destroy_process_group()
            code = 0
        finally:
            os._exit(code)
    assert [os.WEXITSTATUS(os.waitpid(child, 0)[1]) for child in children] == [0, 0]


@pytest.fixture
def job(tmp_path):
    torch.set_num_threads(1)
    texts = sentences(60)
    rows = ["sent0,sent1,hard_neg", *(f"{a},{b},{c}" for a, b, c in zip(texts, texts[1:], texts[2:], strict=False))]
    (tmp_path / "data.csv").write_text("\n".join(rows))
    backbone = random_bert(tmp_path / "backbone")
    corpus = open_corpus(
        open_text(tmp_path / "data.csv"), load_tokenizer(backbone), SETTINGS, tmp_path / "cache", silent
    )
    return Job(settings=SETTINGS, backbone=backbone, corpus=corpus, dev=None, folder=tmp_path / "one")


def loss_and_gradient(job, rank, world, scale="sum"):
    torch.manual_seed(0)
    trainee = Trainee(make_model(job.backbone, SETTINGS), SETTINGS).train()
    batches = Batches(job.corpus, SETTINGS, 0, None, (rank, world))
    z = trainee(batches[0].ids, batches[0].mask, 1)
    if world > 1:
        z = devices.gather(z, batches.sizes(0))
    loss = contrastive_loss(z, temperature=0.05, hard_negative_weight=0.5)
    loss.backward()
    if world > 1:
        devices.reduce_gradients(trainee.parameters(), world, scale)
    return {"loss": loss.detach()} | {name: p.grad for name, p in trainee.named_parameters()}


def test_loss_and_gradient_are_those_of_one_process(tmp_path, job):
    def work(rank):
        assert devices.join("cpu") == ("cpu", rank, 2)
        for scale in ("sum", "mean"):
            torch.save(loss_and_gradient(job, rank, 2, scale), tmp_path / f"{scale}-{rank}.pt")

    in_two_processes(tmp_path, work)
    expected = loss_and_gradient(job, 0, 1)
    rounding = 1e-6 * max(gradient.abs().max().item() for name, gradient in expected.items() if name != "loss")
    assert expected["loss"] > 0.1
    for rank in (0, 1):
        for scale, factor in (("sum", 1.0), ("mean", 0.5)):
            found = torch.load(tmp_path / f"{scale}-{rank}.pt", weights_only=True)
            assert found["loss"].item() == pytest.approx(expected["loss"].item(), rel=1e-6)
            for name, gradient in expected.items():
                if name != "loss":
                    assert torch.allclose(found[name], factor * gradient, rtol=1e-5, atol=rounding), name


def test_training_in_two_processes_follows_the_losses_of_one(tmp_path, job):
    """Not bit by bit: sums are taken in another order, and Adam magnifies gradients that are zero but for rounding."""
    job = replace(job, log_every=1)
    in_two_processes(tmp_path, lambda rank: train(replace(job, folder=tmp_path / "two")))
    train(job)
    one, two = (
        [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    )
    assert [line["step"] for line in two] == list(range(1, 9))
    assert [line["loss"] for line in two] == pytest.approx([line["loss"] for line in one], rel=1e-4)
    assert [line["gradient_norm"] for line in two] == pytest.approx([line["gradient_norm"] for line in one], rel=1e-3)
