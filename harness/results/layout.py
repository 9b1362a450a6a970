"""Where results lie: names that every shell and file system takes, at most 60 characters, and never parsed.

    results/index.csv                                       one line per result
    results/items/STS12.sts.0a1b2c3d4e5f.parquet            what all encoders share of a task's per-item scores
    results/bert_tiny_0a1b2c3d/encoder.json                 the encoder's card
    results/bert_tiny_0a1b2c3d/STS12.sts.json               one result
    results/bert_tiny_0a1b2c3d/STS12.sts.scores.parquet     the encoder's own per-item scores

What a name leaves out is in the files. A folder is named after the card's identity, so that equal encoders share one.
"""

import csv
import hashlib
import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from harness.names import EncoderCard
from harness.results.record import Result

ITEMS = "items"
ENCODER = "encoder.json"
INDEX = "index.csv"  # for people, grep and spreadsheets; reports never read it
INDEX_HEAD = ("encoder", "folder", "task", "protocol", "score", "seed", "commit")
LOCK = ".lock"

_LONGEST = 60
_DIGITS = 8  # of a digest in the name of a folder
_STEM = _LONGEST - len(".0a1b2c3d4e5f.parquet")


def encoder_folder(root: Path, card: EncoderCard) -> Path:
    """The folder of an encoder's results: `<method>_<backbone>_<first digits of its identity>`."""
    backbone = (card.backbone or "").rstrip("/").rpartition("/")[2]
    words = "_".join(filter(None, (_slug(card.method), _slug(backbone)))) or "encoder"
    room = _LONGEST - _DIGITS - 1
    return root / f"{words[:room].rstrip('-._')}_{card.identity[:_DIGITS]}"


def result_file(folder: Path, task: str, protocol: str) -> Path:
    """The result of a task in an encoder's folder; distinct tasks and protocols of this project have distinct files."""
    return folder / f"{_stem(task, protocol)}.json"


def scores_file(result: Path) -> Path:
    """The encoder's own per-item scores, beside the result's file."""
    return result.with_suffix(".scores.parquet")


def items_file(root: Path, task: str, protocol: str, digest: str) -> Path:
    """What all encoders share of a task's per-item scores, given the sha256 (hex) of its content."""
    return root / ITEMS / f"{_stem(task, protocol)}.{digest[:12]}.parquet"


def _stem(task: str, protocol: str) -> str:
    """`STS12.sts`, `MR.senteval-mode-test`; a part that there is no room for is replaced by digits of its digest."""
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", task).strip("-") or "task"
    if plain != task or len(plain) > _STEM - _DIGITS - 1:
        plain = f"{plain[: _STEM - 2 * (_DIGITS + 1)]}-{_digits(task)}"
    stem = f"{plain}.{_slug(protocol)}"
    return stem if len(stem) <= _STEM else f"{plain}.{_digits(protocol)}"


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-.")


def _digits(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


def index_of(results: Iterable[Result]) -> str:
    """The index of results that know their files."""
    return _text(map(_line, results))


def index_with(before: str, result: Result) -> str | None:
    """An index with the line of a result added, in place of an earlier one; None if `before` is no index."""
    try:
        head, *lines = csv.reader(before.splitlines())
    except (ValueError, csv.Error):
        return None
    if tuple(head) != INDEX_HEAD or any(len(line) != len(INDEX_HEAD) for line in lines):
        return None
    new = _line(result)
    others = (line for line in map(tuple, lines) if line[1:4] != new[1:4])  # folder, task and protocol
    return _text([*others, new])


def _line(result: Result) -> tuple[str, ...]:
    assert result.file is not None
    score = repr(result.scores[result.metric])
    seed = "" if result.encoder.seed is None else str(result.encoder.seed)
    place = result.file.parent.name
    return (result.encoder.name, place, result.task, result.protocol, score, seed, result.run.commit or "")


def _text(lines: Iterable[Sequence[str]]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(INDEX_HEAD)
    writer.writerows(sorted(lines, key=lambda line: list(line)[1:4]))
    return stream.getvalue()
