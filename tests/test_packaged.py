"""The package holds its own data files to digests: damage is one sentence, and nothing switches the check off."""

import json
import shutil

import pytest

from harness import packaged as module
from harness.errors import DataError
from harness.packaged import DIGESTS, ROOT, packaged, packaged_folder, write_digests

REINSTALL = "reinstall simcse-bench, or run `python -m harness.packaged` if the change is yours"


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """Some of the package's files in a folder of the test's own."""
    for name in ("harness/data/manifest.json", "harness/reports/published", "baselines/assets/tiny"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, tmp_path / name)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "DIGESTS", tmp_path / "harness" / "package_digests.json")
    write_digests()
    forget()
    yield tmp_path
    forget()


def forget():
    for function in (packaged, packaged_folder, module._digests):
        function.cache_clear()


def sentence(name):
    with pytest.raises(DataError) as caught:
        packaged(name)
    return str(caught.value)


def test_the_list_is_complete_and_current():
    """If this fails after a change of yours: python -m harness.packaged."""
    listed = json.loads(DIGESTS.read_bytes())
    there = [name for package in ("harness", "baselines") for name in module._data_files(ROOT / package)]
    assert sorted(listed) == sorted(there)
    for name in listed:
        assert packaged(name) == ROOT / name


@pytest.mark.parametrize("name", ["baselines/assets/tiny/model.safetensors", "harness/reports/published/simcse.csv"])
def test_one_flipped_byte_is_found_and_named(copy, name):
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    found = sentence(name)
    assert found.startswith(f"{copy / name}: sha256 is ")
    assert found.endswith(f"; the file is damaged: {REINSTALL}")
    with pytest.raises(DataError, match="sha256 is"):
        packaged_folder(name.rpartition("/")[0])


@pytest.mark.parametrize("content", [b"", b"paper,table\n"])
def test_an_empty_or_cut_file_is_refused(copy, content):
    (copy / "harness/reports/published/mteb.csv").write_bytes(content)
    assert "; the file is damaged" in sentence("harness/reports/published/mteb.csv")


def test_a_missing_file_is_named(copy):
    (copy / "baselines/assets/tiny/config.json").unlink()
    expected = (
        f"{copy / 'baselines/assets/tiny/config.json'}: cannot be read (No such file or directory), expected it as "
        f"part of the package; {REINSTALL}"
    )
    assert sentence("baselines/assets/tiny/config.json") == expected
    with pytest.raises(DataError, match="No such file"):
        packaged_folder("baselines/assets/tiny")


def test_a_file_that_the_list_does_not_name_is_refused(copy):
    (copy / "baselines/assets/tiny/adapter.safetensors").write_bytes(b"")
    with pytest.raises(DataError, match=r"adapter\.safetensors: not in .*package_digests\.json, expected every"):
        packaged_folder("baselines/assets/tiny")


@pytest.mark.parametrize("content", ["{}", "", "[]", '{"harness/data/mani'])
def test_an_empty_or_damaged_list_does_not_switch_the_check_off(copy, content):
    (copy / "harness" / "package_digests.json").write_text(content)
    assert sentence("harness/data/manifest.json").endswith(REINSTALL)
    with pytest.raises(DataError, match="reinstall simcse-bench"):
        packaged_folder("baselines/assets/tiny")


def test_bundled_data_are_held_to_the_list_whatever_the_manifest_allows(copy, monkeypatch):
    from harness.data import records
    from harness.data.sts import semeval

    name = "downstream/STS/MINI-en-test/STS.input.captions.txt"
    place = copy / "harness/data/mini" / name
    place.parent.mkdir(parents=True)
    place.write_text("another copy\tof the data\n")
    monkeypatch.setattr(records, "BUNDLED", copy / "harness/data/mini")
    with pytest.raises(DataError, match="captions"):
        semeval(copy / "harness/data/mini", year="MINI")
