"""What the columns of a table of sentences hold, told by their names."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.errors import UsageError

Role = Literal["sentence", "image", "label", "index"]

# Names of columns, as letters and digits alone; a number or a, b at the end tells several of a kind apart.
NEUTRAL = "neutral"
_SENTENCES = (
    *("sent", "sentence", "text", "premise", "hypothesis", "anchor", "query", "question", "answer", "passage"),
    *("document", "source", "target", "reference", "paraphrase", "caption", "positive", "pos", "entailment"),
    *("negative", "neg", "hard_negative", "hard_neg", "contradiction", NEUTRAL),
)
_IMAGES = ("image", "image_id", "image_name", "filename")
_LABELS = ("label", "gold_label", "annotator_labels", "score", "similarity", "relatedness", "genre", "split", "class")
_INDEXES = ("index", "idx", "id", "row", "pair_id", "caption_id", "unnamed")


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table, or a name in the objects of JSON lines.

    Attributes:
        name: as it is written.
        role: sentence; image, which groups captions; label, which judges sentences; or index, which counts rows.
    """

    name: str
    role: Role


def is_neutral(name: str) -> bool:
    """Whether a column of that name holds sentences that neither follow from the first column's nor contradict them."""
    return plain_name(name).rstrip("0123456789") == NEUTRAL


def find_columns(path: Path, names: Sequence[str]) -> tuple[Column, ...]:
    """The columns under these names.

    Args:
        path: of the file, for messages.
        names: as the first line has them.

    Raises:
        UsageError: if a name is none that is known, two are the same, or none is that of sentences.
    """
    columns = []
    for place, name in enumerate(names):
        role = role_of(name, place)
        if role is None:
            raise UsageError(
                f"{path}: the first line has {columns_text(names)}, of which {shorten(name)!r} is no known name of a "
                f"column, expected a header with names such as {', '.join(_SENTENCES[:3])} or {_SENTENCES[-2]}; add "
                "a header, or rename or remove the column"
            )
        columns.append(Column(name, role))
    if len({plain_name(name) for name in names}) < len(names):
        raise UsageError(f"{path}: {columns_text(names)}, of which two have one name; name every column differently")
    if not any(column.role == "sentence" for column in columns):
        raise UsageError(
            f"{path}: {columns_text(names)}, of which none holds sentences, expected one of {', '.join(_SENTENCES)}; "
            "rename a column"
        )
    return tuple(columns)


def role_of(name: str, place: int = 1) -> Role | None:
    """What a column of that name holds, in that place from 0; None where the name says nothing."""
    plain = plain_name(name)
    if not plain:
        return "index" if place == 0 else None  # as pandas writes its index
    known: tuple[tuple[Role, tuple[str, ...]], ...] = (
        ("sentence", _SENTENCES),
        ("image", _IMAGES),
        ("label", _LABELS),
        ("index", _INDEXES),
    )
    for role, names in known:
        if re.fullmatch(rf"({'|'.join(map(plain_name, names))})(\d+|[ab])?", plain):
            return role
    return "label" if plain.endswith("parse") else None


def plain_name(name: str) -> str:
    """Letters and digits alone: case, spaces and how words are joined do not matter."""
    return re.sub(r"[\W_]", "", name.casefold())


def columns_text(names: Sequence[str]) -> str:
    """The columns in a message: `2 columns (sent0, sent1)`; where there is no header, names are whole sentences."""
    return f"{len(names)} column{'s' * (len(names) != 1)} ({', '.join(map(shorten, names))})"


def shorten(name: str) -> str:
    """A cell on one line of at most 40 characters."""
    line = " ".join(name.split())
    return line if len(line) <= 40 else f"{line[:39]}…"
