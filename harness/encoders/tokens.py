"""Tokenizers of checkpoints: tokenizer.json decides where it is there; ids are taken from the compiled tokenizer."""

import json
import logging
import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from harness.encoders.batching import Tokens
from harness.encoders.modelfiles import check_content, one_line, parsing, read_object
from harness.errors import EncoderError

# Every folder that has a tokenizer has one of the first eight.
TOKENIZERS = (
    *("tokenizer.json", "vocab.txt", "vocab.json"),
    *("sentencepiece.bpe.model", "spiece.model", "tokenizer.model", "spm.model", "source.spm"),
)
TOKENIZER_FILES = (
    *(*TOKENIZERS, "tokenizer_config.json", "merges.txt", "special_tokens_map.json", "added_tokens.json"),
    *("target.spm", "bpe.codes", "entity_vocab.json", "dict.txt"),
)
_SENTENCEPIECE = TOKENIZERS[3:]
# Texts on which tokenizers of different rules differ: case, accents, digits, spaces, special tokens, other scripts.
_PROBES = (
    "a man is playing the guitar on stage.",
    "The U.S. President's visit, in 2014: $3.50 (approx.)",
    "Étude  naïve\tof Ärger\nand œuvre",
    "[CLS] <s> [SEP] </s> [MASK] <mask>",
    "北京大学 日本語 привет мир 😀",
    "don't reuse state-of-the-art e-mail@example.org",
    "",
)

_log = logging.getLogger(__name__)


def load_tokenizer_of(folder: Path, *, lower_case: bool = False) -> Any:
    """The tokenizer of a folder, as an object of the library.

    Where there is a tokenizer.json, ids are those that this file gives; other classes that the library would build from
    the same vocabulary are not used, and a warning says where they differ. Text is lower-cased on request between
    special and added tokens, which stay as they are written.

    Raises:
        EncoderError: if its files are missing or damaged, need a package that is not there, or need code of their own.
    """
    if not any((folder / name).is_file() for name in TOKENIZERS):  # transformers would make one up
        raise EncoderError(
            f"{folder}: no tokenizer, expected one of {', '.join(TOKENIZERS)}; copy the tokenizer's files there"
        )
    check_content(folder / name for name in TOKENIZER_FILES if (folder / name).is_file())
    settings = folder / "tokenizer_config.json"
    if settings.is_file() and read_object(settings).get("auto_map"):
        raise EncoderError(f"{settings}: auto_map names code of its own, which is never run")
    found = _load_compiled(folder) if (folder / "tokenizer.json").is_file() else _load_built(folder)
    if lower_case:
        _lower_case(folder, found)
    return found


def _lower_case(folder: Path, tokenizer: Any) -> None:
    """Lower-case what the tokenizer reads, before its own rules.

    Source: sentence-transformers 6.2, Transformer with `do_lower_case`.
    """
    from tokenizers import normalizers

    if not tokenizer.is_fast:
        raise EncoderError(f"{folder}: do_lower_case needs a compiled tokenizer; save the tokenizer as tokenizer.json")
    own: Any = tokenizer.backend_tokenizer.normalizer
    several = isinstance(own, normalizers.Sequence)
    steps = [*own] if several else [] if own is None else [own]
    if not any(isinstance(step, normalizers.Lowercase) for step in steps):
        tokenizer.backend_tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), *steps])


def _load_compiled(folder: Path) -> Any:
    """The compiled tokenizer of tokenizer.json, with the names of its special tokens."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    path = folder / "tokenizer.json"
    try:
        compiled = Tokenizer.from_file(str(path))
    except Exception as error:  # the compiled library raises bare exceptions
        raise EncoderError(f"{path}: damaged ({one_line(error)}), expected a tokenizer; copy it again") from error
    with parsing(f"{folder}: the tokenizer cannot be loaded"):
        found = PreTrainedTokenizerFast.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    known = compiled.get_vocab(with_added_tokens=True)
    lost = sorted(set(found.get_added_vocab()) - set(known) - set(found.all_special_tokens))
    if lost:
        raise EncoderError(
            f"{path}: lacks {len(lost)} added tokens that other files of the tokenizer name, first {lost[0]}; save the "
            "tokenizer again"
        )
    if _rules(found.backend_tokenizer) != _rules(compiled):
        found._tokenizer = compiled
    _tell_difference(folder, found)
    return found


def _rules(compiled: Any) -> Any:
    """All that decides ids, without cut and padding, which are set for each call."""
    rules = json.loads(compiled.to_str())
    return {key: value for key, value in rules.items() if key not in ("truncation", "padding")}


def _tell_difference(folder: Path, found: Any) -> None:
    """Warn where the class that the library picks gives other ids than the file."""
    from transformers import AutoTokenizer

    try:
        picked = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
        differing = differing_texts(found, picked)
    except Exception:  # a class that cannot even be built is not used, so it does not matter why
        return
    if differing:
        _log.warning(
            "%s gives other ids than the class %s on %d of %d texts, such as %r; the file decides",
            folder / "tokenizer.json",
            type(picked).__name__,
            len(differing),
            len(_PROBES),
            differing[0],
        )


def _load_built(folder: Path) -> Any:
    """The tokenizer that the library builds of other files, such as vocab.txt or a SentencePiece model."""
    from transformers import AutoTokenizer

    pieces = next((name for name in _SENTENCEPIECE if (folder / name).is_file()), None)
    if pieces and not (find_spec("sentencepiece") and find_spec("google") and find_spec("google.protobuf")):
        raise EncoderError(
            f"{folder / pieces}: reading it needs the packages sentencepiece and protobuf; "
            "install simcse-bench[sentencepiece]"
        )
    with parsing(f"{folder}: the tokenizer cannot be loaded"):
        return AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)


def token_ids(tokenizer: Any, sentences: Sequence[str], max_tokens: int | None) -> list[Tokens]:
    """What a tokenizer of `load_tokenizer` gives as input ids, a list for each sentence, in half the library's time.

    Longer sentences are cut after `max_tokens`, special tokens included; None is no limit.
    """
    # Threads of the tokenizer are safe here (nothing forks) and its warning on forking is not for our users.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    if not tokenizer.is_fast:
        cut = {"truncation": max_tokens is not None, "max_length": max_tokens}
        ids: list[Tokens] = tokenizer(list(sentences), **cut)["input_ids"]
        return ids
    # The compiled tokenizer itself: around it the library builds a dictionary with offsets and masks per sentence.
    compiled = tokenizer.backend_tokenizer
    compiled.no_padding()
    if max_tokens is None:
        compiled.no_truncation()
    else:
        compiled.enable_truncation(max_tokens, direction=tokenizer.truncation_side)
    return [encoding.ids for encoding in compiled.encode_batch_fast(list(sentences))]


def differing_texts(tokenizer: Any, other: Any) -> list[str]:
    """Those of a few hard texts for which the other tokenizer gives other ids."""
    return [text for text in _PROBES if list(other(text)["input_ids"]) != token_ids(tokenizer, [text], None)[0]]


def prompt_tokens(tokenizer: Any, prompt: str) -> int:
    """The number of tokens that a prompt takes before the sentence, without special tokens that would follow it."""
    if not prompt:
        return 0
    ids = token_ids(tokenizer, [prompt], None)[0]
    special = set(tokenizer.all_special_ids)
    return len(ids) - (1 if ids and ids[-1] in special else 0)


def cls_place(tokenizer: Any) -> int:
    """Where the token stands that the architecture calls CLS: -1 where it ends a sentence, as XLNet's does, else 0."""
    ids = token_ids(tokenizer, ["a"], None)[0]
    cls = getattr(tokenizer, "cls_token_id", None)
    return -1 if ids and cls is not None and ids[0] != cls and ids[-1] == cls else 0
