"""`bench export`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import completion, options
from harness.cli.completion import one_of
from harness.cli.console import err, print_json
from harness.cli.options import command, context_of, notice, told_results
from harness.errors import UsageError
from harness.names import pick, split_specs

if TYPE_CHECKING:
    from harness.names import EncoderCard

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
    from harness.integrations.mteb_results import write_mteb
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
