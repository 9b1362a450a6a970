"""Where weights come from: the bundled assets, and the hub's repositories that methods ask for.

The repositories hold small random models here, in the files and formats of the real ones. What comes of them is
compared with transformers, a sentence at a time, with tokens counted out by hand.
"""

import json
import re

import numpy as np
import pytest
import torch
from conftest import WORDS, make_bert
from hub_server import COMMIT, HubServer
from safetensors.torch import load_file

from baselines.whitening import fit_whitening
from harness.data.named_texts import find_text
from harness.encoders.context import Context
from harness.encoders.entry import declared
from harness.encoders.modelfiles import weights_digest
from harness.encoders.protocol import embed
from harness.encoders.registry import build, known_encoders, resolve
from harness.errors import EncoderError, UsageError


def test_small_is_a_bert_of_six_layers(tmp_path):
    encoder = build("bert[backbone=small,pooling=avg]", Context(cache_dir=tmp_path, offline=True))
    assert encoder.card.weights_sha256 == "56e5eea745f58f230b014a25fe64f07a48a6b5cee9830e8dde5b17ce88a2dc18"
    assert (encoder.card.backbone, encoder.card.dim) == ("small", 384)
    near, far = (
        float(np.prod([np.linalg.norm(x) ** -1 for x in pair]) * (pair[0] @ pair[1]))
        for pair in (
            encoder.encode(["a man is riding a horse .", "a person rides a horse ."]),
            encoder.encode(["a man is riding a horse .", "shares of the bank fell ."]),
        )
    )
    assert near > far + 0.1


def test_the_backbone_option_reaches_every_method_that_has_one(tmp_path):
    context = Context(cache_dir=tmp_path, backbone="tiny", offline=True)
    for entry in known_encoders().values():
        if any(one.name == "backbone" and not one.choices for one in declared(entry)):
            assert resolve(entry.name, context).parameters.backbone == "tiny"


def test_tiny_is_anisotropic_as_pretrained_encoders_are(tmp_path):
    """The premise of post-processing and of contrastive training: unrelated sentences are already similar."""
    encoder = build("bert[backbone=tiny,pooling=avg]", Context(cache_dir=tmp_path, offline=True))
    x = encoder.encode(
        ["a man is riding a horse .", "shares of the bank fell .", "what a dull film !", "two dogs run ."]
    )
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    cosines = (x @ x.T)[np.triu_indices(4, 1)]
    assert cosines.mean() > 0.5


TEXTS = ["a man is playing the guitar on stage", "nobody looks up", "dog", "it rains in the park while a woman runs"]
RELEASED = {  # the repository, the last layer's pooling that its authors used, and what it is made of
    "sbert": ("sentence-transformers/bert-base-nli-mean-tokens", "mean", "bert", "modules safetensors"),
    "ct-bert": ("Contrastive-Tension/BERT-Base-CT", "mean", "bert", "vocab.txt"),
    "declutr": ("johngiorgi/declutr-base", "mean", "roberta", "modules"),
    "simcse-unsup": ("princeton-nlp/unsup-simcse-bert-base-uncased", "first", "bert", "safetensors"),
    "simcse-unsup[backbone=roberta-large]": ("princeton-nlp/unsup-simcse-roberta-large", "first", "roberta", ""),
    "simcse-sup": ("princeton-nlp/sup-simcse-bert-base-uncased", "head", "bert", ""),
    "simcse-sup[backbone=roberta-base]": ("princeton-nlp/sup-simcse-roberta-base", "head", "roberta", ""),
    "diffcse": ("voidism/diffcse-bert-base-uncased-sts", "first", "bert", "trained"),
    "diffcse[backbone=roberta-base]": ("voidism/diffcse-roberta-base-sts", "first", "roberta", "trained"),
    "esimcse[backbone=roberta-large]": ("ffgcc/esimcse-roberta-large", "first", "roberta", ""),
    "pcl": ("qiyuw/pcl-bert-base-uncased", "first", "bert", "vocab.txt"),
    "rankcse-listnet": ("perceptiveshawty/rankcse-listnet-bert-base-uncased", "first", "bert", "safetensors"),
    "syncse-partial": ("sjtu-lit/SynCSE-partial-RoBERTa-base", "head", "roberta", ""),
    "claif": ("fnlp/claif-bert-base", "mean", "bert", "modules safetensors"),
    "bert[pooling=cls]": ("bert-base-uncased", "head", "bert", "vocab.txt safetensors"),
    "roberta[pooling=avg]": ("roberta-base", "mean", "roberta", ""),
}


def make_roberta(folder):
    """Write a random RoBERTa with byte pairs of the words, in the files of a repository of 2019."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import RobertaConfig, RobertaModel

    specials = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(TEXTS, vocab_size=320, min_frequency=1, special_tokens=specials)
    tokenizer.save_model(str(folder))
    torch.manual_seed(0)
    config = RobertaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=42,  # two of them are lost to padding
    )
    RobertaModel(config).save_pretrained(folder)
    return folder


def make_release(folder, kind, form):
    """A checkpoint folder; `form` names what it has of modules.json, of vocab.txt, safetensors, training."""
    folder.mkdir()
    (make_bert if kind == "bert" else make_roberta)(folder)
    if "modules" in form:
        modules = [("", "Transformer"), ("1_Pooling", "Pooling")]
        entries = [{"path": path, "type": f"sentence_transformers.models.{name}"} for path, name in modules]
        (folder / "modules.json").write_text(json.dumps(entries))
        (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 8, "do_lower_case": false}')
        (folder / "1_Pooling").mkdir()
        pooling = {"word_embedding_dimension": 16, "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}
        (folder / "1_Pooling/config.json").write_text(json.dumps(pooling))
    if "vocab.txt" in form:
        (folder / "tokenizer.json").unlink()
        (folder / "tokenizer_config.json").write_text('{"do_lower_case": true}')
        (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]))
    weights = load_file(folder / "model.safetensors")
    if "trained" in form:  # as a class for training saves itself: the encoder by its name, and networks beside it
        encoder = {f"{kind}.{key}": value for key, value in weights.items()}
        beside = {
            f"{name}.{key}": value for name in ("generator.bert", "discriminator") for key, value in weights.items()
        }
        weights = encoder | beside | {"mlp.net.0.weight": torch.zeros(4, 16), "lm_head.bias": torch.zeros(4)}
    torch.save(weights, folder / "pytorch_model.bin")
    if "safetensors" not in form:
        (folder / "model.safetensors").unlink()
    return folder


def files_of(folder):
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return found | {"README.md": b"#", "tf_model.h5": b"not asked for", "rust_model.ot": b"not asked for"}


def by_hand(folder, kind, texts, finish, limit=40):
    """`finish` of a sentence's hidden states, each (tokens, d), and of the pooler."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import AutoModel

    vocabulary = {word: number for number, word in enumerate(WORDS, start=5)}
    pairs = ByteLevelBPETokenizer(str(folder / "vocab.json"), str(folder / "merges.txt")) if kind == "roberta" else None
    model = AutoModel.from_pretrained(folder)
    rows = []
    for text in texts:
        words = (
            pairs.encode(text).ids
            if pairs
            else [vocabulary.get(word, 1) for word in re.findall(r"\w+|[^\w\s]+", text.lower())]
        )
        first, last = (0, 2) if pairs else (2, 3)
        ids = torch.tensor([[first, *words[: limit - 2], last]])
        with torch.no_grad():
            states = model(ids, output_hidden_states=True).hidden_states
            rows.append(finish([state[0] for state in states], model.pooler).numpy())
    return np.stack(rows)


FINISH = {
    "mean": lambda states, pooler: states[-1].mean(dim=0),
    "first": lambda states, pooler: states[-1][0],
    "head": lambda states, pooler: torch.tanh(pooler.dense.weight @ states[-1][0] + pooler.dense.bias),
}


@pytest.fixture
def hub(tmp_path, monkeypatch):
    import huggingface_hub.constants

    with HubServer("", {}) as server:
        monkeypatch.delenv("HF_TOKEN", raising=False)
        # As HF_ENDPOINT and HF_HOME set them, had they been there when the library was imported.
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", server.endpoint)
        template = server.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        yield server


@pytest.mark.parametrize("name", RELEASED)
def test_released_weights_come_from_the_hub_with_their_pooling(hub, tmp_path, name):
    hub.repo, finish, kind, form = RELEASED[name]
    folder = make_release(tmp_path / "made", kind, form)
    hub.files = files_of(folder)
    encoder = build(name, Context(cache_dir=tmp_path / "cache"))
    found = embed(encoder, TEXTS)
    limit = 8 if "modules" in form else 64 if kind == "bert" else 40
    assert found == pytest.approx(by_hand(folder, kind, TEXTS, FINISH[finish], limit), abs=2e-6)
    assert (encoder.card.backbone, encoder.card.revision, encoder.card.max_tokens) == (hub.repo, COMMIT, limit)
    fetched = {request.path.removeprefix("/cdn/") for request in hub.content_requests()}
    weights = "model.safetensors" if "safetensors" in form else "pytorch_model.bin"
    assert fetched == set(hub.files) - {"README.md", "tf_model.h5", "rust_model.ot", "pytorch_model.bin"} | {weights}

    asked = len(hub.requests)
    again = build(name, Context(cache_dir=tmp_path / "cache", offline=True))
    assert again.card == encoder.card
    assert np.array_equal(embed(again, TEXTS), found)
    assert len(hub.requests) == asked


@pytest.mark.parametrize("name", RELEASED)
def test_offline_with_nothing_cached(hub, tmp_path, name):
    with pytest.raises(UsageError) as caught:
        build(name, Context(cache_dir=tmp_path, offline=True))
    assert str(caught.value) == (
        f"{RELEASED[name][0]}: not on this machine, and the hub cannot be asked; copy the checkpoint here and name its "
        "folder, or run once with a network"
    )
    assert hub.requests == []


@pytest.mark.parametrize(
    ("fault", "value", "said"),
    [
        ("page", b"<!doctype html><html>Log in to this network</html>", "what answered is no Hugging Face hub ("),
        ("loops", True, "the connection to the hub failed ("),
    ],
)
def test_a_server_that_is_no_hub(hub, tmp_path, fault, value, said):
    setattr(hub, fault, value)
    with pytest.raises(UsageError) as caught:
        build("declutr", Context(cache_dir=tmp_path))
    assert str(caught.value).startswith(f"{RELEASED['declutr'][0]}: {said}")
    assert str(caught.value).endswith("; check the network, the proxy and HF_ENDPOINT")


def test_weights_that_are_not_what_the_hub_announced_are_removed(hub, tmp_path):
    hub.repo, _, kind, form = RELEASED["sbert"]
    hub.files = files_of(make_release(tmp_path / "made", kind, form))
    context = Context(cache_dir=tmp_path / "cache")
    expected = build("sbert", context).card
    (weights,) = (tmp_path / "hub").rglob("snapshots/*/model.safetensors")
    blob = weights.resolve()
    content = bytearray(blob.read_bytes())
    content[-8:] = bytes(8)
    blob.write_bytes(content)
    with pytest.raises(EncoderError) as caught:
        build("sbert", context)
    assert str(caught.value).startswith(f"{weights}: the download has sha256 ")
    assert not blob.exists() and not weights.exists()
    assert build("sbert", context).card == expected
    mine = tmp_path / ("ab" * 32)  # a user's own file, whatever its name, is nobody's to remove
    mine.write_bytes(bytes(content))
    link = tmp_path / "model.safetensors"
    link.symlink_to(mine)
    weights_digest([link])
    assert mine.exists()


def test_a_repository_that_the_hub_does_not_have(hub, tmp_path):
    with pytest.raises(UsageError) as caught:
        build("declutr", Context(cache_dir=tmp_path))
    assert str(caught.value) == (
        "johngiorgi/declutr-base: the hub answers 401; check the name, and HF_TOKEN if the repository is private or "
        "gated"
    )


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_hub_is_asked_again_after_the_time_it_names(hub, tmp_path, monkeypatch, status):
    waits = []
    monkeypatch.setattr("time.sleep", waits.append)
    hub.repo, _, kind, form = RELEASED["declutr"]
    hub.files = files_of(make_release(tmp_path / "made", kind, form))
    hub.next_answers = [status]
    assert build("declutr", Context(cache_dir=tmp_path / "cache")).card.revision == COMMIT
    assert max(waits) >= 3


@pytest.mark.parametrize(
    ("backbone", "kind", "form"),
    [("roberta-base", "roberta", ""), ("sentence-transformers/bert-base-nli-mean-tokens", "bert", "modules")],
)
def test_whitening_over_roberta_and_over_sbert(hub, tmp_path, backbone, kind, form):
    hub.repo, folder = backbone, make_release(tmp_path / "made", kind, form)
    hub.files = files_of(folder)
    context = Context(cache_dir=tmp_path / "cache")
    encoder = build(f"bert-whitening[backbone={backbone},fit=mini-nli,dim=4,max_tokens=8]", context)
    texts = list(find_text("mini-nli", context).sentences())

    def first_and_last(states, pooler):
        return (states[1] + states[-1]).mean(dim=0) / 2

    fitted, plain = (by_hand(folder, kind, some, first_and_last, limit=8) for some in (texts, TEXTS))
    expected = fit_whitening([fitted], 4).transform(plain)
    found = embed(encoder, TEXTS)
    assert (found @ found.T) == pytest.approx(expected @ expected.T, abs=1e-2)
    assert (encoder.card.pooling, encoder.card.backbone) == ("avg_first_last", backbone)
