"""Alignment against uniformity, one point an encoder, coloured by average STS score: the paper's Figure 3."""

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

from harness.errors import ResultError
from harness.names import EncoderCard
from harness.reports.figures import canvas
from harness.reports.figures.canvas import EDGE, Drawing
from harness.reports.figures.measured import COLOUR_NAMES, POSITIVES, SENTENCES, Definition, Measured, labels_of
from harness.reports.plain import visible

KINDS = {"o": "pretrained", "^": "trained here", "D": "post-processed", "s": "no language model"}  # by marker
ALIGNMENT, UNIFORMITY = r"$\ell_{\mathrm{align}}$", r"$\ell_{\mathrm{uniform}}$"  # as the paper's axes have them
FORMULAS = (
    "Alignment is the mean squared distance of the unit vectors of {}; uniformity the logarithm of the mean of "
    "exp(-2 × squared distance) over all pairs of {}; lower is better for both."
)

_HEADER = (
    *("model", "label", "kind", "seeds", "alignment", "alignment_low", "alignment_high"),
    *("uniformity", "uniformity_low", "uniformity_high", "sts", "published_sts"),
    *("data", "positives", "sentences", "protocol"),
)
_UNSCORED = "white"
_MARKER = 5.0  # points
_ROUNDS = 400  # of moving labels: as many on every machine, so that equal results give equal figures


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
    if not measured:
        raise ResultError("alignment-uniformity: no encoder has a result; run `bench run --suite geometry` first")
    labels, note = labels_of(measured)
    texts = [_text(one, labels[one.card.name]) for one in measured]
    with canvas.style():
        figure = _drawn(measured, definition, width, texts, named=True)
        figure = figure or _drawn(measured, definition, width, texts, named=False)
    rows = [_row(one, definition, labels[one.card.name]) for one in measured]
    assert figure is not None  # numbers are drawn wherever they fall
    return Drawing(figure=figure, header=_HEADER, rows=rows, caption=_caption(measured, definition) + note)


def _drawn(
    measured: Sequence[Measured], definition: Definition, width: str, texts: Sequence[str], *, named: bool
) -> Figure | None:
    """The figure with names beside the points, or None if they overlap; or with numbers, and names below."""
    numbers = _numbers(measured)
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
    free = _label(axes, measured, definition, texts if named else [str(number) for number in numbers])
    return figure if free or not named else None


def _text(one: Measured, label: str) -> str:
    scores = [] if one.sts is None else [f"{one.sts:.1f}"]
    scores += (
        [] if one.published is None else [str(Decimal(repr(one.published)).quantize(Decimal("0.1"), ROUND_HALF_UP))]
    )
    return visible(label).replace("$", r"\$") + (f" ({' | '.join(scores)})" if scores else "")


def _row(one: Measured, definition: Definition, label: str) -> tuple[str | float | None, ...]:
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


def _caption(measured: Sequence[Measured], definition: Definition) -> str:
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


def _numbers(measured: Sequence[Measured]) -> list[int]:
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


def _label(axes: Axes, measured: Sequence[Measured], definition: Definition, texts: Sequence[str]) -> bool:
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
