"""The `bench` command. Modules that need torch are imported inside the commands, so that `--help` is instant."""

import typer

from harness import __version__
from harness.cli.claims import claims
from harness.cli.compare import compare
from harness.cli.console import out
from harness.cli.data import data_app
from harness.cli.explain import explain
from harness.cli.list import cache, list_
from harness.cli.paper import paper
from harness.cli.plot import plot_app
from harness.cli.report import report
from harness.cli.run import run
from harness.cli.train import export, train
from harness.cli.verify import verify

app = typer.Typer(
    name="bench",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Reproducible evaluation of sentence embeddings: the SimCSE paper's methods, protocols and numbers.",
    epilog="Start with: bench run --suite mini --models minilm,bag-of-words,random",
)
app.command()(run)
app.command()(train)
app.command()(report)
app.add_typer(plot_app, name="plot")
app.command()(paper)
app.command()(compare)
app.command()(explain)
app.command()(claims)
app.command()(verify)
app.command()(export)
app.command(name="list")(list_)
app.add_typer(data_app, name="data")
app.command()(cache)


@app.command()
def version() -> None:
    """Print the version."""
    out.print(__version__, highlight=False)


def main() -> None:
    """Entry point of the console script."""
    app(prog_name="bench")
