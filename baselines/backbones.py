"""Backbones by name: the bundled `tiny` and `small`, or whatever the hub or a folder has."""

from functools import cache
from pathlib import Path

from harness import files
from harness.encoders.checkpoint import Checkpoint, find_checkpoint, open_checkpoint
from harness.errors import DataError

ASSETS = Path(__file__).parent / "assets"
BUNDLED_BACKBONES = ("tiny", "small")
_REINSTALL = "reinstall simcse-bench"


def find_backbone(name: str, *, offline: bool) -> Checkpoint:
    """The checkpoint behind a backbone's name.

    Raises:
        UsageError: if nothing of that name can be had.
        DataError: if a bundled file is damaged.
    """
    if name not in BUNDLED_BACKBONES:
        return find_checkpoint(name, offline=offline)
    check_assets(name)
    return open_checkpoint(ASSETS / name, name)


@cache
def check_assets(folder: str) -> None:
    """Compare every file below `baselines/assets/<folder>` with SHA256SUMS.

    Raises:
        DataError: if a file is missing, its bytes changed, or the list does not name it; the file is in the message.
    """
    listed = {path: digest for path, digest in _listed().items() if path.is_relative_to(ASSETS / folder)}
    there = {path for path in (ASSETS / folder).rglob("*") if path.is_file()}
    for path in sorted(listed.keys() | there):
        if path not in there:
            raise DataError(f"{path}: missing, expected as part of the package; {_REINSTALL}")
        if path not in listed:
            raise DataError(f"{path}: not in {ASSETS / 'SHA256SUMS'}, expected every file there; {_REINSTALL}")
        if (found := files.sha256(path)) != listed[path]:
            raise DataError(f"{path}: sha256 is {found}, expected {listed[path]}; the file is damaged: {_REINSTALL}")
    if not listed:
        raise DataError(f"{ASSETS / folder}: missing, expected as part of the package; {_REINSTALL}")


def _listed() -> dict[Path, str]:
    """The digests that the package states of its assets."""
    sums = ASSETS / "SHA256SUMS"
    if not sums.is_file():
        raise DataError(f"{sums}: missing, expected as part of the package; {_REINSTALL}")
    lines = (line.split(maxsplit=1) for line in sums.read_text(encoding="utf-8").splitlines())
    return {ASSETS / path: digest for digest, path in lines}
