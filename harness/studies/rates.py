"""How fast this machine was: a line for each piece of work of a study, from which the next plan tells its time."""

import hashlib
import json
import os
import resource
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from harness.encoders.context import Context
from harness.encoders.registry import Resolved
from harness.results.machine import machine

_KEPT = 20  # the last ones of a kind count, as a machine changes


_FIELDS: dict[str, tuple[type, ...]] = {  # of a line; what else is no rate
    "kind": (str,),
    "what": (str,),
    "units": (int,),
    "seconds": (int, float),
    "peak_bytes": (int,),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """A piece of work.

    Attributes:
        kind: `train`, `fit`, `encode` or `task`.
        what: method and backbone, or task and protocol.
        units: texts read, sentences encoded, or 1.
        seconds: that it took.
    """

    kind: str
    what: str
    units: int
    seconds: float


def note(context: Context, rate: Rate) -> None:
    """Keep a rate; where nothing can be written, it is not kept."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    line = json.dumps({**_here(context), **asdict(rate), "peak_bytes": peak}) + "\n"
    path = _file(context.cache_dir)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(handle, line.encode())  # one write of a short line, which other processes cannot come between
        finally:
            os.close(handle)
    except OSError:
        return


def rate_name(asked: Resolved) -> str:
    """What a rate is about: the method, and the backbone where there is one."""
    backbone = getattr(asked.parameters, "backbone", None)
    return f"{asked.spec.name} on {Path(backbone).name}" if backbone else asked.spec.name


class Rates:
    """What is known of this machine and device."""

    def __init__(self, context: Context) -> None:
        here = _here(context)
        self._found: dict[tuple[str, str], list[float]] = {}
        self._peaks: dict[str, int] = {}
        for said in _lines(_file(context.cache_dir)):
            if any(said.get(key) != value for key, value in here.items()) or not said["units"]:
                continue
            self._found.setdefault((said["kind"], said["what"]), []).append(said["seconds"] / said["units"])
            self._peaks[said["kind"]] = max(self._peaks.get(said["kind"], 0), said["peak_bytes"])

    def seconds(self, kind: str, what: str, units: int) -> float | None:
        """How long so many units take, by the median of what was measured; None if nothing was."""
        if not units:
            return 0.0
        found = self._found.get((kind, what), [])[-_KEPT:]
        return median(found) * units if found else None

    def peak_bytes(self, kind: str) -> int:
        """The largest memory of a process that did such work here; 0 if nothing was measured."""
        return self._peaks.get(kind, 0)


def _file(cache_dir: Path) -> Path:
    return cache_dir / "rates" / "rates.jsonl"


def _here(context: Context) -> dict[str, str]:
    digest = hashlib.sha256(json.dumps(machine(), sort_keys=True).encode()).hexdigest()[:16]
    return {"machine": digest, "device": context.device.partition(":")[0], "dtype": context.dtype}


def _lines(path: Path) -> list[dict[str, Any]]:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        try:
            said = json.loads(line)
        except ValueError:
            continue
        if isinstance(said, dict) and all(isinstance(said.get(name), kind) for name, kind in _FIELDS.items()):
            found.append(said)
    return found
