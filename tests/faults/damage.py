"""Ways to damage a file, and what a command did afterwards."""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from typer.testing import CliRunner

from harness.cli.main import app

PAGE = 4096


def flip_a_bit(content: bytes) -> bytes:
    changed = bytearray(content)
    changed[len(changed) * 2 // 3] ^= 4
    return bytes(changed)


def zero_a_page(content: bytes) -> bytes:
    start = len(content) * 3 // 5
    return content[:start] + bytes(min(PAGE, len(content) - start)) + content[start + PAGE :]


def zero_half(content: bytes) -> bytes:
    return content[: len(content) // 2] + bytes(len(content) - len(content) // 2)


def cut(content: bytes) -> bytes:
    return content[: max(1, len(content) * 2 // 3)]


def empty(content: bytes) -> bytes:
    return b""


DAMAGES: dict[str, Callable[[bytes], bytes] | None] = {
    "a bit": flip_a_bit,
    "a page of zeros": zero_a_page,
    "half": zero_half,
    "cut": cut,
    "empty": empty,
    "removed": None,
}


def damage(path: Path, how: str) -> None:
    """Change the file; one that is too short to be changed in that way is emptied."""
    change = DAMAGES[how]
    if change is None:
        path.unlink()
        return
    content = path.read_bytes()
    changed = change(content) if content else b"x"
    path.write_bytes(changed if changed != content else b"")


@dataclass(frozen=True)
class Outcome:
    """What a command printed, and how it ended."""

    code: int
    stdout: str
    stderr: str
    traceback: bool


def bench(*arguments: object) -> Outcome:
    """A command in this process."""
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    crashed = done.exception is not None and not isinstance(done.exception, SystemExit)
    return Outcome(done.exit_code, done.stdout, done.stderr + (repr(done.exception) if crashed else ""), crashed)


class Place:
    """A cache and the commands over it; every score is computed into a results folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cache = folder / "cache"
        self._runs = 0

    def score(self, model: str, results: Path | None = None) -> tuple[Outcome, dict[str, float] | None]:
        """Run one encoder on `mini-sts`; all of its scores, or None where there is none."""
        self._runs += 1
        place = results or self.folder / f"results-{self._runs}"
        words = ("run", "-t", "mini-sts", "-m", model, "--offline", "--json", "-q")
        outcome = bench(*words, "--results-dir", place, "--cache-dir", self.cache)
        try:
            (cell,) = json.loads(outcome.stdout)
        except ValueError:
            return outcome, None
        return outcome, cell["result"] and cell["result"]["scores"]


def files_below(folder: Path, most: int = 6) -> list[Path]:
    """Some of the files of a folder, hidden ones and locks left out: all, or a fixed choice where there are many."""
    found = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    return found if len(found) <= most else sorted(random.Random(0).sample(found, most))
