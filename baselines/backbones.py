"""Backbones by name: the bundled `tiny`, or whatever the hub or a folder has."""

import hashlib
from functools import cache
from pathlib import Path

from harness.encoders.checkpoint import Checkpoint, find_checkpoint, open_checkpoint
from harness.errors import DataError

ASSETS = Path(__file__).parent / "assets"


def find_backbone(name: str, *, offline: bool) -> Checkpoint:
    """The checkpoint behind a backbone's name.

    Raises:
        UsageError: if nothing of that name can be had.
        DataError: if a bundled file is damaged.
    """
    if name != "tiny":
        return find_checkpoint(name, offline=offline)
    check_assets("tiny")
    return open_checkpoint(ASSETS / "tiny", "tiny")


@cache
def check_assets(folder: str) -> None:
    """Compare every file below `baselines/assets/<folder>` with SHA256SUMS.

    Raises:
        DataError: if a file is missing or its bytes changed; it is named.
    """
    sums = ASSETS / "SHA256SUMS"
    if not sums.is_file():
        raise DataError(f"{sums}: missing, expected as part of the package; reinstall simcse-bench")
    for line in sums.read_text(encoding="utf-8").splitlines():
        expected, path = line.split(maxsplit=1)
        place = ASSETS / path.lstrip("*./")
        if place.relative_to(ASSETS).parts[0] != folder:
            continue
        if not place.is_file():
            raise DataError(f"{place}: missing, expected as part of the package; reinstall simcse-bench")
        found = hashlib.sha256(place.read_bytes()).hexdigest()
        if found != expected:
            raise DataError(
                f"{place}: sha256 is {found}, expected {expected}; the file is damaged: reinstall simcse-bench"
            )
