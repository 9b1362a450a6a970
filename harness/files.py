"""Files on disk: atomic writing, locks, digests, and the one sentence about a disk that refuses."""

import fcntl
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from harness.errors import BenchError, ReadError, WriteError


def sha256(path: Path) -> str:
    """Digest (hex) of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digests(folder: Path) -> dict[str, str]:
    """Sha256 (hex) of every file below a folder, by its path from there with `/`."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): sha256(path) for path in paths}


def replace(path: Path, content: bytes) -> None:
    """Write a file atomically and durably, and make its folder where there is none; see `draft`.

    Raises:
        WriteError: if the disk is full, the folder is read-only, and the like.
    """
    with writing(path), draft(path) as file:
        file.write(content)


@contextmanager
def draft(path: Path) -> Iterator[BinaryIO]:
    """Give a new file to write, which becomes `path` at the end of the block; if the block fails nothing of it stays.

    After a crash the old file or the new one is there, never half of one. A draft is locked while it is written: one
    that nobody has locked was left by a kill, and the next draft in its folder removes it.

    Raises:
        OSError: if the disk refuses.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path.parent)
    file = _open_draft(path.parent)
    place = Path(file.name)
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            place.replace(path)
    finally:
        place.unlink(missing_ok=True)
    with suppress(OSError):  # some file systems cannot make a name durable
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextmanager
def draft_folder(path: Path) -> Iterator[Path]:
    """Give a new folder to fill, which becomes `path`, new or empty, at the end of the block; else see `draft`.

    Raises:
        OSError: if the disk refuses.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(".bench-*.new"):
        with suppress(OSError), _locked_folder(left):
            shutil.rmtree(left)
    place = path.parent / f".bench-{secrets.token_hex(8)}.new"
    place.mkdir()
    try:
        with _locked_folder(place):
            yield place
            place.replace(path)
    finally:
        shutil.rmtree(place, ignore_errors=True)


@contextmanager
def _locked_folder(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder itself.

    Raises:
        OSError: if another process holds it.
    """
    held = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(held)


def sweep(folder: Path, pattern: str = ".bench-*.tmp") -> None:
    """Remove the files that nobody has locked: drafts whose writers were killed, or locks that nobody holds."""
    for place in folder.glob(pattern):
        with suppress(OSError), place.open("r+b") as file:  # it is complete meanwhile, or still written, or not ours
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            place.unlink()


def _open_draft(folder: Path) -> BinaryIO:
    """Open a new file and lock it; another process may have swept it away in between."""
    while True:
        file = (folder / f".bench-{secrets.token_hex(8)}.tmp").open("xb")
        with suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_nlink:
            return file
        file.close()


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """Wait until no other process holds the lock file `path`, then hold it. A killed holder lets go."""
    from filelock import FileLock  # 20 ms that reports do not need

    held = FileLock(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        held.acquire()
    try:
        yield
    finally:
        held.release()


@contextmanager
def lock_if_possible(path: Path) -> Iterator[None]:
    """Hold the lock file; where none can be had, as in a read-only folder, go on without."""
    with ExitStack() as stack:
        with suppress(WriteError, OSError):
            stack.enter_context(lock(path))
        yield


def check_locks(folder: Path) -> None:
    """Check that a lock which is held in this folder keeps others out, as it does not on every network disk.

    Raises:
        WriteError: if no file can be written there, or locks do not work.
    """
    path = folder / f".{secrets.token_hex(8)}.lock"
    with writing(folder):
        path.touch()
    try:
        with path.open("r+b") as one, path.open("r+b") as other:
            fcntl.flock(one, fcntl.LOCK_EX | fcntl.LOCK_NB)
            try:
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
        reason = "a second lock is granted while the first is held"
    except OSError as error:
        reason = error.strerror or str(error)
    finally:
        with suppress(OSError):
            path.unlink(missing_ok=True)
    raise WriteError(
        f"{folder}: files cannot be locked there ({reason}), expected a disk with locks, so that no two workers do "
        "the same work; name a folder on another disk, or mount this one with locks"
    )


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a full disk or a folder without write permission into one sentence. Put only writes into the block.

    Raises:
        WriteError: in place of an OSError, or of the safetensors writer's error.
    """
    try:
        yield
    except OSError as error:
        if error.strerror is None:  # raised by a library over the network, not by the file system
            raise
        raise write_error(path, error) from error
    except Exception as error:
        if type(error).__name__ != "SafetensorError":  # its writer reports a full disk so; it is not imported for that
            raise
        raise write_error(path, error) from error


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn a file or folder that may not be read into one sentence. Put only reads into the block.

    Raises:
        ReadError: in place of an OSError, naming the file that the error names, else `path`.
    """
    try:
        yield
    except OSError as error:
        if error.strerror is None:  # raised by a library over the network, not by the file system
            raise
        raise read_error(path, error) from error


def read_error(path: Path, error: OSError) -> ReadError:
    """The sentence about a file or folder that cannot be read."""
    place = path if error.filename is None else Path(os.fsdecode(error.filename))
    return ReadError(f"{place}: cannot be read ({error.strerror}); check the path and its permissions")


def system_error(error: OSError) -> BenchError:
    """The sentence about whatever the system refuses where nothing closer to it says more."""
    place = "a file" if error.filename is None else os.fsdecode(error.filename)
    return BenchError(f"{place}: cannot be used ({error.strerror}); check the path, its permissions, and the disk")


def write_error(path: Path, error: Exception) -> WriteError:
    """The sentence about a file or folder that cannot be written."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    if isinstance(error, IsADirectoryError):
        return WriteError(f"{path}: cannot be written (a folder is in its place); remove it, or name another folder")
    return WriteError(
        f"{path}: cannot be written ({reason}); make room or give write permission, or name another folder"
    )
