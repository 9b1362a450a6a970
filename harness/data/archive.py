"""Unpacking a downloaded tar archive: all of it or nothing, and nothing but plain files and folders within it."""

import io
import lzma
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from harness import files
from harness.errors import DataError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MOST_BYTES = 2 << 30  # SentEval's files take 0.2 GB
MOST_MEMBERS = 20_000  # and are fewer than 200
_BLOCK = 1 << 20
# A second wall behind our own checks of every member; Python 3.11.0 to 3.11.3 do not have it.
_FILTER: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
# What tarfile and the decompressors raise on damaged bytes; their OSErrors have no number, those of a disk have one.
_DAMAGE = (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, ValueError, OverflowError, OSError)


@dataclass(frozen=True, slots=True)
class Expected:
    """What an archive should be, for its limits and for what errors say.

    Attributes:
        what: whose size and layout it should have.
        layout: a part of it, as an example.
        advice: what to do where it is something else.
        most_bytes: of content; None: `MOST_BYTES`.
    """

    what: str = "SentEval's"
    layout: str = "downstream/STS/..."
    advice: str = "give --data-dir a folder in SentEval's layout"
    most_bytes: int | None = None


SENTEVAL = Expected()


def unpack(archive: Path, folder: Path, *, holding: str, expected: Expected = SENTEVAL) -> Path:
    """Unpack `archive` as `folder`, which appears complete or not at all.

    The caller holds a lock on `folder`: what an earlier, killed process left of it is removed first.

    Args:
        archive: a tar file, plain or compressed.
        folder: where to put it; its parent exists.
        holding: the name of a folder that must be somewhere in the archive.
        expected: what it should be.

    Returns:
        The folder, at or below `folder`, that contains `holding`.

    Raises:
        DataError: if the archive is damaged, cut short or too large, if a member is a link or a device or leads
            outside, or if `holding` is missing.
        WriteError: if `folder` cannot be written.
    """
    draft = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        with files.writing(draft):
            draft.mkdir()
        _extract(archive, draft, expected)
        parent = parent_of(holding, draft)
        if parent is None:
            raise DataError(
                f"{archive}: no folder in it is named {holding!r}, expected {expected.what} layout ({expected.layout});"
                f" {expected.advice}"
            )
        with files.writing(folder):
            if folder.exists():
                shutil.rmtree(folder)
            draft.replace(folder)
        return folder / parent.relative_to(draft)
    finally:
        shutil.rmtree(draft, ignore_errors=True)  # gone already when all went well


def parent_of(name: str, folder: Path) -> Path | None:
    """The folder at or below `folder` that has a folder called `name`; the outermost, first by name, if several do."""
    found = [path for path in folder.rglob(name) if path.is_dir()]
    return min(found, key=lambda path: (len(path.parts), path)).parent if found else None


class _Unreadable(Exception):
    """The archive cannot be read, for the reason in the argument."""


class _Untrusted(Exception):
    """The archive holds what is not unpacked, as the argument says."""


class _Source(io.FileIO):
    """The archive's file, whose failures are told from those of the files that are written."""

    def __init__(self, archive: Path) -> None:
        try:
            super().__init__(archive)
        except OSError as error:
            raise _Unreadable(error.strerror) from error

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        try:
            return super().readinto(buffer)
        except OSError as error:
            raise _Unreadable(error.strerror) from error


def _extract(archive: Path, folder: Path, expected: Expected) -> None:
    most = MOST_BYTES if expected.most_bytes is None else expected.most_bytes
    try:
        with (
            io.BufferedReader(_Source(archive)) as stream,
            files.writing(folder),  # takes the OSErrors that have a number, which are the disk's
            tarfile.open(fileobj=stream, mode="r:*") as tar,
        ):
            tar.extractall(folder, members=_members(tar, most), **_FILTER)
            _check_end(tar)
    except _Unreadable as error:
        raise DataError(
            f"{archive}: cannot be read ({error}), expected a tar archive; check the disk and the permissions,"
            f" or {expected.advice}"
        ) from error
    except _Untrusted as error:
        raise DataError(
            f"{archive}: it holds {error}, expected plain files and folders within it, of {expected.what} size;"
            f" do not trust this file, nothing of it was kept: {expected.advice}"
        ) from error
    except _DAMAGE as error:
        raise DataError(
            f"{archive}: damaged as a tar archive ({error}), expected one that unpacks to its end;"
            f" delete {archive.resolve()} to download it again, or {expected.advice}"
        ) from error
    except MemoryError as error:
        raise DataError(f"{archive}: there is too little memory to unpack it; {expected.advice}") from error


def _members(tar: tarfile.TarFile, most: int) -> Iterator[tarfile.TarInfo]:
    """The members, each looked at before it is unpacked; no more than `most` bytes of content."""
    unpacked = 0
    for number, member in enumerate(tar, start=1):
        if reason := _refusal(member):
            raise _Untrusted(f"member {member.name!r}, which {reason}")
        unpacked += member.size
        if number > MOST_MEMBERS:
            raise _Untrusted(f"more than {MOST_MEMBERS:,} members")
        if unpacked > most:
            raise _Untrusted(f"more than {most:,} bytes of content, with member {member.name!r}")
        yield member


def _refusal(member: tarfile.TarInfo) -> str | None:
    """Why the member is not unpacked; None where it is."""
    path = PurePosixPath(member.name)
    if member.issym() or member.islnk():
        return f"links to {member.linkname!r}"
    if not (member.isfile() or member.isdir()):
        return "is a device or a pipe"
    if path.is_absolute():
        return "has an absolute path"
    return "climbs out through '..'" if ".." in path.parts else None


def _check_end(tar: tarfile.TarFile) -> None:
    """Read the end-of-archive block, and the rest of a compressed stream, where its checksum is.

    tarfile takes a file that stops between two members, or inside a header, for a complete archive.
    """
    stream = tar.fileobj
    assert stream is not None
    stream.seek(tar.offset)
    if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("no end-of-archive block")
    rest = 0
    while block := stream.read(_BLOCK):
        rest += len(block)
        if rest > MOST_BYTES:
            raise _Untrusted(f"more than {MOST_BYTES:,} bytes behind its end")
