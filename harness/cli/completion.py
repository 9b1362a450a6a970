"""What shells complete: the choices of options and arguments, looked up when a shell asks, and without torch.

Choices that a module with torch defines are repeated here; a test holds them to that module.
"""

import csv
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import typer

Completion = Callable[[typer.Context, str], list[str]]
Given = Mapping[str, Any]  # what stands on the line already, by the names of parameters
Choices = str | Iterable[str] | Callable[[Given], Iterable[str]]  # a string is `module:name` of a table or a function

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
        return [name for name in _names(choices, ctx) if name.startswith(incomplete)]

    return complete


def some_of(choices: Choices) -> Completion:
    """Completes the last name of a list that commas separate; the others are kept."""

    def complete(ctx: typer.Context, incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        return [f"{before}{comma}{name}" for name in _names(choices, ctx) if name.startswith(last)]

    return complete


def _names(choices: Choices, ctx: typer.Context) -> Iterable[str]:
    if callable(choices):
        return choices(ctx.params)
    return _look_up(choices) if isinstance(choices, str) else choices


def _look_up(place: str) -> Iterable[str]:
    module, _, name = place.partition(":")
    found: Any = getattr(import_module(module), name)
    names: Iterable[str] = found() if callable(found) else found
    return names


def trainable(given: Given) -> Iterable[str]:
    """The encoders that `bench train` trains."""
    return sorted(point.name for point in entry_points(group="bench.trainers"))


def published_rows(given: Given) -> Iterable[str]:
    """How a row of a packaged paper begins, for `bench explain`."""
    return [f"{name}:" for name in _look_up(SOURCES)]


def data_sets(given: Given) -> Iterable[str]:
    """What `bench data fetch` fetches."""
    return [*_look_up(SUITES), "glove", *_look_up("harness.data.download:TRAINING_FILES")]


def report_tables(given: Given) -> Iterable[str]:
    """The tables of `bench report`."""
    from harness.reports.layouts import LAYOUTS

    return [layout.name for layout in LAYOUTS]


def paper_targets(kind: str) -> Choices:
    """The numbers of the `table`s or `figure`s of the paper that is named before them."""

    def numbers(given: Given) -> Iterable[str]:
        from harness.reports.targets import load_paper

        named = [target.partition("-")[::2] for target in load_paper(given.get("name") or "simcse").targets]
        return ["all", *(number for what, number in named if what == kind)]

    return numbers


def measured(given: Given) -> Iterable[str]:
    """The encoders of the results folder, whose index is read and nothing else."""
    from harness.results.documents import INDEX

    try:
        with (Path(given.get("results_dir") or "results") / INDEX).open(encoding="utf-8", newline="") as file:
            return dict.fromkeys(line["encoder"] for line in csv.DictReader(file))
    except (OSError, ValueError, KeyError, csv.Error):  # nothing was measured there
        return []
