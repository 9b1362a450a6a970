"""`bench log`."""

import json as json_
from pathlib import Path
from typing import Annotated

import typer

from harness import files
from harness.cli import options
from harness.cli.console import err
from harness.cli.options import command
from harness.errors import UsageError


@command
def log(
    run: Annotated[Path, typer.Argument(help="Folder of a finished training.")],
    track: options.Track = "tensorboard",
    track_dir: options.TrackDir = Path("tracking"),
    quiet: options.Quiet = False,
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
    if not quiet:
        err.print(f"{run}: {sent} lines sent to {', '.join(names)} in {track_dir}", soft_wrap=True)
