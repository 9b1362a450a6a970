"""What shells complete: the choices of options and arguments, looked up when a shell asks, and without torch.

Choices that a module with torch defines are repeated here; a test holds them to that module.
"""

import csv
from collections.abc import Callable, Iterable
from pathlib import Path

import typer

Completion = Callable[[typer.Context, str], list[str]]

DEVICES = ("auto", "cpu", "cuda", "mps")
DTYPES = ("float32", "bfloat16", "float16")
ENGINES = ("local", "ray", "slurm")
MODEL_FORMATS = ("sentence-transformers", "huggingface")
OTHERS = ("senteval", "sentence-transformers", "mteb")
LEVELS = ("debug", "info", "warning", "error")


def one_of(choices: Callable[[], Iterable[str]]) -> Completion:
    """Completes a single name."""

    def complete(ctx: typer.Context, incomplete: str) -> list[str]:
        return [name for name in choices() if name.startswith(incomplete)]

    return complete


def some_of(choices: Callable[[], Iterable[str]]) -> Completion:
    """Completes the last name of a list that commas separate; the others are kept."""

    def complete(ctx: typer.Context, incomplete: str) -> list[str]:
        return _last(incomplete, choices())

    return complete


def _last(incomplete: str, choices: Iterable[str]) -> list[str]:
    before, comma, last = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in choices if name.startswith(last)]


def models() -> Iterable[str]:
    """The encoders that have a name."""
    from harness.encoders.registry import known_encoders

    return known_encoders()


def trainable() -> Iterable[str]:
    """The encoders that `bench train` trains."""
    from importlib.metadata import entry_points

    return sorted(point.name for point in entry_points(group="bench.trainers"))


def backbones() -> Iterable[str]:
    """The backbones that are bundled; any checkpoint is one too."""
    from harness.reports.targets import BUNDLED

    return BUNDLED


def suites() -> Iterable[str]:
    """The suites of tasks."""
    from harness.tasks.suites import SUITES

    return SUITES


def tasks() -> Iterable[str]:
    """The tasks."""
    from harness.tasks.suites import TASKS

    return TASKS


def modes() -> Iterable[str]:
    """The modes of the probes."""
    from harness.tasks.probes.settings import MODES

    return MODES


def classifiers() -> Iterable[str]:
    """The classifiers of the probes."""
    from harness.tasks.suites import CLASSIFIERS

    return CLASSIFIERS


def trackers() -> Iterable[str]:
    """The experiment trackers."""
    from harness.integrations.trackers import TRACKERS

    return TRACKERS


def sources() -> Iterable[str]:
    """The papers whose numbers are packaged."""
    from harness.reports import published

    return published.sources()


def rows() -> Iterable[str]:
    """How a row of a packaged paper begins, for `bench explain`."""
    return [f"{name}:" for name in sources()]


def texts() -> Iterable[str]:
    """The texts that have a name."""
    from harness.data.named_texts import NAMED

    return NAMED


def data_sets() -> Iterable[str]:
    """What `bench data fetch` fetches."""
    from harness.data.fetch import TRAINING_FILES

    return [*suites(), "glove", *TRAINING_FILES]


def report_formats() -> Iterable[str]:
    """The formats of `bench report`."""
    from harness.reports.report import FORMATS

    return FORMATS


def report_tables() -> Iterable[str]:
    """The tables of `bench report`."""
    from harness.reports.layouts import LAYOUTS

    return [layout.name for layout in LAYOUTS]


def papers() -> Iterable[str]:
    """The papers whose tables can be filled."""
    from harness.reports.targets import PAPERS

    return PAPERS


def widths() -> Iterable[str]:
    """The widths of a figure."""
    from harness.reports.figures.canvas import WIDTHS

    return WIDTHS


def figure_tasks() -> Iterable[str]:
    """The tasks that figures are drawn of."""
    from harness.reports.figures.measured import DATA

    return DATA


def figure_splits() -> Iterable[str]:
    """The splits that figures are drawn of."""
    from harness.reports.figures.measured import SPLITS

    return SPLITS


def positives() -> Iterable[str]:
    """The kinds of positive pairs."""
    from harness.reports.figures.measured import POSITIVES

    return POSITIVES


def sentences() -> Iterable[str]:
    """The kinds of sentences of uniformity."""
    from harness.reports.figures.measured import SENTENCES

    return SENTENCES


def complete_target(kind: str) -> Completion:
    """Completes numbers of the `table` or `figure` of the paper that is named before them."""

    def complete(ctx: typer.Context, incomplete: str) -> list[str]:
        from harness.reports.targets import load_paper

        named = [target.partition("-")[::2] for target in load_paper(ctx.params.get("name") or "simcse").targets]
        return _last(incomplete, ["all", *(number for what, number in named if what == kind)])

    return complete


def complete_measured(ctx: typer.Context, incomplete: str) -> list[str]:
    """Completes an encoder of the results folder, whose index is read and nothing else."""
    from harness.results.layout import INDEX

    try:
        with (Path(ctx.params.get("results_dir") or "results") / INDEX).open(encoding="utf-8", newline="") as file:
            names = dict.fromkeys(line["encoder"] for line in csv.DictReader(file))
    except (OSError, ValueError, KeyError, csv.Error):  # nothing was measured there
        return []
    return [name for name in names if name.startswith(incomplete)]
