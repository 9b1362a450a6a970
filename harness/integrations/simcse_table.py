"""The tables that SimCSE's `evaluation.py` prints, read from its output as numbers of known origin.

    ------ test ------
    +-------+-------+-------+-------+-------+--------------+-----------------+-------+
    | STS12 | STS13 | STS14 | STS15 | STS16 | STSBenchmark | SICKRelatedness |  Avg. |
    +-------+-------+-------+-------+-------+--------------+-----------------+-------+
    | 75.30 | 84.67 | 80.19 | 85.40 | 80.82 |    84.25     |      80.39      | 81.57 |
    +-------+-------+-------+-------+-------+--------------+-----------------+-------+

It prints 0.00 for a task that was not run, and then its average is none. In the modes dev and fasttest its classifiers
have other settings than the paper's, so their accuracies are left out.

Source: https://github.com/princeton-nlp/SimCSE/blob/49fa580/evaluation.py
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from harness.errors import UsageError
from harness.names import STS
from harness.reports.numbers import AVERAGE, Imported, Published, checked

_MODE = re.compile(r"-+ (dev|test|fasttest) -+")
_NOT_RUN = "0.00"


def read_simcse(path: Path, model: str) -> Imported:
    """Published rows from the output of `evaluation.py`; other lines around its tables are passed over.

    Args:
        path: the output.
        model: the encoder that was evaluated, as a specification where it is one of ours.

    Raises:
        UsageError: if there is no such table, or a number is none or out of range.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}), expected evaluation.py's output") from error
    start = next((number for number, line in enumerate(lines) if _MODE.fullmatch(line)), None)
    if start is None:
        raise UsageError(f"{path}: no line '------ test ------', expected the output of SimCSE's evaluation.py")
    mode = _MODE.fullmatch(lines[start])[1]  # type: ignore[index]
    numbers: list[Published] = []
    others: list[str] = []
    for table in _tables(path, lines[start:]):
        correlations = bool(set(table) & set(STS))
        run = {task: text for task, text in table.items() if text != _NOT_RUN}
        if len(run) < len(table):
            run.pop("Avg.", None)
        if not correlations and mode != "test":
            others += [f"{task} ({mode})" for task in run]
            continue
        numbers += [_number(path, model, task, text, mode, correlations=correlations) for task, text in run.items()]
    if not numbers:
        raise UsageError(f"{path}: no number of mode {mode} that compares, expected correlations or accuracies of test")
    return Imported(tuple(numbers), tuple(others))


def _tables(path: Path, lines: list[str]) -> Iterator[Mapping[str, str]]:
    """Head -> number, of every table: a line of heads, and a line of numbers below it."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    for start in range(0, len(rows), 2):
        pair = rows[start : start + 2]
        if len(pair) < 2 or len(pair[0]) != len(pair[1]):
            raise UsageError(f"{path}: a table ends in the middle, expected a line of numbers below {pair[0]}")
        if len(set(pair[0])) < len(pair[0]):
            raise UsageError(f"{path}: a task is twice in the head {pair[0]}, expected each once")
        yield dict(zip(*pair, strict=True))


def _number(path: Path, model: str, task: str, text: str, mode: str, *, correlations: bool) -> Published:
    try:
        value = float(text)
    except ValueError:
        raise UsageError(f"{path}: {text!r} on {task} is no number, expected percent") from None
    average = task == "Avg."
    number = Published(
        paper="evaluation.py",
        model=model,
        task=AVERAGE if average else f"{task}-dev" if mode == "dev" else task,
        metric="spearman" if correlations else "accuracy",
        aggregation="all" if correlations else "",
        split="test" if average else "",
        value=value,
        origin=f"SimCSE's evaluation.py, {path.name}",
        spec=model,
    )
    return checked(number, str(path))
