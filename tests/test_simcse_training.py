"""Training runs: repeatable to the bit, resumed without a trace, and true to each option."""

import hashlib
import json
import os
import shutil
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from simcse_models import SETTINGS, dev_set, make_job, random_bert, sentences

from baselines.simcse import devices, recipe
from baselines.simcse.ablations import Masker, predict_words, vocabulary_layer
from baselines.simcse.checkpoint import fingerprint
from baselines.simcse.data import Batches
from baselines.simcse.recipe import Optimizer, Trainee, contrastive_loss, make_model, train
from baselines.simcse.settings import SimcseUnsup, published
from harness.encoders.checkpoint import load_tokenizer
from harness.encoders.repository import find_checkpoint
from harness.errors import DataError, EncoderError, UsageError


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def weights(job):
    return load_file(job.folder / "model.safetensors")


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not(tmp_path):
    runs = [make_job(tmp_path, replace(SETTINGS, seed=seed), name=f"{i}") for i, seed in enumerate((1, 1, 2))]
    before = torch.random.get_rng_state()
    for job in runs:
        train(job)
    assert torch.equal(before, torch.random.get_rng_state())
    assert equal(weights(runs[0]), weights(runs[1]))
    assert not equal(weights(runs[0]), weights(runs[2]))
    logs = [(job.folder / "log.jsonl").read_text() for job in runs]
    assert logs[0] == logs[1] != logs[2]


def killed_at(step, job):
    """Train in a process of its own that kills itself when it comes to that step."""
    child = os.fork()
    if child:
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
        return
    advance = recipe._Run.advance

    def advance_until(run, number, *batch):
        if number == step:
            os.kill(os.getpid(), signal.SIGKILL)
        advance(run, number, *batch)

    recipe._Run.advance = advance_until
    try:
        train(job)
    finally:
        os._exit(0)


def test_a_killed_run_goes_on_to_the_same_weights_and_log(tmp_path):
    whole = make_job(tmp_path, name="whole", log_every=3)
    train(whole)
    again = make_job(tmp_path, name="killed", log_every=3, checkpoint_seconds=0.0)
    killed_at(2, again)  # before the first checkpoint
    killed_at(14, again)  # evaluated at 10, last checkpoint at 12
    assert (again.folder / ".training" / "checkpoint.safetensors").is_file()
    assert not (again.folder / "card.json").exists()
    seen = []
    train(replace(again, progress=lambda what, done, total, *_: seen.append(done)))
    assert seen[0] == 15
    assert equal(weights(whole), weights(again))
    assert (whole.folder / "log.jsonl").read_text() == (again.folder / "log.jsonl").read_text()
    assert not (again.folder / ".training").exists()


def test_the_best_evaluation_is_kept_and_the_last_steps_are_not_evaluated(tmp_path):
    job = make_job(tmp_path)
    card = train(job)
    lines = [json.loads(line) for line in (job.folder / "log.jsonl").read_text().splitlines()]
    scores = {line["step"]: line["dev_spearman"] for line in lines if "dev_spearman" in line}
    assert list(scores) == [0, 10, 20] and lines[-1]["step"] == 25
    assert np.isfinite(scores.pop(0))  # of the backbone as it is: curves begin there, and it is never selected
    best = max(scores, key=lambda step: (scores[step], -step))
    assert card["selected"] == {"step": best, "dev_spearman": scores[best]}
    stopped = make_job(tmp_path, replace(SETTINGS, learning_rate=1e-3), name="all", dev=False)
    assert train(stopped)["selected"] == {"step": 25, "dev_spearman": None}
    assert not equal(weights(stopped), weights(job))


def test_the_card_states_every_setting(tmp_path):
    job = make_job(tmp_path)
    card = train(job)
    assert card == json.loads((job.folder / "card.json").read_text())
    assert card["settings"] == SETTINGS.decisive
    assert card["settings"]["method"] == "simcse-unsup" and card["settings"]["dropout"] is None
    assert card["run"]["length_groups"] == 1 and "length_groups" not in card["settings"]
    assert card["data"]["rows"] == 60 and card["pooling"] == "cls_before_pooler"
    assert train(job) == card


def test_adam_is_transformers_4_2s_or_torchs(tmp_path):
    """The update rule, spelled out in float64, on tiny gradients, where the placement of epsilon shows."""
    start = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    for epsilon in ("hf", "torch"):
        layer = torch.nn.Linear(3, 5, bias=False)
        layer.weight.data.copy_(start)
        settings = replace(SETTINGS, epsilon=epsilon, weight_decay=0.1)
        optimizer = Optimizer(layer, settings, total=10)
        p, m, v = start.double(), 0.0, 0.0
        for step in range(4):
            g = torch.randn(5, 3, generator=torch.Generator().manual_seed(step)) * 1e-7
            layer.weight.grad = g.clone()
            optimizer.schedule(step)
            optimizer.update()
            g, t, lr = g.double(), step + 1, 1e-3 * (10 - step) / 10
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
            if epsilon == "hf":
                p = p - lr * (1 - 0.999**t) ** 0.5 / (1 - 0.9**t) * m / (v.sqrt() + 1e-8)
                p = p - lr * 0.1 * p
            else:
                p = p * (1 - lr * 0.1)
                p = p - lr / (1 - 0.9**t) * m / ((v / (1 - 0.999**t)).sqrt() + 1e-8)
        assert torch.allclose(layer.weight.double(), p, rtol=0, atol=5e-7)


def one_batch(tmp_path, settings):
    job = make_job(tmp_path, settings)
    return job, Batches(job.corpus, settings, 0, None, (0, 1))[0]


def test_the_head_is_fresh_and_evaluation_leaves_it_out(tmp_path):
    job, batch = one_batch(tmp_path, SETTINGS)
    model = make_model(job.backbone, SETTINGS)
    assert model.head.dense.bias.abs().max() == 0
    assert model.head.dense.weight.std().item() == pytest.approx(0.02, rel=0.15)
    ids, mask = batch.ids[:, 0], batch.mask[:, 0]
    model.eval()
    hidden = model.backbone(input_ids=ids, attention_mask=mask).last_hidden_state[:, 0]
    assert torch.equal(model(ids, mask), hidden)
    both = make_model(job.backbone, replace(SETTINGS, mlp_only_train=False)).eval()
    assert torch.allclose(both(ids, mask), torch.tanh(both.head.dense(hidden)))
    assert make_model(job.backbone, replace(SETTINGS, pooler="avg")).head is None


def test_two_views_differ_by_dropout_alone(tmp_path):
    job, batch = one_batch(tmp_path, SETTINGS)

    def views(**changes):
        settings = replace(SETTINGS, **changes)
        torch.manual_seed(0)
        trainee = Trainee(make_model(job.backbone, settings), settings).train()
        return trainee(batch.ids, batch.mask, 7)

    free, fixed, none = views(), views(fixed_mask=True), views(dropout=0.0)
    assert free.shape == (8, 2, 16)
    assert (free[:, 0] - free[:, 1]).abs().max() > 0.01
    assert torch.equal(fixed[:, 0], fixed[:, 1])
    assert (fixed[:, 0] - none[:, 0]).abs().max() > 0.01  # there is dropout, the same twice
    assert torch.allclose(none[:, 0], none[:, 1], atol=1e-6)
    assert torch.equal(views(), free)


def test_the_last_block_is_computed_for_the_first_token_alone_with_the_same_result(tmp_path):
    """Against the backbone as the library runs it: vectors and gradients."""
    from transformers import AutoModel

    job, batch = one_batch(tmp_path, SETTINGS)
    ids, mask = batch.ids.flatten(0, 1), batch.mask.flatten(0, 1)
    assert mask.min() == 0
    ours = make_model(job.backbone, replace(SETTINGS, dropout=0.0, pooler="cls_before_pooler")).train()
    plain = AutoModel.from_pretrained(job.backbone.folder, add_pooling_layer=False).eval()
    x, y = ours(ids, mask), plain(input_ids=ids, attention_mask=mask).last_hidden_state[:, 0]
    assert torch.allclose(x, y, atol=1e-6)
    (x**3).sum().backward()
    (y**3).sum().backward()
    gradients = {name: p.grad for name, p in plain.named_parameters()}
    rounding = 1e-6 * max(gradient.abs().max().item() for gradient in gradients.values())
    for name, p in ours.backbone.named_parameters():
        assert torch.allclose(p.grad, gradients[name], rtol=1e-5, atol=rounding), name


def test_length_groups_and_towers_leave_the_function_as_it_is(tmp_path):
    job, batch = one_batch(tmp_path, SETTINGS)
    results = []
    for changes in ({}, {"length_groups": 3}, {"towers": 2}):
        settings = replace(SETTINGS, dropout=0.0, **changes)
        torch.manual_seed(0)
        trainee = Trainee(make_model(job.backbone, settings), settings).train()
        z = trainee(batch.ids, batch.mask, 7)
        contrastive_loss(z, temperature=0.05).backward()
        results.append((z.detach(), trainee.first.backbone.embeddings.word_embeddings.weight.grad, trainee))
    for z, _, _ in results:
        assert torch.allclose(z, results[0][0], atol=1e-6)
    assert torch.allclose(results[1][1], results[0][1], atol=1e-5)
    second = results[2][2].second.backbone.embeddings.word_embeddings.weight.grad
    assert torch.allclose(results[2][1] + second, results[0][1], atol=1e-5)  # one tower's gradient, shared out


def test_the_dev_score_is_spearman_of_cosines_with_the_evaluation_pooler(tmp_path):
    from scipy.stats import spearmanr

    job = make_job(tmp_path)
    tokenizer = load_tokenizer(job.backbone)
    model = make_model(job.backbone, SETTINGS).train()
    texts = sentences(40, seed=9)
    score = dev_set(tokenizer).score(model)
    assert model.training
    model.eval()
    x = []
    for text in texts:
        encoded = tokenizer(text, return_tensors="pt")
        with torch.no_grad():
            x.append(model.backbone(**encoded).last_hidden_state[0, 0].double().numpy())
    x = np.array(x) / np.linalg.norm(x, axis=1, keepdims=True)
    left, right, gold = x[:20], x[20:], np.array([float(i % 6) for i in range(20)])
    assert score.spearman == pytest.approx(spearmanr(gold, (left * right).sum(1)).statistic, abs=1e-6)
    assert score.alignment == pytest.approx(((left - right)[gold > 4] ** 2).sum(1).mean(), rel=1e-4)
    distances = ((x[:, None] - x[None]) ** 2).sum(-1)[np.triu_indices(40, k=1)]
    assert score.uniformity == pytest.approx(np.log(np.exp(-2 * distances).mean()), abs=1e-6)


def test_tokens_are_masked_as_in_bert_and_special_ones_never(tmp_path):
    job, _ = one_batch(tmp_path, SETTINGS)
    tokenizer = load_tokenizer(job.backbone)
    ids = torch.randint(5, 27, (50, 2, 30), generator=torch.Generator().manual_seed(0))
    ids[:, :, 0], ids[:, :, -2], ids[:, :, -1] = 2, 1, 0
    mask = (ids != 0).long()
    masked = Masker(tokenizer, 0.15)(ids, mask, 1)
    chosen = torch.zeros(100 * 30, dtype=torch.bool)
    chosen[masked.positions] = True
    before, after = ids.flatten(), masked.ids.flatten()
    assert torch.equal(before[~chosen], after[~chosen]) and torch.equal(masked.targets, before[chosen])
    assert before[chosen].min() >= 5
    assert chosen.sum() / 2700 == pytest.approx(0.15, abs=0.03)
    assert (after[chosen] == 4).float().mean() == pytest.approx(0.8, abs=0.06)
    assert (after[chosen] == before[chosen]).float().mean() == pytest.approx(0.1, abs=0.06)
    assert torch.equal(Masker(tokenizer, 0.15)(ids, mask, 1).ids, masked.ids)


def test_the_auxiliary_loss_is_that_of_the_pretrained_model(tmp_path):
    from transformers import AutoModelForMaskedLM

    settings = replace(SETTINGS, mlm_weight=0.1)
    job, batch = one_batch(tmp_path, settings)
    trainee = Trainee(make_model(job.backbone, settings), settings, vocabulary_layer(job.backbone)).eval()
    masked = Masker(load_tokenizer(job.backbone), 0.3)(batch.ids, batch.mask, 1)
    labels = torch.full(masked.ids.shape, -100)
    labels.view(-1)[masked.positions] = masked.targets
    reference = AutoModelForMaskedLM.from_pretrained(job.backbone.folder).eval()
    expected = reference(input_ids=masked.ids, attention_mask=masked.mask, labels=labels).loss
    assert trainee.masked_loss(masked).item() == pytest.approx(expected.item(), abs=1e-5)
    plain = train(make_job(tmp_path, replace(SETTINGS, max_steps=2), name="plain", dev=False))
    both = train(make_job(tmp_path, replace(settings, max_steps=2), name="both", dev=False))
    assert plain["steps"] == both["steps"] == 2
    first = [json.loads((tmp_path / name / "log.jsonl").read_text())["loss"] for name in ("plain", "both")]
    assert first[1] > first[0] + 0.1
    assert "cls" not in "".join(weights(replace(job, folder=tmp_path / "both")))  # the layer is not a part of the model


def test_selected_tokens_that_are_filled_up_change_no_loss(tmp_path):
    settings = replace(SETTINGS, mlm_weight=0.1)
    job, batch = one_batch(tmp_path, settings)
    trainee = Trainee(make_model(job.backbone, settings), settings, vocabulary_layer(job.backbone)).eval()
    masker = Masker(load_tokenizer(job.backbone), 0.15)
    plain, filled = (masker(*batch, seed=1, filled=filled) for filled in (False, True))
    assert len(filled.positions) > len(plain.positions)
    assert {len(masker(*batch, seed=seed, filled=True).positions) for seed in range(20)} == {len(filled.positions)}
    gradients = []
    for masked in (plain, filled):
        trainee.zero_grad()
        loss = trainee.masked_loss(masked)
        loss.backward()
        gradients.append([loss.detach(), *(p.grad.clone() for p in trainee.parameters() if p.grad is not None)])
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)


def done_again(graphs, own):
    """Stands for a recording where there is no GPU: the same step on the same tensors."""
    loss, norm = torch.zeros(()), torch.zeros(())

    def replay():
        for kept, found in zip((loss, norm), graphs._gradient(*own), strict=True):
            kept.copy_(found)
        graphs._update()

    return replay, loss, norm


@pytest.mark.parametrize(
    ("changes", "multiple"),
    [({"dropout": 0.0}, 1), ({}, 8), ({"towers": 2}, 8), ({"mlm_weight": 0.1}, 8)],
    ids=["other padding", "dropout", "towers", "masked words"],
)
def test_a_step_of_fixed_shapes_and_places_differs_by_rounding(tmp_path, monkeypatch, changes, multiple):
    """With the same padding the masks of dropout, and the words that are masked, are the same too."""
    settings = replace(SETTINGS, max_steps=20, learning_rate=1e-4, **changes)
    shapes = []

    def losses(captured):
        job = make_job(tmp_path, settings, name=f"{captured}", dev=False, log_every=1)

        def plan(run):
            run.batches.quantum = multiple
            return captured, False

        monkeypatch.setattr(recipe._Run, "_plan", plan)
        assert train(job)["run"]["captured"] is captured
        return [json.loads(line)["loss"] for line in (job.folder / "log.jsonl").read_text().splitlines()]

    monkeypatch.setattr(devices.Graphs, "record", lambda g, own: shapes.append(own[0].shape) or done_again(g, own))
    assert losses(captured=True) == pytest.approx(losses(captured=False), rel=1e-5)
    assert shapes == [(8, 2, 16)]  # one recording for steps of 9 to 11 tokens


def test_words_replaced_by_the_masked_language_model(tmp_path):
    job, _ = one_batch(tmp_path, SETTINGS)
    augment = predict_words(job.backbone, load_tokenizer(job.backbone), 0.5)
    rows = np.arange(60)
    before, lengths = job.corpus.gather(rows, 0)
    after, same = augment(job.corpus, rows, np.random.default_rng(0))
    assert np.array_equal(lengths, same)
    words = before >= 5
    assert np.array_equal(after[~words], before[~words]) and after[words].min() >= 5
    assert (after[words] != before[words]).mean() == pytest.approx(0.5, abs=0.1)


@pytest.mark.slow
@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="torch.compile needs a C++ compiler")
def test_a_compiled_run_has_the_same_masks_and_differs_by_rounding(tmp_path):
    settings = replace(SETTINGS, max_steps=4)
    plain = make_job(tmp_path, settings, name="plain", dev=False)
    compiled = make_job(tmp_path, settings, name="compiled", dev=False, compile=True)
    assert train(plain)["run"]["compiled"] is False
    assert train(compiled)["run"]["compiled"] is True
    other = weights(compiled)
    for name, tensor in weights(plain).items():
        torch.testing.assert_close(other[name], tensor, rtol=1e-3, atol=1e-4)


def test_the_content_of_a_thesaurus_is_part_of_the_run_and_its_place_is_not(tmp_path):
    settings = replace(SETTINGS, max_steps=2, augmentation="synonym", thesaurus=str(tmp_path / "words.tsv"))
    (tmp_path / "words.tsv").write_text("cat\tdog\n")
    job = make_job(tmp_path, settings, dev=False)
    card = train(job)
    assert card["thesaurus"] == {"name": "words.tsv", "sha256": hashlib.sha256(b"cat\tdog\n").hexdigest()}
    (tmp_path / "other").mkdir()
    shutil.copy(tmp_path / "words.tsv", tmp_path / "other")
    moved = replace(job, settings=replace(settings, thesaurus=str(tmp_path / "other" / "words.tsv")))
    assert train(moved) == card
    (tmp_path / "words.tsv").write_text("cat\tbird\n")
    with pytest.raises(UsageError) as caught:
        train(job)
    assert str(caught.value) == (
        f"{job.folder}: holds the finished run of another thesaurus, expected this run's or nothing; name another "
        "folder"
    )
    (tmp_path / "words.tsv").unlink()
    with pytest.raises(DataError) as lost:
        train(job)
    assert str(lost.value) == (
        f"{tmp_path / 'words.tsv'}: the thesaurus cannot be read as UTF-8 text ([Errno 2] No such file or directory: "
        f"'{tmp_path / 'words.tsv'}'); check the path"
    )


def test_the_fingerprint_is_of_what_decides_the_weights():
    """Trained models are found by it, so no setting may come or go unnoticed; names and length groups do not count."""

    def of(name="tiny", **given):
        settings = published(SimcseUnsup(backbone="tiny", **given))
        return fingerprint({"settings": settings.decisive, "backbone": {"name": name, "sha256": "0"}, "dev": None})

    assert of() == of(name="copy", length_groups=4, data="a.txt", max_tokens=64) != of(dropout=0.1)
    assert of() == "318853b1ab12724090ba45c8e29fe5483b3ec4ffe277e0d789891c8097464a5e"


def test_a_job_without_a_thesaurus_names_none(tmp_path):
    assert set(make_job(tmp_path).identity()) == {"settings", "backbone", "data", "dev"}


def test_the_weights_are_as_readable_as_the_other_files(tmp_path):
    job = make_job(tmp_path, replace(SETTINGS, max_steps=1), dev=False)
    before = os.umask(0o022)
    try:
        train(job)
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in job.folder.rglob("*") if path.is_file()} == {0o644}


def test_the_library_is_silent_about_the_masked_language_model(tmp_path, capfd):
    from transformers.utils import logging

    backbone = random_bert(tmp_path / "backbone")
    with_pooler(backbone.folder)
    logging.set_verbosity_warning()
    logging.enable_progress_bar()
    capfd.readouterr()
    vocabulary_layer(backbone)
    assert capfd.readouterr() == ("", "")


def with_pooler(folder):
    """As BERT's own checkpoint: weights that the masked language model does not use, of which the library reports."""
    tensors = load_file(folder / "model.safetensors")
    tensors |= {"bert.pooler.dense.weight": torch.eye(16), "bert.pooler.dense.bias": torch.zeros(16)}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def test_training_starts_from_a_backbone_with_its_adapter_merged(tmp_path):
    """Against peft's own forward pass over the base model."""
    peft = pytest.importorskip("peft")
    from transformers import AutoModel

    base = random_bert(tmp_path / "base")
    library = AutoModel.from_pretrained(base.folder)
    config = peft.LoraConfig(r=2, target_modules=["query", "value"], init_lora_weights=False)
    adapted = peft.get_peft_model(library, config).eval()
    adapted.peft_config["default"].base_model_name_or_path = str(base.folder)
    adapted.save_pretrained(tmp_path / "adapter")
    checkpoint = find_checkpoint(str(tmp_path / "adapter"), offline=True)
    batch = load_tokenizer(checkpoint)(sentences(3), return_tensors="pt", padding=True)
    model = make_model(checkpoint, SETTINGS).eval()
    expected = adapted(**batch).last_hidden_state[:, 0]
    assert torch.allclose(model(batch["input_ids"], batch["attention_mask"]), expected, atol=1e-5)
    plain = AutoModel.from_pretrained(base.folder)(**batch).last_hidden_state[:, 0]
    assert (expected - plain).abs().max() > 0.01
    assert all(parameter.requires_grad for parameter in model.parameters())
    job = replace(make_job(tmp_path), backbone=checkpoint)
    before = fingerprint(job.identity())
    config = tmp_path / "adapter" / "adapter_config.json"
    config.write_text(config.read_text().replace('"lora_alpha": 8', '"lora_alpha": 16'))
    again = replace(job, backbone=find_checkpoint(str(tmp_path / "adapter"), offline=True))
    assert fingerprint(again.identity()) != before


def test_a_backbone_with_a_tensor_that_goes_nowhere_is_refused(tmp_path):
    backbone = random_bert(tmp_path / "base")
    path = backbone.folder / "model.safetensors"
    save_file({**load_file(path), "bert.encoder.layer.7.surprise": torch.zeros(2)}, path, {"format": "pt"})
    with pytest.raises(EncoderError, match="surprise"):
        make_model(find_checkpoint(str(backbone.folder), offline=True), SETTINGS)
