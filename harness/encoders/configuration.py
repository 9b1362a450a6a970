"""config.json of a checkpoint: what it configures, and what in it nobody would apply.

A setting counts as understood if the library's configuration class declares it or takes it by an older name, if the
code of the model names it, or if it is on the list of settings that change no state of an encoder. Anything else but
null is refused: the library keeps unknown settings as attributes and never says that nothing reads them.
"""

import importlib
import inspect
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from harness.encoders.jsonfiles import read_object, refuse_unknown
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

        return model_class(self.library) is AutoModelForTextEncoding


def read_configuration(folder: Path, *, declares_modules: bool) -> Configuration:
    """Read and check `config.json`.

    Args:
        folder: of the transformer.
        declares_modules: whether a modules.json says that this is an encoder of sentences.

    Raises:
        UsageError: if the folder needs code of its own, is quantized, classifies pairs, is of an unknown kind, or has a
            setting that is not understood.
        EncoderError: if the library cannot read the settings.
    """
    path = folder / "config.json"
    raw = read_object(path)
    _refuse_code(path, raw)
    kind = raw.get("model_type")
    if not isinstance(kind, str):
        raise UsageError(f"{path}: no model_type, expected the kind of the model; copy the file again")
    if raw.get("quantization_config"):
        raise UsageError(f"{path}: quantization_config: quantized weights are not supported, expected the original")
    if not declares_modules:
        _refuse_pairs(path, raw)
    library = _library_configuration(path, kind)
    understood = _HARMLESS | _SIZES | _known_settings(library.__class__)
    defaults = {k for k, v in raw.items() if v in (*_DEFAULTS.get(k, ()), *_DEFAULTS.get(f"{kind}.{k}", ()))}
    refuse_unknown(path, raw, understood | defaults)
    has_decoder = bool(getattr(library, "is_encoder_decoder", False))  # before a model is built, which may change it
    return Configuration(library, _width(path, library), _positions(path, library), has_decoder)


def _refuse_code(path: Path, raw: dict[str, Any]) -> None:
    if raw.get("auto_map"):
        raise UsageError(
            f"{path}: auto_map names code of its own, which is never run; remove auto_map if the library's own class "
            f"for {raw.get('model_type')} computes the same"
        )


def _refuse_pairs(path: Path, raw: dict[str, Any]) -> None:
    for name in raw.get("architectures") or ():
        if str(name).endswith(_PAIRS):
            raise UsageError(
                f"{path}: {name} is a cross encoder or another classifier, expected an encoder of single sentences"
            )


def _library_configuration(path: Path, kind: str) -> Any:
    from transformers import AutoConfig
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    if kind not in CONFIG_MAPPING:
        raise UsageError(
            f"{path}: model_type {kind} is unknown to this version of transformers and needs code of its own, which is "
            "never run; a newer version may know it"
        )
    try:
        return AutoConfig.from_pretrained(str(path.parent), local_files_only=True, trust_remote_code=False)
    except Exception as error:  # classes of settings raise whatever a wrong value leads them to
        raise EncoderError(f"{path}: cannot be read as settings of {kind}: {one_line(error)}") from error


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
    try:
        with torch.device("meta"):
            model = model_class(library).from_config(library)
    except Exception as error:
        raise EncoderError(f"{path}: no model can be built of these settings: {one_line(error)}") from error
    for name, module in model.named_modules():
        padding = getattr(module, "padding_idx", None)
        if name.rpartition(".")[2] == "position_embeddings" and isinstance(padding, int):
            return limit - padding - 1
    return limit


def model_class(library: Any) -> Any:
    """The library's factory for a kind of model: of the encoder alone where it has a class for that."""
    from transformers import AutoModel, AutoModelForTextEncoding
    from transformers.models.auto.modeling_auto import MODEL_FOR_TEXT_ENCODING_MAPPING

    return AutoModelForTextEncoding if type(library) in MODEL_FOR_TEXT_ENCODING_MAPPING else AutoModel


def one_line(error: Exception) -> str:
    """The first line of an error's message, or its type."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__
