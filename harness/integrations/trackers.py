"""Experiment trackers, through accelerate's classes: what they are sent stands in a log or a result already.

A run of a tracker is named after what it shows, so that a training that goes on goes on there too. Which step of it was
sent last lies beside what the trackers write: a resumed training, or its log sent again, repeats none.
"""

import io
import json
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from harness import files
from harness.errors import UsageError, WriteError
from harness.names import pick
from harness.results import documents
from harness.results.record import Result

_log = logging.getLogger(__name__)

PROJECT = "simcse-bench"
# With these, accelerate would look for the other processes of torchrun or MPI, and wait for them.
_LAUNCHER = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")


def _tensorboard(run: str, folder: Path, settings: Mapping[str, Any]) -> Any:
    from accelerate.tracking import TensorBoardTracker

    tracker = TensorBoardTracker(run, folder / "tensorboard")
    tracker.start()
    # Its own way to store settings makes a folder for each call.
    tracker.log({"settings": f"```\n{json.dumps(settings, indent=2)}\n```"}, step=0)
    return tracker


def _wandb(run: str, folder: Path, settings: Mapping[str, Any]) -> Any:
    import wandb
    from accelerate.tracking import WandBTracker

    tracker = WandBTracker(
        PROJECT,
        name=run,
        id=run,
        resume="allow",
        dir=folder,
        config=dict(settings),
        mode=os.environ.get("WANDB_MODE", "offline"),
        settings=wandb.Settings(silent=True, console="off"),
    )
    tracker.start()
    return tracker


def _mlflow(run: str, folder: Path, settings: Mapping[str, Any]) -> Any:
    with _environment("MLFLOW_DISABLE_TELEMETRY", "true"):  # else it reports its own use over the network
        import mlflow
    from accelerate.tracking import MLflowTracker

    logging.getLogger("mlflow").setLevel(logging.WARNING)
    if not mlflow.is_tracking_uri_set():
        mlflow.set_tracking_uri(f"sqlite:///{(folder / 'mlflow.db').resolve()}")
    known = mlflow.search_runs(
        search_all_experiments=True, filter_string=f"run_name = '{run}'", output_format="list", max_results=1
    )
    tracker = MLflowTracker(PROJECT, run_id=known[0].info.run_id if known else None, run_name=run)
    tracker.start()
    tracker.store_init_configuration(dict(settings))
    return tracker


def _trackio(run: str, folder: Path, settings: Mapping[str, Any]) -> Any:
    with _environment("TRACKIO_DIR", str(folder / "trackio")):
        import trackio  # reads the variable now and never again
    from accelerate.tracking import TrackioTracker

    quiet = {"embed": False, "auto_log_cpu": False, "auto_log_gpu": False}
    tracker = TrackioTracker(PROJECT, name=run, resume="allow", config=dict(settings), **quiet)
    tracker.start()
    # Its own leaves trackio to end the run once more when the process ends, and to print so.
    tracker.finish = trackio.finish
    return tracker


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    """A variable of the environment while this lasts, unless it is set already."""
    if name in os.environ:
        yield
        return
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]


TRACKERS: Mapping[str, Callable[[str, Path, Mapping[str, Any]], Any]] = {
    "tensorboard": _tensorboard,
    "wandb": _wandb,
    "mlflow": _mlflow,
    "trackio": _trackio,
}
_PACKAGES = {"mlflow": ("mlflow", "sqlalchemy", "alembic")}  # of the others, the package of that name


def check_trackers(names: Sequence[str]) -> None:
    """Refuse trackers that cannot be used here, before anything is computed.

    Raises:
        UsageError: if there is no tracker of that name, or its package is not installed.
    """
    for name in names:
        pick("tracker", TRACKERS, name)
        for package in (*_PACKAGES.get(name, (name,)), "accelerate"):
            if find_spec(package) is None:
                raise UsageError(
                    f"--track {name}: the package {package} is not installed; install it with: pip install "
                    f"'simcse-bench[{name}]'"
                )


class Trackers:
    """The trackers of one run. One that fails is named in a warning and sent nothing more: no run ends for it."""

    def __init__(self, names: Sequence[str], folder: Path, run: str, settings: Mapping[str, Any]) -> None:
        """Open them.

        Args:
            names: of `TRACKERS`.
            folder: they write there; made if missing.
            run: name and identity of the run.
            settings: what a reader of its curves must know.
        """
        self._run = run
        self._open: dict[str, Any] = {}
        _know_this_process_alone()
        for name in names:
            with self._watched(name):
                folder.mkdir(parents=True, exist_ok=True)
                self._open[name] = TRACKERS[name](run, folder, settings)

    def send(self, values: Mapping[str, float], step: int, names: Sequence[str]) -> list[str]:
        """Send numbers of one step to the trackers that are named; which of them took it."""
        for name in names:
            if name in self._open:
                with self._watched(name):
                    self._open[name].log(dict(values), step=step)
        return [name for name in names if name in self._open]

    def close(self) -> None:
        """Let them write what they still hold."""
        for name, tracker in [*self._open.items()]:
            with self._watched(name):
                tracker.finish()

    @contextmanager
    def _watched(self, name: str) -> Iterator[None]:
        try:
            with redirect_stdout(io.StringIO()):  # what a tracker prints would stand among the data of a command
                yield
        except Exception as error:  # whatever another program's library raises
            self._open.pop(name, None)
            what = f"{type(error).__name__}: {error}".partition("\n")[0]
            _log.warning("%s: %s failed with %s; it is sent nothing more", self._run, name, what)


class FollowedLog:
    """A training's log, whose lines go to trackers as they are written, and each of them once."""

    def __init__(self, names: Sequence[str], folder: Path, card: Mapping[str, Any], log: Path) -> None:
        """Open no tracker yet: where nothing is new, none is needed.

        Args:
            names: of `TRACKERS`.
            folder: trackers write there.
            card: of the run: `settings`, `backbone`, `data` and `fingerprint`.
            log: of JSON lines, each with a `step`; lines are added to it.
        """
        self._names, self._folder, self._log = names, folder, log
        self._settings = {**card["settings"], "backbone": card["backbone"]["name"], "data": card["data"]["name"]}
        parts = (card["settings"]["method"], self._settings["backbone"], card["settings"]["seed"])
        self._run = re.sub(r"[^A-Za-z0-9.]+", "-", "-".join(map(str, parts))) + f"-{card['fingerprint'][:8]}"
        self._sent_file = folder / f"{self._run}.json"
        self._sent = self._read_sent()
        self._trackers: Trackers | None = None
        self._position = 0  # bytes of the log that were read
        self._unnoted = False  # whether it was told that what was sent cannot be noted

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._trackers is not None:
            self._trackers.close()

    def follow(self) -> int:
        """Send the lines that are new; how many there were."""
        if self._log.stat().st_size < self._position:  # a training that starts anew
            self._position = 0
        with self._log.open("rb") as file:
            file.seek(self._position)
            lines = file.readlines()
            self._position = file.tell()
        return sum(self._send(json.loads(line)) for line in lines)

    def _send(self, line: dict[str, float | None]) -> bool:
        step = int(line.pop("step") or 0)
        new = [name for name in self._names if step > self._sent.get(name, -1)]
        if new:
            if self._trackers is None:
                self._trackers = Trackers(self._names, self._folder, self._run, self._settings)
            values = {name: value for name, value in line.items() if value is not None}
            self._sent |= dict.fromkeys(self._trackers.send(values, step, new), step)
            self._note_sent()
        return bool(new)

    def _note_sent(self) -> None:
        try:
            files.replace(self._sent_file, json.dumps(self._sent).encode())
        except WriteError as error:
            if not self._unnoted:
                _log.warning("%s; a training that is resumed sends these lines again", error)
            self._unnoted = True

    def _read_sent(self) -> dict[str, int]:
        try:
            return {str(name): int(step) for name, step in json.loads(self._sent_file.read_bytes()).items()}
        except (OSError, ValueError, TypeError, AttributeError):  # nothing was sent, or nobody knows of it
            return {}


class ScoreReporter:
    """Sends the main score of each result; every encoder is a run of the trackers."""

    def __init__(self, names: Sequence[str], folder: Path) -> None:
        self._names, self._folder = names, folder
        self._run: str | None = None
        self._trackers: Trackers | None = None

    def send(self, result: Result) -> None:
        """Send the main score of a result that has been written, under the name of its file."""
        if not self._names:
            return
        assert result.file is not None
        run = documents.encoder_folder(self._folder, result.encoder).name
        if self._trackers is None or run != self._run:
            self.close()
            card = result.encoder
            settings = {"encoder": card.name, "method": card.method, "backbone": card.backbone, "seed": card.seed}
            self._run, self._trackers = run, Trackers(self._names, self._folder, run, settings)
        self._trackers.send({f"{result.file.stem}/{result.metric}": result.scores[result.metric]}, 0, self._names)

    def close(self) -> None:
        """End the run of the last encoder."""
        if self._trackers is not None:
            self._trackers.close()


def _know_this_process_alone() -> None:
    """Let accelerate's logging work without an Accelerator, and without the other processes of a launcher."""
    from accelerate import PartialState

    hidden = {name: os.environ.pop(name) for name in _LAUNCHER if name in os.environ}
    try:
        PartialState(cpu=True)
    finally:
        os.environ.update(hidden)
