"""Writes a transformer encoder as a folder in Hugging Face's or sentence-transformers' layout, which others load.

The sentence-transformers folder has the dotted module types that every version since 2 reads, the current one too.
"""

import json
import shlex
from pathlib import Path
from shutil import copymode

import torch
from huggingface_hub.repocard import metadata_load
from safetensors.torch import save_file
from yaml import YAMLError  # type: ignore[import-untyped]

from harness import files
from harness.encoders.checkpoint import MAIN, Loaded, load
from harness.encoders.folder import read_training_card
from harness.encoders.forward import Head
from harness.encoders.training import training_facts
from harness.encoders.transformer import TransformerEncoder
from harness.errors import UsageError
from harness.names import Spec

FORMATS = ("huggingface", "sentence-transformers")
POOLING_MODES = {"cls": "cls", "cls_before_pooler": "cls", "avg": "mean"}  # ours -> sentence-transformers'


def export(encoder: TransformerEncoder, output: Path, layout: str) -> Path:
    """Write the folder, with a model card.

    Args:
        encoder: any encoder over one checkpoint.
        output: is made; must be empty or absent.
        layout: one of `FORMATS`. For "huggingface", the pooling cls is `pooler_output`, cls_before_pooler the first
            row of `last_hidden_state`, and so on: the card says which. For "sentence-transformers" the head becomes a
            Dense module, and vectors are those of the encoder.

    Raises:
        UsageError: if the folder is not empty, the layout is unknown, or sentence-transformers has no such pooling.
        DataError: if the disk is full or refuses; nothing is left then.
    """
    pooling = encoder.pooling
    if layout not in FORMATS:
        raise UsageError(f"--format {layout} is unknown; known: {', '.join(FORMATS)}")
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UsageError(
            f"{output}: not empty, expected a new folder to write the model to; name another with --output"
        )
    if layout == "sentence-transformers" and pooling not in POOLING_MODES:
        raise UsageError(
            f"{encoder.card.name}: sentence-transformers has no pooling {pooling}, expected one of "
            f"{', '.join(POOLING_MODES)}; export with --format huggingface"
        )
    checkpoint = encoder.backbone.checkpoint
    if layout == "huggingface" and encoder.backbone.prompt and not checkpoint.include_prompt:
        raise UsageError(
            f"{encoder.card.name}: does not pool its prompt, which no plain folder says; export with --format "
            "sentence-transformers"
        )
    if checkpoint.adapter or checkpoint.truncate_dim or any(m.kind != "Normalize" for m in checkpoint.modules):
        raise UsageError(
            f"{encoder.card.name}: has further layers, an adapter or fewer dimensions, expected a plain checkpoint; "
            "copy its folder instead"
        )
    loaded = load(checkpoint, dtype=torch.float32)
    with files.writing(output), files.draft_folder(output) as draft:
        _write_folder(encoder, loaded, draft, layout)
    return output


def _write_folder(encoder: TransformerEncoder, loaded: Loaded, folder: Path, layout: str) -> None:
    loaded.model.save_pretrained(folder, state_dict=_tensors(loaded))  # type: ignore[operator]
    loaded.tokenizer.save_pretrained(folder)
    if layout == "sentence-transformers":
        card, prompt = encoder.card, encoder.backbone.prompt
        write_modules(
            folder,
            pooling=encoder.pooling,
            width=card.dim,
            head=loaded.head,
            max_tokens=card.max_tokens,
            include_prompt=encoder.backbone.checkpoint.include_prompt,
            normalized=card.normalized,
        )
        if prompt:
            _write(folder / MAIN, {"prompts": {"default": prompt}, "default_prompt_name": "default"})
    (folder / "README.md").write_text(_model_card(encoder, layout), encoding="utf-8")
    for path in folder.rglob("*.safetensors"):
        copymode(folder / "README.md", path)  # safetensors leaves it the owner's alone


def _tensors(loaded: Loaded) -> dict[str, torch.Tensor]:
    """The weights with the trained head as the pooler; without a pooler where it would be random."""
    tensors = {name: value for name, value in loaded.model.state_dict().items() if not name.startswith("pooler.")}
    if loaded.head is not None:
        tensors |= {f"pooler.{name}": value for name, value in loaded.head.state_dict().items()}
    return tensors


def write_modules(  # noqa: PLR0913  what sentence-transformers' files say
    folder: Path,
    *,
    pooling: str,
    width: int,
    head: Head | None,
    max_tokens: int | None,
    include_prompt: bool = True,
    normalized: bool = False,
) -> None:
    """Write sentence-transformers' files beside weights and tokenizer, so that the library does not take the mean.

    Args:
        folder: of the model.
        pooling: one of `POOLING_MODES`.
        width: dimensions of a vector.
        head: becomes a Dense module where the pooling is cls, and is left out otherwise.
        max_tokens: longest input, special tokens included; None: not limited.
        include_prompt: whether the tokens of a prompt are pooled.
        normalized: whether vectors are scaled to length 1.

    Raises:
        OSError, WriteError: if the disk refuses.
    """
    mode = POOLING_MODES[pooling]
    modules = [("", "Transformer"), ("1_Pooling", "Pooling")]
    flags = {
        "pooling_mode_cls_token": mode == "cls",
        "pooling_mode_mean_tokens": mode == "mean",
        "pooling_mode_max_tokens": False,
        "pooling_mode_mean_sqrt_len_tokens": False,
        "include_prompt": include_prompt,
    }
    _write(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": width} | flags)
    if pooling == "cls" and head is not None:
        modules.append(("2_Dense", "Dense"))
        sizes = {"in_features": width, "out_features": width, "bias": True}
        dense = sizes | {"activation_function": "torch.nn.modules.activation.Tanh"}
        _write(folder / "2_Dense" / "config.json", dense)
        tensors = head.dense.state_dict()
        linear = {f"linear.{name}": value.detach().cpu().clone() for name, value in tensors.items()}
        save_file(linear, folder / "2_Dense" / "model.safetensors")
        copymode(folder / "2_Dense" / "config.json", folder / "2_Dense" / "model.safetensors")
    if normalized:
        modules.append((f"{len(modules)}_Normalize", "Normalize"))
        (folder / modules[-1][0]).mkdir(exist_ok=True)
    # A text that is lower-cased is so by the tokenizer, which is written with that rule.
    _write(folder / "sentence_bert_config.json", {"max_seq_length": max_tokens, "do_lower_case": False})
    listed = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(modules)
    ]
    _write(folder / "modules.json", listed)


def _write(path: Path, value: object) -> None:
    files.replace(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


def _model_card(encoder: TransformerEncoder, layout: str) -> str:
    card = encoder.card
    # A plain folder has no place for the pooling, the limit and the prompt, so the command gives them.
    given = {"pooling": encoder.pooling, "max_tokens": card.max_tokens, "prompt": encoder.backbone.prompt or None}
    spec = Spec("hf:FOLDER", {key: value for key, value in given.items() if value is not None})
    use = (
        "    from sentence_transformers import SentenceTransformer\n\n"
        '    SentenceTransformer("FOLDER").encode(["A sentence."])\n'
        if layout == "sentence-transformers"
        else f"    bench run --models {shlex.quote(str(spec))} --suite sts\n"
    )
    source = encoder.backbone.checkpoint.folder
    licence = _licence(source)
    facts = {
        "base model": f"{card.backbone}, sha256 of its weights {card.weights_sha256}",
        "pooling": encoder.pooling,
        "dimensions": card.dim,
        "longest input": f"{card.max_tokens} tokens" if card.max_tokens else "not limited",
        "prompt": repr(encoder.backbone.prompt) if encoder.backbone.prompt else None,
        "trained on": card.trained_on,
        "selected on": card.selected_on,
        "licence": licence or "not stated in the folder of the base model",
    }
    said = read_training_card(source) or {}
    trained = said.get("files", {}).get("model.safetensors") == card.weights_sha256  # else of weights changed since
    if trained:
        facts |= training_facts(said)
    parameters = {name: value for name, value in card.parameters.items() if value is not None}
    settings = {name: f"{value:g}" if isinstance(value, float) else str(value) for name, value in parameters.items()}
    table = "".join(f"| {name} | {value} |\n" for name, value in settings.items())
    tags = "library_name: sentence-transformers\n" if layout == "sentence-transformers" else ""
    tags += f"license: {licence}\n" if licence and not trained else ""
    return (
        f"---\n{tags}pipeline_tag: sentence-similarity\n---\n\n# {card.name}\n\nA sentence encoder; a vector is the "
        f"pooling `{encoder.pooling}` of the last \n\n{use}\n"
        + "".join(f"- {name}: {value}\n" for name, value in facts.items() if value is not None)
        + (f"\n| setting | value |\n| --- | --- |\n{table}" if table else "")
    )


def _licence(folder: Path) -> str | None:
    """What the metadata of the folder's own README.md calls its licence."""
    readme = folder / "README.md"
    if not readme.is_file():
        return None
    try:
        found = metadata_load(readme)
    except (OSError, ValueError, YAMLError):  # anybody's page, which decides nothing
        return None
    licence = (found or {}).get("license")
    return str(licence) if licence else None
