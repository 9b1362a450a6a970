"""Weight files of a model folder: chosen by the loader's rule, checked before they are parsed, digested as read."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath

import torch
from torch import Tensor

from harness import files
from harness.encoders.jsonfiles import foreign_content, read_object
from harness.errors import EncoderError, UsageError

_SINGLE = ("model.safetensors", "pytorch_model.bin")  # in the order in which the loader looks for them
_UNREADABLE = {
    "*.onnx": "ONNX",
    "onnx/*.onnx": "ONNX",
    "openvino/*.xml": "OpenVINO",
    "*.gguf": "GGUF",
    "tf_model.h5": "TensorFlow",
    "flax_model.msgpack": "Flax",
    "*.pt": "PyTorch pickles",
    "*.pth": "PyTorch pickles",
}


def find_weights(folder: Path) -> list[Path]:
    """The weight files that loading reads: one, or the shards of an index, safetensors before `.bin`.

    Raises:
        UsageError: if an index names a file that is missing or lies elsewhere. No weights at all is an empty list.
    """
    for name in _SINGLE:
        if (folder / name).is_file():
            return [folder / name]
        index = folder / f"{name}.index.json"
        if index.is_file():
            return _shards(folder, index)
    return []


def describe_absence(folder: Path) -> str:
    """Why a folder has no weights: the end of a sentence."""
    for pattern, kind in _UNREADABLE.items():
        if any(folder.glob(pattern)):
            return f"no weights but those of {kind}, expected *.safetensors or pytorch_model*.bin; convert them"
    if any(folder.glob("*-of-*.safetensors")) or any(folder.glob("*-of-*.bin")):
        return "weights in several files without their index, expected model.safetensors.index.json; copy it there"
    if any(folder.glob("*.incomplete")):
        return "an interrupted download; download it again"
    return "no weights, expected *.safetensors or pytorch_model*.bin; copy them there"


def _shards(folder: Path, index: Path) -> list[Path]:
    places = read_object(index).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()) or not places:
        raise UsageError(f"{index}: no weight_map, expected the file of each tensor; copy it again")
    names = sorted(set(places.values()))
    for name in names:
        if PurePosixPath(name).name != name or "\\" in name or name in ("", ".", ".."):
            raise UsageError(f"{index}: names weights outside the folder ({name}), expected plain file names")
        if not (folder / name).is_file():
            raise UsageError(
                f"{folder / name}: missing, {index.name} names it; the copy or download was interrupted, repeat it"
            )
    return [folder / name for name in names]


def check_weights(paths: Iterable[Path]) -> None:
    """Refuse files that are no weights before a parser stumbles over them.

    Raises:
        EncoderError: naming the file and what it is.
    """
    for path in paths:
        with path.open("rb") as file:
            start = file.read(512)
        reason = foreign_content(start)
        if reason:
            raise EncoderError(f"{path}: {reason}")


def weights_digest(paths: Iterable[Path]) -> str:
    """Sha256 (hex) of the weight file; of several, the digest of their digests in name order.

    Raises:
        EncoderError: if a file of the hub's cache is not what the hub announced; it is removed.
    """
    digests = [_as_announced(path, files.sha256(path)) for path in paths]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def _as_announced(path: Path, digest: str) -> str:
    """The digest, which is the name that the hub's cache gives to a large file; nobody else's file is touched."""
    blob = path.resolve()
    of_hub = path.is_symlink() and blob.parent.name == "blobs" and re.fullmatch("[0-9a-f]{64}", blob.name)
    if of_hub and blob.name != digest:
        with suppress(OSError):
            blob.unlink()
            path.unlink(missing_ok=True)
        raise EncoderError(
            f"{path}: the download has sha256 {digest}, expected {blob.name} as the hub announced; it is removed, run "
            "the command again"
        )
    return digest


def read_tensors(path: Path, prefixes: tuple[str, ...] = ("",)) -> Mapping[str, Tensor]:
    """The tensors of a weight file whose names begin with one of the prefixes.

    Raises:
        EncoderError: if the file is no weight file, is damaged, or holds anything but tensors by name.
    """
    check_weights([path])
    if path.suffix == ".bin":
        return {key: value for key, value in _read_pickled(path).items() if key.startswith(prefixes)}
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys() if key.startswith(prefixes)}
    except (SafetensorError, OSError, ValueError) as error:
        raise EncoderError(
            f"{path}: damaged ({_first_line(error)}), expected safetensors; download it again"
        ) from error


def _read_pickled(path: Path) -> Mapping[str, Tensor]:
    """Tensors by name from a `.bin` file; the unpickler of `weights_only` builds nothing else."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=False)
    except Exception as error:  # the unpickler raises whatever the damage leads it to
        if "weights_only" in str(error) or "WeightsUnpickler" in str(error) or "Unsupported" in str(error):
            raise EncoderError(
                f"{path}: holds a pickled model, expected tensors by name; save its state_dict, as safetensors at best"
            ) from error
        raise EncoderError(f"{path}: damaged ({_first_line(error)}), expected weights; download it again") from error
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise EncoderError(f"{path}: holds a {type(state).__name__} of other things, expected tensors by name")
    return state


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
