"""Alignment and uniformity along training, an arrow from each evaluation to the next: the paper's Figure 2."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from harness.errors import ResultError
from harness.reports.figures import canvas
from harness.reports.figures.canvas import EDGE, Drawing
from harness.reports.figures.measured import ALIGNMENT, UNIFORMITY

LOG = "log.jsonl"
_SPEARMAN, _ALIGNMENT, _UNIFORMITY = "dev_spearman", "dev_alignment", "dev_uniformity"  # keys of a log's line
_HEADER = ("run", "step", "alignment", "uniformity", "dev")
_MARKERS = "o^sDvPX"
_SHORTEST = 5.0  # points: an arrow's head is drawn on longer pieces only


@dataclass(frozen=True, slots=True)
class Point:
    """One evaluation: optimiser step, alignment, uniformity, and the development score x 100 or None."""

    step: int
    alignment: float
    uniformity: float
    dev: float | None


@dataclass(frozen=True, slots=True)
class Trajectory:
    """The evaluations of one run, by step."""

    name: str
    points: tuple[Point, ...]


def read_log(path: Path, name: str = "") -> Trajectory:
    """Read one training log, or the one in a run's folder.

    Args:
        path: a JSON Lines file, or a folder that holds `log.jsonl`. A line with `dev_alignment`, `dev_uniformity` and
            `step` is an evaluation, with `dev_spearman` (-1..1) or without; lines of training alone are passed over.
        name: of the run; else the name of its folder, or of the file.

    Raises:
        ResultError: if it cannot be read, a line is not JSON or lacks a number, or nothing was evaluated.
    """
    file = path / LOG if path.is_dir() else path
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ResultError(f"{file}: cannot be read ({reason}), expected a training log; check --runs") from error
    points = [
        p for number, line in enumerate(lines, start=1) if line.strip() for p in _points(line, f"{file}:{number}")
    ]
    if not points:
        raise ResultError(
            f"{file}: no line has {_ALIGNMENT} and {_UNIFORMITY}; train again with a development set, or for longer"
        )
    return Trajectory(
        name or (file.parent.name if file.name == LOG else file.stem),
        tuple(sorted(points, key=lambda point: point.step)),
    )


def _points(line: str, where: str) -> list[Point]:
    try:
        entry = json.loads(line)
    except ValueError as error:
        raise ResultError(f"{where}: is not JSON ({error}); delete the line if the run was cut off there") from error
    if not isinstance(entry, dict) or None in (entry.get(_ALIGNMENT), entry.get(_UNIFORMITY)):  # undefined, or none
        return []
    for key in ("step", _ALIGNMENT, _UNIFORMITY, _SPEARMAN):
        value = entry.get(key)
        if key == _SPEARMAN and value is None:
            continue
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise ResultError(f"{where}: {key} is {value!r}, expected a number; look at what wrote the log")
    dev = None if entry.get(_SPEARMAN) is None else 100 * entry[_SPEARMAN]
    return [Point(entry["step"], entry[_ALIGNMENT], entry[_UNIFORMITY], dev)]


def trajectory(runs: Sequence[Trajectory], *, width: str = "column") -> Drawing:
    """One path a run: a hollow marker where it starts, a full one where it ends.

    Args:
        runs: at least one.
        width: a key of `canvas.WIDTHS`.
    """
    with canvas.style():
        figure = canvas.blank(width, 2.9 + 0.12 * len(runs) if width == "column" else 4.2)
        axes = figure.add_subplot()
        every = np.array([(p.uniformity, p.alignment) for run in runs for p in run.points])
        axes.update_datalim(every)
        axes.margins(0.08)
        axes.autoscale_view()
        axes.set_xlabel(f"Uniformity (lower is better)\n{UNIFORMITY}, development set", linespacing=1.15)
        axes.set_ylabel(f"Alignment (lower is better)\n{ALIGNMENT}, gold > 4", linespacing=1.15)
        figure.draw_without_rendering()
        handles = [
            _path(axes, run, colour, _MARKERS[i % len(_MARKERS)], figure.dpi)
            for i, (run, colour) in enumerate(zip(runs, canvas.colours(len(runs)), strict=True))
        ]
        figure.legend(handles, [_legend(run) for run in runs], loc="outside lower center", fontsize=6.5)
    rows = [(run.name, p.step, p.alignment, p.uniformity, p.dev) for run in runs for p in run.points]
    return Drawing(figure=figure, header=_HEADER, rows=rows)


def _path(axes: Axes, run: Trajectory, colour: tuple[float, ...], marker: str, dpi: float) -> Line2D:
    xy = np.array([(p.uniformity, p.alignment) for p in run.points])
    (line,) = axes.plot(xy[:, 0], xy[:, 1], color=colour, linewidth=0.5)
    pixels = axes.transData.transform(xy) * 72 / dpi
    arrow = {"arrowstyle": "-|>,head_length=0.28,head_width=0.14", "color": colour, "linewidth": 0.9, "shrinkA": 0}
    start = 0
    for end in range(1, len(xy)):
        if np.linalg.norm(pixels[end] - pixels[start]) >= _SHORTEST:
            axes.annotate("", xy[end], xy[start], arrowprops={**arrow, "shrinkB": 0})
            start = end
    axes.plot(*xy[0], marker, markerfacecolor="white", markeredgecolor=colour, markersize=5, zorder=3)
    axes.plot(*xy[-1], marker, markerfacecolor=colour, markeredgecolor=EDGE, markersize=5.5, zorder=3)
    return Line2D(
        [], [], color=line.get_color(), marker=marker, markersize=4, markeredgecolor=EDGE, markeredgewidth=0.5
    )


def _legend(run: Trajectory) -> str:
    first, last = run.points[0], run.points[-1]
    dev = "" if last.dev is None else f", dev {last.dev:.1f}"
    return f"{run.name} (steps {first.step:,} to {last.step:,}{dev})"
