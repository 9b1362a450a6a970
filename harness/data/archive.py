"""Unpacking a downloaded tar archive: all of it or nothing, and nothing outside its folder."""

import shutil
import tarfile
import zlib
from pathlib import Path, PurePosixPath

from harness.errors import DataError

_LAYOUT = "give --data-dir a folder in SentEval's layout"


def unpack(archive: Path, folder: Path, *, holding: str) -> Path:
    """Unpack `archive` as `folder`, which appears complete or not at all.

    The caller holds a lock on `folder`: what an earlier, killed process left of it is removed first.

    Args:
        archive: a tar file, plain or compressed.
        folder: where to put it; its parent exists.
        holding: the name of a folder that must be somewhere in the archive.

    Returns:
        The folder, at or below `folder`, that contains `holding`.

    Raises:
        DataError: if the archive is damaged or cut short, if a member leads outside, or if `holding` is missing.
        OSError: if `folder` cannot be written.
    """
    draft = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    try:
        _extract(archive, draft)
        parent = parent_of(holding, draft)
        if parent is None:
            raise DataError(
                f"{archive}: no folder in it is named {holding!r}, expected SentEval's layout ({holding}/STS/...);"
                f" {_LAYOUT}"
            )
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


def _extract(archive: Path, folder: Path) -> None:
    def checked(member: tarfile.TarInfo, destination: str) -> tarfile.TarInfo:
        return _inside(member, destination, archive)

    try:
        with tarfile.open(archive, "r:*") as tar:
            tar.extractall(folder, filter=checked)
            _check_end(tar)
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise DataError(
            f"{archive}: damaged as a tar archive ({error}), expected one that unpacks to its end;"
            f" delete {archive.resolve()} to download it again, or {_LAYOUT}"
        ) from error


def _check_end(tar: tarfile.TarFile) -> None:
    # tarfile takes a file that stops between two members, or inside a header, for a complete archive.
    stream = tar.fileobj
    assert stream is not None
    stream.seek(tar.offset)
    if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("no end-of-archive block")


def _inside(member: tarfile.TarInfo, destination: str, archive: Path) -> tarfile.TarInfo:
    path = PurePosixPath(member.name)
    if path.is_absolute():
        raise _refused(archive, member, "has an absolute path")
    if ".." in path.parts:
        raise _refused(archive, member, "climbs out through '..'")
    try:
        return tarfile.data_filter(member, destination)
    except (tarfile.AbsoluteLinkError, tarfile.LinkOutsideDestinationError) as error:
        raise _refused(archive, member, f"links to {member.linkname!r} outside the archive") from error
    except tarfile.OutsideDestinationError as error:  # through a link that came before it
        raise _refused(archive, member, "lands outside the archive") from error
    except tarfile.SpecialFileError as error:
        raise _refused(archive, member, "is a device or a pipe") from error


def _refused(archive: Path, member: tarfile.TarInfo, reason: str) -> DataError:
    return DataError(
        f"{archive}: member {member.name!r} {reason}, expected only files and folders within the archive;"
        f" nothing was unpacked, do not trust this file and {_LAYOUT}"
    )
