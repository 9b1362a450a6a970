"""`bench results`, `bench schema`, `bench export` and `bench import`: result files, and other programs' formats."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import completion, options
from harness.cli.completion import one_of
from harness.cli.console import err, print_json, show_rows
from harness.cli.options import command, context_of, notice, shared, told_results
from harness.errors import UsageError
from harness.names import pick, split_specs

if TYPE_CHECKING:
    from harness.names import EncoderCard
    from harness.reports.numbers import Imported


results_app = typer.Typer(no_args_is_help=True, help="Check a results folder, list it, or convert an old one.")


@results_app.command()
@command
def check(
    results_dir: options.ResultsDir = Path("results"), json: options.Json = False, quiet: options.Quiet = False
) -> None:
    """Name every problem of a results folder: damaged, edited, repeated, misplaced and orphaned files.

    Every score is computed again from its per-item scores. Exit code 1 if anything is wrong.
    """
    from harness.results.store import find_problems

    problems = find_problems(results_dir)
    if json:
        print_json(problems)
    else:
        for problem in problems:
            notice(problem)
        if not problems and not quiet:
            err.print(f"{results_dir}: nothing is wrong", soft_wrap=True)
    if problems:
        raise typer.Exit(1)


@results_app.command("list")
@command
def list_(results_dir: options.ResultsDir = Path("results"), json: options.Json = False) -> None:
    """List the encoders that were measured, with the number of their results."""
    from harness.results.collection import load_results

    found = load_results(results_dir)
    for problem in found.problems:
        notice(f"left out: {problem}")
    rows: list[dict[str, object]] = []
    for name in found.encoders:
        own = [result for result in found if result.encoder.name == name]
        rows.append({"encoder": name, "results": len(own), "measured": max(one.run.started for one in own)[:10]})
    show_rows(rows, json=json, empty=f"{results_dir}: no results")


@command
def schema(
    kind: Annotated[
        str, typer.Argument(help="result, or encoder.", autocompletion=one_of(("result", "encoder")))
    ] = "result",
) -> None:
    """Print the JSON schema of a result's file, or of an encoder's card beside it."""
    from harness.names import pick
    from harness.results.documents import schemas

    print_json(pick("schema", schemas(), kind))


export_app = typer.Typer(no_args_is_help=True, help="Write a model, or results, as other programs read them.")


@export_app.command()
@command
def model(
    model: Annotated[
        str,
        typer.Argument(
            help="An encoder over one checkpoint, as for `bench run`.", autocompletion=one_of(completion.MODELS)
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="New folder for the model.")],
    layout: Annotated[
        str,
        typer.Option(
            "--format",
            "-f",
            help="sentence-transformers or huggingface.",
            autocompletion=one_of(completion.MODEL_FORMATS),
        ),
    ] = "sentence-transformers",
    data_dir: options.DataDir = None,
    results_dir: options.ResultsDir = Path("results"),
    cache_dir: options.CacheDir = None,
    device: options.Device = "auto",
    backbone: options.Backbone = None,
    offline: options.Offline = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Write an encoder as a folder that other libraries load. Exported weights are float32.

    Its README.md and .eval_results hold the scores that the results folder has of it, as the hub reads them.

    For example: bench export model simcse-unsup --output model --format sentence-transformers
    """
    from harness.encoders.export import export as write
    from harness.encoders.registry import build
    from harness.encoders.transformer import TransformerEncoder

    with context_of(
        cache_dir=cache_dir, data_dir=data_dir, device=device, backbone=backbone, offline=offline, quiet=quiet
    ) as context:
        encoder = build(model, context)
        if not isinstance(encoder, TransformerEncoder):
            raise UsageError(
                f"{model}: cannot be exported, expected an encoder that is one checkpoint with one pooling"
            )
        folder = write(encoder, output, layout)
    scores = _write_scores(folder, encoder.card, layout, results_dir)
    if json:
        print_json({"folder": str(folder), "format": layout, "model": encoder.card.name, "scores": scores})
    else:
        told = f"{encoder.card.name}: {layout} folder in {folder}, its card has {scores} scores of {results_dir}"
        err.print(told, markup=False, soft_wrap=True)


def _write_scores(folder: Path, card: "EncoderCard", layout: str, results_dir: Path) -> int:
    """Put what was measured of the encoder into the folder's card; returns how many scores that are."""
    from harness import files
    from harness.reports.modelcard import EVAL_RESULTS, eval_results, has_score, with_scores

    found = told_results(results_dir) if results_dir.is_dir() else []
    own = [result for result in found if result.encoder.identity == card.identity and has_score(result)]
    if own:
        readme = folder / "README.md"
        library = "transformers" if layout == "huggingface" else layout
        files.replace(readme, with_scores(readme.read_text(encoding="utf-8"), own, library).encode())
    if entries := eval_results(own):
        files.replace(folder / EVAL_RESULTS, entries.encode())
    return len(own)


@export_app.command()
@command
def results(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the other program's files.")],
    layout: Annotated[
        str,
        typer.Option(
            "--format",
            "-f",
            help="mteb: its public results layout.",
            autocompletion=one_of(("mteb",)),
        ),
    ] = "mteb",
    models: options.Models = "",
    results_dir: options.ResultsDir = Path("results"),
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Write results as another program's own, for instance for mteb's `ResultCache(DIR).load_results()`.

    mteb has STS12 to STS16, STSBenchmark, STSBenchmark.v2 and SICK-R over all pairs, with one correlation each.

    For example: bench export results --format mteb --output mteb-results
    """
    from harness.integrations.mteb import write_mteb
    from harness.results.collection import load_results

    pick("format", {"mteb": None}, layout)
    found = load_results(results_dir)
    for problem in found.problems:
        notice(f"left out: {problem}")
    names = split_specs(models) if models else found.encoders
    for name in names:
        pick("measured encoder", dict.fromkeys(found.encoders), name)
    written = write_mteb([result for result in found if result.encoder.name in names], output)
    if json:
        print_json({"files": [str(path) for path in written.files], "left_out": list(written.others)})
    elif not quiet:
        if written.others:
            notice(f"left out, as mteb has no such task: {', '.join(written.others)}")
        err.print(f"{len(written.files)} files in {output}", markup=False, soft_wrap=True)


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
    from harness.integrations.imports import read_mteb

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
    from harness.integrations.imports import read_simcse

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
