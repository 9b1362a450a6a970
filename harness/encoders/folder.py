"""Reading of model folders: the modules of sentence-transformers, their settings, prompts and limits.

Every setting of every file is applied, or the folder is refused with its name. What this module describes completely is
computed by our own forward pass (`transformer`). What sentence-transformers has beyond that is marked with the reason
why it has to compute it itself (`library`).
"""

import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from harness import files
from harness.encoders.checkpoint import MAIN, MODULES, SENTENCE_CONFIGS, Checkpoint
from harness.encoders.forward import Module
from harness.encoders.modelfiles import read_json, read_object, refuse_unknown, typed
from harness.encoders.pooling import parse_pooling
from harness.errors import UsageError

_TRANSFORMERS = ("Transformer", "BERT", "RoBERTa", "DistilBERT", "CamemBERT", "ALBERT", "XLMRoBERTa", "XLNet", "T5")
_AFTER = ("Dense", "LayerNorm", "Normalize", "Dropout")
# Modules that sentence-transformers computes itself.
_LIBRARY = (
    "StaticEmbedding",
    "WordEmbeddings",
    "BoW",
    "CNN",
    "LSTM",
    "WeightedLayerPooling",
    "WordWeights",
    "Router",
    "Asym",
)
_SPARSE = ("MLMTransformer", "SpladePooling", "SparseAutoEncoder", "SparseStaticEmbedding", "CSRSparsity", "IDF")
_POOLING_MODES = {  # of sentence-transformers -> ours, in the order in which it concatenates
    "cls": "cls_before_pooler",
    "max": "max",
    "mean": "avg",
    "mean_sqrt_len_tokens": "sqrt_mean",
    "weightedmean": "weighted_mean",
    "lasttoken": "last_token",
}
_OLD_POOLING_KEYS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_VECTOR = "sentence_embedding"
_SIMILARITIES = ("cosine", "dot", "euclidean", "manhattan")
_MAIN_KEYS = ("__version__", "model_type", "prompts", "default_prompt_name", "similarity_fn_name", "truncate_dim")
_TEXT_ALONE = {"text": {"method": "forward", "method_output_name": "last_hidden_state"}}
_SENTENCE_DEFAULTS: dict[str, tuple[object, ...]] = {  # settings of the Transformer module at the values of a plain one
    "transformer_task": ("feature-extraction",),
    "modality_config": (_TEXT_ALONE,),
    "module_output_name": ("token_embeddings",),
    "backend": ("torch",),
}
_SENTENCE_LIBRARY = (
    *("transformer_task", "modality_config", "module_output_name", "processing_kwargs", "unpad_inputs"),
    *("model_args", "model_kwargs", "config_args", "config_kwargs", "tokenizer_args", "processor_kwargs"),
)


def read_folder(folder: Path, name: str, *, revision: str | None = None, pooling_is_given: bool = False) -> Checkpoint:
    """Read what a model folder says of itself.

    Where the user names a pooling, one that is declared and unknown is no reason to refuse.

    Raises:
        UsageError: naming the file and the setting that is damaged or not understood.
    """
    card = read_training_card(folder)
    if (folder / MODULES).is_file() and card is None:
        found = _read_modules(folder, pooling_is_given)
    else:
        found = _read_main(folder / MAIN) | _read_sentence_config(folder, tokenizers_limit=False)
        found |= {"pooling": str(card["pooling"]) if card else None, "adapter": find_adapter(folder)}
    transformer = found.setdefault("transformer", folder)
    return Checkpoint(name=name, folder=folder, revision=revision, tokenizer=transformer, **found)


def find_adapter(folder: Path) -> Path | None:
    """The folder itself if it holds an adapter."""
    return folder if (folder / "adapter_config.json").is_file() else None


def read_training_card(folder: Path) -> dict[str, Any] | None:
    """What `bench train` wrote into `card.json`; None where there is no card, or another program's.

    Its pooling is what modules.json says to sentence-transformers; a modules.json that has changed since says
    something else, and then the card is not believed.
    """
    try:
        card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    ours = isinstance(card, dict) and "fingerprint" in card and isinstance(card.get("pooling"), str)
    modules = folder / MODULES
    if not ours or (modules.is_file() and card.get("modules") != files.sha256(modules)):
        return None
    return card  # type: ignore[no-any-return]


def _read_modules(root: Path, pooling_is_given: bool) -> dict[str, Any]:
    modules = _list_modules(root)
    found = _read_main(root / MAIN) | {"declares_modules": True}
    kinds = [kind for _, kind in modules]
    if kinds[0] not in _TRANSFORMERS or "Pooling" not in kinds or kinds.index("Pooling") != 1:
        odd = next((kind for kind in kinds if kind in _LIBRARY), None)
        if odd is None:
            raise UsageError(f"{root / MODULES}: {' and '.join(kinds)}, expected a Transformer and a Pooling module")
        return found | {"library": f"the module {odd}"}
    transformer = modules[0][0]
    # The first reason for the library is the one that is told.
    found = _read_sentence_config(transformer) | found
    found |= _read_pooling(modules[1][0] / "config.json", pooling_is_given)
    if not found["include_prompt"] and "cls_before_pooler" in (found.get("pooling") or "").split("+"):
        found.setdefault("library", "the first token after a prompt")
    layers: list[Module] = []
    for place, kind in modules[2:]:
        layer = _read_module(place, kind)
        if layer is None:
            found.setdefault("library", f"the module {kind}")
        elif layer.kind != "Dropout":  # which does nothing outside training
            layers.append(layer)
    return found | {"transformer": transformer, "modules": tuple(layers), "adapter": find_adapter(transformer)}


def _list_modules(root: Path) -> list[tuple[Path, str]]:
    """Folder and kind of each module, in the order of the list, which is the order of computation.

    Raises:
        UsageError: if a module is unknown, sparse, of a cross encoder, or needs code of its own.
    """
    path = root / MODULES
    found = read_json(path)
    try:
        entries = [(str(each["path"]), str(each["type"])) for each in found]
    except (KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{path}: not a list of modules ({error}), expected path and type of each; copy it again"
        ) from error
    if not entries:
        raise UsageError(f"{path}: lists no module, expected a Transformer and a Pooling module; copy it again")
    for each in found:
        refuse_unknown(path, each, ("idx", "name", "path", "type", "kwargs"))
    return [(_inside(root, path, place), _known_kind(path, kind)) for place, kind in entries]


def _inside(root: Path, path: Path, place: str) -> Path:
    pure = PurePosixPath(place.replace("\\", "/"))
    if pure.is_absolute() or ".." in pure.parts:
        raise UsageError(f"{path}: the module path {place!r} leaves the folder, expected one in it")
    return root / pure


def _known_kind(path: Path, kind: str) -> str:
    name = kind.rpartition(".")[2]
    if "cross_encoder" in kind or name in ("LogitScore", "CrossEncoder"):
        raise UsageError(f"{path}: {name} makes this a cross encoder, expected an encoder of single sentences")
    if name in _SPARSE or "sparse_encoder" in kind:
        raise UsageError(f"{path}: {name} makes this a sparse encoder, expected one of dense vectors")
    if not kind.startswith("sentence_transformers."):
        raise UsageError(f"{path}: the module {kind} needs code of its own, which is never run")
    if name not in (*_TRANSFORMERS, "Pooling", *_AFTER, *_LIBRARY):
        raise UsageError(
            f"{path}: module {name} is not supported, expected Transformer, Pooling, {', '.join((*_AFTER, *_LIBRARY))}"
        )
    return name


def _refuse_other_models(path: Path) -> dict[str, Any]:
    settings = read_object(path) if path.is_file() else {}
    match settings.get("model_type", "SentenceTransformer"):
        case "SentenceTransformer":
            return settings
        case "CrossEncoder":
            raise UsageError(f"{path}: model_type is CrossEncoder, a cross encoder; expected an encoder of sentences")
        case "SparseEncoder":
            raise UsageError(f"{path}: model_type is SparseEncoder, a sparse encoder; expected one of dense vectors")
        case other:
            raise UsageError(f"{path}: model_type {other} is not supported, expected SentenceTransformer")


def _read_main(path: Path) -> dict[str, Any]:
    """Prompts, the default one, and the number of dimensions kept. The similarity is the protocol's: cosine."""
    settings = _refuse_other_models(path)
    refuse_unknown(path, settings, (*_MAIN_KEYS, "requirements"))
    prompts = typed(path, settings, "prompts", dict, "an object of prompts by name") or {}
    for name, text in prompts.items():
        if not isinstance(text, str | None):
            raise UsageError(f"{path}: the prompt {name} is {text!r}, expected a text; correct the file")
    prompts = {name: text or "" for name, text in prompts.items()}
    chosen = typed(path, settings, "default_prompt_name", str, "the name of a prompt")
    if chosen and chosen not in prompts:
        raise UsageError(
            f"{path}: the default prompt {chosen!r} is not among the prompts ({', '.join(prompts) or 'there are none'})"
        )
    similarity = settings.get("similarity_fn_name")
    if similarity is not None and similarity not in _SIMILARITIES:
        raise UsageError(f"{path}: similarity_fn_name {similarity!r} is unknown, expected {', '.join(_SIMILARITIES)}")
    dim = typed(path, settings, "truncate_dim", int, "a number of dimensions")
    if dim is not None and dim < 1:
        raise UsageError(f"{path}: truncate_dim is {dim}, expected 1 or more; correct the file")
    needs = {"library": "the requirements on versions"} if settings.get("requirements") else {}
    return {"prompts": prompts, "prompt": prompts.get(chosen or "", ""), "truncate_dim": dim, **needs}


def _read_sentence_config(transformer: Path, *, tokenizers_limit: bool = True) -> dict[str, Any]:
    """The limit and the lower case of the Transformer module; since version 6 the limit is the tokenizer's."""
    path = next((transformer / name for name in SENTENCE_CONFIGS if (transformer / name).is_file()), None)
    settings = read_object(path) if path else {}
    path = path or transformer / SENTENCE_CONFIGS[0]
    refuse_unknown(path, settings, ("max_seq_length", "do_lower_case", "backend", *_SENTENCE_LIBRARY))
    lower = typed(path, settings, "do_lower_case", bool, "true or false") or False
    odd = [
        key
        for key, value in settings.items()
        if key in (*_SENTENCE_LIBRARY, "backend")
        and value not in (None, False, {}, [])
        and value not in _SENTENCE_DEFAULTS.get(key, ())
    ]
    needs = {"library": f"the setting {odd[0]}"} if odd else {}
    return {"max_tokens": _read_max_tokens(path, settings, tokenizers_limit), "lower_case": lower, **needs}


def _read_max_tokens(path: Path, settings: Mapping[str, Any], tokenizers_limit: bool) -> int | None:
    limit: int | None = typed(path, settings, "max_seq_length", int, "a number of tokens")
    if limit is None and tokenizers_limit:
        path = path.with_name("tokenizer_config.json")
        found = read_object(path).get("model_max_length") if path.is_file() else None
        # Tokenizers write 10^30 for "no limit", some as a decimal number.
        limit = int(found) if isinstance(found, int | float) and 0 < found < 10**6 else None
    if limit is not None and limit < 3:
        raise UsageError(f"{path}: sentences are cut after {limit} tokens, expected 3 or more; correct the file")
    return limit


def _read_pooling(path: Path, pooling_is_given: bool) -> dict[str, Any]:
    settings = read_object(path)
    known = ("pooling_mode", "word_embedding_dimension", "embedding_dimension", "include_prompt", *_OLD_POOLING_KEYS)
    include = typed(path, settings, "include_prompt", bool, "true or false")
    declared: dict[str, Any] = {"include_prompt": include is not False}
    if not pooling_is_given:
        refuse_unknown(path, settings, known)
    modes = settings.get("pooling_mode")
    if modes is None:
        modes = [mode for key, mode in _OLD_POOLING_KEYS.items() if settings.get(key)] or ["mean"]
    modes = [modes] if isinstance(modes, str) else modes
    if not isinstance(modes, list) or not modes or not all(mode in _POOLING_MODES for mode in modes):
        if pooling_is_given:
            return declared
        raise UsageError(f"{path}: pooling {modes} is not supported, expected {', '.join(_POOLING_MODES)}")
    return declared | {"pooling": "+".join(parse_pooling("+".join(_POOLING_MODES[mode] for mode in modes)))}


def _read_module(place: Path, kind: str) -> Module | None:
    """A layer after the pooling; None where the library has to compute it."""
    path = place / "config.json"
    settings = read_object(path) if path.is_file() else {}
    if kind == "Dense":
        return _read_dense(place, path, settings)
    if kind == "LayerNorm":
        refuse_unknown(path, settings, ("dimension",))
        return Module(kind=kind, folder=place, width=typed(path, settings, "dimension", int, "a width"))
    if kind in ("Normalize", "Dropout"):
        refuse_unknown(path, settings, ("module_input_name", "module_output_name", "dropout"))
        return Module(kind=kind, folder=place) if _acts_on_vectors(settings) else None
    return None


def _read_dense(place: Path, path: Path, settings: Mapping[str, Any]) -> Module | None:
    known = ("in_features", "out_features", "bias", "activation_function", "use_residual")
    refuse_unknown(path, settings, (*known, "module_input_name", "module_output_name"))
    width = typed(path, settings, "out_features", int, "a width")
    activation = settings.get("activation_function", "torch.nn.modules.activation.Tanh")
    if not str(activation).startswith("torch.nn."):
        raise UsageError(f"{path}: activation {activation} is not supported, expected one of torch.nn")
    if width is None:
        raise UsageError(f"{path}: no out_features, expected the width of the layer; copy the file again")
    if settings.get("use_residual") or not _acts_on_vectors(settings):
        return None
    bias = typed(path, settings, "bias", bool, "true or false")
    return Module(kind="Dense", folder=place, width=width, activation=str(activation), bias=bias is not False)


def _acts_on_vectors(settings: Mapping[str, Any]) -> bool:
    names = (settings.get("module_input_name"), settings.get("module_output_name"))
    return all(name in (None, _VECTOR) for name in names)
