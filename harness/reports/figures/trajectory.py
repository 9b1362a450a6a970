"""Alignment and uniformity along training, an arrow from each evaluation to the next: the paper's Figure 2."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from harness.errors import ResultError
from harness.names import Spec, value_text
from harness.reports.figures import canvas
from harness.reports.figures.canvas import EDGE, Drawing, plain
from harness.reports.figures.geometry import ALIGNMENT, UNIFORMITY

LOG = "log.jsonl"
_SPEARMAN, _ALIGNMENT, _UNIFORMITY = "dev_spearman", "dev_alignment", "dev_uniformity"  # keys of a log's line
_HEADER = ("run", "step", "alignment", "uniformity", "dev")
_MARKERS = "o^sDvPX"
_ARROWS = 6  # of a path, at most
_SHORTEST = 4.0  # pixels: an arrow's head is drawn on longer pieces only


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


@dataclass(frozen=True, slots=True)
class Run:
    """A finished training run: its folder, and its method, backbone, data, seed and settings by name."""

    folder: Path
    facts: Mapping[str, Any]

    def fits(self, spec: Spec) -> bool:
        """Whether the method is that one, and every given parameter was set so."""
        given = {"method": spec.name, **spec.given}
        return all(value_text(self.facts.get(key)) == value for key, value in given.items())


def runs_in(folder: Path) -> list[Run]:
    """The finished runs in a folder of runs, such as `trained` in the cache; the oldest comes first.

    Raises:
        ResultError: if a run's card cannot be read.
    """
    runs = []
    for path in sorted(folder.glob("*/card.json"), key=lambda path: path.stat().st_mtime):
        if (path.parent / LOG).is_file():
            try:
                card = json.loads(path.read_text(encoding="utf-8"))
                named = {key: card[key]["name"] for key in ("backbone", "data")}
                runs.append(Run(path.parent, named | card["settings"]))
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise ResultError(f"{path}: cannot be read ({error}), expected the card of a training run") from error
    return runs


def titles(runs: Sequence[Run]) -> list[str]:
    """What to call each run: its method, and what sets it apart from the others."""
    keys = dict.fromkeys(key for run in runs for key in run.facts if key != "method")
    varied = [key for key in keys if len({value_text(run.facts.get(key)) for run in runs}) > 1]
    return [str(Spec(run.facts["method"], {key: run.facts.get(key) for key in varied})) for run in runs]


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
    read = [_point(line, f"{file}:{number}") for number, line in enumerate(lines, start=1) if line.strip()]
    points = [point for point in read if point is not None]
    if not points:
        raise ResultError(
            f"{file}: no line has {_ALIGNMENT} and {_UNIFORMITY}; train again with a development set, or for longer"
        )
    return Trajectory(
        name or (file.parent.name if file.name == LOG else file.stem),
        tuple(sorted(points, key=lambda point: point.step)),
    )


def _point(line: str, where: str) -> Point | None:
    """The evaluation that a line of a log is about; None for a line of training alone."""
    try:
        entry = json.loads(line)
    except ValueError as error:
        raise ResultError(f"{where}: is not JSON ({error}); delete the line if the run was cut off there") from error
    if not isinstance(entry, dict) or None in (entry.get(_ALIGNMENT), entry.get(_UNIFORMITY)):  # undefined, or none
        return None
    for key in ("step", _ALIGNMENT, _UNIFORMITY, _SPEARMAN):
        value = entry.get(key)
        if key == _SPEARMAN and value is None:
            continue
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise ResultError(f"{where}: {key} is {value!r}, expected a number; look at what wrote the log")
    dev = None if entry.get(_SPEARMAN) is None else 100 * entry[_SPEARMAN]
    return Point(entry["step"], entry[_ALIGNMENT], entry[_UNIFORMITY], dev)


def trajectory(runs: Sequence[Trajectory], *, width: str = "column") -> Drawing:
    """One path a run: a hollow marker at its first evaluation, a full one at its last, arrows along the way.

    Args:
        runs: at least one.
        width: a key of `canvas.WIDTHS`.
    """
    with canvas.style():
        figure = canvas.blank(width, 2.7 + 0.12 * len(runs) if width == "column" else 4.2)
        axes = figure.add_subplot()
        every = np.array([(p.uniformity, p.alignment) for run in runs for p in run.points])
        axes.update_datalim(every)
        axes.margins(0.08)
        axes.autoscale_view()
        axes.set_xlabel(UNIFORMITY, fontsize=9)
        axes.set_ylabel(ALIGNMENT, fontsize=9)
        figure.draw_without_rendering()
        handles = [
            _path(axes, run, canvas.DISTINCT[i % len(canvas.DISTINCT)], _MARKERS[i % len(_MARKERS)])
            for i, run in enumerate(runs)
        ]
        figure.legend(handles, [_legend(run) for run in runs], loc="outside lower center", fontsize=6.5)
    rows = [(run.name, p.step, p.alignment, p.uniformity, p.dev) for run in runs for p in run.points]
    return Drawing(figure=figure, header=_HEADER, rows=rows, caption=_caption(runs))


def _caption(runs: Sequence[Trajectory]) -> str:
    """What is drawn; where logs do not begin at step 0, that is said."""
    first, last = {run.points[0].step for run in runs}, {run.points[-1].step for run in runs}
    ends = f"from step {min(first):,} (hollow) to step {max(last):,} (full)"
    if len(first) > 1 or len(last) > 1:
        ends = "from the first evaluation (hollow) to the last (full)"
    late = (
        ""
        if first == {0}
        else f" The logs have no evaluation before step {min(first - {0}):,}, so the start is not drawn."
    )
    return (
        f"Alignment and uniformity of the development set along training, {ends}, of every checkpoint that was "
        f"evaluated; the last need not be the selected one. Arrows show the direction; lower is better for both.{late}"
    )


def _path(axes: Axes, run: Trajectory, colour: str, marker: str) -> Line2D:
    xy = np.array([(p.uniformity, p.alignment) for p in run.points])
    axes.plot(xy[:, 0], xy[:, 1], color=colour, linewidth=0.7, alpha=0.8)
    arrow = {"arrowstyle": "-|>,head_length=0.3,head_width=0.16", "color": colour, "linewidth": 0.7, "shrinkA": 0}
    for end in _arrows(axes.transData.transform(xy)):
        axes.annotate("", xy[end], xy[end - 1], arrowprops={**arrow, "shrinkB": 0})
    axes.plot(*xy[0], marker, markerfacecolor="white", markeredgecolor=colour, markersize=5, zorder=3)
    axes.plot(*xy[-1], marker, markerfacecolor=colour, markeredgecolor=EDGE, markersize=6, zorder=4)
    return Line2D([], [], color=colour, marker=marker, markersize=4, markeredgecolor=EDGE, markeredgewidth=0.5)


def _arrows(pixels: NDArray[np.float64]) -> list[int]:
    """The steps that get a head: some, evenly along the path, so that they do not run into each other."""
    lengths = np.linalg.norm(np.diff(pixels, axis=0), axis=1)
    along = np.concatenate([[0.0], np.cumsum(lengths)])
    marks = (np.arange(_ARROWS) + 0.5) / _ARROWS * along[-1]
    ends = {int(np.searchsorted(along, mark)) for mark in marks}
    return sorted(end for end in ends if end > 0 and lengths[end - 1] >= _SHORTEST)


def _legend(run: Trajectory) -> str:
    last = run.points[-1]
    name = plain(run.name)
    return name if last.dev is None else f"{name} (dev {last.dev:.1f})"
