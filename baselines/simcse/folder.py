"""The folder of a training run: whose it is, its card, and its log."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness import files
from harness.errors import ResultError, UsageError

CARD, LOG, WEIGHTS = "card.json", "log.jsonl", "model.safetensors"
WORK = ".training"  # holds the checkpoint until the run is finished
_SAID = {"settings", "backbone", "data", "steps", "selected", "pooling"}  # of every card


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
        ResultError: if it is damaged, or another program's, or the weights are gone.
    """
    path = folder / CARD
    if not path.is_file():
        return None
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        card = None
    if not (isinstance(card, dict) and isinstance(card.get("fingerprint"), str) and _SAID <= card.keys()):
        raise ResultError(
            f"{path}: damaged or not ours, expected the card of a training run; name another folder, or delete this one"
        )
    if not (folder / WEIGHTS).is_file():
        raise ResultError(
            f"{folder / WEIGHTS}: missing, expected the weights of the finished run; delete the folder and train again"
        )
    return card


def claim(work: Path, fingerprint: str) -> None:
    """Make the work folder of a run, or find it made; until the first checkpoint nothing else says whose it is.

    Raises:
        UsageError: if it is another run's.
    """
    path = work / "fingerprint"
    if not path.exists():
        files.replace(path, fingerprint.encode())
    if path.read_bytes() != fingerprint.encode():
        raise UsageError(
            f"{work}: an unfinished run of another backbone, data or settings, expected this run's; name another "
            "folder, or delete it"
        )


def cut_log(path: Path, step: int) -> None:
    """Drop the lines of steps that will be done again, and damaged ones."""
    if path.is_file():
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join(line for line in lines if line.endswith(b"\n") and _step(line) <= step))


def _step(line: bytes) -> float:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf


def log_line(values: Mapping[str, float]) -> str:
    """One line of the log; what is undefined, for instance the alignment of no pairs, is null."""
    defined = {name: value if math.isfinite(value) else None for name, value in values.items()}
    return json.dumps(defined, allow_nan=False) + "\n"


def write_json(path: Path, value: object) -> None:
    """Write atomically and durably."""
    files.replace(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())
