"""`bench train` and `bench export`."""

import os
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from harness.cli.console import err, out, print_json, progress_bars
from harness.cli.evaluate import torch_device
from harness.cli.options import Settings, command
from harness.errors import UsageError

_ENTRY_POINTS = "bench.trainers"


@command
def train(
    settings: Settings,
    model: Annotated[
        str, typer.Argument(help="What to train: simcse-unsup, simcse-sup, or with \\[parameter=value,...].")
    ],
    data: Annotated[str, typer.Option("--data", help="Training text: a name, a .txt or a .csv.")] = "",
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Of a single run.")] = None,
    seeds: Annotated[
        int | None, typer.Option("--seeds", min=1, help="Train so many replicates, with the seeds 0, 1, ...")
    ] = None,
    options: Annotated[
        list[str] | None, typer.Option("--set", help="Any parameter of the model as name=value; repeat it.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", min=1, help="Rows of a step.")] = None,
    lr: Annotated[float | None, typer.Option("--lr", help="Learning rate of the first step.")] = None,
    epochs: Annotated[float | None, typer.Option("--epochs", help="Passes over the data.")] = None,
    max_steps: Annotated[int | None, typer.Option("--max-steps", min=1, help="So many steps instead.")] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder for the model; else the cache, where runs look for it."),
    ] = None,
    compile_: Annotated[
        bool, typer.Option("--compile", help="Run the model through torch.compile, for long runs on a GPU.")
    ] = False,
) -> None:
    """Train a model; killed, the same command goes on where the last checkpoint is.

    For example: bench train simcse-unsup --backbone tiny --data wiki.txt --seeds 5
    """
    given: dict[str, object] = {"batch_size": batch_size, "learning_rate": lr, "epochs": epochs, "max_steps": max_steps}
    given |= {"data": data or None}
    changes = _changes(given, options or [], seeded=seed is not None or seeds is not None)
    if seeds is not None and seed is not None:
        raise UsageError("--seed and --seeds: give one of them; --seeds N trains with the seeds 0 to N-1")
    runs = []
    for own_seed in range(seeds) if seeds else [seed]:
        own = changes | ({"seed": str(own_seed)} if own_seed is not None else {})
        place = output / f"seed-{own_seed}" if output and seeds else output
        runs.append(_train_one(model, own, place, settings, compile_=compile_))
        if not (settings.json or settings.quiet):
            _tell(runs[-1])
    if os.environ.get("RANK", "0") != "0":
        return  # of torchrun's processes the first one speaks
    if settings.json:
        print_json({"runs": runs, "dev": _summary(runs)})
    elif len(runs) > 1 and (summary := _summary(runs)) is not None:
        out.print(
            "dev Spearman x 100: mean {mean:.2f}, standard deviation {sd:.2f}, range {low:.2f} to {high:.2f}".format(
                **{name: 100 * value for name, value in summary.items()}
            )
        )


def _changes(given: Mapping[str, object], pairs: list[str], *, seeded: bool) -> dict[str, str]:
    """Parameters by name: those that have options of their own (None: not given), and those of `--set`."""
    for option, name in (("--lr", "learning_rate"), ("--epochs", "epochs")):
        number = given[name]
        if isinstance(number, float) and not number > 0:  # a 0 would be read as "as published"
            raise UsageError(f"{option} {number}: expected more than 0")
    changes = {name: str(value) for name, value in given.items() if value is not None}
    for name, value in map(_pair, pairs):
        if name in changes or (name == "seed" and seeded):
            raise UsageError(f"--set {name}={value}: {name} is given twice; drop one of them")
        changes[name] = value
    return changes


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise UsageError(f"--set {text}: expected name=value, for instance --set temperature=0.1")
    return name, value


def _train_one(
    model: str, changes: dict[str, str], output: Path | None, settings: Settings, *, compile_: bool
) -> dict[str, Any]:
    from importlib.metadata import entry_points

    from harness.encoders.context import Context
    from harness.encoders.registry import resolve
    from harness.names import Spec, pick

    spec = Spec.parse(model)
    name, written = spec.name, dict(spec.given)
    trainer = pick("trainable model", {point.name: point for point in entry_points(group=_ENTRY_POINTS)}, name).load()
    with progress_bars(quiet=settings.quiet) as progress:
        context = Context(
            cache_dir=settings.cache,
            data_dir=settings.data_dir,
            device=torch_device(settings.device),
            backbone=settings.backbone,
            offline=settings.offline,
            progress=progress,
        )
        if settings.backbone is not None:
            written.setdefault("backbone", settings.backbone)
        if settings.dtype != "float32":
            written.setdefault("dtype", _training_dtype(settings.dtype))
        asked = resolve(Spec(name, written | changes), context)
        return {"model": str(asked.spec), **trainer(asked, context, output, compile=compile_)}


def _training_dtype(name: str) -> str:
    if name != "bfloat16":
        raise UsageError(f"--dtype {name}: training runs in float32 or bfloat16; name one of them")
    return name


def _tell(run: Mapping[str, Any]) -> None:
    selected = run["selected"]
    score = selected["dev_spearman"]
    chosen = f"step {selected['step']} of {run['steps']}" + (f", dev Spearman {100 * score:.2f}" if score else "")
    blank = f"; {run['data']['blank']} of {run['data']['rows']} texts are blank" if run["data"]["blank"] else ""
    err.print(f"{run['model']}: {chosen}; in {run['folder']}{blank}", markup=False, soft_wrap=True)


def _summary(runs: list[dict[str, Any]]) -> dict[str, float] | None:
    """Mean, standard deviation (n - 1) and range of the dev scores, -1..1; None where there are none."""
    scores = [run["selected"]["dev_spearman"] for run in runs]
    if not scores or None in scores:
        return None
    sd = statistics.stdev(scores) if len(scores) > 1 else 0.0
    return {"mean": statistics.mean(scores), "sd": sd, "low": min(scores), "high": max(scores)}


@command
def export(
    settings: Settings,
    model: Annotated[str, typer.Argument(help="An encoder over one checkpoint, as for `bench run`.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="New folder for the model.")],
    layout: Annotated[
        str, typer.Option("--format", "-f", help="sentence-transformers or huggingface.")
    ] = "sentence-transformers",
) -> None:
    """Write an encoder as a folder that other libraries load.

    For example: bench export simcse-unsup --output model --format sentence-transformers
    """
    from harness.encoders.context import Context
    from harness.encoders.export import export as write
    from harness.encoders.registry import build
    from harness.encoders.transformer import TransformerEncoder

    if settings.dtype != "float32":
        raise UsageError(f"--dtype {settings.dtype}: exported weights are float32; drop the option")
    with progress_bars(quiet=settings.quiet) as progress:
        context = Context(
            cache_dir=settings.cache,
            data_dir=settings.data_dir,
            device=torch_device(settings.device),
            backbone=settings.backbone,
            offline=settings.offline,
            progress=progress,
        )
        encoder = build(model, context)
        if not isinstance(encoder, TransformerEncoder):
            raise UsageError(
                f"{model}: cannot be exported, expected an encoder that is one checkpoint with one pooling"
            )
        folder = write(encoder, output, layout)
    if settings.json:
        print_json({"folder": str(folder), "format": layout, "model": encoder.card.name})
    else:
        err.print(f"{encoder.card.name}: {layout} folder in {folder}", markup=False, soft_wrap=True)
