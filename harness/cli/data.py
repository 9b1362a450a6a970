"""`bench data`."""

from functools import partial
from typing import Annotated

import typer

from harness.cli.console import progress_bars
from harness.cli.options import Settings, command, report_error
from harness.cli.show import Rows, show_rows
from harness.errors import BenchError, DataError

data_app = typer.Typer(no_args_is_help=True, help="Check the data files, or fetch them.")


@data_app.command()
@command
def verify(settings: Settings) -> None:
    """Check every data file: present, readable, complete, in order, and which copy it is."""
    from harness.data.files import read_text_file
    from harness.data.locate import data_root
    from harness.data.manifest import datasets

    root = data_root(settings.data_dir, settings.cache, offline=settings.offline, progress=not settings.quiet)
    rows: Rows = []
    bad = 0
    for name, dataset in datasets().items():
        if name.startswith("mini-") or not any((root / path).exists() for path in dataset.files):
            continue
        for path in dataset.files:
            try:
                found = read_text_file(root, path)
            except BenchError as error:
                report_error(error)
                bad += 1
            else:
                rows.append(
                    {
                        "dataset": name,
                        "file": path,
                        "lines": len(found.lines),
                        "copy": found.copy,
                        "sha256": found.sha256,
                    }
                )
    if not rows and not bad:
        raise DataError(f"{root}: none of the known files is there, expected downstream/STS/..., downstream/SICK/...")
    show_rows(rows, settings)
    if bad:
        raise typer.Exit(2)


@data_app.command()
@command
def fetch(
    settings: Settings,
    what: Annotated[
        str, typer.Argument(help="A suite (all come in one archive), glove (2 GB), or the training texts nli or wiki.")
    ] = "sts",
) -> None:
    """Download data; an interrupted download goes on.

    A suite's data are SentEval's as SimCSE packed them, from the hub; glove is the 840B archive from its authors.
    """
    from harness.data.fetch import TRAINING_FILES
    from harness.registry import pick
    from harness.tasks.suites import SUITES

    fetchers = dict.fromkeys(SUITES, _fetch_suite) | {"glove": _fetch_glove}
    fetchers |= {name: partial(_fetch_training_file, name) for name in TRAINING_FILES}
    show_rows([pick("data set", fetchers, what)(settings)], settings)


def _fetch_suite(settings: Settings) -> dict[str, object]:
    from harness.data.fetch import fetch_senteval

    found = fetch_senteval(settings.cache, offline=settings.offline, progress=not settings.quiet)
    return {"folder": str(found.path), "from": found.repo, "revision": found.revision, "sha256": found.sha256}


def _fetch_training_file(name: str, settings: Settings) -> dict[str, object]:
    from harness.data.fetch import fetch_training_file

    path = fetch_training_file(name, offline=settings.offline, progress=not settings.quiet)
    return {"file": str(path), "use": f"fit={name}"}


def _fetch_glove(settings: Settings) -> dict[str, object]:
    from harness.data.glove import fetch_glove

    with progress_bars(quiet=settings.quiet) as progress:
        path = fetch_glove(settings.cache, offline=settings.offline, progress=progress)
    return {"file": str(path), "use": "avg-glove"}
