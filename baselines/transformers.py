"""Pretrained encoders as they are: plain ones with the poolings of the paper's tables, and those that were released."""

import csv
import io
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.data.named_texts import folder_named, keep_name
from harness.encoders.context import Context
from harness.encoders.entry import EncoderEntry, parameter, parameters
from harness.encoders.pooling import POOLINGS
from harness.encoders.protocol import Encoder
from harness.errors import UsageError, WriteError
from harness.names import Spec, Value
from harness.packaged import packaged, packaged_folder

if TYPE_CHECKING:
    from harness.encoders.checkpoint import Checkpoint

_BUNDLED = ("tiny", "small")
_TABLE = "baselines/released.csv"  # a row for each released checkpoint, with its pooling and length


def backbone_parameter(default: str = "bert-base-uncased") -> Any:
    """The checkpoint that an encoder starts from."""
    return parameter(default, "tiny or small (bundled), a hub name, or a folder")


def max_tokens_parameter(default: int | None = None) -> Any:
    """Where sentences are cut. Their first and last tokens are special, so a cut below 3 leaves none of their own."""
    return parameter(default, "cut sentences there; none: the checkpoint's own limit", ge=3)


def _pooling_parameter() -> Any:
    # The paper's "first-last avg." rows were measured with the embedding layer as the first (SimCSE #285).
    text = "avg_static_last is what the paper's 56.70 used; avg_first_last gives 60.73"
    return parameter("avg_static_last", text, choices=tuple(POOLINGS))


def find_backbone(name: str, context: Context) -> "Checkpoint":
    """The checkpoint behind a backbone's name: the bundled `tiny` and `small`, or whatever the hub or a folder has.

    Raises:
        UsageError: if nothing of that name can be had, or a folder has changed since cards gave it the name.
        DataError: if a bundled file is damaged.
    """
    from harness.encoders.checkpoint import find_checkpoint, open_checkpoint, place_title

    if name in _BUNDLED:
        return open_checkpoint(packaged_folder(f"baselines/assets/{name}"), name)
    folder = folder_named(name, context.cache_dir)
    if folder is not None and place_title(str(folder)) != name:
        raise UsageError(f"{folder}: has changed since it was named {name}; get its files back, or name the folder")
    return find_checkpoint(str(folder or name), offline=context.offline)


def without_place(spec: Spec, chosen: Any, context: Context) -> tuple[Spec, dict[str, Value | None]]:
    """The specification and the parameters for cards: a backbone's folder by its name and content, not by its path.

    The name stands for the folder as long as the cache is kept, so that a name from a report can be used.
    """
    from harness.encoders.checkpoint import place_title

    place = chosen.backbone
    title = place if place in _BUNDLED else place_title(place)
    if title == place:
        return spec, asdict(chosen)
    with suppress(WriteError):
        keep_name(title, Path(place).expanduser(), title.rpartition("@")[2], context.cache_dir)
    return spec.replaced(backbone=title), {**asdict(chosen), "backbone": title}


@parameters
class BertParameters:
    backbone: str = backbone_parameter()
    pooling: str = _pooling_parameter()
    max_tokens: int | None = max_tokens_parameter()


@parameters
class RobertaParameters:
    backbone: str = backbone_parameter("roberta-base")
    pooling: str = _pooling_parameter()
    max_tokens: int | None = max_tokens_parameter()


@parameters
class ReleasedParameters:
    max_tokens: int | None = max_tokens_parameter()


def _build(spec: Spec, chosen: Any, context: Context) -> Encoder:
    from harness.encoders.transformer import build_transformer

    checkpoint = find_backbone(chosen.backbone, context)
    shown, parameters = without_place(spec, chosen, context)
    return build_transformer(str(shown), spec.name, checkpoint, context, pooling=chosen.pooling, parameters=parameters)


def _released(name: str, repository: str, summary: str) -> EncoderEntry:
    """Weights that somebody trained and released, with the pooling that they were trained with."""

    def build(spec: Spec, chosen: Any, context: Context) -> Encoder:
        from harness.encoders.checkpoint import find_checkpoint
        from harness.encoders.transformer import build_transformer

        checkpoint = find_checkpoint(repository, offline=context.offline)
        return build_transformer(str(spec), name, checkpoint, context, pooling="avg", parameters=asdict(chosen))

    return EncoderEntry(name=name, summary=summary, parameters=ReleasedParameters, build=build)


BERT = EncoderEntry(
    name="bert",
    summary="plain BERT; no training, one of six poolings",
    parameters=BertParameters,
    build=_build,
)
ROBERTA = EncoderEntry(
    name="roberta",
    summary="plain RoBERTa; no training, one of six poolings",
    parameters=RobertaParameters,
    build=_build,
)

SBERT = _released(
    "sbert",
    "sentence-transformers/bert-base-nli-mean-tokens",
    "SBERT of Reimers and Gurevych 2019, trained on NLI; released weights",
)
CT_BERT = _released(
    "ct-bert",
    "Contrastive-Tension/BERT-Base-CT",
    "BERT with Contrastive Tension, Carlsson et al. 2021; released weights",
)
DECLUTR = _released(
    "declutr",
    "johngiorgi/declutr-base",
    "DeCLUTR of Giorgi et al. 2021, a RoBERTa-base; released weights",
)


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
