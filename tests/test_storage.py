"""Emptying the cache while others use it."""

import shutil
import threading

import pytest

from harness import files, storage


def test_a_lock_that_is_held_stays(tmp_path):
    held, free = (tmp_path / "locks" / f"{name}.lock" for name in ("held", "free"))
    with files.lock(free):
        pass
    with files.lock(held):
        storage.clear(tmp_path)
        assert held.exists() and not free.exists()
    storage.clear(tmp_path)
    assert storage.usage(tmp_path) == []


@pytest.mark.parametrize("meanwhile", ["deleted", "written to"])
def test_others_delete_and_write_meanwhile(tmp_path, monkeypatch, meanwhile):
    """Another process comes between the listing of a folder and its removal."""
    inner = tmp_path / "embeddings" / "abc"
    files.replace(inner / "one", b"1")
    rmdir = storage.os.rmdir

    def between(path, **given):
        monkeypatch.undo()
        if meanwhile == "deleted":
            shutil.rmtree(inner.parent)
        else:
            files.replace(inner / "two", b"2")
        rmdir(path, **given)

    monkeypatch.setattr(storage.os, "rmdir", between)
    storage.clear(tmp_path)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["two"] * (meanwhile == "written to")


def test_two_at_once(tmp_path):
    for number in range(200):
        files.replace(tmp_path / "embeddings" / f"{number}" / "one", b"1")
    failed = []
    threads = [threading.Thread(target=lambda: failed.append(storage.clear(tmp_path))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(failed) == 2 and not (tmp_path / "embeddings").exists()
