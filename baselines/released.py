"""Encoders that the authors of later papers released: a row of `released.csv` each, with its pooling and length."""

import csv
import io
from collections.abc import Iterator
from dataclasses import asdict
from itertools import groupby
from typing import Any

from baselines.transformers import max_tokens_parameter
from harness.encoders.context import Context
from harness.encoders.protocol import Encoder
from harness.encoders.registry import EncoderEntry, parameter, parameters
from harness.names import Spec
from harness.packaged import packaged

_TABLE = "baselines/released.csv"


def released_encoders() -> tuple[EncoderEntry, ...]:
    """One entry for each method of the table; its backbones are the sizes in which it was released."""
    return tuple(_entry(name, {row["backbone"]: row for row in rows}) for name, rows in _rows())


def _rows() -> Iterator[tuple[str, list[dict[str, str]]]]:
    text = packaged(_TABLE).read_text(encoding="utf-8")
    for name, group in groupby(csv.DictReader(io.StringIO(text, newline="")), key=lambda row: row["name"]):
        yield name, list(group)


def _entry(name: str, rows: dict[str, dict[str, str]]) -> EncoderEntry:
    first = next(iter(rows))
    limit = int(rows[first]["max_tokens"]) if rows[first]["max_tokens"] else None

    @parameters
    class Parameters:
        backbone: str = parameter(first, "which of the released sizes", choices=tuple(rows))
        max_tokens: int | None = max_tokens_parameter(limit)

    def build(spec: Spec, chosen: Any, context: Context) -> Encoder:
        from harness.encoders.checkpoint import find_checkpoint
        from harness.encoders.transformer import build_transformer

        row = rows[chosen.backbone]
        checkpoint = find_checkpoint(row["repository"], offline=context.offline)
        return build_transformer(
            str(spec), name, checkpoint, context, pooling=row["pooling"], parameters=asdict(chosen)
        )

    return EncoderEntry(
        name=name, summary=f"{rows[first]['paper']}; released weights", parameters=Parameters, build=build
    )
