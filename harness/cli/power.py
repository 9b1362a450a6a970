"""`bench power`."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from harness.cli import options
from harness.cli.completion import complete_measured
from harness.cli.console import Rows, err, out, print_json, show_rows
from harness.cli.options import command, told_results
from harness.errors import ResultError
from harness.names import STS, split_names


@command
def power(
    gain: Annotated[float, typer.Option("--gain", min=0.01, help="Points by which one method is to be better.")],
    encoder: Annotated[
        str,
        typer.Option(
            "--encoder",
            help="A method, or an encoder by its name in the results.",
            autocompletion=complete_measured,
        ),
    ],
    against: Annotated[
        str,
        typer.Option(
            "--against",
            help="The other method, if it is measured: its items are counted too.",
            autocompletion=complete_measured,
        ),
    ] = "",
    suite: options.Suite = "",
    tasks: options.Tasks = "",
    probability: Annotated[
        float, typer.Option("--power", min=0.5, max=0.99, help="Probability of noticing the gain.")
    ] = 0.8,
    backbone: options.Backbone = None,
    results_dir: options.ResultsDir = Path("results"),
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Say how many seeds a claim needs: both methods are trained with as many, and tested at 5 %, two-sided.

    The noise is that of measured seeds and items, and of runs that others published of the same recipe. Without a suite
    the claim is about the average over STS.

    For example: bench power --gain 0.5 --encoder simcse-unsup
    """
    from harness.reports.power import plan_power, runs_of

    chosen = _tasks(suite, tasks)
    results = told_results(results_dir)
    own = runs_of(encoder, backbone or "", results, chosen)
    other = runs_of(against, backbone or "", results, chosen) if against else None
    if other is not None and not other.estimates:
        raise ResultError(f"{results_dir}: holds no results of {against} on all of {', '.join(chosen)}; measure it")
    found = plan_power(gain, probability, own, other)
    if json:
        print_json(asdict(found))
        return
    rows: Rows = [
        {"seeds of each": n, "smallest gain noticed": f"{points:.2f}"} for n, points in found.smallest.items()
    ]
    show_rows(rows)
    noise = found.noise
    where = f"{found.measured} measured and {found.published} published runs" if found.published else "measured runs"
    out.print(
        f"{found.recipe}: one run spreads by {noise.spread.deviation:.2f} points ({where})",
        soft_wrap=True,
        markup=False,
    )
    needed = (
        f"{found.seeds} seeds of each method" if found.seeds else "no number of seeds is enough, items alone hide it"
    )
    out.print(f"a gain of {gain:g} points, noticed {probability:.0%} of the time: {needed}", soft_wrap=True)
    if not (quiet or against):
        err.print("items of the other method are not counted; --against NAME does that where it is measured")


def _tasks(suite: str, tasks: str) -> list[str]:
    if not (suite or tasks):
        return list(STS)
    from harness.tasks.suites import select  # loads torch, which the usual question does not wait for

    named = [split_names(text, option) if text else () for text, option in ((suite, "--suite"), (tasks, "--tasks"))]
    return [task.name for task in select(*named)]
