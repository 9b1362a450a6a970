"""`bench data`."""

from typing import Annotated

import typer

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
    suite: Annotated[str, typer.Option("--suite", "-s", help="Whose data; all suites come in one archive.")] = "sts",
) -> None:
    """Download SentEval's data, as SimCSE packed them, from the hub; an interrupted download goes on."""
    from harness.data.fetch import fetch_senteval
    from harness.registry import pick
    from harness.tasks.suites import SUITES

    pick("suite", SUITES, suite)
    found = fetch_senteval(settings.cache, offline=settings.offline, progress=not settings.quiet)
    show_rows(
        [{"folder": str(found.path), "from": found.repo, "revision": found.revision, "sha256": found.sha256}], settings
    )
