"""Pretraining of the bundled assets: the corpus filter, resuming after a kill, GloVe, and the committed files."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer

from baselines.pretraining import corpus, glove, mlm, sample, spans
from harness.data.text import open_text
from harness.errors import DataError

ASSETS = Path(__file__).parents[1] / "baselines" / "assets"
TINY = ASSETS / "tiny"
needs_tiny = pytest.mark.skipif(not TINY.joinpath("model.safetensors").exists(), reason="the tiny backbone is missing")

MICRO = mlm.Settings(
    vocabulary=120,
    hidden=16,
    layers=1,
    heads=2,
    batch_tokens=256,
    steps=50,
    rate=1e-2,
    warmup=5,
    masked=0.15,
    log_every=20,
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


def test_a_document_is_a_line_or_the_captions_of_one_image(write):
    lines = open_text(write("films.txt", b"Mr. Smith runs.<br />He falls.\n\nA new one\n"))
    assert list(corpus.read_documents(lines)) == [["Mr. Smith runs.", "He falls."], [], ["A new one"]]
    captions = open_text(write("c.tsv", b"image\tcaption\n1\tA dog. Runs \n1\tTwo dogs\n2\tA cat\n"))
    assert list(corpus.read_documents(captions)) == [["A dog. Runs", "Two dogs"], ["A cat"]]


def test_short_pieces_cover_a_document_in_whole_sentences_where_they_fit():
    rng = np.random.default_rng(0)
    for most in (1, 3):
        for _ in range(300):
            lengths = rng.integers(1, 100, 20).tolist()
            pieces = spans.cut_short(lengths, rng, most)
            assert sum(pieces) == sum(lengths)
            assert max(pieces) <= 62
            ends = set(np.cumsum(pieces).tolist())
            assert all(end in ends for end in np.cumsum(lengths).tolist()) or most > 1
    assert spans.cut_short([70, 5], rng, 1) == [62, 8, 5]
    assert spans.cut_short([], rng, 3) == []


def test_long_pieces_cover_a_document():
    assert spans.cut_long(300) == [126, 126, 48]
    assert spans.cut_long(252) == [126, 126]
    assert spans.cut_long(0) == []


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A work folder with two sources of made-up words, as the program makes it."""
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("abcdefgh"), 4)) for _ in range(60)]
    sentences = [" ".join(rng.choice(words, 12)).capitalize() + "." for _ in range(2400)]
    (tmp_path / "films.txt").write_text("\n".join(" ".join(sentences[i : i + 6]) for i in range(0, 1800, 6)))
    rows = [f"{i // 3}.jpg\t{sentence}" for i, sentence in enumerate(sentences[1800:])]
    (tmp_path / "captions.tsv").write_text("image\tcaption\n" + "\n".join(rows) + "\n")
    (tmp_path / "senteval").mkdir()
    (tmp_path / "senteval" / "test.txt").write_text(f"{sentences[3]}\n{sentences[2000]}\n")
    texts = [f"{tmp_path / 'films.txt'}", f"{tmp_path / 'captions.tsv'}:2"]
    options = ["--senteval", str(tmp_path / "senteval"), "--work-dir", str(tmp_path / "work"), *texts]
    monkeypatch.setattr("sys.argv", ["corpus", *options])
    corpus.main()
    return tmp_path / "work"


def test_the_cleaned_sources_are_listed_with_what_was_removed(work):
    assert corpus.sources(work) == [corpus.Source("films", 1.0, True), corpus.Source("captions", 2.0, False)]
    assert sum(1 for _ in corpus.documents(work / "films.txt")) == 300
    assert sum(len(document) for document in corpus.documents(work / "captions.txt")) == 599
    with pytest.raises(DataError, match="expected the list of cleaned texts; run `corpus` first"):
        corpus.sources(work / "elsewhere")


def test_held_out_documents_are_in_no_piece_that_is_trained_on(work):
    tokenizer = spans.make_tokenizer(work, 120)
    train, held = spans.prepare_spans(work, tokenizer, seed=0, held_out_every=10)
    seen = np.zeros(len(train.tokens), int)
    for start, length in zip(train.start, train.length, strict=True):
        seen[start : start + length] += 1
    assert all(not seen[start : start + length].any() for start, length in zip(held.start, held.length, strict=True))
    assert (train.length.min(), train.length.max()) == (6, 126)
    assert 0.08 < (seen == 0).mean() < 0.13
    assert seen.max() == 2  # films are cut in two ways, captions are read twice


def test_fifty_steps_lower_the_loss_and_the_export_loads(work, tmp_path):
    run = mlm.Run(work, MICRO)
    first = mlm.evaluate(run.model, run._held)[0]
    run.train()
    assert run.progress.step == 50
    assert [row["step"] for row in run.progress.rows] == [20, 40, 50]
    assert run.progress.rows[-1]["heldout_loss"] < first - 0.2
    mlm.export(work, MICRO, tmp_path / "out")
    model, info = AutoModelForMaskedLM.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not info["missing_keys"]
    embeddings = model.bert.embeddings
    assert torch.equal(embeddings.position_embeddings.weight[130], embeddings.position_embeddings.weight[66])
    assert torch.equal(*embeddings.token_type_embeddings.weight)
    assert AutoTokenizer.from_pretrained(tmp_path / "out").mask_token == "[MASK]"
    assert (tmp_path / "out" / "training_log.csv").read_text().count("\n") == 4


def test_a_killed_run_continues_to_the_same_weights_and_log(work, monkeypatch):
    whole = mlm.Run(work, MICRO)
    whole.train()
    whole.path.unlink()

    advance, steps = mlm.Run.advance, iter(range(33))

    def killed(run):
        if next(steps, None) is None:
            raise KeyboardInterrupt
        advance(run)

    with monkeypatch.context() as patch:
        patch.setattr(mlm.Run, "advance", killed)
        with pytest.raises(KeyboardInterrupt):
            mlm.Run(work, MICRO, checkpoint_seconds=0).train()
    resumed = mlm.Run(work, MICRO)
    assert resumed.progress.step == 33
    resumed.train()
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], tensor), name
    assert [{**row, "seconds": 0} for row in resumed.progress.rows] == [
        {**row, "seconds": 0} for row in whole.progress.rows
    ]


def test_a_damaged_checkpoint_is_named_and_the_run_begins_anew(work, caplog):
    run = mlm.Run(work, replace(MICRO, steps=3))
    run.train()
    content = bytearray(run.path.read_bytes())
    content[len(content) // 2] ^= 1
    run.path.write_bytes(content)
    assert mlm.Run(work, replace(MICRO, steps=3)).progress.step == 0
    assert f"{run.path}: cannot be used (" in caplog.text


def test_runs_of_other_settings_do_not_share_a_checkpoint(work):
    mlm.Run(work, replace(MICRO, steps=2)).train()
    assert mlm.Run(work, replace(MICRO, steps=2)).progress.step == 2
    assert mlm.Run(work, replace(MICRO, steps=2, seed=1)).progress.step == 0


def test_a_time_budget_decides_the_steps(work, monkeypatch):
    monkeypatch.setattr(mlm, "_COMPILED", 2)
    monkeypatch.setattr(mlm, "_TIMED", 4)
    times = iter([10.0, 12.0])
    monkeypatch.setattr(mlm.Run, "_now", lambda run: next(times))
    run = mlm.Run(work, replace(MICRO, steps=None, seconds=6.0))
    run.train()
    assert 7 <= run.progress.step <= 6 + 6.0 / (0.5 * 1.02)
    assert run.progress.steps == run.progress.step


def test_the_rate_rises_and_falls():
    rates = [mlm.learning_rate(MICRO, step, 50) for step in range(50)]
    assert rates[:5] == pytest.approx([0.002, 0.004, 0.006, 0.008, 0.01])
    assert rates[-1] == pytest.approx(0.01 / 45)
    assert mlm.learning_rate(MICRO, 40, None) == 0.01


def test_export_without_a_checkpoint_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"no checkpoint of these settings, expected one; train first$"):
        mlm.export(tmp_path, MICRO, tmp_path / "out")


def test_batches_have_three_shapes_and_every_piece_once_an_epoch(work):
    tokenizer = spans.make_tokenizer(work, 120)
    train, _ = spans.prepare_spans(work, tokenizer, seed=0)
    drawn = spans.Batches(train, replace(MICRO, batch_tokens=1024), tokenizer)
    shapes = {tuple(drawn.draw(step).ids.shape) for step in range(40)}
    assert shapes == {(32, 32), (16, 64), (8, 128)}
    one, again = drawn.draw(5), spans.Batches(train, replace(MICRO, batch_tokens=1024), tokenizer).draw(5)
    assert torch.equal(one.ids, again.ids)
    assert not torch.equal(one.targets, drawn.draw(6).targets[: len(one.targets)])


def test_masking_hides_what_it_asks_for(work):
    tokenizer = spans.make_tokenizer(work, 120)
    pieces = spans.Spans(np.arange(5, 105, dtype=np.uint16), np.array([0, 50]), np.array([50, 40]))
    maker = spans._Maker(pieces, tokenizer, torch.device("cpu"))
    batch = maker.make(torch.tensor([0, 1]), 64, 45, torch.Generator().manual_seed(0))
    original = np.zeros((2, 64), dtype=np.int64)
    original[0, :52] = [2, *range(5, 55), 3]
    original[1, :42] = [2, *range(55, 95), 3]
    assert batch.targets.tolist() == original.reshape(-1)[batch.positions].tolist()
    assert len(set(batch.positions.tolist())) == 45  # half of the 90 tokens that are not special
    assert not {0, 2, 3} & set(batch.targets.tolist())
    untouched = np.setdiff1d(np.arange(128), batch.positions)
    assert (batch.ids.numpy().reshape(-1)[untouched] == original.reshape(-1)[untouched]).all()
    assert 0.6 < (batch.ids.flatten()[batch.positions] == tokenizer.mask_token_id).float().mean() < 0.95
    assert batch.mask.sum(1).tolist() == [52, 42]


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
