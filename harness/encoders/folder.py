"""What a model folder says of itself in its JSON files."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import UsageError

_LEGACY_POOLINGS = {"pooling_mode_cls_token": "cls_before_pooler", "pooling_mode_mean_tokens": "avg"}
_POOLING_MODES = {"cls": "cls_before_pooler", "mean": "avg"}


@dataclass(frozen=True, slots=True)
class Dense:
    """A sentence-transformers Dense module: activation(W x + b), applied to the sentence vector."""

    folder: Path
    activation: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """What a folder says of itself: sentence-transformers' in modules.json, one of `bench train` in card.json.

    Attributes:
        transformer: folder of the transformer.
        pooling: in our names.
        max_tokens: sentences are cut there, special tokens included; None if not stated.
        dense: layers after the pooling, in order.
        normalize: whether vectors are scaled to length 1 at the end.
    """

    transformer: Path
    pooling: str
    max_tokens: int | None = None
    dense: tuple[Dense, ...] = ()
    normalize: bool = False


def read_object(path: Path) -> dict[str, Any]:
    found = _read_json(path)
    if not isinstance(found, dict):
        raise UsageError(f"{path}: holds a {type(found).__name__}, expected an object of settings; copy it again")
    return found


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(
            f"{path}: cannot be read ({error.strerror}), expected a configuration; copy it again"
        ) from error
    except ValueError as error:
        raise UsageError(f"{path}: damaged ({error}), expected a configuration in JSON; copy it again") from error


def read_modules(folder: Path) -> Declared:
    """Read a sentence-transformers folder, of any version.

    Raises:
        UsageError: if it has a module that is not Transformer, Pooling, Dense or Normalize, or an unknown pooling.
    """
    transformer, pooling, dense, normalize = folder, None, [], False
    for place, kind in _modules(folder):
        match kind:
            case "Transformer":
                transformer = place
            case "Pooling":
                pooling = _read_pooling(place / "config.json")
            case "Dense":
                settings = read_object(place / "config.json")
                dense.append(Dense(place, settings.get("activation_function", "torch.nn.modules.activation.Tanh")))
            case "Normalize":
                normalize = True
            case _:
                raise UsageError(
                    f"{folder / 'modules.json'}: module {kind} is not supported, expected Transformer, Pooling, Dense "
                    "or Normalize"
                )
    if pooling is None:
        raise UsageError(f"{folder / 'modules.json'}: no Pooling module, expected one after the Transformer")
    return Declared(
        transformer=transformer,
        pooling=pooling,
        max_tokens=_read_max_tokens(transformer),
        dense=tuple(dense),
        normalize=normalize,
    )


def _modules(folder: Path) -> list[tuple[Path, str]]:
    """Folder and kind of each module."""
    path = folder / "modules.json"
    try:
        return [(folder / each["path"], each["type"].rsplit(".", 1)[-1]) for each in _read_json(path)]
    except (KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{path}: not a list of modules ({error}), expected path and type of each; copy it again"
        ) from error


def read_training_card(folder: Path) -> Declared | None:
    """What `bench train` wrote; None where there is no card, or another program's."""
    try:
        card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    ours = isinstance(card, dict) and "fingerprint" in card and isinstance(card.get("pooling"), str)
    return Declared(transformer=folder, pooling=card["pooling"]) if ours else None


def _read_pooling(path: Path) -> str:
    settings = read_object(path)
    mode = settings.get("pooling_mode")
    active = [key for key, on in settings.items() if key.startswith("pooling_mode_") and on is True]
    names = [_POOLING_MODES.get(mode)] if isinstance(mode, str) else [_LEGACY_POOLINGS.get(key) for key in active]
    if len(names) != 1 or names[0] is None:
        raise UsageError(
            f"{path}: pooling {mode or active} is not supported, expected mean or cls; name the "
            f"transformer's own folder with [pooling=...]"
        )
    return names[0]


def _read_max_tokens(transformer: Path) -> int | None:
    """From sentence_bert_config.json, or since version 6 from the tokenizer's configuration."""
    for name, key in (("sentence_bert_config.json", "max_seq_length"), ("tokenizer_config.json", "model_max_length")):
        path = transformer / name
        value = read_object(path).get(key) if path.is_file() else None
        if value is not None and value < 10**6:  # tokenizers write 10^30 for "no limit"
            return int(value)
    return None
