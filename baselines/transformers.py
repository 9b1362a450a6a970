"""Pretrained encoders as they are: plain ones with the poolings of the paper's tables, and those that were released."""

import csv
import io
from collections.abc import Iterator, Mapping
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


def find_backbone(name: str, context: Context) -> "Checkpoint":
    """The checkpoint behind a backbone's name: the bundled `tiny` and `small`, or whatever the hub or a folder has.

    Raises:
        UsageError: if nothing of that name can be had, or a folder has changed since cards gave it the name.
        DataError: if a bundled file is damaged.
    """
    from harness.encoders.repository import find_checkpoint, open_checkpoint, place_title

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
    from harness.encoders.repository import place_title

    place = chosen.backbone
    title = place if place in _BUNDLED else place_title(place)
    if title == place:
        return spec, asdict(chosen)
    with suppress(WriteError):
        keep_name(title, Path(place).expanduser(), title.rpartition("@")[2], context.cache_dir)
    return spec.replaced(backbone=title), {**asdict(chosen), "backbone": title}


def _plain(name: str, default: str, summary: str) -> EncoderEntry:
    """Pretrained weights with nothing trained or fitted on top."""

    @parameters
    class Parameters:
        backbone: str = backbone_parameter(default)
        # The paper's "first-last avg." rows were measured with the embedding layer as the first (SimCSE #285).
        pooling: str = parameter(
            "avg_static_last",
            "avg_static_last is what the paper's 56.70 used; avg_first_last gives 60.73",
            choices=tuple(POOLINGS),
        )
        max_tokens: int | None = max_tokens_parameter()

    def build(spec: Spec, chosen: Parameters, context: Context) -> Encoder:
        from harness.encoders.transformer import build_transformer

        checkpoint = find_backbone(chosen.backbone, context)
        shown, given = without_place(spec, chosen, context)
        return build_transformer(str(shown), name, checkpoint, context, pooling=chosen.pooling, parameters=given)

    return EncoderEntry(name=name, summary=summary, parameters=Parameters, build=build)


PLAIN = (
    _plain("bert", "bert-base-uncased", "plain BERT; no training, one of six poolings"),
    _plain("roberta", "roberta-base", "plain RoBERTa; no training, one of six poolings"),
)


@parameters
class _OneSize:
    max_tokens: int | None = max_tokens_parameter()


def _released(
    name: str, paper: str, weights: Mapping[str | None, tuple[str, str]], parameters: type[Any] = _OneSize
) -> EncoderEntry:
    """Weights that somebody trained and released.

    Args:
        name: of the method.
        paper: where it is from.
        weights: the repository and the pooling that it was trained with, by backbone; None: there is only one.
        parameters: `max_tokens`, and `backbone` where there are several.
    """

    def build(spec: Spec, chosen: Any, context: Context) -> Encoder:
        from harness.encoders.repository import find_checkpoint
        from harness.encoders.transformer import build_transformer

        given = asdict(chosen)
        repository, pooling = weights[given.get("backbone")]
        checkpoint = find_checkpoint(repository, offline=context.offline)
        return build_transformer(str(spec), name, checkpoint, context, pooling=pooling, parameters=given)

    return EncoderEntry(name=name, summary=f"{paper}; released weights", parameters=parameters, build=build)


_OF_THE_PAPER = (
    ("sbert", "SBERT of Reimers and Gurevych 2019, trained on NLI", "sentence-transformers/bert-base-nli-mean-tokens"),
    ("ct-bert", "BERT with Contrastive Tension, Carlsson et al. 2021", "Contrastive-Tension/BERT-Base-CT"),
    ("declutr", "DeCLUTR of Giorgi et al. 2021, a RoBERTa-base", "johngiorgi/declutr-base"),
)
RELEASED = tuple(_released(name, paper, {None: (repository, "avg")}) for name, paper, repository in _OF_THE_PAPER)


def released_encoders() -> Iterator[EncoderEntry]:
    """One entry for each method of the table; its backbones are the sizes in which it was released."""
    text = packaged(_TABLE).read_text(encoding="utf-8")
    for name, group in groupby(csv.DictReader(io.StringIO(text, newline="")), key=lambda row: row["name"]):
        rows = {row["backbone"]: row for row in group}
        weights = {backbone: (row["repository"], row["pooling"]) for backbone, row in rows.items()}
        first = next(iter(rows.values()))
        yield _released(name, first["paper"], weights, _sizes(tuple(rows), first["max_tokens"]))


def _sizes(backbones: tuple[str, ...], limit: str) -> type[Any]:
    @parameters
    class Parameters:
        backbone: str = parameter(backbones[0], "which of the released sizes", choices=backbones)
        max_tokens: int | None = max_tokens_parameter(int(limit) if limit else None)

    return Parameters
