"""What shells complete: the choices of options and arguments, looked up when a shell asks, and without torch.

Choices that a module with torch defines are repeated here; a test holds them to that module.
"""

import csv
from collections.abc import Callable, Iterable
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import typer

Completion = Callable[[typer.Context, str], list[str]]
Choices = str | Iterable[str] | Callable[[], Iterable[str]]  # `module:name` of a table or a function, or one itself

MODELS = "harness.encoders.registry:known_encoders"
SUITES = "harness.tasks.suites:SUITES"
TASKS = "harness.tasks.suites:TASKS"
SOURCES = "harness.reports.published:sources"
TEXTS = "harness.data.named_texts:NAMED"
PAPERS = "harness.reports.targets:PAPERS"

DEVICES = ("auto", "cpu", "cuda", "mps")
DTYPES = ("float32", "bfloat16", "float16")
ENGINES = ("local", "ray", "slurm")
MODEL_FORMATS = ("sentence-transformers", "huggingface")
OTHERS = ("senteval", "sentence-transformers", "mteb")
LEVELS = ("debug", "info", "warning", "error")


def one_of(choices: Choices) -> Completion:
    """Completes a single name."""

    def complete(ctx: typer.Context, incomplete: str) -> list[str]:
        return [name for name in _names(choices) if name.startswith(incomplete)]

    return complete


def some_of(choices: Choices) -> Completion:
    """Completes the last name of a list that commas separate; the others are kept."""

    def complete(ctx: typer.Context, incomplete: str) -> list[str]:
        return _last(incomplete, _names(choices))

    return complete


def _names(choices: Choices) -> Iterable[str]:
    found: Any = choices
    if isinstance(choices, str):
        module, _, name = choices.partition(":")
        found = getattr(import_module(module), name)
    names: Iterable[str] = found() if callable(found) else found
    return names


def _last(incomplete: str, choices: Iterable[str]) -> list[str]:
    before, comma, last = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in choices if name.startswith(last)]


def trainable() -> Iterable[str]:
    """The encoders that `bench train` trains."""
    return sorted(point.name for point in entry_points(group="bench.trainers"))


def rows() -> Iterable[str]:
    """How a row of a packaged paper begins, for `bench explain`."""
    return [f"{name}:" for name in _names(SOURCES)]


def data_sets() -> Iterable[str]:
    """What `bench data fetch` fetches."""
    return [*_names(SUITES), "glove", *_names("harness.data.download:TRAINING_FILES")]


def report_tables() -> Iterable[str]:
    """The tables of `bench report`."""
    from harness.reports.layouts import LAYOUTS

    return [layout.name for layout in LAYOUTS]


def complete_target(kind: str) -> Completion:
    """Completes numbers of the `table` or `figure` of the paper that is named before them."""

    def complete(ctx: typer.Context, incomplete: str) -> list[str]:
        from harness.reports.targets import load_paper

        named = [target.partition("-")[::2] for target in load_paper(ctx.params.get("name") or "simcse").targets]
        return _last(incomplete, ["all", *(number for what, number in named if what == kind)])

    return complete


def complete_measured(ctx: typer.Context, incomplete: str) -> list[str]:
    """Completes an encoder of the results folder, whose index is read and nothing else."""
    from harness.results.documents import INDEX

    try:
        with (Path(ctx.params.get("results_dir") or "results") / INDEX).open(encoding="utf-8", newline="") as file:
            names = dict.fromkeys(line["encoder"] for line in csv.DictReader(file))
    except (OSError, ValueError, KeyError, csv.Error):  # nothing was measured there
        return []
    return [name for name in names if name.startswith(incomplete)]
