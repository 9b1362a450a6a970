"""Model repositories of the Hugging Face hub: a snapshot in the hub's own cache, of the revision that was asked for."""

import logging
from collections.abc import Callable
from pathlib import Path

from harness import files
from harness.data.download import patiently
from harness.errors import UsageError

_log = logging.getLogger(__name__)

_CONFIGURATION = ["*.json", "*.txt", "*.model", "*.spm", "*.codes"]
_WEIGHTS = ("*.safetensors", "*.bin")
_OTHER_FORMATS = ["onnx/*", "openvino/*", "coreml/*", "*.onnx", "*.msgpack", "*.h5", "*training_args.bin"]


def download(name: str, *, offline: bool) -> tuple[str, Path]:
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
    path = Path()
    for weights in _WEIGHTS:
        patterns = [*_CONFIGURATION, weights]

        def fetch(patterns: list[str] = patterns) -> str:
            return snapshot_download(
                repository,
                revision=revision or None,
                allow_patterns=patterns,
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
