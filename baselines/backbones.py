"""Backbones by name: the bundled `tiny` and `small`, or whatever the hub or a folder has."""

from harness.encoders.checkpoint import Checkpoint, find_checkpoint, open_checkpoint
from harness.packaged import packaged_folder

BUNDLED_BACKBONES = ("tiny", "small")


def find_backbone(name: str, *, offline: bool) -> Checkpoint:
    """The checkpoint behind a backbone's name.

    Raises:
        UsageError: if nothing of that name can be had.
        DataError: if a bundled file is damaged.
    """
    if name not in BUNDLED_BACKBONES:
        return find_checkpoint(name, offline=offline)
    return open_checkpoint(packaged_folder(f"baselines/assets/{name}"), name)
