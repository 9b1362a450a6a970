"""The folder of a training run: whose it is, its card and log, the model, and what a killed run goes on from.

What is read again has its digests beside it: the card those of the model's files, the note in `best-*` those of the
best weights. A checkpoint is one safetensors file, replaced atomically, nothing pickled. The data position and all
random numbers follow from the seed and the step, so the step stands for them.
"""

import hashlib
import json
import logging
import math
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from baselines.simcse import devices
from harness import files
from harness.encoders.checkpoint import Checkpoint
from harness.encoders.export import POOLING_MODES, write_modules
from harness.encoders.forward import Head
from harness.encoders.modelfiles import read_object
from harness.encoders.tokens import TOKENIZER_FILES
from harness.encoders.training import training_facts
from harness.errors import ResultError, UsageError, WriteError

_log = logging.getLogger(__name__)

CARD, LOG, WEIGHTS = "card.json", "log.jsonl", "model.safetensors"
WORK = ".training"  # holds the checkpoint until the run is finished
_SAID = {"settings", "backbone", "data", "steps", "selected", "pooling", "files"}  # of every card
_SELECTED, _MODULES = "selected.json", "modules.json"
_MOMENTS, _SEAL = ("exp_avg", "exp_avg_sq"), "sha256"


class Damage(Exception):
    """A stored file is not what was written; the text begins with its path and gives no advice yet."""


def verify(folder: Path, expected: Mapping[str, str]) -> None:
    """Compare files with their digests.

    Raises:
        Damage: naming the first file that is missing, unreadable or changed.
    """
    for name, digest in expected.items():
        path = folder / name
        try:
            found = files.sha256(path)
        except OSError as error:
            raise Damage(f"{path}: cannot be read ({error.strerror}), expected what the training wrote") from error
        if found != digest:
            raise Damage(f"{path}: sha256 {found[:12]}, expected {digest[:12]} as the training wrote it")


def write_sealed(path: Path, values: Mapping[str, Any]) -> dict[str, Any]:
    """Write JSON with the digest of what it says, atomically and durably; what was written."""
    sealed = {**values, _SEAL: _digest(values)}
    files.replace(path, (json.dumps(sealed, indent=2, ensure_ascii=False) + "\n").encode())
    return sealed


def read_sealed(path: Path) -> dict[str, Any]:
    """What `write_sealed` wrote.

    Raises:
        Damage: if the file is missing or changed.
    """
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        without = {name: value for name, value in values.items() if name != _SEAL}
    except OSError as error:
        raise Damage(f"{path}: cannot be read ({error.strerror}), expected what the training wrote") from error
    except (ValueError, AttributeError) as error:
        raise Damage(f"{path}: damaged or not ours, expected what the training wrote") from error
    if values.get(_SEAL) != _digest(without):
        raise Damage(f"{path}: damaged or not ours, expected what the training wrote")
    return values


def _digest(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def fingerprint(identity: Mapping[str, Any]) -> str:
    """Sha256 (hex) of `recipe.Job.identity` without the names of files, which decide nothing."""
    parts = {
        part: {k: v for k, v in facts.items() if k != "name"} if facts else None for part, facts in identity.items()
    }
    return _digest(parts)


def check_folder(folder: Path) -> None:
    """Nothing is overwritten: the folder is new, empty, or a run's.

    Raises:
        UsageError: if it is something else.
    """
    for place in (folder, *folder.parents):
        if place.exists() and not place.is_dir():
            raise UsageError(f"{place}: a file, expected a folder for the model; name another with --output")
    if _holds_other_files(folder):
        raise UsageError(
            f"{folder}: holds other files, expected a new folder or one of this run; name another with --output"
        )


def _holds_other_files(folder: Path) -> bool:
    ours = (folder / CARD).exists() or (folder / WORK).exists()
    return not ours and folder.is_dir() and any(folder.iterdir())


def read_card(folder: Path) -> dict[str, Any] | None:
    """The card of a finished run, whose files are verified; None in a new folder or one of an unfinished run.

    Raises:
        Damage: naming the file that is damaged, or gone, or another program's.
    """
    path = folder / CARD
    if not path.is_file():
        if _holds_other_files(folder):
            raise Damage(f"{path}: missing, expected the card of a training run")
        return None
    card = read_sealed(path)
    if not (isinstance(card.get("fingerprint"), str) and _SAID <= card.keys()):
        raise Damage(f"{path}: damaged or not ours, expected what the training wrote")
    verify(folder, card["files"])
    if not (folder / WEIGHTS).is_file():
        raise Damage(f"{folder / WEIGHTS}: missing, expected the weights of the finished run")
    return card


class RunFolder:
    """The folder of one run.

    Attributes:
        path: becomes the model's folder.
        identity: of the run, as `recipe.Job.identity` gives it.
        fingerprint: of the identity.
        in_cache: no other run can be in this folder, for it is named after the fingerprint.
        checkpoint: what a killed run goes on from.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any], *, in_cache: bool = False) -> None:
        self.path = path
        self.identity = identity
        self.fingerprint = fingerprint(identity)
        self.in_cache = in_cache
        self.checkpoint = path / WORK / "checkpoint.safetensors"
        self._work = path / WORK

    def finished(self) -> dict[str, Any] | None:
        """The card of the finished run; None where there is none yet, or not any more because it was damaged.

        Raises:
            UsageError: if it is another run's.
            ResultError: if the folder is damaged and not in the cache, where it can be made anew.
        """
        try:
            card = read_card(self.path)
            if card is not None:
                self._check_identity(card)
        except Damage as damage:
            if not self.in_cache or devices.size() > 1:
                raise ResultError(f"{damage}; mend it, name another folder, or train again in an empty one") from damage
            _log.warning("%s; the model is trained anew", damage)
            shutil.rmtree(self.path)
            return None
        return card

    def _check_identity(self, card: Mapping[str, Any]) -> None:
        if card["fingerprint"] == self.fingerprint:
            return
        if self.in_cache:
            raise Damage(f"{self.path / CARD}: the card of another run, expected that of the folder's name")
        names = dict.fromkeys([*self.identity, *(["thesaurus"] if "thesaurus" in card else [])])
        parts = ", ".join(n for n in names if card.get(n) != json.loads(json.dumps(self.identity.get(n))))
        raise UsageError(
            f"{self.path}: holds the finished run of another {parts}, expected this run's or nothing; name another "
            "folder"
        )

    def claim(self) -> None:
        """Make the work folder of the run, or find it made; until the first checkpoint nothing else says whose it is.

        Raises:
            UsageError: if it is another run's.
            Damage: if it says so in the cache, where it cannot be.
        """
        note = self._work / "fingerprint"
        if not note.exists():
            files.replace(note, self.fingerprint.encode())
        if note.read_bytes() == self.fingerprint.encode():
            return
        if self.in_cache:
            raise Damage(f"{note}: its content has changed, expected the run's fingerprint")
        raise UsageError(
            f"{self._work}: an unfinished run of another backbone, data or settings, expected this run's; name "
            "another folder, or delete it"
        )

    def keep(self, write: Callable[[Path], None], state: "State") -> None:
        """Keep the model of the best step so far, which `write` puts into a folder, and drop that of the one before."""
        draft, best = self._work / "draft", self._work / f"best-{state.best_step:09d}"
        shutil.rmtree(draft, ignore_errors=True)
        write(draft)
        selected = {"step": state.best_step, "dev_spearman": state.best_score}
        write_sealed(draft / _SELECTED, {"selected": selected, "files": files.digests(draft)})
        shutil.rmtree(best, ignore_errors=True)
        draft.replace(best)
        for older in self._work.glob("best-*"):
            if older != best:
                shutil.rmtree(older)

    def best(self) -> tuple[Path, dict[str, Any]]:
        """The folder of the best step, verified, and what the card says of it: `selected` and `files`.

        Raises:
            Damage: if there is none, or a file of it is not what was written.
        """
        found = max(self._work.glob("best-*"), default=None)
        if found is None:
            raise Damage(f"{self._work}: no folder best-*, expected the weights of the best step so far")
        note = read_sealed(found / _SELECTED)
        if not {"selected", "files"} <= note.keys():
            raise Damage(f"{found / _SELECTED}: without digests, expected those of the weights")
        verify(found, note["files"])
        return found, {name: note[name] for name in ("selected", "files")}

    def settle(self, write: Callable[[Path], None], state: "State") -> dict[str, Any]:
        """Put the chosen weights in place, the last step's where none was chosen; what the card says of them.

        Raises:
            Damage: as `best`.
        """
        if state.best_score is None:
            self.keep(write, State(best_step=state.step))
        best, chosen = self.best()
        for name in chosen["files"]:  # copytree would hide what the disk says in an error of its own
            (self.path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(best / name, self.path / name)
        return chosen

    def restart(self, damage: Damage) -> None:
        """Drop what an unfinished run left; the work folder itself stays and says whose the folder is.

        Raises:
            ResultError: with several processes, which would delete under one another.
        """
        if devices.size() > 1:
            raise ResultError(f"{damage}; delete {self._work} and train again") from damage
        _log.warning("%s; training starts anew", damage)
        for path in self._work.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def clean(self) -> None:
        """Remove the work folder."""
        shutil.rmtree(self._work, ignore_errors=True)

    def cut_log(self, step: int) -> None:
        """Drop the lines of steps that will be done again, and damaged ones."""
        path = self.path / LOG
        if path.is_file():
            lines = path.read_bytes().splitlines(keepends=True)
            path.write_bytes(b"".join(line for line in lines if line.endswith(b"\n") and _step(line) <= step))

    def log(self, values: Mapping[str, float]) -> None:
        """Add a line to the log; what is undefined, for instance the alignment of no pairs, is null."""
        defined = {name: value if math.isfinite(value) else None for name, value in values.items()}
        with (self.path / LOG).open("a", encoding="utf-8") as log:
            log.write(json.dumps(defined, allow_nan=False) + "\n")


def _step(line: bytes) -> float:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf


def save_model(folder: Path, source: Checkpoint, backbone: nn.Module, head: Head | None, pooling: str) -> None:
    """Write a Hugging Face folder with the head in the place of the pooler, and the tokenizer's files as they were.

    Generic loaders give tanh(W x + b) as `pooler_output`; where the head was for training only it is there all the
    same, and must not be used. The files of sentence-transformers say so, where that library has the pooling.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {key: value.detach().cpu().contiguous() for key, value in backbone.state_dict().items()}
    if head is not None:
        tensors["pooler.dense.weight"] = head.dense.weight.detach().cpu().contiguous()
        tensors["pooler.dense.bias"] = head.dense.bias.detach().cpu().contiguous()
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    config = read_object(source.transformer / "config.json") | {
        "architectures": [type(backbone).__name__],
        "dtype": "float32",
    }
    config.pop("torch_dtype", None)
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    shutil.copymode(folder / "config.json", folder / WEIGHTS)  # safetensors leaves it the owner's alone
    for name in TOKENIZER_FILES:
        if (source.tokenizer / name).is_file():
            (folder / name).write_bytes((source.tokenizer / name).read_bytes())
    if pooling in POOLING_MODES:
        width, limit = source.configuration.width, source.configuration.positions
        write_modules(folder, pooling=pooling, width=width, head=head, max_tokens=limit)


def write_card(folder: Path, card: dict[str, Any]) -> dict[str, Any]:
    """Write README.md and `card.json`, which comes last and says that the folder is whole; what it says.

    The card has the digest of modules.json: as long as that is the file, the card's pooling says the same.
    """
    if (folder / _MODULES).is_file():
        card = card | {"modules": files.sha256(folder / _MODULES)}
    files.replace(folder / "README.md", _readme(card).encode())
    return write_sealed(folder / CARD, card)


def _readme(card: Mapping[str, Any]) -> str:
    """The folder's page: what it is, how it is used, and how it was trained."""
    settings = card["settings"]
    facts = {**training_facts(card), "pooling": card["pooling"]}
    library = "modules" in card
    tags = "library_name: sentence-transformers\n" if library else ""
    use = 'SentenceTransformer("FOLDER").encode(["A sentence."])'
    python = f"```python\nfrom sentence_transformers import SentenceTransformer\n\n{use}\n```\n\n" if library else ""
    listed = "\n".join(f"- {name}: {value}" for name, value in facts.items())
    shown = {name: f"{value:g}" if isinstance(value, float) else value for name, value in settings.items()}
    table = "\n".join(f"| {name} | {value} |" for name, value in shown.items() if value is not None)
    return (
        f"---\n{tags}pipeline_tag: sentence-similarity\n---\n\n"
        f"# {settings['method']} on {card['backbone']['name']}\n\nA sentence encoder trained by SimCSE "
        f"(https://arxiv.org/abs/2104.08821).\n\n{listed}\n\n{python}"
        f"```sh\nbench run --models hf:FOLDER --suite sts\n```\n\n| setting | value |\n| --- | --- |\n{table}\n"
    )


@dataclass(slots=True)
class State:
    """Where a run is: steps done, and the best evaluation so far."""

    step: int = 0
    best_step: int = 0
    best_score: float | None = None


def save_checkpoint(path: Path, module: nn.Module, optimizer: torch.optim.Optimizer, state: State) -> None:
    """Write weights, the optimiser's moments and the state; a kill leaves the old file or the new one.

    Raises:
        WriteError: if the disk refuses.
    """
    tensors = {f"weights/{name}": p.detach() for name, p in module.named_parameters()}
    for name, parameter in module.named_parameters():
        for moment in _MOMENTS:
            if parameter in optimizer.state:
                tensors[f"{moment}/{name}"] = optimizer.state[parameter][moment]
    tensors = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    said = json.dumps(asdict(state))
    metadata = {"state": said, "sha256": _sha256(said, tensors)}
    draft = path.with_suffix(".tmp")
    try:
        save_file(tensors, draft, metadata)
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        draft.replace(path)
    except (OSError, SafetensorError) as error:
        raise WriteError(f"{path}: the checkpoint cannot be written ({error}); free space or name another") from error


def restore(path: Path, module: nn.Module, optimizer: torch.optim.Optimizer) -> State:
    """Fill module and optimiser from the checkpoint and return its state; a fresh State where there is none.

    The optimiser's own count of steps is left at that of the state.

    Raises:
        Damage: if the file is not what was written; module and optimiser may then be half filled.
    """
    if not path.is_file():
        return State()
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = State(**json.loads(metadata["state"]))
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        if metadata["sha256"] != _sha256(metadata["state"], tensors):
            raise ValueError("its bytes have changed")
        _fill(tensors, module, optimizer, state.step)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise Damage(f"{path}: the checkpoint is damaged ({error})") from error
    return state


def _sha256(state: str, tensors: Mapping[str, Tensor]) -> str:
    """Of the state, and of names and bytes in the order of the names."""
    digest = hashlib.sha256(state.encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _fill(tensors: Mapping[str, Tensor], module: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(tensors[f"weights/{name}"])
            if f"{_MOMENTS[0]}/{name}" in tensors:
                moments = {m: tensors[f"{m}/{name}"].to(parameter.device) for m in _MOMENTS}
                count = torch.tensor(float(step), device=parameter.device)
                optimizer.state[parameter] = {"step": count, **moments}
