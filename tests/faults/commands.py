"""Commands as processes of their own, to be killed, raced, or starved; torch is imported once for all of them."""

import io
import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

TRAIN = "simcse-unsup[backbone=tiny,data=mini-wiki,batch_size=8,max_steps=4,eval_every=2,seed=1]"
_CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink"}
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["harness.cli.main", "torch", "transformers", "safetensors.torch", "scipy.stats"])


@dataclass
class Command:
    """A running command; `changes` counts what it has done to files so far."""

    process: BaseProcess
    changes: Any
    printed: Path

    def ended(self) -> int:
        """Its exit code, negative for a signal; no traceback was printed."""
        self.process.join(600)
        assert self.process.exitcode is not None, "the command hangs"
        assert "Traceback" not in self.said(), self.said()
        return self.process.exitcode

    def said(self) -> str:
        return self.printed.read_text() if self.printed.exists() else ""

    def finished(self) -> None:
        assert self.ended() == 0, self.said()


def start(
    *words: object, below: Path, kill_at: int | None = None, environment: Mapping[str, str] | None = None
) -> Command:
    """Begin a command.

    Args:
        words: of the command line.
        below: changes to the files in this folder count; its cache is `cache` there.
        kill_at: the process kills itself (SIGKILL) before the change of this number.
        environment: variables of the new process beside those of the first command.
    """
    changes = _FORKS.RawValue("i", 0)
    printed = below.parent / f"{below.name}.printed"
    given = {"BENCH_CACHE_DIR": f"{below}/cache", "HF_HUB_CACHE": f"{below}/hub", **(environment or {})}
    arguments = (list(map(str, words)), str(below), kill_at, given, changes, printed)
    process = _FORKS.Process(target=_run, args=arguments)
    process.start()
    return Command(process, changes, printed)


def _run(
    words: list[str], below: str, kill_at: int | None, environment: dict[str, str], changes: Any, printed: Path
) -> None:
    from harness.cli.main import main

    def count(event: str, arguments: tuple[Any, ...]) -> None:
        if not _changes(event, arguments, below):
            return
        if changes.value == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        changes.value += 1

    os.environ.update(environment)
    sys.argv = ["bench", *words]
    said = io.StringIO()
    sys.addaudithook(count)
    code: object = 0
    try:
        with redirect_stdout(said), redirect_stderr(said):
            main()
    except SystemExit as ended:
        code = ended.code
    printed.write_text(said.getvalue())
    sys.exit(code)  # type: ignore[arg-type]


def _changes(event: str, arguments: tuple[Any, ...], below: str) -> bool:
    """Whether an event of Python's audit hooks is a change of a file in the folder."""
    if event == "open":
        path, _, flags = arguments
        changes = isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR))
    else:
        path, changes = arguments[0] if arguments else None, event in _CHANGES
    return changes and isinstance(path, str | bytes | os.PathLike) and os.fsdecode(path).startswith(below)


def scores(results: Path) -> dict[str, dict[str, float]]:
    """Every score of a results folder, by encoder and file."""
    found = {path: json.loads(path.read_text()) for path in sorted(results.glob("*/*.json"))}
    return {f"{path.parent.name}/{path.name}": said["scores"] for path, said in found.items() if "scores" in said}
