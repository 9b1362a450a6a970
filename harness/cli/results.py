"""`bench results`, `bench schema`, `bench export` and `bench import`: result files, and other programs' formats."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import completion, options
from harness.cli.console import Rows, err, notice, notice_unless_quiet, print_json, show_rows, tell
from harness.cli.options import Computation, argument, command, lookup, option, shared, told_results
from harness.errors import UsageError
from harness.names import pick, split_specs

if TYPE_CHECKING:
    from harness.names import EncoderCard
    from harness.reports.published import Imported

results_app = typer.Typer(no_args_is_help=True, help="Check a results folder, or list it.")
export_app = typer.Typer(no_args_is_help=True, help="Write a model, or results, as other programs read them.")
import_app = typer.Typer(
    no_args_is_help=True, help="Add results of other programs to a table of published numbers, for `--published FILE`."
)


@results_app.command()
@command
def check(results_dir: options.ResultsDir = Path("results"), json: options.Json = False) -> None:
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
        if not problems:
            tell(f"{results_dir}: nothing is wrong")
    if problems:
        raise typer.Exit(1)


@results_app.command("list")
@lookup
def list_(results_dir: options.ResultsDir = Path("results"), json: options.Json = False) -> None:
    """List the encoders that were measured, with the number of their results."""
    days: dict[str, list[str]] = {}
    for result in told_results(results_dir):
        days.setdefault(result.encoder.name, []).append(result.run.started[:10])
    rows: Rows = [{"encoder": name, "results": len(own), "measured": max(own)} for name, own in days.items()]
    show_rows(rows, json=json, empty=f"{results_dir}: no results")


@lookup
def schema(
    kind: Annotated[str, argument(help="result, or encoder.", choices=("result", "encoder"))] = "result",
) -> None:
    """Print the JSON schema of a result's file, or of an encoder's card beside it."""
    from harness.results.documents import schemas

    print_json(pick("schema", schemas(), kind))


@export_app.command("model")
@command
def export_model(
    model: Annotated[
        str, argument(help="An encoder over one checkpoint, as for `bench run`.", choices=completion.MODELS)
    ],
    output: Annotated[Path, option("--output", "-o", help="New folder for the model.")],
    layout: Annotated[
        str, option("--format", "-f", help="sentence-transformers or huggingface.", choices=completion.MODEL_FORMATS)
    ] = "sentence-transformers",
    data_dir: options.DataDir = None,
    results_dir: options.ResultsDir = Path("results"),
    cache_dir: options.CacheDir = None,
    device: options.Device = "auto",
    backbone: options.Backbone = None,
    offline: options.Offline = False,
    json: options.Json = False,
) -> None:
    """Write an encoder as a folder that other libraries load. Exported weights are float32.

    Its README.md and .eval_results hold the scores that the results folder has of it, as the hub reads them.

    For example: bench export model simcse-unsup --output model --format sentence-transformers
    """
    from harness.encoders.export import export
    from harness.encoders.registry import build
    from harness.encoders.transformer import TransformerEncoder

    computation = Computation(cache_dir=cache_dir, data_dir=data_dir, device=device, backbone=backbone, offline=offline)
    with computation.context() as context:
        encoder = build(model, context)
        if not isinstance(encoder, TransformerEncoder):
            raise UsageError(
                f"{model}: cannot be exported, expected an encoder that is one checkpoint with one pooling"
            )
        folder = export(encoder, output, layout)
    scores = _write_scores(folder, encoder.card, layout, results_dir)
    if json:
        print_json({"folder": str(folder), "format": layout, "model": encoder.card.name, "scores": scores})
    else:
        said = f"{encoder.card.name}: {layout} folder in {folder}, its card has {scores} scores of {results_dir}"
        err.print(said, markup=False, soft_wrap=True)


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


@export_app.command("results")
@command
def export_results(
    output: Annotated[Path, option("--output", "-o", help="Folder for the other program's files.")],
    layout: Annotated[
        str, option("--format", "-f", help="mteb: its public results layout.", choices=("mteb",))
    ] = "mteb",
    models: options.Models = "",
    results_dir: options.ResultsDir = Path("results"),
    json: options.Json = False,
) -> None:
    """Write results as another program's own, for instance for mteb's `ResultCache(DIR).load_results()`.

    mteb has STS12 to STS16, STSBenchmark, STSBenchmark.v2 and SICK-R over all pairs, with one correlation each.

    For example: bench export results --format mteb --output mteb-results
    """
    from harness.integrations.mteb import write_mteb

    pick("format", {"mteb": None}, layout)
    found = told_results(results_dir)
    measured = dict.fromkeys(result.encoder.name for result in found)
    names = split_specs(models) if models else [*measured]
    for name in names:
        pick("measured encoder", measured, name)
    written = write_mteb([result for result in found if result.encoder.name in names], output)
    if json:
        print_json({"files": [str(path) for path in written.files], "left_out": list(written.others)})
        return
    if written.others:
        notice_unless_quiet(f"left out, as mteb has no such task: {', '.join(written.others)}")
    tell(f"{len(written.files)} files in {output}")


Output = Annotated[
    Path, shared("--output", "-o", help="The table, a .csv; made if missing, and added to if not.", group="import")
]


@import_app.command("mteb")
@command
def import_mteb(
    place: Annotated[Path, argument(help="A result file of mteb, or a folder of them.")],
    model: Annotated[str, option(help="The model, for files that do not lie in mteb's layout.")] = "",
    output: Output = Path("published.csv"),
    json: options.Json = False,
) -> None:
    """Read mteb's result files, of any version: STS12 to STS16, STSBenchmark, STSBenchmark.v2 and SICK-R.

    For example: bench import mteb results/sentence-transformers__all-MiniLM-L6-v2 --output published.csv
    """
    from harness.integrations.imports import read_mteb

    _add(read_mteb(place, model), output, json=json)


@import_app.command("simcse")
@command
def import_simcse(
    file: Annotated[Path, argument(help="The output of SimCSE's evaluation.py.")],
    model: Annotated[
        str,
        option(
            *("--model", "-m"),
            help="The encoder that was measured, as a specification where it is one of ours.",
            choices=completion.MODELS,
        ),
    ],
    output: Output = Path("published.csv"),
    json: options.Json = False,
) -> None:
    """Read the tables that SimCSE's evaluation.py prints.

    For example: bench import simcse evaluation.log --model hf:princeton-nlp/unsup-simcse-bert-base-uncased
    """
    from harness.integrations.imports import read_simcse

    _add(read_simcse(file, model), output, json=json)


@import_app.command("published")
@command
def import_published(
    file: Annotated[Path, argument(help="A CSV with the columns paper, model, task and value at least.")],
    output: Output = Path("published.csv"),
    json: options.Json = False,
) -> None:
    """Check a table of published numbers of your own, and add it to another.

    For example: bench import published paper.csv --output published.csv
    """
    from harness.reports.published import Imported, read_numbers

    _add(Imported(read_numbers(file)), output, json=json)


def _add(found: "Imported", output: Path, *, json: bool) -> None:
    from harness.reports.published import add_numbers

    add_numbers(output, found.numbers)
    if json:
        print_json({"file": str(output), "added": len(found.numbers), "left_out": list(found.others)})
        return
    if found.others:
        names = sorted(set(found.others))
        few = f"{', '.join(names[:5])} and {len(names) - 5} more" if len(names) > 5 else ", ".join(names)
        tell(f"left out, as no table here shows them: {few}")
    models = len({number.model for number in found.numbers})
    tell(
        f"{len(found.numbers)} numbers of {models} model{'' if models == 1 else 's'} added to {output}; "
        f"`bench report --published {output}` shows them"
    )
