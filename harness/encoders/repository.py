"""Where the name of a checkpoint leads: to a folder, or to a snapshot of a repository in the hub's own cache."""

import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from harness import files
from harness.data.download import patiently
from harness.encoders.checkpoint import Checkpoint
from harness.encoders.folder import read_folder
from harness.encoders.modelfiles import describe_absence, find_weights, read_object
from harness.encoders.tokens import TOKENIZERS
from harness.errors import BenchError, UsageError

_log = logging.getLogger(__name__)

_CONFIGURATION = ["*.json", "*.txt", "*.model", "*.spm", "*.codes"]
_WEIGHTS = ("*.safetensors", "*.bin")
_OTHER_FORMATS = ["onnx/*", "openvino/*", "coreml/*", "*.onnx", "*.msgpack", "*.h5", "*training_args.bin"]


def open_checkpoint(folder: Path, name: str, *, pooling_is_given: bool = False) -> Checkpoint:
    """The checkpoint in a folder, under the name that it goes by.

    Raises:
        UsageError: as `find_checkpoint`.
    """
    with files.reading(folder):
        return _complete(read_folder(folder, name, pooling_is_given=pooling_is_given), offline=True)


def find_checkpoint(name: str, *, offline: bool, pooling_is_given: bool = False) -> Checkpoint:
    """A folder as it is; anything else is a hub repository, downloaded if need be.

    Args:
        name: a folder, `org/model`, or `org/model@revision`.
        offline: never use the network.
        pooling_is_given: a declared pooling that is unknown is then no reason to refuse.

    Raises:
        UsageError: if the folder is not a checkpoint or holds what is not understood, or nothing of that name can be
            had.
        ReadError: if a file of it may not be read.
    """
    if not name:
        raise UsageError("hf: names no checkpoint, expected a folder or a hub repository, such as hf:org/model")
    folder = Path(name).expanduser()
    with files.reading(folder):
        if folder.is_dir():
            return _complete(read_folder(folder, str(folder), pooling_is_given=pooling_is_given), offline=offline)
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise UsageError(f"{name}: no such folder; expected a checkpoint folder or a hub repository such as org/model")
    repository, folder = _download(name, offline=offline)
    found = read_folder(folder, repository, revision=folder.name, pooling_is_given=pooling_is_given)
    return _complete(found, offline=offline)


def place_title(place: str) -> str:
    """What names a place without the path of this machine: a repository as it is, a folder by its name and content."""
    folder = Path(place).expanduser()
    if not place or not folder.is_dir():
        return place
    title = folder.resolve().name
    try:
        found = open_checkpoint(folder, title, pooling_is_given=True)
        decisive = found.library_content if found.library else found.content
    except BenchError:  # which is said when the encoder is built
        return title
    return f"{title}@{hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:8]}"


def _complete(found: Checkpoint, *, offline: bool) -> Checkpoint:
    """The checkpoint with the base of its adapter; refuses what has no configuration or no weights."""
    folder = found.transformer
    if found.library and not (folder / "config.json").is_file():
        return found
    if found.adapter and not ((folder / "config.json").is_file() and find_weights(folder)):
        base = _find_base(found.adapter, offline=offline)
        own = any((folder / name).is_file() for name in TOKENIZERS)
        return replace(found, transformer=base.transformer, tokenizer=folder if own else base.tokenizer)
    if not (folder / "config.json").is_file():
        raise UsageError(f"{folder}: no config.json, expected a Hugging Face checkpoint folder")
    read_object(folder / "config.json")
    if not find_weights(folder):
        raise UsageError(f"{folder}: {describe_absence(folder)}")
    return found


def _find_base(adapter: Path, *, offline: bool) -> Checkpoint:
    path = adapter / "adapter_config.json"
    base = read_object(path).get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise UsageError(f"{path}: an adapter that names no base model, expected base_model_name_or_path")
    try:
        return find_checkpoint(base, offline=offline)
    except UsageError as error:
        raise UsageError(f"{path}: an adapter of the base model {base}, which cannot be had: {error}") from error


def _download(name: str, *, offline: bool) -> tuple[str, Path]:
    """Find or download a snapshot.

    Args:
        name: `org/model` or `org/model@revision`, a branch, a tag or a commit.
        offline: never use the network.

    Returns:
        The repository's name without the revision, and the folder, whose own name is the commit.

    Raises:
        UsageError: if it cannot be had; the message says why, and what helps.
    """
    from huggingface_hub import constants, snapshot_download

    repository, _, revision = name.partition("@")
    for weights in _WEIGHTS:
        fetch = partial(
            snapshot_download,
            repository,
            revision=revision or None,
            allow_patterns=[*_CONFIGURATION, weights],
            ignore_patterns=_OTHER_FORMATS,
            local_files_only=offline,
        )
        _log.info("%s: looking for a snapshot in %s, or downloading it", name, constants.HF_HUB_CACHE)
        with files.writing(Path(constants.HF_HUB_CACHE)):
            path = _answered(name, fetch)
        if any(path.glob(weights)) or any(path.glob(f"*/{weights}")):
            return repository, path
    if offline or constants.HF_HUB_OFFLINE:
        raise UsageError(
            f"{name}: downloaded in part, the snapshot on this machine has no weights; run once with a network, which "
            "completes it"
        )
    raise UsageError(f"{name}: the repository has no weights, expected *.safetensors or *.bin")


def _answered(name: str, fetch: Callable[[], str]) -> Path:
    """The folder that the hub's library gives; a busy hub is asked again when it says that it may be."""
    from huggingface_hub.errors import (  # type: ignore[attr-defined]  # HTTPError is that of the httpx it uses
        HfHubHTTPError,
        HFValidationError,
        HTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
    )

    try:
        return patiently(fetch)
    except HFValidationError as error:
        raise UsageError(f"{name}: not a folder and not a repository name ({error})") from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        raise UsageError(
            f"{name}: not on this machine, and the hub cannot be asked; copy the checkpoint here and name its "
            "folder, or run once with a network"
        ) from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        raise UsageError(f"{name}: the hub answers {status}; {_advice(status)}") from error
    except HTTPError as error:
        raise UsageError(
            f"{name}: the connection to the hub failed ({error}); check the network, the proxy and HF_ENDPOINT"
        ) from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:  # the library reads whatever page came
        raise UsageError(
            f"{name}: what answered is no Hugging Face hub ({type(error).__name__} while its answer was read); check "
            "the network, the proxy and HF_ENDPOINT"
        ) from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise UsageError(  # huggingface_hub's own check of the size
            f"{name}: the download is not what the hub announced ({str(error).splitlines()[0]}); run the command again"
        ) from error


def _advice(status: int) -> str:
    if status in (401, 403):
        return "check the name, and HF_TOKEN if the repository is private or gated"
    if status == 404:
        return "check the name and the revision, and HF_TOKEN if the repository is private"
    if status == 429:
        return "too many requests: wait, or set HF_TOKEN"
    return "try again later" if status >= 500 else "check the name and HF_TOKEN"
