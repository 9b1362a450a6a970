"""The blocks for the CPU beside the library's own model, and the compiled tokenizer beside the library's call."""

import pytest
import torch
from conftest import make_bert
from transformers import (
    AutoModel,
    AutoTokenizer,
    BertConfig,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    RobertaConfig,
    RobertaModel,
    XLMRobertaConfig,
    XLMRobertaModel,
)

from harness.encoders.fast_bert import FastBert, fits
from harness.encoders.tokenizing import token_ids

SMALL = {
    "vocab_size": 50,
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "max_position_embeddings": 80,
}
MODELS = [(BertModel, BertConfig), (RobertaModel, RobertaConfig), (XLMRobertaModel, XLMRobertaConfig)]


def random_model(cls=BertModel, config=BertConfig, **changes):
    torch.manual_seed(0)
    model = cls(config(**SMALL | changes)).eval()
    for name, parameter in model.named_parameters():  # so large that attention is far from even
        torch.nn.init.normal_(parameter, mean=float(name.endswith("LayerNorm.weight")), std=0.3)
    return model


def batch(rows, length, *, shortest=None):
    """Ids of `rows` sentences, the first of `length` tokens and the last of `shortest`, padded with 1; and the mask."""
    lengths = torch.linspace(length, shortest or length, rows).round().long()
    mask = (torch.arange(length)[None] < lengths[:, None]).long()
    ids = torch.randint(3, 50, (rows, length), generator=torch.Generator().manual_seed(length))
    return torch.where(mask == 1, ids, 1), mask


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("length", [1, 2, 9, 15, 16, 17, 31, 32, 33, 70])  # both sides of where attention changes
@pytest.mark.parametrize(("cls", "config"), MODELS)
def test_every_layer_equals_the_librarys(cls, config, length, padded):
    model = random_model(cls, config)
    assert fits(model)
    ids, mask = batch(4, length, shortest=max(1, length - 3) if padded else None)
    with torch.inference_mode():
        expected = model(input_ids=ids, attention_mask=mask, output_hidden_states=True)
        found = FastBert(model)(input_ids=ids, attention_mask=mask, output_hidden_states=True)
    assert len(found.hidden_states) == len(expected.hidden_states) == 4
    for one, other in zip(found.hidden_states, expected.hidden_states, strict=True):
        torch.testing.assert_close(one[mask == 1], other[mask == 1], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.last_hidden_state, found.hidden_states[-1], atol=0, rtol=0)


def test_the_last_layer_alone_unless_asked():
    ids, mask = batch(2, 5)
    with torch.inference_mode():
        assert FastBert(random_model())(ids, mask, output_hidden_states=False).hidden_states is None


@pytest.mark.parametrize("shift", [-400.0, 0.0, 400.0])
def test_scores_beyond_the_range_of_exp(shift):
    """A bias of query and key moves all scores of a row up or down, which softmax must not notice."""
    model = random_model()
    for layer in model.encoder.layer:
        for part, sign in ((layer.attention.self.query, 1), (layer.attention.self.key, shift)):
            torch.nn.init.constant_(part.bias, sign)
        layer.attention.self.query.weight.data *= 5  # beyond exp's range in either direction within one row, too
    ids, mask = batch(3, 9, shortest=7)
    with torch.inference_mode():
        expected = model(input_ids=ids, attention_mask=mask).last_hidden_state
        found = FastBert(model)(ids, mask, output_hidden_states=False).last_hidden_state
    assert torch.isfinite(found).all()
    torch.testing.assert_close(found[mask == 1], expected[mask == 1], atol=2e-3, rtol=1e-3)


def test_only_what_it_computes():
    assert not fits(random_model(hidden_act="relu"))
    assert not fits(random_model(hidden_act="gelu_new"))
    assert not fits(random_model(is_decoder=True))
    small = DistilBertConfig(vocab_size=50, dim=24, n_layers=1, n_heads=3, hidden_dim=40)
    assert not fits(DistilBertModel(small))


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("max_tokens", [None, 3, 6])
def test_ids_are_those_of_the_librarys_call(bert_folder, max_tokens, side):
    sentences = ["a man is playing the guitar", "dog", "", "the [SEP] woman runs [PAD] in the park"]
    tokenizer = AutoTokenizer.from_pretrained(bert_folder, truncation_side=side)
    expected = tokenizer(sentences, truncation=max_tokens is not None, max_length=max_tokens)["input_ids"]
    tokenizer.backend_tokenizer.enable_padding(length=9)  # what a tokenizer.json may carry
    assert token_ids(tokenizer, sentences, max_tokens) == expected


def test_a_folder_of_bert_takes_the_fast_way(tmp_path):
    assert fits(AutoModel.from_pretrained(make_bert(tmp_path)))
