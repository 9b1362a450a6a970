"""Pretraining of the bundled assets: the corpus filter, resuming after a kill, GloVe, and the committed files."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer

from baselines.pretraining import corpus, glove, mlm, sample, spans
from harness.errors import DataError, UsageError

ASSETS = Path(__file__).parents[1] / "baselines" / "assets"
TINY = ASSETS / "tiny"
needs_tiny = pytest.mark.skipif(not TINY.joinpath("model.safetensors").exists(), reason="the tiny backbone is missing")

MICRO = mlm.Settings(
    vocabulary=120,
    hidden=16,
    layers=1,
    heads=2,
    tokens=6000,
    batch_tokens=256,
    warmup=3,
    heldout_masked=30,
    log_every=4,
    repeats={"imdb": 1, "reuters": 1, "wiki": 1, "flickr8k": 1},
)


def test_sentences_are_split_after_closing_marks_but_not_after_titles_or_initials():
    text = 'Mr. Smith met J. Doe. "Why?" He left at 5.30 p.m. today! 3 came.'
    assert list(corpus.split_sentences(text)) == [
        "Mr. Smith met J. Doe.",
        '"Why?"',
        "He left at 5.30 p.m. today!",
        "3 came.",
    ]


def test_a_sample_takes_equal_parts_and_what_a_small_corpus_lacks_from_the_larger_ones():
    assert sample.equal_parts({"a": 10, "b": 2, "c": 7}, 12) == {"b": 2, "c": 5, "a": 5}
    assert sample.equal_parts({"a": 10, "b": 2, "c": 4}, 16) == {"b": 2, "c": 4, "a": 10}
    with pytest.raises(DataError, match="16 sentences of 3 words or more, expected 17 at least"):
        sample.equal_parts({"a": 10, "b": 2, "c": 4}, 17)


def test_a_sample_repeats_no_sentence_and_is_the_same_for_the_same_seed():
    texts = {"a": [f"a {i}" for i in range(50)], "b": [f"b {i}" for i in range(5)]}
    chosen = sample.sample(texts, 20, seed=1)
    assert len(set(chosen)) == 20
    assert sum(text.startswith("b") for text in chosen) == 5
    assert chosen == sample.sample(texts, 20, seed=1) != sample.sample(texts, 20, seed=2)


def test_evaluation_sentences_are_removed_and_counted(tmp_path):
    (tmp_path / "MR").mkdir()
    (tmp_path / "MR" / "rt-polarity.pos").write_text("it does n't disappoint .\nso good\n", encoding="utf-8")
    (tmp_path / "TREC").mkdir()
    (tmp_path / "TREC" / "TREC_10.label").write_text("NUM:dist How far is it to Denver ?\n", encoding="utf-8")
    (tmp_path / "STS.gs.x.txt").write_text("gold files are skipped\n", encoding="utf-8")
    banned = corpus.evaluation_keys(tmp_path)
    document = [
        "It doesn't disappoint!",
        "So good.",
        "How far is it to Denver?",
        "Gold files are skipped.",
        "A new one.",
    ]
    out = io.StringIO()
    counts = corpus.clean([document, ["it does n't disappoint"]], banned, out)
    assert out.getvalue() == "So good.\nGold files are skipped.\nA new one.\n\n"
    assert counts == corpus.Counts(documents=1, sentences=3, removed=3)


def test_no_evaluation_files_is_an_error(tmp_path):
    with pytest.raises(DataError) as caught:
        corpus.evaluation_keys(tmp_path)
    assert (
        str(caught.value)
        == f"{tmp_path} holds no evaluation file; give SentEval's `downstream` folder with --senteval."
    )


def test_spans_are_whole_sentences_within_the_limits():
    rng = np.random.default_rng(0)
    lengths = [rng.integers(1, 100, 20).tolist() for _ in range(200)]
    starts = np.concatenate([[0], np.cumsum([sum(one) for one in lengths])])[:-1]
    sentence_starts = {0, *np.cumsum(np.concatenate(lengths)).tolist()}
    pieces = spans.cut(zip(starts.tolist(), lengths, strict=True), rng, 3)
    assert {start for start, _ in pieces} <= sentence_starts
    sizes = np.array([length for _, length in pieces])
    assert sizes.min() >= 8
    assert sizes.max() == 126
    assert 0.01 < (sizes > 62).mean() < 0.1
    ends = np.array([start + length for start, length in pieces])
    assert (ends[:-1] <= np.array([start for start, _ in pieces])[1:]).all()


@pytest.fixture
def work(tmp_path):
    """A work folder with four little corpora of made-up words."""
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("abcdefgh"), 4)) for _ in range(60)]
    for name in spans.CORPORA:
        documents = [[" ".join(rng.choice(words, 12)) for _ in range(4)] for _ in range(120 if name == "imdb" else 5)]
        corpus.clean(documents, set(), (text := io.StringIO()))
        tmp_path.joinpath(f"{name}.txt").write_text(text.getvalue(), encoding="utf-8")
    return tmp_path


def test_a_killed_run_continues_to_the_same_weights_and_log(work, monkeypatch):
    path = work / "checkpoint.pt"
    mlm.train(work, MICRO)
    whole = torch.load(path, weights_only=True)
    path.unlink()

    calls = iter(range(7))
    advance = mlm.advance
    with monkeypatch.context() as patch:
        patch.setattr(mlm, "advance", lambda *args: advance(*args) if next(calls, None) is not None else _kill())
        with pytest.raises(KeyboardInterrupt):
            mlm.train(work, MICRO, checkpoint_seconds=0)
    assert torch.load(path, weights_only=True)["step"] == 7 < whole["step"]
    mlm.train(work, MICRO)
    resumed = torch.load(path, weights_only=True)

    assert resumed["model"].keys() == whole["model"].keys()
    assert all(torch.equal(resumed["model"][name], tensor) for name, tensor in whole["model"].items())
    assert [{**row, "seconds": 0} for row in resumed["rows"]] == [{**row, "seconds": 0} for row in whole["rows"]]


def _kill():
    raise KeyboardInterrupt


def test_a_checkpoint_of_other_settings_is_refused(work):
    path = work / "checkpoint.pt"
    torch.save({"settings": {"seed": 1}}, path)
    with pytest.raises(UsageError) as caught:
        mlm.train(work, MICRO)
    assert str(caught.value).startswith(
        f"{path} was written under {{'seed': 1}}, expected {{'seed': 0, 'vocabulary': 120"
    )
    assert str(caught.value).endswith("; delete it to start again, or give another --work-dir.")


def test_export_without_a_checkpoint_is_an_error(tmp_path):
    with pytest.raises(DataError) as caught:
        mlm.export(tmp_path, tmp_path / "out")
    assert str(caught.value) == f"{tmp_path / 'checkpoint.pt'} is missing; train first."


def test_masking_hides_what_it_asks_for(work):
    tokenizer = spans.make_tokenizer(work, 120)
    pieces = spans.Spans(np.arange(5, 105, dtype=np.uint16), np.array([0, 50]), np.array([50, 40]))
    batch = mlm.masked_batch(pieces, np.array([0, 1]), tokenizer, np.random.default_rng(0), 0.5)
    original = np.zeros((2, 52), dtype=np.int64)
    original[0, :52] = [2, *range(5, 55), 3]
    original[1, :42] = [2, *range(55, 95), 3]
    assert batch.targets.tolist() == original.reshape(-1)[batch.positions].tolist()
    assert len(set(batch.positions.tolist())) == 45  # half of the 90 tokens that are not special
    untouched = np.setdiff1d(np.arange(104), batch.positions)
    assert (batch.ids.numpy().reshape(-1)[untouched] == original.reshape(-1)[untouched]).all()
    assert 0.6 < (batch.ids.flatten()[batch.positions] == tokenizer.mask_token_id).float().mean() < 0.95
    assert batch.attention.sum(1).tolist() == [52, 42]


def test_glove_tokens_are_cut_as_in_sentevals_text():
    expected = [
        "it",
        "'s",
        "a",
        "u.s.",
        "film",
        ";",
        "they",
        "do",
        "n't",
        "cost",
        "$",
        "5.93",
        "-",
        "no",
        "--",
        "semi-new",
        ".",
    ]
    assert glove.tokens("It's a U.S. film; they don’t cost $5.93 - no -- semi-new.") == expected


def test_cooccurrence_by_hand():
    texts = [np.array([0, 1, 0, -1], dtype=np.int32), np.array([1], dtype=np.int32)]
    pairs = glove.cooccurrence(texts, 2, window=2)
    found = {
        (i, j): x for i, j, x in zip(pairs.word.tolist(), pairs.context.tolist(), pairs.count.tolist(), strict=True)
    }
    assert found == {(0, 1): 2.0, (1, 0): 2.0, (0, 0): 1.0}  # 0 and 0 are 2 apart: 1/2 in each direction


def test_glove_brings_words_of_equal_context_together_and_its_cost_falls():
    rng = np.random.default_rng(0)
    animals = [["the", str(rng.choice(["cat", "dog"])), "eats", "meat", "now"] for _ in range(200)]
    colours = [["a", str(rng.choice(["red", "blue"])), "paint", "dries", "here"] for _ in range(200)]
    words, texts = glove.number_words(animals + colours, 100)
    settings = glove.Settings(dim=16, epochs=40, batch=16)
    vectors, costs = glove.train(glove.cooccurrence(texts, len(words), 3), len(words), settings)
    unit = dict(zip(words, vectors / np.linalg.norm(vectors, axis=1, keepdims=True), strict=True))
    assert unit["cat"] @ unit["dog"] > 0.98
    assert unit["red"] @ unit["blue"] > 0.98
    assert unit["cat"] @ unit["red"] < 0.8
    assert costs[-1] < 0.1 * costs[0]


@needs_tiny
def test_tiny_reloads_whole_with_its_head_and_a_lower_casing_tokenizer():
    model, info = AutoModelForMaskedLM.from_pretrained(TINY, output_loading_info=True)
    assert not info["missing_keys"]
    assert model.dtype == torch.float32
    encoder, info = AutoModel.from_pretrained(TINY, output_loading_info=True)
    assert not info["missing_keys"]
    assert (encoder.config.hidden_dropout_prob, encoder.config.attention_probs_dropout_prob) == (0.1, 0.1)
    tokenizer = AutoTokenizer.from_pretrained(TINY)
    assert tokenizer.tokenize("The DOG runs") == tokenizer.tokenize("the dog runs")
    long = tokenizer("dog " * 600, truncation=True, max_length=512, return_tensors="pt")
    with torch.no_grad():
        assert encoder.eval()(**long).last_hidden_state.shape == (1, 512, encoder.config.hidden_size)
    size = sum(path.stat().st_size for path in TINY.iterdir())
    assert size <= 12 * 2**20


@needs_tiny
def test_tiny_predicts_a_masked_word_from_its_context():
    tokenizer = AutoTokenizer.from_pretrained(TINY)
    model = AutoModelForMaskedLM.from_pretrained(TINY).eval()
    batch = tokenizer("a brown [MASK] runs through the grass .", return_tensors="pt")
    with torch.no_grad():
        logits = model(**batch).logits[0, batch["input_ids"][0].tolist().index(tokenizer.mask_token_id)]
    assert "dog" in tokenizer.convert_ids_to_tokens(logits.topk(5).indices)
