"""The paper's figures of geometry: alignment and uniformity (3), singular values (F.1), cosines by rating (G.1)."""

from collections.abc import Mapping, Sequence
from decimal import ROUND_HALF_UP, Decimal

import matplotlib
import numpy as np
from adjustText import adjust_text
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

from harness.errors import ResultError
from harness.names import EncoderCard
from harness.reports.figures import canvas
from harness.reports.figures.canvas import EDGE, Drawing, plain
from harness.reports.figures.measured import COLOUR_NAMES, POSITIVES, SENTENCES, Definition, Measured
from harness.reports.match import label_of_seeds, short_names

KINDS = {"o": "pretrained", "^": "trained here", "D": "post-processed", "s": "no language model"}  # by marker
ALIGNMENT, UNIFORMITY = r"$\ell_{\mathrm{align}}$", r"$\ell_{\mathrm{uniform}}$"  # as the paper's axes have them
FORMULAS = (
    "Alignment is the mean squared distance of the unit vectors of {}; uniformity the logarithm of the mean of "
    "exp(-2 × squared distance) over all pairs of {}; lower is better for both."
)
BANDS = 5  # of human ratings: 0 to 1, ..., 4 to 5

_POINT = (
    *("model", "label", "kind", "seeds", "alignment", "alignment_low", "alignment_high"),
    *("uniformity", "uniformity_low", "uniformity_high", "sts", "published_sts"),
    *("data", "positives", "sentences", "protocol"),
)
_VALUE = ("model", "label", "index", "singular_value", "effective_rank", "centred", "data", "sentences", "protocol")
_DENSITY = ("model", "label", "band", "cosine", "density", "pairs", "bandwidth", "data", "protocol")

_UNSCORED = "white"
_MARKER = 5.0  # points
_ROUNDS = 400  # of moving labels: as many on every machine, so that equal results give equal figures
_LOWEST = 1e-3  # of the axis of singular values: smaller ones are of directions that no cosine notices
_STEPS = 241  # of a density
_OVERLAP = 1.5  # height of a panel's tallest density, in bands
_PANELS = {"column": 2, "page": 4}  # beside each other
_LETTERS = 32  # of a panel's width, at 7 points
_FIRST_SEED = " Of several seeds the first is drawn."


def _labels(figure: str, measured: Sequence[Measured]) -> tuple[Mapping[str, str], str]:
    """Full name -> label, and a sentence on what labels leave out; a label of the encoder's own comes first.

    Raises:
        ResultError: if there is no encoder.
    """
    if not measured:
        raise ResultError(f"{figure}: no encoder has a result; run `bench run --suite geometry` first")
    labels, left_out = short_names([one.card for one in measured])
    unsaid = [text for text in left_out if not all(one.label for one in measured)]
    note = f" Names leave out {', '.join(unsaid)}." if unsaid else ""
    own = {one.card.name: one.label or label_of_seeds(labels[one.card.name], len(one.results)) for one in measured}
    return own, note


def alignment_uniformity(measured: Sequence[Measured], definition: Definition, *, width: str = "column") -> Drawing:
    """Lower is better on both axes; bars are 95 % intervals, of several seeds one standard deviation.

    A hollow point has no STS score. Where the names find no room beside the points, the points are numbered, and the
    names stand below.

    Args:
        measured: one or more encoders.
        definition: which variant of both scores.
        width: a key of `canvas.WIDTHS`.

    Raises:
        ResultError: if there is no encoder, or one's result lacks that variant.
    """
    labels, note = _labels("alignment-uniformity", measured)
    texts = [_point_text(one, labels[one.card.name]) for one in measured]
    with canvas.style():
        figure = _point_figure(measured, definition, width, texts, named=True)
        figure = figure or _point_figure(measured, definition, width, texts, named=False)
    rows = [_point_row(one, definition, labels[one.card.name]) for one in measured]
    assert figure is not None  # numbers are drawn wherever they fall
    return Drawing(figure=figure, header=_POINT, rows=rows, caption=_point_caption(measured, definition) + note)


def _point_figure(
    measured: Sequence[Measured], definition: Definition, width: str, texts: Sequence[str], *, named: bool
) -> Figure | None:
    """The figure with names beside the points, or None if they overlap; or with numbers, and names below."""
    numbers = _ranks(measured)
    key = [] if named else [f"{number}  {text}" for number, text in sorted(zip(numbers, texts, strict=True))]
    figure = canvas.blank(width, (2.7 if width == "column" else 4.0) + 0.1 * len(key))
    axes = figure.add_subplot()
    colours = _colours(figure, axes, measured, definition)
    _points(axes, measured, definition, colours)
    axes.set_xlabel(UNIFORMITY, fontsize=9)
    axes.set_ylabel(ALIGNMENT, fontsize=9)
    axes.margins(0.1)
    _legend(figure, [one.card for one in measured], key)
    canvas.settle(figure)
    free = _write_labels(axes, measured, definition, texts if named else [str(number) for number in numbers])
    return figure if free or not named else None


def _point_text(one: Measured, label: str) -> str:
    scores = [] if one.sts is None else [f"{one.sts:.1f}"]
    scores += (
        [] if one.published is None else [str(Decimal(repr(one.published)).quantize(Decimal("0.1"), ROUND_HALF_UP))]
    )
    return plain(label) + (f" ({' | '.join(scores)})" if scores else "")


def _point_row(one: Measured, definition: Definition, label: str) -> tuple[str | float | None, ...]:
    scores: list[float] = []
    for key in (definition.alignment, definition.uniformity):
        scores += (one.score(key), *one.ends(key))
    described = (definition.data, definition.positives, definition.sentences, one.result.protocol)
    kind = KINDS[_marker(one.card)]
    return (one.card.name, label, kind, len(one.results), *scores, one.sts, one.published, *described)


def _marker(card: EncoderCard) -> str:
    if card.fitted_on is not None:
        return "D"
    if card.trained_on is not None:
        return "^"
    wordwise = card.max_tokens is None  # word vectors have a backbone too, but no context that a limit could cut
    return "s" if card.backbone is None or wordwise else "o"


def _colours(figure: Figure, axes: Axes, measured: Sequence[Measured], definition: Definition) -> Mapping[str, object]:
    """Encoder -> colour, and the colour bar beside the axes where there is a score to explain."""
    known = {one.card.name: one.sts for one in measured if one.sts is not None}
    if not known:
        return {}
    low, high = 5 * np.floor(min(known.values()) / 5), 5 * np.ceil(max(known.values()) / 5)
    ramp = ScalarMappable(Normalize(low, max(high, low + 5)), matplotlib.colormaps["viridis"])
    bar = figure.colorbar(ramp, ax=axes, aspect=30, pad=0.02)
    bar.set_label(COLOUR_NAMES[definition.task].capitalize().replace("sts", "STS"), fontsize=7, labelpad=3)
    bar.locator = MaxNLocator(6, integer=True)
    bar.ax.tick_params(labelsize=6, length=2, pad=1)
    bar.outline.set_linewidth(0.4)
    return {name: ramp.to_rgba(np.array(value)) for name, value in known.items()}


def _points(axes: Axes, measured: Sequence[Measured], definition: Definition, colours: Mapping[str, object]) -> None:
    for one in measured:
        y, x = one.score(definition.alignment), one.score(definition.uniformity)
        axes.plot(one.ends(definition.uniformity), [y, y], color="#999999", linewidth=0.7, zorder=2)
        axes.plot([x, x], one.ends(definition.alignment), color="#999999", linewidth=0.7, zorder=2)
        fill = colours.get(one.card.name, _UNSCORED)
        axes.plot(
            [x], [y], _marker(one.card), markerfacecolor=fill, markeredgecolor=EDGE, markeredgewidth=0.6, zorder=3
        )


def _point_caption(measured: Sequence[Measured], definition: Definition) -> str:
    counts = measured[0].result.counts
    pairs = counts[f"positives/{definition.positives}/{definition.split}"]
    number = counts[f"sentences/{definition.sentences}/{definition.split}"]
    formulas = FORMULAS.format(
        f"{pairs:,} pairs of {definition.data} ({POSITIVES[definition.positives]})",
        f"{number:,} {SENTENCES[definition.sentences]}",
    )
    parts = ["Alignment and uniformity.", formulas]
    if any(one.sts is not None for one in measured):
        parts.append(f"Colours, and numbers in brackets, are the {COLOUR_NAMES[definition.task]} (Spearman × 100).")
    if any(one.published is not None for one in measured):
        parts.append("Behind the bar in the brackets stands the average that the paper prints.")
    if any(len(one.results) > 1 for one in measured):
        parts.append("Of several seeds the mean is drawn, with one standard deviation either side.")
    if any(len(one.results) == 1 for one in measured):
        parts.append("Bars are 95 % intervals over items.")
    return " ".join(parts)


def _ranks(measured: Sequence[Measured]) -> list[int]:
    """From 1 for the encoder with the highest score."""
    order = sorted(range(len(measured)), key=lambda i: (-(measured[i].sts or 0.0), measured[i].card.name))
    return [order.index(i) + 1 for i in range(len(measured))]


def _legend(figure: Figure, cards: Sequence[EncoderCard], key: Sequence[str]) -> None:
    """What the markers mean, where there is more than one, and the names behind the numbers of points."""
    used = [marker for marker in KINDS if any(_marker(card) == marker for card in cards)]
    used = used if len(used) > 1 else []
    handles = [
        Line2D([], [], linestyle="", marker=m, markerfacecolor="none", markeredgecolor=EDGE, markersize=4) for m in used
    ] + [Line2D([], [], linestyle="") for _ in key]
    if handles:
        figure.legend(
            handles,
            [*(KINDS[m] for m in used), *key],
            loc="outside lower center",
            ncols=1 if key else 4,
            fontsize=6,
            handletextpad=0,
            columnspacing=1,
            labelspacing=0.15 if key else 0.5,
        )


def _write_labels(axes: Axes, measured: Sequence[Measured], definition: Definition, texts: Sequence[str]) -> bool:
    """Write the texts beside their points, in the final layout; whether they cover neither each other nor a point."""
    x = np.array([one.score(definition.uniformity) for one in measured])
    y = np.array([one.score(definition.alignment) for one in measured])
    written = [axes.text(a, b, text, fontsize=6.5, zorder=4) for a, b, text in zip(x, y, texts, strict=True)]
    if max(text.get_window_extent().width for text in written) > axes.get_window_extent().width:
        return False
    centres = axes.transData.transform(np.stack([x, y], axis=1))
    half = _MARKER / 2 * axes.get_figure(root=True).dpi / 72  # type: ignore[union-attr]
    markers = [Bbox([centre - half, centre + half]) for centre in centres]
    adjust_text(
        written,
        x=x,
        y=y,
        objects=[box.transformed(axes.transData.inverted()) for box in markers],
        ax=axes,
        iter_lim=_ROUNDS,
        expand=(1.1, 1.4),
        force_text=(0.2, 0.3),
        force_static=(0.3, 0.45),
        min_arrow_len=4,
        arrowprops={"arrowstyle": "-", "color": "#777777", "linewidth": 0.4, "shrinkB": 3},
    )
    return _apart([Text.get_window_extent(text) for text in written], markers, axes.get_window_extent())


def _apart(boxes: Sequence[Bbox], markers: Sequence[Bbox], frame: Bbox) -> bool:
    inside = all(
        frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1 for box in boxes
    )
    overlaps = (box.overlaps(other) for i, box in enumerate(boxes) for other in (*markers, *boxes[i + 1 :]))
    return inside and not any(overlaps)


def spectrum(
    measured: Sequence[Measured], definition: Definition, *, centred: bool = False, width: str = "column"
) -> Drawing:
    """One curve an encoder, the flattest first in the legend, with its effective rank.

    Args:
        measured: one or more encoders.
        definition: its task and split are used; the vectors are those of unique sentences.
        centred: whether the mean vector was subtracted.
        width: a key of `canvas.WIDTHS`.

    Raises:
        ResultError: if there is no encoder, or one's result lacks that split.
    """
    kind = "-centred" if centred else ""
    key = f"effective-rank{kind}/unique/{definition.split}"
    ordered = sorted(measured, key=lambda one: (-one.score(key), one.card.name))
    labels, note = _labels("spectrum", ordered)
    rows: list[Sequence[object]] = []
    with canvas.style():
        names = [plain(labels[one.card.name]) for one in ordered]
        legend = [f"{name} ({one.score(key):.0f}/{one.card.dim})" for name, one in zip(names, ordered, strict=True)]
        columns = canvas.columns(legend, width)
        figure = canvas.blank(width, 2.5 + 0.12 * -(-len(legend) // columns))
        axes = figure.add_subplot()
        for i, one in enumerate(ordered):
            x, y = one.series(f"spectrum{kind}/{definition.split}")
            turn, colour = divmod(i, len(canvas.DISTINCT))
            axes.plot(
                x, y, color=canvas.DISTINCT[colour], linestyle=canvas.LINES[turn % len(canvas.LINES)], label=legend[i]
            )
            described = (one.score(key), centred, definition.data, "unique", one.result.protocol)
            rows += [
                (one.card.name, labels[one.card.name], int(index), float(value), *described)
                for index, value in zip(x, y, strict=True)
            ]
        axes.set(xscale="log", yscale="log", xlim=(1, None), ylim=(_LOWEST, 1.15))
        axes.set_xlabel("Index of singular value")
        axes.set_ylabel("Singular value / largest")
        figure.legend(loc="outside lower center", ncols=columns, fontsize=6)
    number = measured[0].result.counts[f"sentences/unique/{definition.split}"]
    what = "centred unit vectors" if centred else "unit vectors, not centred,"
    seeds = _FIRST_SEED if any(len(one.results) > 1 for one in measured) else ""
    caption = (
        f"Singular values of the {what} of {number:,} unique sentences of {definition.data}, divided by the largest. "
        f"In brackets stand the effective rank (the exponential of the values' entropy) and the dimensions."
        f"{seeds}{note}"
    )
    return Drawing(figure=figure, header=_VALUE, rows=rows, caption=caption)


def similarity_density(measured: Sequence[Measured], definition: Definition, *, width: str = "column") -> Drawing:
    """Gaussian kernel densities of the cosine of all pairs, by human rating; heights are relative to the panel's peak.

    Args:
        measured: one or more encoders.
        definition: its task and split are used.
        width: a key of `canvas.WIDTHS`.

    Raises:
        ResultError: if there is no encoder, or one's result lacks that split.
    """
    labels, note = _labels("similarity-density", measured)
    pairs = [one.series(f"pairs/{definition.split}") for one in measured]
    lowest = min(-0.05, *(float(cosines.min()) for _, cosines in pairs))
    grid = np.linspace(np.floor(10 * lowest) / 10, 1, _STEPS)
    curves = [[_density(cosines[_band(gold) == band], grid) for band in range(BANDS)] for gold, cosines in pairs]
    with canvas.style():
        columns = min(_PANELS[width], len(measured))
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
    seeds = _FIRST_SEED if any(len(one.results) > 1 for one in measured) else ""
    caption = (
        f"Densities of the cosine similarity of the {len(pairs[0][0]):,} pairs of {definition.data}, by human rating: "
        f"Gaussian kernel densities; heights are relative to each panel's peak.{seeds}{note}"
    )
    return Drawing(figure=figure, header=_DENSITY, rows=rows, caption=caption)


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
    label = plain(label)
    method, bracket, rest = label.partition(" [")
    if len(label) <= _LETTERS:
        return label, {"fontsize": 7}
    return f"{method}\n{bracket.strip()}{rest}", {"fontsize": max(4.0, min(6.0, 7 * _LETTERS / len(rest)))}
