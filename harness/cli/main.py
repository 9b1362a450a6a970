"""The `bench` command. Modules that need torch are imported inside the commands, so that `--help` is instant."""

import os
import sys
from pathlib import Path
from typing import Annotated, TextIO

import typer

from harness import __version__
from harness.cli.compare import check, compare, power
from harness.cli.console import out
from harness.cli.data import cache_app, data_app, doctor
from harness.cli.explain import explain, verify
from harness.cli.list import list_
from harness.cli.paper import claims, paper
from harness.cli.plot import plot_app
from harness.cli.report import report
from harness.cli.results import export_app, import_app, results_app, schema
from harness.cli.run import run
from harness.cli.study import pack, study, unpack
from harness.cli.train import log, train
from harness.files import write_error

app = typer.Typer(
    name="bench",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Reproducible evaluation of sentence embeddings: the SimCSE paper's methods, protocols and numbers.",
    epilog="Start with: bench run --suite mini --models minilm,bag-of-words,random --results-dir first/results",
)
# Both in the order of the help.
COMMANDS = (
    *(run, train, log, report, study, pack, unpack, paper, compare, explain, claims, check, power, verify),
    *(list_, schema, doctor),
)
GROUPS = {
    "plot": plot_app,
    "export": export_app,
    "import": import_app,
    "data": data_app,
    "results": results_app,
    "cache": cache_app,
}
for one in COMMANDS:
    app.command(one.__name__.rstrip("_"))(one)
for name, group in GROUPS.items():
    app.add_typer(group, name=name)


def _print_version(wanted: bool) -> None:
    if wanted:
        out.print(__version__, highlight=False)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Entry point of the console script."""
    # A notebook's drawing backend is of no use to a command, and may not be installed here.
    os.environ.pop("MPLBACKEND", None)
    sys.stdout, sys.stderr = _usable(sys.stdout), _usable(sys.stderr)
    try:
        app(prog_name="bench")
    finally:
        _finish()


def _usable(stream: TextIO | None) -> TextIO:
    """A stream that takes every character: one that it cannot encode becomes `?`; a closed stream swallows all."""
    if stream is None:
        return open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123  open until the process ends
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="replace")
    return stream


def _finish() -> None:
    """Write what the streams still hold. Output that is lost is an error, a notice that is lost is none."""
    ended = sys.exception()  # the command's own exit: one that failed has said why, and keeps its code
    said = isinstance(ended, SystemExit) and bool(ended.code)
    for stream in (sys.stderr, sys.stdout):
        try:
            stream.flush()
        except OSError as error:
            with open(os.devnull, "w", encoding="utf-8") as nowhere:  # noqa: PTH123  not a file
                os.dup2(nowhere.fileno(), stream.fileno())  # so that the interpreter's own flush does not fail again
            if said or stream is sys.stderr:
                continue
            if isinstance(error, BrokenPipeError):
                raise SystemExit(1) from None
            lost = write_error(Path("standard output"), error)
            sys.stderr.write(f"bench: {lost}\n")
            raise SystemExit(lost.exit_code) from None
