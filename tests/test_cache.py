import hashlib
import json
import logging
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from harness.encoders.cached import CachedEncoder
from harness.encoders.context import Context
from harness.encoders.registry import build
from harness.encoders.store import CacheEntry, EmbeddingStore, stat
from harness.errors import ResultError

DIM = 6
ONE, TWO = "1" * 64, "2" * 64


def rows_of(sentences, dim=DIM):
    """The row a sentence must have, from its text alone: any finite float32 bit pattern may appear."""
    digests = [hashlib.sha512(text.encode("utf-8", "surrogatepass")).digest()[: 4 * dim] for text in sentences]
    numbers = np.frombuffer(b"".join(digests), dtype=np.float32).reshape(len(sentences), dim)
    return np.nan_to_num(numbers)


def open_cache(root, fingerprint=ONE, dim=DIM):
    return EmbeddingStore(root, fingerprint, dim, {"name": "letters", "dim": dim, "seed": None})


def filled(root, sentences):
    open_cache(root).append(sentences, rows_of(sentences))
    (shard,) = (root / ONE).glob("*.shard")
    return shard


def assert_stored(cache, sentences):
    found, rows = cache.lookup(sentences)
    assert found.all()
    assert rows.tobytes() == rows_of(sentences).tobytes()


def test_rows_come_back_bit_for_bit_in_the_order_asked(tmp_path):
    sentences = [f"sentence {i}" for i in range(500)]
    cache = open_cache(tmp_path)
    for start in range(0, 500, 100):
        cache.append(sentences[start : start + 100], rows_of(sentences[start : start + 100]))
    shuffled = [sentences[i] for i in np.random.default_rng(0).permutation(500)]
    assert_stored(cache, shuffled)
    assert_stored(open_cache(tmp_path), shuffled)


def test_unknown_and_repeated_sentences(tmp_path):
    filled(tmp_path, ["a", "b", "c"])
    found, rows = open_cache(tmp_path).lookup(["c", "x", "a", "c", "y", "c"])
    assert found.tolist() == [True, False, True, True, False, True]
    assert rows.dtype == np.float32
    assert np.array_equal(rows, rows_of(["c", "a", "c", "c"]))


@pytest.mark.parametrize("sentences", [[], ["a"], ["a", "b"]])
def test_an_empty_cache_knows_nothing_and_asking_makes_no_folder(tmp_path, sentences):
    found, rows = open_cache(tmp_path / "none").lookup(sentences)
    assert found.tolist() == [False] * len(sentences)
    assert (rows.shape, rows.dtype) == ((0, DIM), np.float32)
    assert not (tmp_path / "none").exists()


def test_an_empty_request_on_a_filled_cache_and_an_empty_append(tmp_path):
    filled(tmp_path, ["a"])
    cache = open_cache(tmp_path)
    cache.append([], np.empty((0, DIM), np.float32))
    found, rows = cache.lookup([])
    assert (found.shape, rows.shape) == ((0,), (0, DIM))
    assert stat(tmp_path)[0].rows == 1


def test_keys_are_the_exact_text(tmp_path):
    texts = ["a", "a ", " a", "A", "", " ", "a\n", "a\0", "é", "e\u0301", "日本語", "🙂", "\ud83d"]
    filled(tmp_path, texts)
    assert_stored(open_cache(tmp_path), texts)
    assert not open_cache(tmp_path).lookup(["a  ", "a\r\n", "\0", "\ude42"])[0].any()


def test_the_row_stored_first_answers_for_readers_old_and_new(tmp_path):
    cache = open_cache(tmp_path)
    cache.append(["a"], rows_of(["a"]))
    for value in range(5):
        cache.append(["b", "a"], np.full((2, DIM), value, np.float32))
    assert_stored(cache, ["a"])
    assert_stored(open_cache(tmp_path), ["a"])


def test_more_rows_than_a_shard_holds_are_split_and_found(tmp_path):
    sentences = [str(i) for i in range(8192 + 1)]
    open_cache(tmp_path).append(sentences, rows_of(sentences))
    assert len(list((tmp_path / ONE).glob("*.shard"))) == 2
    assert_stored(open_cache(tmp_path), sentences)


def test_fingerprints_do_not_mix(tmp_path):
    filled(tmp_path, ["a"])
    assert not open_cache(tmp_path, TWO).lookup(["a"])[0].any()


def test_the_card_is_stored_beside_the_rows(tmp_path):
    filled(tmp_path, ["a"])
    assert json.loads((tmp_path / ONE / "card.json").read_text()) == {"name": "letters", "dim": DIM, "seed": None}


@pytest.mark.parametrize("fingerprint", ["", "abc", "../" + "1" * 61, "A" * 64])
def test_a_fingerprint_that_is_none_is_a_bug(tmp_path, fingerprint):
    with pytest.raises(ValueError, match="64 hexadecimal digits"):
        open_cache(tmp_path, fingerprint)


@pytest.mark.parametrize("rows", [np.zeros((2, DIM + 1), "f4"), np.zeros((1, DIM), "f4"), np.zeros((2, DIM), "f8")])
def test_rows_of_another_shape_or_type_are_a_bug(tmp_path, rows):
    with pytest.raises(ValueError, match="expected float32"):
        open_cache(tmp_path).append(["a", "b"], rows)


def test_stored_rows_of_another_dimension_are_refused_every_time(tmp_path):
    shard = filled(tmp_path, ["a"])
    cache = open_cache(tmp_path, dim=DIM + 1)
    for _ in range(2):
        with pytest.raises(ResultError) as caught:
            cache.lookup(["a"])
        assert str(caught.value) == (
            f"{shard}: the stored rows have 6 numbers, expected 7, because two encoders share one fingerprint: delete "
            "the rows with `bench cache clear`, or choose another folder with --cache-dir"
        )


@pytest.mark.parametrize("place", range(8, 16 + 3 * (16 + 4 * DIM) + 4, 5))
def test_a_changed_byte_never_gives_a_wrong_row(tmp_path, caplog, place):
    sentences = ["a", "b", "c"]
    shard = filled(tmp_path, sentences)
    content = bytearray(shard.read_bytes())
    content[place] ^= 0x10
    shard.write_bytes(content)
    cache = open_cache(tmp_path)
    with caplog.at_level(logging.WARNING):
        assert not cache.lookup(sentences)[0].any()
        assert not cache.lookup(sentences)[0].any()
    assert [str(shard) in record.getMessage() for record in caplog.records] == [True]
    cache.append(sentences, rows_of(sentences))
    assert_stored(cache, sentences)
    assert_stored(open_cache(tmp_path), sentences)


def test_a_damaged_shard_leaves_the_others_and_its_duplicates(tmp_path, caplog):
    shard = filled(tmp_path, ["a", "b"])
    open_cache(tmp_path).append(["b", "c"], rows_of(["b", "c"]))
    shard.write_bytes(shard.read_bytes()[:-1] + b"?")
    found, rows = open_cache(tmp_path).lookup(["a", "b", "c"])
    assert found.tolist() == [False, True, True]
    assert np.array_equal(rows, rows_of(["b", "c"]))
    assert [record.getMessage() for record in caplog.records] == [
        f"{shard}: is damaged (its checksum does not match its content); it is removed, and its sentences are encoded "
        "again"
    ]
    assert not shard.exists()


@pytest.mark.parametrize(
    ("size", "found"),
    [
        (0, f"it begins with {bytes(8)!r}, expected b'EMBEDS01'"),
        (9, "it has 9 bytes, expected 20"),
        (99, "it has 99 bytes, expected 100"),
        (101, "it has 101 bytes, expected 100"),
    ],
)
def test_a_shard_of_the_wrong_size_is_ignored_and_named(tmp_path, caplog, size, found):
    shard = filled(tmp_path, ["a", "b"])  # 16 + 2 x (16 + 4 x 6) + 4 = 100 bytes
    os.truncate(shard, size)
    assert not open_cache(tmp_path).lookup(["a", "b"])[0].any()
    assert [record.getMessage() for record in caplog.records] == [
        f"{shard}: is damaged ({found}); it is removed, and its sentences are encoded again"
    ]


def test_a_shard_truncated_after_its_keys_were_read_is_ignored(tmp_path):
    shard = filled(tmp_path, ["a"])
    content = shard.read_bytes()
    for size in (40, 3, 0):
        shard.write_bytes(content)
        cache = open_cache(tmp_path)
        assert_stored(cache, ["a"])
        os.truncate(shard, size)
        assert not cache.lookup(["a"])[0].any()


APPEND_FOREVER = """
import sys
from pathlib import Path
from tests.test_cache import open_cache, rows_of
cache, first = open_cache(Path(sys.argv[1])), int(sys.argv[2])
for chunk in range(int(sys.argv[3])):
    sentences = [f"sentence {i}" for i in range(first + 50 * chunk, first + 50 * chunk + 50)]
    cache.append(sentences, rows_of(sentences))
    print(len(sentences), flush=True)
"""


def appending(root, first, chunks):
    command = [sys.executable, "-c", APPEND_FOREVER, str(root), str(first), str(chunks)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1])


def test_a_killed_process_leaves_only_whole_rows_and_all_that_it_reported(tmp_path, caplog):
    reported = {}
    for attempt in range(3):
        first = 1_000_000 * attempt
        process = appending(tmp_path, first, 10**6)
        assert process.stdout.readline() == "50\n"  # at least one chunk is stored
        time.sleep(0.02 + 0.013 * attempt)
        process.send_signal(signal.SIGKILL)
        reported[first] = 50 + sum(int(line) for line in process.communicate()[0].splitlines())
    cache = open_cache(tmp_path)
    for first, count in reported.items():
        assert_stored(cache, [f"sentence {i}" for i in range(first, first + count)])
        beyond = [f"sentence {i}" for i in range(first + count, first + count + 500)]
        found, rows = cache.lookup(beyond)  # stored, but killed before the report
        assert np.array_equal(rows, rows_of([text for text, known in zip(beyond, found, strict=True) if known]))
    assert not caplog.records


def test_processes_that_add_the_same_and_other_sentences_at_once(tmp_path, caplog):
    processes = [appending(tmp_path, first, 10) for first in (0, 0, 250)]
    reader = open_cache(tmp_path)
    sentences = [f"sentence {i}" for i in range(750)]
    known = 0
    while any(process.poll() is None for process in processes):
        found, rows = reader.lookup(sentences)
        assert np.array_equal(rows, rows_of([text for text, yes in zip(sentences, found, strict=True) if yes]))
        assert found.sum() >= known
        known = found.sum()
        time.sleep(0.01)
    assert [process.wait() for process in processes] == [0, 0, 0]
    for process in processes:
        process.stdout.close()
    assert_stored(reader, sentences)
    assert_stored(open_cache(tmp_path), sentences)
    assert not caplog.records


def test_a_full_disk_is_one_warning_and_leaves_nothing_behind(tmp_path, caplog):
    shard = filled(tmp_path, ["a"])
    sentences = [str(i) for i in range(1000)]
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))  # the write fails half-way, as on a full disk
    try:
        for fingerprint in (ONE, ONE, TWO):
            open_cache(tmp_path, fingerprint).append(sentences, rows_of(sentences))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path}: the embedding cache cannot be written (File too large), expected a writable folder with free "
        "space: choose another folder with --cache-dir; until then embeddings are computed and not kept"
    ]
    assert sorted(path.name for path in (tmp_path / ONE).iterdir()) == sorted([shard.name, "card.json"])
    assert_stored(open_cache(tmp_path), ["a"])


def test_a_folder_that_cannot_be_made_costs_a_warning_and_no_vector(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    plain = build("random[dim=6]", Context(cache_dir=tmp_path))
    cached = CachedEncoder(plain, tmp_path / "file" / "embeddings")
    for _ in range(2):
        assert np.array_equal(cached.encode(["a", "b", "a"]), plain.encode(["a", "b", "a"]))
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path / 'file' / 'embeddings'}: the embedding cache cannot be written (Not a directory), expected a "
        "writable folder with free space: choose another folder with --cache-dir; until then embeddings are computed "
        "and not kept"
    ]


def test_a_folder_that_cannot_be_read_knows_nothing_and_says_so_once(tmp_path, caplog):
    (tmp_path / "loop").symlink_to("loop")
    for _ in range(2):
        assert not open_cache(tmp_path / "loop").lookup(["a"])[0].any()
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path / 'loop'}: the embedding cache cannot be read (Too many levels of symbolic links), expected a "
        "readable folder: choose another folder with --cache-dir; until then embeddings are computed and not kept"
    ]
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultError) as caught:
        stat(tmp_path / "file")
    assert str(caught.value) == (
        f"{tmp_path / 'file'}: the embedding cache cannot be read (Not a directory), expected a readable folder: "
        "choose another folder with --cache-dir"
    )


def test_a_draft_that_another_process_completes_meanwhile_stops_nothing(tmp_path):
    filled(tmp_path, ["a"])
    (tmp_path / ONE / ".bench-1.tmp").symlink_to("gone")  # listed, and no longer there when it is looked at
    cache = open_cache(tmp_path)
    cache.append(["b"], rows_of(["b"]))
    assert_stored(cache, ["a", "b"])
    assert stat(tmp_path)[0].rows == 2


def test_stat_counts_rows_and_bytes_by_encoder(tmp_path):
    assert stat(tmp_path / "none") == []
    filled(tmp_path, ["a", "b"])
    EmbeddingStore(tmp_path, TWO, 1, {"name": "anna"}).append(["a"], np.ones((1, 1), np.float32))
    (tmp_path / "another program's folder").mkdir()
    card_bytes = [(tmp_path / name / "card.json").stat().st_size for name in (TWO, ONE)]
    assert stat(tmp_path) == [
        CacheEntry(fingerprint=TWO, encoder="anna", rows=1, bytes=card_bytes[0] + 16 + 1 * (16 + 4) + 4),
        CacheEntry(fingerprint=ONE, encoder="letters", rows=2, bytes=card_bytes[1] + 16 + 2 * (16 + 24) + 4),
    ]


def test_a_run_goes_on_when_the_cache_is_cleared_under_it(tmp_path, caplog):
    filled(tmp_path, ["a"])
    cache = open_cache(tmp_path)
    assert_stored(cache, ["a"])
    for path in (tmp_path / ONE).iterdir():
        path.unlink()
    assert not cache.lookup(["a"])[0].any()
    cache.append(["a"], rows_of(["a"]))
    assert_stored(cache, ["a"])
    assert not caplog.records
