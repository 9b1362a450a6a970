"""Scores as a table has them: a dot with its interval for each encoder, and a heat map of tasks and encoders."""

from collections.abc import Sequence
from textwrap import fill

import numpy as np

from harness.errors import ResultError
from harness.reports.figures import canvas
from harness.reports.figures.canvas import EDGE, Drawing, plain
from harness.reports.table import Column, Row, Table

_HEADER = ("encoder", "label", "task", "value", "low", "high", "sd", "seeds")
_LETTERS = {"column": 36, "page": 72}  # of a line of a label, beside axes of a readable width
_HYPHEN = "\u2011"  # at which no line is broken
_DARK = 0.6  # of the colours: numbers on darker ones are white


def scores(table: Table, *, width: str = "column") -> Drawing:
    """The last score of each encoder, the best on top: the average, or that of the only task.

    The line is the 95 % interval over items; of several seeds it reaches one standard deviation of them either side.

    Raises:
        ResultError: if no encoder has that score.
    """
    position = max(i for i, column in enumerate(table.columns) if column.kind == "score")
    rows = [row for row in _measured(table) if row.cells[position].value is not None]
    if not rows:
        raise ResultError(f"{table.name}: no encoder has a score on every task; run the missing ones")
    column = table.columns[position]
    labels = _labels(rows, width)
    with canvas.style():
        figure = canvas.blank(width, 0.5 + _height(labels))
        axes = figure.add_subplot()
        places = np.arange(len(rows))[::-1]
        for place, row in zip(places, rows, strict=True):
            cell = row.cells[position]
            value = float(cell.value or 0.0)
            spread = cell.deviation
            low, high = cell.interval or (value, value) if spread is None else (value - spread, value + spread)
            axes.plot([low, high], [place, place], color="#777777", linewidth=1.0, zorder=2)
            face = canvas.DISTINCT[0] if cell.seeds == 1 else "white"
            axes.plot([value], [place], "o", markerfacecolor=face, markeredgecolor=EDGE, markersize=3.6, zorder=3)
        axes.set_yticks(places, labels, fontsize=5.5)
        axes.set_ylim(-0.7, len(rows) - 0.3)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel(f"{column.head.replace('Avg.', 'Average')} ({_unit(column)})", fontsize=7)
    caption = f"{table.title}. Lines are 95 % intervals over items"
    if any(row.cells[position].seeds > 1 for row in rows):
        caption += "; hollow points are means of several seeds, with one standard deviation either side"
    return Drawing(
        figure=figure,
        header=_HEADER,
        rows=[_line(row, position, table) for row in rows],
        caption=f"{caption}.{_left_out(table)}",
    )


def heat_map(table: Table, *, width: str = "column") -> Drawing:
    """Every score of every encoder; colours compare encoders within a task, from the lowest to the highest.

    Raises:
        ResultError: if there is no measured encoder.
    """
    positions = [i for i, column in enumerate(table.columns) if column.kind == "score"]
    rows = _measured(table)
    if not rows:
        raise ResultError(f"{table.name}: no encoder is measured; run `bench run` first")
    values = np.array([[_value(row, i) for i in positions] for row in rows])
    low, high = np.nanmin(values, axis=0), np.nanmax(values, axis=0)
    shares = (values - low) / np.where(high > low, high - low, 1)
    labels = _labels(rows, width)
    with canvas.style():
        figure = canvas.blank(width, 0.4 + _height(labels))
        axes = figure.add_subplot()
        axes.imshow(shares, aspect="auto", cmap="YlGnBu", vmin=0, vmax=1)
        for (i, j), value in np.ndenumerate(values):
            if np.isfinite(value):
                colour = "white" if shares[i, j] > _DARK else "black"
                axes.text(j, i, f"{value:.1f}", ha="center", va="center", fontsize=4.8, color=colour)
        axes.set_xticks(range(len(positions)), [table.columns[i].head for i in positions], fontsize=5.5, rotation=40)
        axes.set_yticks(range(len(rows)), labels, fontsize=5.5)
        axes.xaxis.tick_top()
        axes.grid(visible=False)
        axes.tick_params(length=0)
    lines = [_line(row, i, table) for row in rows for i in positions if row.cells[i].value is not None]
    caption = (
        f"{table.title}: {_unit(table.columns[positions[0]])} of each encoder on each task; colours compare the "
        f"encoders within a task, from its lowest score to its highest.{_left_out(table)}"
    )
    return Drawing(figure=figure, header=_HEADER, rows=lines, caption=caption)


def _measured(table: Table) -> list[Row]:
    return [row for row in table.rows if row.kind == "measured" and not row.below]


def _value(row: Row, position: int) -> float:
    value = row.cells[position].value
    return np.nan if value is None else value


def _left_out(table: Table) -> str:
    return f" Names leave out {', '.join(table.left_out)}." if table.left_out else ""


def _unit(column: Column) -> str:
    return "Spearman × 100" if column.key.startswith("spearman") else "accuracy in percent"


def _labels(rows: Sequence[Row], width: str) -> list[str]:
    """In full, in as many lines as they need to leave the axes their room."""
    texts = (plain(row.label).replace("-", _HYPHEN).replace(" seeds", "\xa0seeds") for row in rows)
    return [fill(text, _LETTERS[width]).replace(_HYPHEN, "-").replace("\xa0", " ") for text in texts]


def _height(labels: Sequence[str]) -> float:
    """Of the rows, in inches."""
    return len(labels) * max(0.135, 0.095 * max(label.count("\n") + 1 for label in labels))


def _line(row: Row, position: int, table: Table) -> Sequence[object]:
    cell = row.cells[position]
    low, high = cell.interval or (None, None)
    task = table.columns[position].task
    return (row.name, row.label, task, cell.value, low, high, cell.deviation, cell.seeds)
