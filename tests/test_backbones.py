"""The bundled assets: whole, damaged by one byte, or missing; and `tiny` under every method that takes a backbone."""

import shutil

import numpy as np
import pytest

from baselines import backbones
from harness.encoders.catalog import build, known_encoders, resolve
from harness.encoders.context import Context
from harness.errors import DataError


@pytest.fixture
def copied(tmp_path, monkeypatch):
    shutil.copytree(backbones.ASSETS, tmp_path / "assets")
    monkeypatch.setattr(backbones, "ASSETS", tmp_path / "assets")
    backbones.check_assets.cache_clear()
    yield tmp_path / "assets"
    backbones.check_assets.cache_clear()


@pytest.mark.parametrize("path", ["tiny/model.safetensors", "glove-tiny/vectors.txt.gz"])
def test_one_flipped_byte_is_found_and_named(copied, path):
    content = bytearray((copied / path).read_bytes())
    content[len(content) // 2] ^= 1
    (copied / path).write_bytes(content)
    with pytest.raises(DataError) as caught:
        backbones.check_assets(path.split("/")[0])
    assert str(caught.value).startswith(f"{copied / path}: sha256 is ")
    assert str(caught.value).endswith("; the file is damaged: reinstall simcse-bench")


def test_a_missing_asset_is_named(copied):
    (copied / "tiny/config.json").unlink()
    with pytest.raises(DataError) as caught:
        backbones.check_assets("tiny")
    assert str(caught.value) == (
        f"{copied / 'tiny/config.json'}: missing, expected as part of the package; reinstall simcse-bench"
    )


def test_whole_assets_pass(copied):
    backbones.check_assets("tiny")
    backbones.check_assets("glove-tiny")


def test_the_backbone_option_reaches_every_method_that_has_one(tmp_path):
    context = Context(cache_dir=tmp_path, backbone="tiny", offline=True)
    for entry in known_encoders().values():
        if any(parameter.name == "backbone" for parameter in entry.parameters):
            assert resolve(entry.name, context)[1].parameters["backbone"] == "tiny"


def test_tiny_is_anisotropic_as_pretrained_encoders_are(tmp_path):
    """The premise of post-processing and of contrastive training: unrelated sentences are already similar."""
    encoder = build("bert[backbone=tiny,pooling=avg]", Context(cache_dir=tmp_path, offline=True))
    x = encoder.encode(
        ["a man is riding a horse .", "shares of the bank fell .", "what a dull film !", "two dogs run ."]
    )
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    cosines = (x @ x.T)[np.triu_indices(4, 1)]
    assert cosines.mean() > 0.5
