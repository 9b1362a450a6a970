"""The files of a model folder, of which none is believed unread.

JSON is read strictly, so that what is not understood is named and never passed over. Weight files are chosen by the
loader's rule, checked before they are parsed, and digested as they are read.
"""

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from harness import files
from harness.errors import BenchError, EncoderError, UsageError

if TYPE_CHECKING:
    from torch import Tensor

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


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        UsageError: if the file cannot be read, is a Git LFS pointer or a web page, or is damaged.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UsageError(
            f"{path}: cannot be read ({error.strerror}), expected a configuration; copy it again"
        ) from error
    except ValueError as error:
        raise UsageError(f"{path}: damaged ({error}), expected a configuration in JSON; copy it again") from error
    reason = _foreign_content(text.encode("utf-8"))
    if reason:
        raise UsageError(f"{path}: {reason}")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: damaged ({error}), expected a configuration in JSON; copy it again") from error


def read_object(path: Path) -> dict[str, Any]:
    """The settings in a JSON file.

    Raises:
        UsageError: as `read_json`, and if the file holds anything but an object.
    """
    found = read_json(path)
    if not isinstance(found, dict):
        raise UsageError(f"{path}: holds a {type(found).__name__}, expected an object of settings; copy it again")
    return found


def _foreign_content(start: bytes) -> str:
    """What a file is whose first bytes are no model's: the end of a sentence, or nothing."""
    head = start[:512].lstrip().lower()
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer and not the file itself; run `git lfs pull`, or download the file again"
    if head.startswith((b"<!doctype html", b"<html")):
        return "a web page and not the file itself; download the file again"
    return "" if start else "an empty file; download it again"


def refuse_unknown(path: Path, settings: Mapping[str, Any], known: Collection[str]) -> None:
    """Refuse a setting that nobody here understands, also one that is false or 0, as it may switch something off.

    One that is null is not set.

    Raises:
        UsageError: with the name of the first such setting.
    """
    for key, value in settings.items():
        if key not in known and value is not None:
            raise UsageError(
                f"{path}: the setting {key} is not understood and could change every vector; remove it if it does not"
            )


def typed(path: Path, settings: Mapping[str, Any], key: str, kind: type, what: str) -> Any:
    """A setting of that type, or None where it is not given.

    Raises:
        UsageError: if it has another type.
    """
    value = settings.get(key)
    fits = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
    if value is not None and not fits:
        raise UsageError(f"{path}: {key} is {value!r}, expected {what}; correct the file")
    return value


def one_line(error: Exception) -> str:
    """The first line of an error's message, or its type."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__


@contextmanager
def parsing(refusal: str) -> Iterator[None]:
    """Turn what a library raises on files, which are of many formats, each with its own errors, into one sentence.

    Raises:
        EncoderError: the refusal and the first line of the error, in place of any that is not ours.
    """
    try:
        yield
    except BenchError:
        raise
    except Exception as error:
        raise EncoderError(f"{refusal}: {one_line(error)}") from error


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


def check_content(paths: Iterable[Path]) -> None:
    """Refuse files that are not what their names say before a parser stumbles over them.

    Raises:
        EncoderError: naming the file and what it is.
    """
    for path in paths:
        with path.open("rb") as file:
            reason = _foreign_content(file.read(512))
        if reason:
            raise EncoderError(f"{path}: {reason}")


def digest_files(paths: Iterable[Path], root: Path | None = None) -> str:
    """Sha256 over names and contents of those files that are there; names are relative to the root, or without path."""
    digest = hashlib.sha256()
    for path in paths:
        if path.is_file():
            name = path.relative_to(root).as_posix() if root else path.name
            digest.update(f"{name}\n{files.sha256(path)}\n".encode())
    return digest.hexdigest()


def weights_digest(paths: Sequence[Path]) -> str:
    """Sha256 (hex) of the weight file; of several, the digest of their digests in name order.

    Raises:
        EncoderError: if a file is no weight file but, for instance, a Git LFS pointer, or if one of the hub's cache is
            not what the hub announced, which is then removed.
    """
    check_content(paths)
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


def read_tensors(path: Path, prefixes: tuple[str, ...] = ("",)) -> Mapping[str, "Tensor"]:
    """The tensors of a weight file whose names begin with one of the prefixes.

    Raises:
        EncoderError: if the file is no weight file, is damaged, or holds anything but tensors by name.
    """
    check_content([path])
    if path.suffix == ".bin":
        return {key: value for key, value in _read_pickled(path).items() if key.startswith(prefixes)}
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys() if key.startswith(prefixes)}
    except (SafetensorError, OSError, ValueError) as error:
        raise EncoderError(f"{path}: damaged ({one_line(error)}), expected safetensors; download it again") from error


def _read_pickled(path: Path) -> Mapping[str, "Tensor"]:
    """Tensors by name from a `.bin` file; the unpickler of `weights_only` builds nothing else."""
    import torch

    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=False)
    except Exception as error:  # the unpickler raises whatever the damage leads it to
        if "weights_only" in str(error) or "WeightsUnpickler" in str(error) or "Unsupported" in str(error):
            raise EncoderError(
                f"{path}: holds a pickled model, expected tensors by name; save its state_dict, as safetensors at best"
            ) from error
        raise EncoderError(f"{path}: damaged ({one_line(error)}), expected weights; download it again") from error
    if not isinstance(state, Mapping) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise EncoderError(f"{path}: holds a {type(state).__name__} of other things, expected tensors by name")
    return state
