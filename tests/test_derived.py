"""What is kept of computed things: read back as written, and never believed when damaged."""

import logging
import subprocess
import sys
import threading

import numpy as np
import pytest
from safetensors.numpy import load_file

from harness import files
from harness.derived import Derived, load, recall, store
from harness.errors import WriteError

RNG = np.random.default_rng(0)
ARRAYS = {
    "wide": RNG.standard_normal((700, 5)),
    "narrow": RNG.standard_normal((30, 40)).astype(np.float32),
    "bytes": RNG.integers(0, 256, 3001).astype(np.uint8),
    "halves": np.arange(7, dtype=np.float16),
    "rows": np.arange(11, dtype=np.int64)[::2],
    "flags": np.array([True, False, True]),
    "none": np.zeros((0, 3), dtype=np.int32),
    "one": np.float64(2.5),
}
CONTENT = Derived({name: np.asarray(array) for name, array in ARRAYS.items()}, {"sha256_of_text": "ab", "ä": "ö\n"})


@pytest.fixture
def path(tmp_path):
    return tmp_path / "fits" / "thing.safetensors"


def same(found, expected=CONTENT):
    assert found.facts == expected.facts
    assert found.arrays.keys() == expected.arrays.keys()
    for name, array in expected.arrays.items():
        assert found.arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(found.arrays[name], array)


def test_what_is_stored_is_read_back_by_us_and_by_others(path):
    assert load(path, "key") is None
    store(path, "key", CONTENT)
    same(load(path, "key"))
    for name, array in load_file(path).items():
        np.testing.assert_array_equal(array, ARRAYS[name])
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def flip(content):
    content[len(content) // 2] ^= 1


def page(content):
    content[4096:8192] = bytes(4096)


def half(content):
    content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)


def cut(content):
    del content[len(content) // 3 :]


def digit(content):
    content[60] = ord("1") if content[60] != ord("1") else ord("2")  # of the digest


def size(content):
    content[3] = 0x7F  # of the header


@pytest.mark.parametrize("damage", [flip, page, half, cut, digit, size, bytearray.clear])
def test_damage_is_named_once_and_the_content_made_anew(path, damage, caplog):
    store(path, "key", CONTENT)
    content = bytearray(path.read_bytes())
    damage(content)
    path.write_bytes(content)
    caplog.set_level(logging.WARNING)
    same(recall(path, "key", lambda: CONTENT))
    (record,) = caplog.records
    assert record.getMessage().startswith(f"{path}: cannot be used (")
    assert record.getMessage().endswith("); it is made anew")
    same(load(path, "key"))
    assert len(caplog.records) == 1


def test_every_single_byte_counts(path):
    small = Derived({"x": np.arange(3, dtype=np.int16)}, {"a": "b"})
    store(path, "key", small)
    whole = path.read_bytes()
    for place in range(len(whole)):
        content = bytearray(whole)
        content[place] ^= 4
        path.write_bytes(content)
        assert load(path, "key", warn=False) is None, place


def test_content_of_another_key_is_not_taken(path, caplog):
    store(path, "other", CONTENT)
    assert load(path, "key") is None
    assert "stored under another key" in caplog.text


def test_what_is_there_is_not_made_again(path):
    same(recall(path, "key", lambda: CONTENT))
    same(recall(path, "key", lambda: pytest.fail("made twice")))


def test_one_makes_it_and_the_others_wait(path):
    made = []

    def make():
        made.append(1)
        threading.Event().wait(0.2)
        return CONTENT

    threads = [threading.Thread(target=recall, args=(path, "key", make)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1


def test_a_disk_that_refuses_costs_time_and_no_content(path, caplog):
    path.parent.write_text("a file where the folder should be")
    same(recall(path, "key", lambda: CONTENT))
    assert "cannot be written" in caplog.text
    assert "what was computed is not kept" in caplog.text
    with pytest.raises(WriteError):
        store(path, "key", CONTENT)


def test_a_folder_in_its_place_is_named_with_what_to_do(path, caplog):
    path.mkdir(parents=True)
    same(recall(path, "key", lambda: CONTENT))
    assert f"{path}: cannot be written (a folder is in its place); remove it" in caplog.text


def test_what_a_kill_leaves_is_swept_by_the_next_write(path):
    code = f"""
import os, signal
import numpy as np
from pathlib import Path
from harness import files
from harness.derived import Derived, recall
os.fsync = lambda file: os.kill(os.getpid(), signal.SIGKILL)
recall(Path({str(path)!r}), "key", lambda: Derived({{"x": np.ones(3)}}))
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True)
    assert done.returncode == -9, done.stderr
    assert [p.suffix for p in path.parent.iterdir()] == [".tmp"]
    store(path.with_name("another.safetensors"), "key", CONTENT)
    assert [p.name for p in path.parent.iterdir()] == ["another.safetensors"]


def test_arrays_that_were_read_cannot_be_written_to(path):
    store(path, "key", CONTENT)
    with pytest.raises(ValueError, match="read-only"):
        load(path, "key").arrays["wide"][0, 0] = 1


def test_a_folder_appears_whole_or_not_at_all_and_what_a_kill_left_is_swept(tmp_path):
    left = tmp_path / ".bench-0123456789abcdef.new"  # by a kill
    left.mkdir()
    (left / "half").write_bytes(b"1")
    with files.draft_folder(tmp_path / "one") as one:
        assert not left.exists()
        (one / "file").write_bytes(b"1")
        with files.draft_folder(tmp_path / "two") as two:
            (two / "file").write_bytes(b"2")
        assert [path.name for path in tmp_path.iterdir() if path.name in ("one", "two")] == ["two"]
    assert {path.parent.name: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == {
        "one": b"1",
        "two": b"2",
    }
    with pytest.raises(ZeroDivisionError), files.draft_folder(tmp_path / "three") as three:
        (three / "file").write_bytes(bytes(1 // 0))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]
