"""The model of a checkpoint: what config.json configures, and the network with every tensor of the weights in place.

A setting counts as understood if the library's configuration class declares it or takes it by an older name, if the
code of the model names it, or if it is on the list of settings that change no state of an encoder. Anything else but
null is refused: the library keeps unknown settings as attributes and never says that nothing reads them. Likewise a
tensor that goes nowhere is refused, and one that is missing.
"""

import importlib
import inspect
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from harness.encoders.forward import Head
from harness.encoders.modelfiles import parsing, read_object, read_tensors, refuse_unknown
from harness.errors import EncoderError, UsageError

# Settings of training, generation and bookkeeping: none of them changes what an encoder in evaluation mode computes.
_HARMLESS = frozenset(
    "_attn_implementation _attn_implementation_autoset _attn_implementation_internal _commit_hash "
    "_experts_implementation _name_or_path _num_labels afn architectures attention_dropout attn_implementation "
    "bad_words_ids begin_suppress_tokens bos_token_id classifier_dropout cls_token_id cross_attention_hidden_size "
    "decoder_start_token_id directionality diversity_penalty do_sample down_scale_factor dtype early_stopping "
    "encoder_no_repeat_ngram_size eos_token_id exponential_decay_length_penalty export_model_type finetuning_task "
    "forced_bos_token_id forced_eos_token_id fp16 gap_size gradient_checkpointing hidden_dropout id2label "
    "initializer_factor initializer_range is_encoder_decoder keys_to_ignore_at_inference label2id language "
    "layerdrop length_penalty mask_token_id max_length min_length model_max_length model_parallel model_type "
    "n_ctx n_special net_structure_type no_repeat_ngram_size num_beam_groups num_beams num_labels "
    "num_memory_blocks num_return_sequences output_attentions output_hidden_states output_past output_scores "
    "pad_token_id pooler_fc_size pooler_num_attention_heads pooler_num_fc_layers pooler_size_per_head pooler_type "
    "predict_special_tokens prefix problem_type remove_invalid_values repetition_penalty return_dict "
    "return_dict_in_generate sep_token_id summary_activation summary_first_dropout summary_last_dropout "
    "summary_proj_to_labels summary_type summary_use_proj suppress_tokens task_specific_params temperature "
    "tf_legacy_loss tie_encoder_decoder tie_weights_ tie_word_embeddings tokenizer_class top_k top_p torch_dtype "
    "torchscript transformers_version type typical_p unk_token_id unsloth_fixed unsloth_version use_bfloat16 "
    "use_cache vocab_file cache_implementation classif_dropout init_std mem_len reuse_len "
    "_sliding_window_pattern dropatt eos_token_ids reference_compile repad_logits_with_grad save_step "
    "xla_device".split()
)
# Sizes under a name that a kind of model does not use: the shapes of the tensors show those that it does.
_SIZES = frozenset(
    "hidden_size num_hidden_layers num_attention_heads intermediate_size max_position_embeddings vocab_size "
    "n_positions seq_length sliding_window_size offset_alibi".split()
)
# Settings that older libraries wrote at the only value that today's library computes.
_DEFAULTS: dict[str, tuple[object, ...]] = {
    "position_embedding_type": ("absolute",),
    "chunk_size_feed_forward": (0,),
    "add_bias_logits": (False,),
    "add_final_layer_norm": (False,),
    "ignore_attention_mask": (False,),
    "is_decoder": (False,),
    "normalize_before": (False,),
    "pruned_heads": ({},),
    "skip_bias_add_qkv": (False,),
    "use_mrope": (False,),
    "bart.static_position_embeddings": (False,),  # of one kind alone
    "mbart.static_position_embeddings": (False,),
    "marian.static_position_embeddings": (True,),
    "falcon.apply_residual_connection_post_layernorm": (False,),
    "attention_mode": ("longformer",),
    "attention_softmax_in_fp32": (True,),
    "masked_softmax_fusion": (True,),
    "normalize_embedding": (True,),
    "skip_bias_add": (True,),
    "untie_r": (True,),
    "esm.hidden_act": ("gelu",),
    "gemma2.hidden_act": ("gelu_pytorch_tanh",),
    "modernbert.layer_norm_eps": (1e-05,),
}
_PAIRS = ("ForSequenceClassification",)
# Layers over the encoder's states that pretraining, a classifier or SimCSE's training leaves in a file: none of them
# has a part in the states. `mlp` is the head of SimCSE and its kin, which the pooling cls uses.
_HEADS = re.compile(
    r"(cls|lm_head|mlm_head|mlp|generator|discriminator|predictions|generator_predictions|generator_lm_head|discriminator_predictions|"
    r"vocab_transform|vocab_layer_norm|vocab_projector|classifier|pre_classifier|score|qa_outputs|sop_classifier|"
    r"pred_layer|lm_loss|proj_out|entity_predictions|mask_lm|nsp_cls|sequence_summary|logits_proj|decoder_bias)"
    r"(\.|$)|final_logits_bias$"
)
# Numbers that follow from the configuration and that older versions of the library stored.
_BUFFERS = re.compile(
    r"(^|\.)(position_ids|token_type_ids|inv_freq|attn\.bias|attn\.masked_bias|attention\.bias|attention\.masked_bias|"
    r"embed_positions\.weights|num_batches_tracked)$"
)
_DECODER = re.compile(r"(model\.)?(decoder|encoder_attn)\.|(model\.)?shared\.|lm_head\.")
_OPTIONAL = ("pooler", "position_ids")  # a pooler that is missing is no head; positions are counted
_MERGEABLE = ("LORA", "ADALORA", "LOHA", "LOKR", "IA3", "OFT", "BOFT", "VERA", "HRA", "FOURIERFT", "LN_TUNING")


@dataclass(frozen=True, slots=True)
class Configuration:
    """What the settings of a model say before its weights are there.

    Attributes:
        library: the library's own configuration object.
        width: d, the length of a token's last state.
        positions: the longest input in tokens, special tokens included; None where the model has no limit.
        has_decoder: whether the checkpoint is of an encoder-decoder, of which the encoder alone is used.
    """

    library: Any
    width: int
    positions: int | None
    has_decoder: bool

    @property
    def kind(self) -> str:
        """The `model_type`."""
        return str(self.library.model_type)

    @property
    def encodes_text(self) -> bool:
        """Whether the library has a class for the encoder alone, as it has for T5."""
        from transformers import AutoModelForTextEncoding

        return _model_class(self.library) is AutoModelForTextEncoding


def read_configuration(folder: Path, *, declares_modules: bool) -> Configuration:
    """Read and check `config.json`; a modules.json that declares modules says that this is an encoder of sentences.

    Raises:
        UsageError: if the folder needs code of its own, is quantized, classifies pairs, is of an unknown kind, or has a
            setting that is not understood.
        EncoderError: if the library cannot read the settings.
    """
    path = folder / "config.json"
    raw = read_object(path)
    kind = _check_kind(path, raw, declares_modules)
    library = _library_configuration(path, kind)
    understood = _HARMLESS | _SIZES | _known_settings(library.__class__)
    defaults = {k for k, v in raw.items() if v in (*_DEFAULTS.get(k, ()), *_DEFAULTS.get(f"{kind}.{k}", ()))}
    refuse_unknown(path, raw, understood | defaults)
    has_decoder = bool(getattr(library, "is_encoder_decoder", False))  # before a model is built, which may change it
    return Configuration(library, _width(path, library), _positions(path, library), has_decoder)


def _check_kind(path: Path, raw: dict[str, Any], declares_modules: bool) -> str:
    """The `model_type` of a model that can be loaded and encodes single sentences."""
    kind = raw.get("model_type")
    if raw.get("auto_map"):
        raise UsageError(
            f"{path}: auto_map names code of its own, which is never run; remove auto_map if the library's own class "
            f"for {kind} computes the same"
        )
    if not isinstance(kind, str):
        raise UsageError(f"{path}: no model_type, expected the kind of the model; copy the file again")
    if raw.get("quantization_config"):
        raise UsageError(f"{path}: quantization_config: quantized weights are not supported, expected the original")
    for name in raw.get("architectures") or ():
        if str(name).endswith(_PAIRS) and not declares_modules:
            raise UsageError(
                f"{path}: {name} is a cross encoder or another classifier, expected an encoder of single sentences"
            )
    return kind


def _library_configuration(path: Path, kind: str) -> Any:
    from transformers import AutoConfig
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    if kind not in CONFIG_MAPPING:
        raise UsageError(
            f"{path}: model_type {kind} is unknown to this version of transformers and needs code of its own, which is "
            "never run; a newer version may know it"
        )
    with parsing(f"{path}: cannot be read as settings of {kind}"):
        return AutoConfig.from_pretrained(str(path.parent), local_files_only=True, trust_remote_code=False)


@cache
def _known_settings(kind: type) -> frozenset[str]:
    """Names that the configuration class and its parents declare or take, and all names in the code of the model."""
    declared = set(kind().to_dict()) | set(getattr(kind, "attribute_map", {}))
    declared |= set(inspect.signature(kind.__init__).parameters)  # type: ignore[misc]
    try:
        module = importlib.import_module(kind.__module__.replace("configuration_", "modeling_"))
        code = inspect.getsource(module)
    except (ImportError, OSError):
        code = ""
    named = {name for pair in re.findall(r"config\.(\w+)|config, \"(\w+)\"", code) for name in pair if name}
    if "create_causal_mask" in code and "is_decoder" not in code:  # the mask of a decoder reads one more
        named.add("is_causal")
    parents = {each.__module__ for each in kind.__mro__ if each.__module__.startswith("transformers.")}
    for parent in parents - {"transformers.configuration_utils"}:
        code = inspect.getsource(importlib.import_module(parent))
        named |= set(re.findall(r"kwargs\.(?:pop|get)\(\s*\"(\w+)\"", code))  # such as rope_theta
    return frozenset(declared | named)


def _width(path: Path, library: Any) -> int:
    width = getattr(library.get_text_config(), "hidden_size", None)
    if not isinstance(width, int) or isinstance(width, bool) or width < 1:
        raise UsageError(f"{path}: no hidden_size, expected the width of the model")
    return width


def _positions(path: Path, library: Any) -> int | None:
    """The model itself is asked, without weights, whether its positions start behind a padding index."""
    try:
        limit = getattr(library.get_text_config(), "max_position_embeddings", None)
    except NotImplementedError:  # the kinds that have no limit say so
        return None
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
        return None
    with parsing(f"{path}: no model can be built of these settings"), torch.device("meta"):
        model = _model_class(library).from_config(library)
    for name, module in model.named_modules():
        padding = getattr(module, "padding_idx", None)
        if name.rpartition(".")[2] == "position_embeddings" and isinstance(padding, int):
            return limit - padding - 1
    return limit


def _model_class(library: Any) -> Any:
    """The library's factory for a kind of model: of the encoder alone where it has a class for that."""
    from transformers import AutoModel, AutoModelForTextEncoding
    from transformers.models.auto.modeling_auto import MODEL_FOR_TEXT_ENCODING_MAPPING

    return AutoModelForTextEncoding if type(library) in MODEL_FOR_TEXT_ENCODING_MAPPING else AutoModel


def load_model(
    folder: Path, configuration: Configuration, weights: Sequence[Path], dtype: torch.dtype, adapter: Path | None
) -> tuple[Any, Head | None]:
    """The encoder of a checkpoint, with its adapter merged, and the trained head over CLS.

    Raises:
        EncoderError: if tensors are missing, are of another size, or go nowhere. What the library raises passes.
    """
    with _without_adapter(folder, weights, adapter) as place:
        model, report = _model_class(configuration.library).from_pretrained(
            str(place),
            dtype=dtype,
            output_loading_info=True,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=weights[0].suffix == ".safetensors",
            ignore_mismatched_sizes=True,
        )
    _check_report(folder, configuration, report)
    has_pooler = not any("pooler" in key for key in report["missing_keys"])
    if configuration.has_decoder and hasattr(model, "get_encoder"):
        model = model.get_encoder()
    if adapter is not None:
        model = _merge_adapter(model, adapter)
    model.config.use_cache = False  # nothing is generated
    model.config.return_dict = True
    return model, _find_head(model, weights, has_pooler=has_pooler)


@contextmanager
def _without_adapter(folder: Path, weights: Sequence[Path], adapter: Path | None) -> Iterator[Path]:
    """The folder as it is seen without adapter files, which the library would apply where peft happens to be there."""
    if adapter is None or adapter != folder:
        yield folder
        return
    with TemporaryDirectory() as place:
        for path in (folder / "config.json", *weights, *folder.glob("*.index.json")):
            if path.is_file():
                (Path(place) / path.name).symlink_to(path.resolve())
        yield Path(place)


def _check_report(folder: Path, configuration: Configuration, report: dict[str, Any]) -> None:
    for key, found, expected in sorted(report["mismatched_keys"]):
        raise EncoderError(
            f"{folder}: the tensor {key} has the shape {tuple(found)}, expected {tuple(expected)} by config.json"
        )
    decoder = _DECODER.match if configuration.has_decoder else lambda key: None  # which is not used
    missing = sorted(
        key for key in report["missing_keys"] if not any(part in key for part in _OPTIONAL) and not decoder(key)
    )
    if missing:
        raise EncoderError(
            f"{folder}: the weights lack {len(missing)} tensors of the configuration, first {missing[0]}; "
            "they would stay random"
        )
    unused = sorted(
        key
        for key in report["unexpected_keys"]
        if not (_HEADS.match(key) or _BUFFERS.search(key) or "pooler" in key.split(".") or decoder(key))
    )
    if unused:
        raise EncoderError(
            f"{folder}: the configuration has no place for {len(unused)} tensors of the weights, first {unused[0]}; "
            "without them the vectors would be another model's"
        )


def _find_head(model: nn.Module, weights: Sequence[Path], *, has_pooler: bool) -> Head | None:
    """The MLP of an unconverted SimCSE checkpoint, or else the pooler; None if neither is in the weights."""
    tensors: dict[str, Tensor] = {}
    for path in weights:
        tensors |= read_tensors(path, prefixes=("mlp.dense.",))
    if tensors:
        return Head(tensors["mlp.dense.weight"], tensors["mlp.dense.bias"])
    pooler = getattr(model, "pooler", None)
    layer = pooler if isinstance(pooler, nn.Linear) else getattr(pooler, "dense", None)
    if not has_pooler or not isinstance(layer, nn.Linear):
        return None
    activations = [getattr(pooler, "activation", None), getattr(model, "pooler_activation", None)]
    if any(isinstance(each, nn.Module) and not isinstance(each, nn.Tanh) for each in activations):
        return None  # a head of another form than tanh(W x + b)
    return Head(layer.weight, layer.bias)


def _merge_adapter(model: Any, folder: Path) -> Any:
    """The model with the adapter's changes in its own weights, so that it computes at the base model's speed.

    Raises:
        UsageError: if the adapter is of a kind that cannot be merged, or peft is not installed.
        EncoderError: if tensors of the adapter go nowhere or are missing.
    """
    path = folder / "adapter_config.json"
    settings = read_object(path)
    kind = str(settings.get("peft_type"))
    if kind not in _MERGEABLE:
        raise UsageError(f"{path}: an adapter of the kind {kind} cannot be merged into the weights, expected LORA")
    if find_spec("peft") is None:
        raise UsageError(f"{path}: applying this adapter needs the package peft; install simcse-bench[adapters]")
    from peft import PeftConfig, PeftModel, get_peft_model_state_dict

    refuse_unknown(path, settings, {one.name for one in fields(PeftConfig.from_pretrained(str(folder)))})
    tensors = _read_adapter(folder)
    wrapped = PeftModel.from_pretrained(model, str(folder), local_files_only=True)
    applied = get_peft_model_state_dict(wrapped)
    odd = sorted(tensors.keys() ^ applied.keys())
    if odd:
        what = "has no place in the base model" if odd[0] in tensors else "is missing"
        raise EncoderError(f"{folder}: {len(odd)} tensors of the adapter do not fit, first {odd[0]}, which {what}")
    return wrapped.merge_and_unload()


def _read_adapter(folder: Path) -> dict[str, Any]:
    for name in ("adapter_model.safetensors", "adapter_model.bin"):
        if (folder / name).is_file():
            return dict(read_tensors(folder / name))
    raise EncoderError(f"{folder}: an adapter without its weights, expected adapter_model.safetensors; copy it there")
