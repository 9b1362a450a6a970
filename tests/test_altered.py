"""A checkpoint run otherwise, held against a plain loop over transformers and tokenizers, one sentence at a time."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.normalizers import BertNormalizer
from transformers import AutoModel

from harness.encoders.context import Context
from harness.encoders.registry import build
from harness.explanation.altered import Alteration, AlteredEncoder

FOLDER = Path(__file__).parents[1] / "baselines/assets/tiny"
SENTENCES = [
    "A man is playing the guitar on stage while it rains and nobody looks up.",
    "Étude in London, 2014.",
    "two dogs",
    "The President's visit to Washington was put off until the week after next.",
]


@pytest.fixture(scope="module")
def model():
    return AutoModel.from_pretrained(FOLDER).eval()


def tokenizer(*, lower: bool = True, limit: int = 512) -> Tokenizer:
    found = Tokenizer.from_file(str(FOLDER / "tokenizer.json"))
    found.no_padding()
    found.enable_truncation(limit)
    if not lower:
        found.normalizer = BertNormalizer(lowercase=False)
    return found


def states(model, ids: list[int], width: int = 0) -> np.ndarray:
    """(tokens, dim) of the last layer, or (width, dim) with padding that is not attended to."""
    padding = max(0, width - len(ids))
    mask = torch.tensor([[1] * len(ids) + [0] * padding])
    with torch.inference_mode():
        output = model(input_ids=torch.tensor([ids + [0] * padding]), attention_mask=mask)
    return output.last_hidden_state[0].float().numpy()


def plainly(model, texts=SENTENCES, *, special=True, width=0, inner=False, **options) -> np.ndarray:
    """The mean over tokens of each sentence."""
    words = tokenizer(**options)
    rows = [states(model, words.encode(text, add_special_tokens=special).ids, width) for text in texts]
    return np.stack([(row[1:-1] if inner else row).mean(axis=0) for row in rows])


def altered(tmp_path, **changes) -> np.ndarray:
    context = Context(cache_dir=tmp_path, offline=True)
    return AlteredEncoder(build("bert[backbone=tiny,pooling=avg]", context), Alteration(**changes), context).encode(
        SENTENCES
    )


LONGEST = max(len(tokenizer().encode(text).ids) for text in SENTENCES)
CASES = [
    ({}, {}),
    ({"max_tokens": 8}, {"limit": 8}),
    ({"special_tokens": "absent"}, {"special": False}),
    ({"special_tokens": "not pooled"}, {"inner": True}),
    ({"padding": "128"}, {"width": 128}),
    ({"padding": "batch"}, {"width": LONGEST}),
    ({"prompt": "query: "}, {"texts": [f"query: {text}" for text in SENTENCES]}),
    ({"keep_case": True}, {"lower": False}),
]


@pytest.mark.parametrize(("changes", "options"), CASES, ids=lambda value: str(list(value.items())[:1]))
def test_it_is_what_a_plain_loop_gives(changes, options, model, tmp_path):
    expected = plainly(model, **options)
    np.testing.assert_allclose(altered(tmp_path, **changes), expected, rtol=0, atol=2e-5)
    if changes:
        assert np.abs(expected - plainly(model)).max() > 0.01  # so that each case is one


def test_a_lower_precision_is_that_of_the_whole_model(tmp_path):
    half = AutoModel.from_pretrained(FOLDER, dtype=torch.bfloat16).eval()
    found = altered(tmp_path, dtype="bfloat16")
    exact = plainly(AutoModel.from_pretrained(FOLDER).eval())
    np.testing.assert_allclose(found, plainly(half), rtol=0, atol=0.05)
    assert np.abs(found - exact).max() > 0.001


def test_dropout_is_another_draw_for_each_seed(tmp_path):
    one, again, other = (altered(tmp_path, dropout=True, seed=seed) for seed in (0, 0, 1))
    assert np.array_equal(one, again) and np.abs(one - other).max() > 0.01
