"""How cosines spread within each band of human ratings, one panel an encoder: the paper's Figure G.1."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from harness.errors import ResultError
from harness.reports.figures import canvas
from harness.reports.figures.canvas import Drawing
from harness.reports.figures.measured import Definition, Measured, labels_of
from harness.reports.plain import visible

BANDS = 5  # of human ratings: 0 to 1, ..., 4 to 5
_HEADER = ("model", "label", "band", "cosine", "density", "pairs", "bandwidth", "data", "protocol")
_STEPS = 241
_OVERLAP = 1.5  # height of a panel's tallest density, in bands
_COLUMNS = {"column": 2, "page": 4}
_LETTERS = 32  # of a panel's width, at 7 points


def similarity_density(measured: Sequence[Measured], definition: Definition, *, width: str = "column") -> Drawing:
    """Gaussian kernel densities of the cosine of all pairs, by human rating; heights are relative to the panel's peak.

    Args:
        measured: one or more encoders.
        definition: its task and split are used.
        width: a key of `canvas.WIDTHS`.

    Raises:
        ResultError: if there is no encoder, or one's result lacks that split.
    """
    if not measured:
        raise ResultError("similarity-density: no encoder has a result; run `bench run --suite geometry` first")
    labels, note = labels_of(measured)
    pairs = [one.series(f"pairs/{definition.split}") for one in measured]
    lowest = min(-0.05, *(float(cosines.min()) for _, cosines in pairs))
    grid = np.linspace(np.floor(10 * lowest) / 10, 1, _STEPS)
    curves = [[_density(cosines[_band(gold) == band], grid) for band in range(BANDS)] for gold, cosines in pairs]
    with canvas.style():
        columns = min(_COLUMNS[width], len(measured))
        lines = -(-len(measured) // columns)
        figure = canvas.blank(width, 0.5 + 1.25 * lines)
        figure.get_layout_engine().set(w_pad=0.05)  # type: ignore[union-attr, call-arg]
        panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
        for axes, one, each in zip(panels.flat, measured, curves, strict=False):
            _panel(axes, grid, [curve for curve, _ in each])
            axes.set_title(*_heading(labels[one.card.name]), pad=2)
        for axes in panels.flat[len(measured) :]:
            axes.set_visible(False)
        figure.supxlabel("Cosine similarity", fontsize=8)
        figure.supylabel("Human rating of the pair", fontsize=8)
    rows = [
        (m.card.name, labels[m.card.name], f"{b}-{b + 1}", float(x), float(y), int((_band(gold) == b).sum()), h,
         definition.data, m.result.protocol)
        for m, (gold, _), each in zip(measured, pairs, curves, strict=True)
        for b, (curve, h) in enumerate(each)
        for x, y in zip(grid, curve, strict=True)
    ]  # fmt: skip
    seeds = " Of several seeds the first is drawn." if any(len(one.results) > 1 for one in measured) else ""
    caption = (
        f"Densities of the cosine similarity of the {len(pairs[0][0]):,} pairs of {definition.data}, by human rating: "
        f"Gaussian kernel densities; heights are relative to each panel's peak.{seeds}{note}"
    )
    return Drawing(figure=figure, header=_HEADER, rows=rows, caption=caption)


def _band(gold: NDArray[np.float64]) -> NDArray[np.int64]:
    """0 for ratings in [0, 1), ..., 4 for [4, 5]."""
    return np.clip(np.floor(gold), 0, BANDS - 1).astype(np.int64)


def _density(values: NDArray[np.float64], grid: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Density on the grid and its bandwidth, n^(-1/5) standard deviations (Scott 1992).

    Mass that the kernel puts beyond a cosine of 1 is reflected back. Fewer than two different values have none.
    """
    if len(values) < 2 or np.ptp(values) == 0:
        return np.zeros_like(grid), 0.0
    bandwidth = float(values.std(ddof=1) * len(values) ** -0.2)
    distances = np.stack([grid - value for value in (*values, *(2 - values))]) / bandwidth
    density: NDArray[np.float64] = np.exp(-(distances**2) / 2).sum(axis=0)
    return density / (len(values) * bandwidth * np.sqrt(2 * np.pi)), bandwidth


def _panel(axes: Axes, grid: NDArray[np.float64], curves: Sequence[NDArray[np.float64]]) -> None:
    scale = _OVERLAP / max(float(curve.max()) for curve in curves)
    for band, colour in reversed(list(enumerate(canvas.colours(BANDS)))):
        line = band + scale * curves[band]
        axes.fill_between(grid, band, line, color=colour, alpha=0.6, linewidth=0, zorder=2 * (BANDS - band))
        axes.plot(grid, line, color=colour, linewidth=0.8, zorder=2 * (BANDS - band) + 1)
    axes.set_yticks(np.arange(BANDS) + 0.0, [f"{band}–{band + 1}" for band in range(BANDS)])
    axes.set_xticks(np.arange(np.ceil(2 * grid[0]) / 2, 1.1, 0.5))
    axes.set(xlim=(grid[0], 1), ylim=(-0.05, BANDS - 1 + _OVERLAP + 0.1))
    axes.tick_params(labelsize=6)
    axes.grid(axis="x")


def _heading(label: str) -> tuple[str, dict[str, float]]:
    """A panel's name in at most its width: long ones, with the parameters in a second line and smaller."""
    label = visible(label).replace("$", r"\$")
    method, bracket, rest = label.partition(" [")
    if len(label) <= _LETTERS:
        return label, {"fontsize": 7}
    return f"{method}\n{bracket.strip()}{rest}", {"fontsize": max(4.0, min(6.0, 7 * _LETTERS / len(rest)))}
