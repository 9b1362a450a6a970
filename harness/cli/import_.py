"""`bench import`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import completion, options
from harness.cli.completion import one_of
from harness.cli.console import err, print_json
from harness.cli.options import command, shared

if TYPE_CHECKING:
    from harness.reports.numbers import Imported

import_app = typer.Typer(
    no_args_is_help=True, help="Add results of other programs to a table of published numbers, for `--published FILE`."
)

Output = Annotated[
    Path, shared("--output", "-o", help="The table, a .csv; made if missing, and added to if not.", group="import")
]
_MODEL = "The encoder that was measured, as a specification where it is one of ours."


@import_app.command()
@command
def mteb(
    place: Annotated[Path, typer.Argument(help="A result file of mteb, or a folder of them.")],
    model: Annotated[str, typer.Option(help="The model, for files that do not lie in mteb's layout.")] = "",
    output: Output = Path("published.csv"),
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Read mteb's result files, of any version: STS12 to STS16, STSBenchmark, STSBenchmark.v2 and SICK-R.

    For example: bench import mteb results/sentence-transformers__all-MiniLM-L6-v2 --output published.csv
    """
    from harness.integrations.mteb_results import read_mteb

    _add(read_mteb(place, model), output, json=json, quiet=quiet)


@import_app.command()
@command
def simcse(
    file: Annotated[Path, typer.Argument(help="The output of SimCSE's evaluation.py.")],
    model: Annotated[str, typer.Option("--model", "-m", help=_MODEL, autocompletion=one_of(completion.MODELS))],
    output: Output = Path("published.csv"),
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Read the tables that SimCSE's evaluation.py prints.

    For example: bench import simcse evaluation.log --model hf:princeton-nlp/unsup-simcse-bert-base-uncased
    """
    from harness.integrations.simcse_table import read_simcse

    _add(read_simcse(file, model), output, json=json, quiet=quiet)


@import_app.command()
@command
def published(
    file: Annotated[Path, typer.Argument(help="A CSV with the columns paper, model, task and value at least.")],
    output: Output = Path("published.csv"),
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Check a table of published numbers of your own, and add it to another.

    For example: bench import published paper.csv --output published.csv
    """
    from harness.reports.numbers import Imported, read_numbers

    _add(Imported(read_numbers(file)), output, json=json, quiet=quiet)


def _add(found: "Imported", output: Path, *, json: bool, quiet: bool) -> None:
    from harness.reports.numbers import add_numbers

    add_numbers(output, found.numbers)
    if json:
        print_json({"file": str(output), "added": len(found.numbers), "left_out": list(found.others)})
    elif not quiet:
        if found.others:
            names = sorted(set(found.others))
            few = f"{', '.join(names[:5])} and {len(names) - 5} more" if len(names) > 5 else ", ".join(names)
            err.print(f"left out, as no table here shows them: {few}", markup=False, soft_wrap=True)
        models = len({number.model for number in found.numbers})
        err.print(
            f"{len(found.numbers)} numbers of {models} model{'' if models == 1 else 's'} added to {output}; "
            f"`bench report --published {output}` shows them",
            markup=False,
            soft_wrap=True,
        )
