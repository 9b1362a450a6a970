"""Training data: that tokenising is done once, orders, augmentations, and which settings are refused."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from simcse_models import WORDS, random_bert, sentences

from baselines.simcse import SIMCSE_SUP, SIMCSE_UNSUP
from baselines.simcse import data as data_module
from baselines.simcse.ablations import crop, delete, make_augment, read_thesaurus
from baselines.simcse.data import ORDER, Batches, draw_seed, open_corpus, shuffle_positions
from baselines.simcse.settings import SimcseSup, SimcseUnsup, published
from harness.data.text import open_text
from harness.encoders.checkpoint import load_tokenizer
from harness.encoders.registry import fill
from harness.errors import UsageError
from harness.progress import silent

UNSUP = published(SimcseUnsup())


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return load_tokenizer(random_bert(tmp_path_factory.mktemp("backbone") / "bert"))


def test_a_batch_larger_than_the_data(write, tmp_path, tokenizer):
    corpus = open_corpus(open_text(write("few.txt", "a\nb\nc\n")), tokenizer, UNSUP, tmp_path, silent)
    with pytest.raises(UsageError) as caught:
        Batches(corpus, UNSUP, 0, None, (0, 1))
    assert str(caught.value) == "few.txt: 3 examples, expected at least batch_size=64; lower it or add data"


def decoded(corpus, tokenizer):
    tokens, lengths = corpus.gather(np.arange(len(corpus)), 0)
    return [tokenizer.decode(ids, skip_special_tokens=True) for ids in np.split(tokens, np.cumsum(lengths)[:-1])]


def test_tokenised_once_cut_and_read_back(write, tmp_path, monkeypatch):
    tokenizer = load_tokenizer(random_bert(tmp_path / "bert"))  # one that has not cut anything yet
    texts = [*sentences(50), "", "the cat " * 40]
    path = write("text.txt", "\n".join(texts) + "\n")
    corpus = open_corpus(open_text(path), tokenizer, UNSUP, tmp_path, silent)
    assert corpus.facts == {"rows": 52, "columns": 1, "tokens": int(corpus.ends[-1]), "blank": 1}
    assert decoded(corpus, tokenizer)[:50] == texts[:50]
    assert corpus.gather(np.array([50, 51]), 0)[1].tolist() == [2, 32]
    monkeypatch.setattr(data_module, "_tokenize", None)  # the second time nothing is tokenised
    assert decoded(open_corpus(open_text(path), tokenizer, UNSUP, tmp_path, silent), tokenizer) == decoded(
        corpus, tokenizer
    )


@pytest.mark.parametrize("n", [1, 2, 3, 64, 1000])
def test_shuffled_is_a_permutation(n):
    assert sorted(shuffle_positions(np.arange(n), n, 5)) == list(range(n))


def test_orders_differ_between_epochs_and_cover_the_data(write, tmp_path, tokenizer):
    corpus = open_corpus(open_text(write("text.txt", "\n".join(sentences(50)))), tokenizer, UNSUP, tmp_path, silent)
    batches = Batches(corpus, replace(UNSUP, batch_size=8, epochs=2.0), 0, None, (0, 1))
    assert batches.per_epoch == 7 and batches.total == 14
    epochs = [np.concatenate([batches.rows(step) for step in range(s, s + 7)]) for s in (0, 7)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(50))
    assert not np.array_equal(epochs[0], epochs[1])
    parts = [Batches(corpus, replace(UNSUP, batch_size=8), 0, None, (rank, 2))[3] for rank in (0, 1)]
    ids = {tuple(row[row != 0].tolist()) for part in parts for row in part.ids[:, 0]}
    whole = batches[3].ids[:, 0]
    assert ids == {tuple(row[row != 0].tolist()) for row in whole}


def test_the_order_does_not_depend_on_how_many_batches_are_shuffled_together(write, tmp_path, tokenizer, monkeypatch):
    corpus = open_corpus(open_text(write("text.txt", "\n".join(sentences(50)))), tokenizer, UNSUP, tmp_path, silent)
    monkeypatch.setattr(data_module, "_SHUFFLED", 3)
    batches = Batches(corpus, replace(UNSUP, batch_size=8, epochs=2.0), 0, None, (0, 1))
    for step in (9, 0, 6, 2, 3, 13):
        epoch, place = divmod(step, 7)
        positions = np.arange(8 * place, min(8 * place + 8, 50))
        expected = shuffle_positions(positions, 50, draw_seed(UNSUP.seed, ORDER, epoch))
        assert batches.rows(step).tolist() == expected.tolist()


def test_crop_and_delete_take_the_share_of_words():
    words = [np.array([i]) for i in range(10)]
    rng = np.random.default_rng(0)
    spans = [np.concatenate(crop(words, 0.3, rng)).tolist() for _ in range(50)]
    assert all(span == list(range(span[0], span[0] + 7)) for span in spans)
    assert {span[0] for span in spans} == {0, 1, 2, 3}
    assert {len(delete(words, 0.2, rng)) for _ in range(20)} == {8}
    assert {len(delete(words, 0.0, rng)) for _ in range(20)} == {9}
    assert len(delete(words[:1], 0.0, rng)) == len(crop(words[:1], 0.9, rng)) == 1


@pytest.mark.parametrize("name", ["none", "crop-20", "delete-20", "delete-one", "synonym", "next", "next-3"])
def test_augmentations_change_the_second_view_alone(write, tmp_path, tokenizer, name):
    thesaurus = write("thesaurus.tsv", "cat\tbig dog\n")
    texts = [f"{a} cats {b}" for a in WORDS for b in WORDS]
    corpus = open_corpus(open_text(write("text.txt", "\n".join(texts))), tokenizer, UNSUP, tmp_path, silent)
    batches = Batches(corpus, UNSUP, 0, make_augment(name, tokenizer, str(thesaurus), None, "cpu"), (0, 1))
    batch, rows = batches[0], batches.rows(0)
    first, second = (tokenizer.batch_decode(batch.ids[:, view], skip_special_tokens=True) for view in (0, 1))
    assert first == [texts[row] for row in rows]
    match name:
        case "none":
            assert second == first
        case "next":
            assert second == [texts[min(row + 1, len(texts) - 1)] for row in rows]
        case "next-3":
            assert all(two in texts[row + 1 : row + 4] or row > 396 for two, row in zip(second, rows, strict=True))
            assert {1, 2, 3} <= {texts.index(two) - row for two, row in zip(second, rows, strict=True)}
        case "synonym":
            changed = [a for a, b in zip(first, second, strict=True) if a != b]
            assert changed == [text for text in first if "cat" in text.split()]  # "cats" is another word, of two pieces
        case _:
            kept = 3 - (round(0.2 * 3) or (name == "delete-one"))
            assert {len(two.split()) for two in second} == {kept}
            assert {word for two in second for word in two.split()} <= {*WORDS, "cats"}


def test_synonyms_need_a_thesaurus(tokenizer):
    with pytest.raises(UsageError) as caught:
        make_augment("synonym", tokenizer, None, None, "cpu")
    assert str(caught.value) == (
        "augmentation=synonym needs a thesaurus and none comes with the package; name a text file with thesaurus=FILE, "
        "a word and its synonyms per line, separated by tabs (WordNet's synsets, for instance)"
    )


def test_a_word_on_several_lines_has_the_synonyms_of_all(write, tokenizer):
    thesaurus = write("thesaurus.tsv", "cat\tdog\ttree\nbird\tbig dog\ncat\ttree\tbird\tDog\n")
    known = read_thesaurus(str(thesaurus), tokenizer)
    words = {tokenizer.decode(word): [tokenizer.decode(ids) for ids in known[word]] for word in known}
    assert words == {"cat": ["dog", "tree", "bird"], "bird": ["big dog"]}  # the tokenizer is uncased


def test_published_settings():
    rows = {
        (method, backbone): (s.batch_size, s.learning_rate, s.epochs, s.mlp_only_train)
        for method, made in (("simcse-unsup", SimcseUnsup), ("simcse-sup", SimcseSup))
        for backbone in ("bert-base-uncased", "bert-large-uncased", "roberta-base", "roberta-large")
        for s in [published(made(backbone=backbone))]
    }
    assert rows == {
        ("simcse-unsup", "bert-base-uncased"): (64, 3e-5, 1.0, True),
        ("simcse-unsup", "bert-large-uncased"): (64, 1e-5, 1.0, True),
        ("simcse-unsup", "roberta-base"): (512, 1e-5, 1.0, True),
        ("simcse-unsup", "roberta-large"): (512, 3e-5, 1.0, True),
        ("simcse-sup", "bert-base-uncased"): (512, 5e-5, 3.0, False),
        ("simcse-sup", "bert-large-uncased"): (512, 1e-5, 3.0, False),
        ("simcse-sup", "roberta-base"): (512, 5e-5, 3.0, False),
        ("simcse-sup", "roberta-large"): (512, 1e-5, 3.0, False),
    }


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"pooler": "max"}, "pooler=max is unknown; known: cls, cls_before_pooler, avg, avg_top2, "
            "avg_first_last, avg_static_last"),
        ({"temperature": 0.0}, "temperature=0.0 is out of range, expected more than 0"),
        ({"temperature": math.nan}, "temperature=nan is out of range, expected more than 0"),
        ({"learning_rate": math.inf}, "learning_rate=inf is out of range, expected more than 0"),
        ({"epochs": math.inf}, "epochs=inf is out of range, expected more than 0 and 1e+06 or less"),
        ({"clip": -1.0}, "clip=-1.0 is out of range, expected more than 0"),
        ({"adam_epsilon": 0.0}, "adam_epsilon=0.0 is out of range, expected more than 0"),
        ({"weight_decay": -0.1}, "weight_decay=-0.1 is out of range, expected 0 or more"),
        ({"mlm_weight": math.nan}, "mlm_weight=nan is out of range, expected 0 or more"),
        ({"mlm_probability": 1.5}, "mlm_probability=1.5 is out of range, expected 0 to 1"),
        ({"dropout": 1.0}, "dropout=1.0 is out of range, expected 0 or more and less than 1"),
        ({"dropout": -1.0}, "dropout=-1.0 is out of range, expected 0 or more and less than 1"),
        ({"towers": 3}, "towers=3 is out of range, expected 1 to 2"),
        ({"seed": -1}, "seed=-1 is out of range, expected 0 or more"),
        ({"max_steps": 0}, "max_steps=0 is out of range, expected 1 or more"),
        ({"batch_size": 0}, "batch_size=0 is out of range, expected 1 or more"),
        ({"train_tokens": 2}, "train_tokens=2 is out of range, expected 3 or more"),
        ({"method": "simcse-sup", "hard_negative_weight": -math.inf},
            "hard_negative_weight=-inf is out of range, expected a finite number"),
    ],
)  # fmt: skip
def test_impossible_settings(given, message):
    entry = SIMCSE_SUP if given.pop("method", "") == "simcse-sup" else SIMCSE_UNSUP
    with pytest.raises(UsageError) as caught:
        fill(entry, given)
    assert str(caught.value) == f"model {entry.name!r}: {message}"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"thesaurus": "words.tsv"}, "thesaurus=words.tsv: only augmentation=synonym reads one; drop it"),
        (
            {"augmentation": "crop-200"},
            "augmentation=crop-200 is unknown; expected none, crop-K, delete-K, delete-one, synonym, mlm-K, next or "
            "next-3, K in percent",
        ),
    ],
)
def test_settings_that_do_not_go_together(given, message):
    with pytest.raises(UsageError) as caught:
        fill(SIMCSE_UNSUP, given)
    assert str(caught.value) == f"model 'simcse-unsup': {message}"


@pytest.mark.parametrize("name", ["positives", "hard_negatives", "hard_negative_weight"])
def test_unsupervised_training_has_no_parameter_of_supervised(name):
    with pytest.raises(UsageError, match=f"^model 'simcse-unsup' has no parameter '{name}'"):
        fill(SIMCSE_UNSUP, {name: "none"})
    with pytest.raises(UsageError, match=r"^model 'simcse-sup' has no parameter 'augmentation'"):
        fill(SIMCSE_SUP, {"augmentation": "next"})


def test_not_set_is_written_as_none():
    asked = fill(SIMCSE_UNSUP, {"dropout": "none", "batch_size": "none", "max_steps": "7"})
    assert asked.parameters.dropout is None and str(asked.spec) == "simcse-unsup[max_steps=7]"
    assert str(fill(SIMCSE_UNSUP, {"dropout": "0"}).spec) == "simcse-unsup[dropout=0.0]"
    assert str(fill(SIMCSE_UNSUP, {"length_groups": "4"}).spec) == "simcse-unsup"


def test_the_bundled_backbones_have_settings_of_their_own():
    rows = {
        (made.method, backbone): (s.batch_size, pytest.approx(s.learning_rate), s.epochs, s.eval_every)
        for made in (SimcseUnsup, SimcseSup)
        for backbone in ("tiny", "small")
        for s in [published(made(backbone=backbone))]
    }
    assert rows == {
        ("simcse-unsup", "tiny"): (64, 3e-4, 1.0, 50),
        ("simcse-unsup", "small"): (64, 3e-4, 1.0, 125),
        ("simcse-sup", "tiny"): (64, 5e-4, 3.0, 50),
        ("simcse-sup", "small"): (512, 3e-4, 3.0, 6),
    }
    own = published(SimcseUnsup(backbone="small", batch_size=8, epochs=2.5))
    assert (own.batch_size, own.epochs, own.eval_every) == (8, 2.5, 125)


def test_settings_survive_json():
    facts = published(SimcseSup()).decisive
    assert json.loads(json.dumps(facts)) == facts
