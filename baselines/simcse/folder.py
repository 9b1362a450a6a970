"""The folder of a training run: whose it is, its card, and its log."""

import json
from pathlib import Path
from typing import Any

from harness.errors import ResultError, UsageError

CARD, LOG = "card.json", "log.jsonl"
WORK = ".training"  # holds the checkpoint until the run is finished


def check_folder(folder: Path) -> None:
    """Nothing is overwritten: the folder is new, empty, or a run's.

    Raises:
        UsageError: if it is something else.
    """
    for place in (folder, *folder.parents):
        if place.exists() and not place.is_dir():
            raise UsageError(f"{place}: a file, expected a folder for the model; name another with --output")
    ours = (folder / CARD).exists() or (folder / WORK).exists()
    if not ours and folder.is_dir() and any(folder.iterdir()):
        raise UsageError(
            f"{folder}: holds other files, expected a new folder or one of this run; name another with --output"
        )


def read_card(folder: Path) -> dict[str, Any] | None:
    """The card of a finished run; None if there is none in the folder.

    Raises:
        ResultError: if it is damaged, or another program's.
    """
    path = folder / CARD
    if not path.is_file():
        return None
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        card = None
    if not (isinstance(card, dict) and isinstance(card.get("fingerprint"), str)):
        raise ResultError(
            f"{path}: damaged or not ours, expected the card of a training run; name another folder, or delete this one"
        )
    return card


def cut_log(path: Path, step: int) -> None:
    """Drop the lines of steps that will be done again."""
    if path.is_file():
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
        path.write_text("".join(kept), encoding="utf-8")


def write_json(path: Path, value: object) -> None:
    """Write atomically."""
    draft = path.with_suffix(".tmp")
    draft.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    draft.replace(path)
