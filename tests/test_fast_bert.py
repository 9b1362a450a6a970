"""The blocks for the CPU beside the library's own model, and the compiled tokenizer beside the library's call."""

import pytest
import torch
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertModel,
    CamembertConfig,
    CamembertModel,
    CanineTokenizer,
    DistilBertConfig,
    DistilBertModel,
    RobertaConfig,
    RobertaModel,
    XLMRobertaConfig,
    XLMRobertaModel,
)

from harness.encoders.context import Context
from harness.encoders.fast_bert import FastBert, attend, fits
from harness.encoders.registry import build
from harness.encoders.tokens import token_ids

SMALL = {
    "vocab_size": 50,
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "max_position_embeddings": 80,
}
MODELS = [
    (BertModel, BertConfig),
    (RobertaModel, RobertaConfig),
    (XLMRobertaModel, XLMRobertaConfig),
    (CamembertModel, CamembertConfig),
]


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
@pytest.mark.parametrize("length", [1, 2, 9, 16, 32, 47, 48, 49, 70])  # both sides of where attention changes
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


def test_padding_is_never_what_is_subtracted():
    """The pad token's key has by far the largest score of every row, and the real ones are below exp's range of it."""
    torch.manual_seed(0)
    heads = torch.randn(9, 2, 3, 12)
    heads[..., 0:4] = 5.0
    heads[..., 4:8] = -2.0
    heads[7:, 1, :, 4:8] = 9.0
    mask = torch.ones(2, 1, 1, 9, dtype=torch.bool)
    mask[1, ..., 7:] = False
    found = attend(heads, mask).view(9, 2, 3, 4)
    query, key, value = (part.permute(1, 2, 0, 3) for part in heads.chunk(3, dim=-1))
    expected = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask).permute(2, 0, 1, 3)
    torch.testing.assert_close(found, expected)


def test_more_than_a_piece_and_a_sentence_of_no_tokens():
    model = random_model()
    ids, mask = batch(70, 20, shortest=1)
    mask[-1] = 0
    with torch.inference_mode():
        expected = model(input_ids=ids, attention_mask=mask).last_hidden_state
        found = FastBert(model)(ids, mask, output_hidden_states=False).last_hidden_state
    torch.testing.assert_close(found[mask == 1], expected[mask == 1], atol=1e-5, rtol=1e-5)
    assert torch.isfinite(found).all()


def test_positions_the_model_does_not_have_are_refused():
    ids, mask = batch(1, 81)
    with pytest.raises(IndexError, match="a sentence reaches position 80, the model has 80"):
        FastBert(random_model())(ids, mask, output_hidden_states=False)


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


@pytest.mark.parametrize("max_tokens", [None, 5])
def test_ids_of_a_tokenizer_without_a_compiled_one(max_tokens):
    tokenizer = CanineTokenizer()
    assert not tokenizer.is_fast
    first, last = tokenizer.cls_token_id, tokenizer.sep_token_id
    assert token_ids(tokenizer, ["dog", ""], max_tokens) == [[first, *map(ord, "dog"), last], [first, last]]
    assert len(token_ids(tokenizer, ["a longer one"], max_tokens)[0]) == (max_tokens or 14)


def test_a_folder_of_bert_takes_the_fast_way(bert_folder, tmp_path):
    encoder = build(f"hf:{bert_folder}[pooling=avg]", Context(cache_dir=tmp_path))
    assert isinstance(encoder.backbone._load()[0].model, FastBert)
