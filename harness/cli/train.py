"""`bench train`, and `bench log`, which sends a training's log to trackers."""

import json as json_
import os
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from harness import files
from harness.cli import completion, options
from harness.cli.console import out, print_json, tell
from harness.cli.options import argument, command, option, shared
from harness.errors import UsageError
from harness.names import Spec, pick

if TYPE_CHECKING:
    from harness.encoders.training import Trainer, TrainingRun


@command
def train(
    *,
    model: Annotated[
        str,
        argument(
            help="What to train: simcse-unsup, simcse-sup, or with \\[parameter=value,...].",
            choices=completion.trainable,
        ),
    ],
    data: Annotated[str, option(help="Training text: a name, a .txt or a .csv.", choices=completion.TEXTS)] = "",
    seeds: Annotated[str, shared("--seeds", help="One model for each seed: 0,1,2 or 0-4, ends included.")] = "",
    parameters: Annotated[
        list[str] | None, option("--set", help="Any parameter of the model as name=value; can be repeated.")
    ] = None,
    batch_size: Annotated[int | None, option(min=1, help="Rows of a step.")] = None,
    lr: Annotated[float | None, option(help="Learning rate of the first step.")] = None,
    epochs: Annotated[float | None, option(help="Passes over the data.")] = None,
    max_steps: Annotated[int | None, option(min=1, help="Number of steps, instead of epochs.")] = None,
    output: Annotated[
        Path | None, option("--output", "-o", help="Folder for the model; else the cache, where runs look for it.")
    ] = None,
    compile_: Annotated[
        bool | None,
        option("--compile/--no-compile", help="Compile the steps; by default on a GPU, where a run is long."),
    ] = None,
    deterministic: Annotated[
        bool, option("--deterministic", help="On a GPU, use only operations that give the same bits each time.")
    ] = False,
    track: options.Track = "",
    track_dir: options.TrackDir = Path("tracking"),
    computation: options.Computation,
    json: options.Json = False,
) -> None:
    """Train a model. Run the same command again to resume from the last checkpoint.

    For example: bench train simcse-unsup --backbone tiny --data wiki.txt --seeds 0-4
    """
    from harness.encoders.registry import resolve
    from harness.encoders.training import TrainingOptions

    if computation.dtype not in ("float32", "bfloat16"):
        raise UsageError(f"--dtype {computation.dtype}: training runs in float32 or bfloat16; name one of them")
    given: dict[str, object] = {"batch_size": batch_size, "learning_rate": lr, "epochs": epochs, "max_steps": max_steps}
    given |= {"data": data or None, "dtype": None if computation.dtype == "float32" else computation.dtype}
    changes = _changes(given, parameters or [], seeded=bool(seeds))
    numbers = options.parse_seeds(seeds)
    asked = TrainingOptions(
        compile=compile_, deterministic=deterministic, track=options.parse_track(track), track_dir=track_dir
    )
    runs: list[TrainingRun] = []
    with replace(computation, dtype="float32").context() as context:
        spec = Spec.parse(model)
        trainers = {point.name: point for point in entry_points(group="bench.trainers")}
        train_spec: Trainer = pick("trainable model", trainers, spec.name).load()
        for seed in numbers or (None,):
            own = changes if seed is None else {**changes, "seed": str(seed)}
            one = resolve(Spec(spec.name, {**spec.given, **own}), context)
            place = output / f"seed-{seed}" if output and len(numbers) > 1 else output
            runs.append(train_spec(one, context, replace(asked, output=place)))
            if not json:
                tell(_line(runs[-1]))
    if os.environ.get("RANK", "0") != "0":
        return  # of torchrun's processes the first one speaks
    summary = _summary(runs)
    if json:
        print_json({"runs": [{"model": r.model, "folder": str(r.folder), **r.card} for r in runs], "dev": summary})
    elif len(runs) > 1 and summary is not None:
        out.print(
            "dev Spearman x 100: mean {mean:.2f}, standard deviation {sd:.2f}, range {low:.2f} to {high:.2f}".format(
                **{name: 100 * value for name, value in summary.items()}
            )
        )


def _changes(given: Mapping[str, object], pairs: Sequence[str], *, seeded: bool) -> dict[str, str]:
    """Parameters by name: those that have options of their own (None: not given), and those of `--set`."""
    changes = {name: str(value) for name, value in given.items() if value is not None}
    for text in pairs:
        name, _, value = text.partition("=")
        if not (name and value):
            raise UsageError(f"--set {text}: expected name=value, for instance --set temperature=0.1")
        if name in changes or (name == "seed" and seeded):
            raise UsageError(f"--set {text}: {name} is given twice; drop one of them")
        changes[name] = value
    return changes


def _line(run: "TrainingRun") -> str:
    score = "" if run.dev_spearman is None else f", dev Spearman {100 * run.dev_spearman:.2f}"
    blank = f"; {run.blank} of {run.rows} texts are blank" if run.blank else ""
    return f"{run.model}: step {run.selected_step} of {run.steps}{score}; in {run.folder}{blank}"


def _summary(runs: "Sequence[TrainingRun]") -> dict[str, float] | None:
    """Mean, standard deviation (n - 1) and range of the dev scores, -1..1; None where there are none."""
    scores = [run.dev_spearman for run in runs if run.dev_spearman is not None]
    if not scores or len(scores) < len(runs):
        return None
    sd = statistics.stdev(scores) if len(scores) > 1 else 0.0
    return {"mean": statistics.mean(scores), "sd": sd, "low": min(scores), "high": max(scores)}


@command
def log(
    run: Annotated[Path, argument(help="Folder of a finished training.")],
    track: options.Track = "tensorboard",
    track_dir: options.TrackDir = Path("tracking"),
) -> None:
    """Send the log of a finished training to trackers; lines that were sent before are not sent again.

    For example: bench log model --track tensorboard,wandb
    """
    from harness.integrations.trackers import FollowedLog

    names = options.parse_track(track)
    try:
        card = json_.loads((run / "card.json").read_bytes())
        with FollowedLog(names, track_dir, card, run / "log.jsonl") as followed:
            sent = followed.follow()
    except PermissionError as error:
        raise files.read_error(run, error) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{run}: holds no finished training, expected card.json and log.jsonl as training writes them"
        ) from error
    tell(f"{run}: {sent} lines sent to {', '.join(names)} in {track_dir}")
