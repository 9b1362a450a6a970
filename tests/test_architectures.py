"""Small random checkpoints of many architectures against a plain forward pass of transformers, a sentence at a time."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_bert
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoModel

from harness.encoders.context import Context
from harness.encoders.model import read_configuration
from harness.encoders.registry import build

SENTENCES = ["dog", "a man is playing the guitar", "the woman runs in the park while it rains and nobody looks up"]
SIZES = {
    "vocab_size": 32,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 24,
    **{"bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0, "cls_token_id": 2, "sep_token_id": 3},
}
SIDES = {
    **{"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2},
    **{"decoder_attention_heads": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "decoder_start_token_id": 2},
}
T5 = {"d_model": 32, "d_ff": 64, "d_kv": 16, "num_layers": 2, "num_heads": 2, "decoder_start_token_id": 0}
FEW_HEADS = {"num_key_value_heads": 2, "head_dim": 16}
# The kind of the model and what its configuration needs besides the sizes.
ARCHITECTURES: dict[str, dict[str, object]] = {
    "albert": {"embedding_size": 16},
    "bert": {},
    "big_bird": {"block_size": 4, "num_random_blocks": 1},
    "bart": SIDES,
    "bloom": {"n_layer": 2, "n_head": 2},
    "camembert": {"pad_token_id": 1},
    "clip_text_model": {},
    "convbert": {"embedding_size": 32},
    "data2vec-text": {"pad_token_id": 1},
    "deberta": {"pos_att_type": ["c2p", "p2c"], "relative_attention": True},
    "deberta-v2": {"pos_att_type": ["c2p", "p2c"], "relative_attention": True, "position_buckets": 8},
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64},
    "electra": {"embedding_size": 16},
    "ernie": {},
    "esm": {"pad_token_id": 1, "position_embedding_type": "rotary", "mask_token_id": 4},
    "falcon": {"alibi": False},
    "fnet": {},
    "gemma": FEW_HEADS,
    "gemma2": FEW_HEADS,
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 24},
    "gpt_neo": {"num_layers": 2, "num_heads": 2, "attention_types": [[["global", "local"], 1]], "window_size": 8},
    "gpt_neox": {},
    "gptj": {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 24, "rotary_dim": 8},
    "ibert": {"pad_token_id": 1},
    "llama": FEW_HEADS,
    "longformer": {"pad_token_id": 1, "attention_window": [8, 8]},
    "luke": {"pad_token_id": 1, "entity_vocab_size": 8, "entity_emb_size": 8},
    "m2m_100": SIDES,
    "mamba": {"state_size": 4},
    "mbart": SIDES,
    "mistral": FEW_HEADS,
    "mobilebert": {"embedding_size": 16, "intra_bottleneck_size": 16, "true_hidden_size": 16},
    "modernbert": {"local_attention": 8},
    "mpnet": {"pad_token_id": 1},
    "mt5": T5,
    "nystromformer": {"num_landmarks": 4, "segment_means_seq_len": 4},
    "olmo": {},
    "opt": {"ffn_dim": 64, "word_embed_proj_dim": 32},
    "phi": FEW_HEADS,
    "qwen2": FEW_HEADS,
    "qwen3": FEW_HEADS,
    "rembert": {"input_embedding_size": 16},
    "roberta": {"pad_token_id": 1},
    "roberta-prelayernorm": {"pad_token_id": 1},
    "roc_bert": {"enable_pronunciation": False, "enable_shape": False},
    "roformer": {"embedding_size": 32},
    "squeezebert": {"embedding_size": 32},
    "t5": T5,
    "umt5": T5,
    "xlm": {"emb_dim": 32, "n_layers": 2, "n_heads": 2},
    "xlm-roberta": {"pad_token_id": 1},
    "xlm-roberta-xl": {"pad_token_id": 1},
    "xlnet": {"d_model": 32, "n_layer": 2, "n_head": 2, "d_inner": 64},
    "xmod": {"pad_token_id": 1, "default_language": "en_XX", "languages": ["en_XX"]},
}
FAST = ("bert", "roberta", "mpnet", "t5", "bart", "gpt2", "xlnet", "albert", "llama")
BEHIND_PADDING = {kind for kind, settings in ARCHITECTURES.items() if settings.get("pad_token_id") == 1}


def write_checkpoint(folder: Path, kind: str) -> Path:
    """A random model of two layers and 32 dimensions, with the tokenizer of the tests."""
    make_bert(folder)
    (folder / "model.safetensors").unlink()
    torch.manual_seed(0)
    settings = {k: v for k, v in SIZES.items() if (kind, k) != ("xlnet", "max_position_embeddings")} | ARCHITECTURES[
        kind
    ]
    model = AutoModel.from_config(AutoConfig.for_model(kind, **settings))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2 and "embed" not in name:
                parameter *= 5  # so that the layers do something
    model.save_pretrained(folder)
    return folder


def states(folder: Path, sentence: str, limit: int | None):
    """Every layer's states of one sentence, by plain transformers; of an encoder-decoder, the encoder's."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    if limit:
        tokenizer.enable_truncation(limit)
    model = AutoModel.from_pretrained(folder).eval()
    if model.config.is_encoder_decoder:
        model = model.get_encoder()
    ids = torch.tensor([tokenizer.encode(sentence).ids])
    mask = {} if model.config.model_type == "fnet" else {"attention_mask": torch.ones_like(ids)}
    with torch.no_grad():
        output = model(input_ids=ids, output_hidden_states=True, **mask)
    return [layer[0].numpy() for layer in output.hidden_states], output.last_hidden_state[0].numpy()


def kinds():
    return [pytest.param(k, marks=[] if k in FAST else [pytest.mark.slow]) for k in ARCHITECTURES]


def test_enough_architectures_are_tried():
    assert len(ARCHITECTURES) >= 50 and len(BEHIND_PADDING) >= 10


@pytest.mark.parametrize("kind", kinds())
def test_vectors_equal_a_plain_forward_pass(tmp_path, kind):
    folder = write_checkpoint(tmp_path / kind, kind)
    context = Context(cache_dir=tmp_path)
    built = {p: build(f"hf:{folder}[pooling={p}]", context) for p in ("avg", "avg_static_last", "last_token", "max")}
    found = {pooling: encoder.encode(SENTENCES) for pooling, encoder in built.items()}
    limit = built["avg"].card.max_tokens
    if kind in BEHIND_PADDING and kind != "esm":
        assert limit == SIZES["max_position_embeddings"] - 2
    for row, sentence in enumerate(SENTENCES):
        layers, last = states(folder, sentence, limit)
        expected = {
            "avg": last.mean(0),
            "avg_static_last": ((layers[0] + layers[-1]) / 2).mean(0),
            "last_token": last[-1],
            "max": last.max(0),
        }
        for pooling, vector in expected.items():
            np.testing.assert_allclose(found[pooling][row], vector, atol=2e-5 * max(1, np.abs(vector).max()))


@pytest.mark.parametrize("kind", ["albert", "big_bird", "bert", "mpnet", "roberta", "electra", "t5"])
def test_the_trained_head_is_the_poolers_wherever_it_is_stored(tmp_path, kind):
    folder = write_checkpoint(tmp_path / kind, kind)
    encoder = build(f"hf:{folder}[pooling=cls]", Context(cache_dir=tmp_path))
    model = AutoModel.from_pretrained(folder).eval()
    if kind in ("electra", "t5"):
        with pytest.raises(Exception, match="the weights hold none"):
            encoder.encode(SENTENCES)
        return
    ids = torch.tensor([Tokenizer.from_file(str(folder / "tokenizer.json")).encode(SENTENCES[1]).ids])
    with torch.no_grad():
        expected = model(input_ids=ids, attention_mask=torch.ones_like(ids)).pooler_output[0].numpy()
    np.testing.assert_allclose(encoder.encode(SENTENCES)[1], expected, atol=2e-5)


def test_the_cls_of_xlnet_is_the_last_token(tmp_path):
    folder = write_checkpoint(tmp_path / "xlnet", "xlnet")
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    ends = [
        {"Sequence": {"id": "A", "type_id": 0}},
        *({"SpecialToken": {"id": t, "type_id": 0}} for t in ("[SEP]", "[CLS]")),
    ]
    tokenizer["post_processor"]["single"] = ends
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    encoder = build(f"hf:{folder}[pooling=cls_before_pooler]", Context(cache_dir=tmp_path))
    model = AutoModel.from_pretrained(folder).eval()
    ids = torch.tensor([Tokenizer.from_file(str(folder / "tokenizer.json")).encode("dog").ids])
    assert ids[0, -1] == 2
    with torch.no_grad():
        expected = model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0, -1].numpy()
    np.testing.assert_allclose(encoder.encode(["dog"])[0], expected, atol=2e-5)


@pytest.mark.parametrize(("kind", "pooling"), [("bart", "mean"), ("xlnet", "cls")])
def test_a_declared_pooling_is_of_the_states_that_the_library_pools(tmp_path, kind, pooling):
    import sentence_transformers
    from sentence_transformers import models

    parts = [models.Transformer(str(write_checkpoint(tmp_path / "plain", kind))), models.Pooling(32, pooling)]
    library = sentence_transformers.SentenceTransformer(modules=parts, device="cpu")
    library.save(str(tmp_path / "folder"))
    found = build(f"hf:{tmp_path / 'folder'}", Context(cache_dir=tmp_path)).encode(SENTENCES)
    np.testing.assert_allclose(found, np.concatenate([library.encode([each]) for each in SENTENCES]), atol=1e-5)


# Settings as hubs hold them, written by older libraries under other names.
PUBLISHED = {
    "llama": {"rope_theta": 500000.0, "rope_scaling": {"rope_type": "linear", "factor": 2.0}, "pretraining_tp": 1},
    "qwen2": {"is_causal": False, "use_mrope": False},
    "qwen3": {"rope_theta": 1000000, "max_window_layers": 28, "use_sliding_window": False},
    "gpt_neox": {"rotary_emb_base": 10000, "rotary_pct": 0.25},
    "gemma2": {"rope_theta": 10000.0, "hidden_act": "gelu_pytorch_tanh", "cache_implementation": "hybrid"},
    "modernbert": {"global_rope_theta": 160000.0, "global_attn_every_n_layers": 3, "layer_norm_eps": 1e-05},
    "t5": {"n_positions": 512},
    "xlnet": {"untie_r": True},
    "longformer": {"attention_mode": "longformer", "attention_window": [8, 8]},
    "esm": {"position_embedding_type": "rotary", "hidden_act": "gelu"},
}


@pytest.mark.parametrize("kind", PUBLISHED)
def test_settings_of_published_models_are_understood(tmp_path, kind):
    sizes = {key: value for key, value in SIZES.items() if (kind, key) != ("xlnet", "max_position_embeddings")}
    settings = {"model_type": kind, **sizes, **ARCHITECTURES[kind], **PUBLISHED[kind]}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    found = read_configuration(tmp_path, declares_modules=True)
    assert found.width == 32 and found.kind == kind
    if kind == "llama":
        assert found.library.rope_parameters["rope_theta"] == 500000.0
