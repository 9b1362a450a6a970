"""Alignment against uniformity, one point an encoder, coloured by average STS score: the paper's Figure 3."""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from harness.errors import ResultError
from harness.names import EncoderCard
from harness.reports.figures import canvas
from harness.reports.figures.canvas import EDGE, Drawing
from harness.reports.figures.labels import leader_end, place
from harness.reports.figures.measured import (
    ALIGNMENT,
    COLOUR_NAMES,
    POSITIVES,
    SENTENCES,
    UNIFORMITY,
    Definition,
    Measured,
    labels_of,
)

KINDS = {"o": "pretrained", "^": "trained here", "D": "post-processed", "s": "no language model"}  # by marker

_HEADER = (
    *("model", "label", "kind", "alignment", "alignment_low", "alignment_high"),
    *("uniformity", "uniformity_low", "uniformity_high", "sts", "data", "positives", "sentences", "protocol"),
)
_UNSCORED = "white"
_NAMES = 12  # that find room beside their points; of more, the points are numbered and the names are below
_LEADER = 4.5  # points: from this distance on, a line joins label and point


def alignment_uniformity(measured: Sequence[Measured], definition: Definition, *, width: str = "column") -> Drawing:
    """Lower is better on both axes; bars are 95% bootstrap intervals. A hollow point has no STS score.

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
    rows = [_row(one, definition, labels[one.card.name]) for one in measured]
    with canvas.style():
        crowded = len(measured) > _NAMES
        figure = canvas.blank(width, (3.1 if width == "column" else 4.2) + (0.095 * len(measured) if crowded else 0))
        axes = figure.add_subplot()
        colours = _colours(figure, axes, measured, definition)
        _points(axes, measured, definition, colours)
        _describe(axes, measured, definition)
        axes.set_title(canvas.wrapped(definition.data + note, width), fontsize=7, pad=2)
        texts = [labels[m.card.name] + ("" if m.sts is None else f" ({m.sts:.1f})") for m in measured]
        numbers = _numbers(measured)
        key = [f"{number}  {text}" for number, text in sorted(zip(numbers, texts, strict=True))] if crowded else []
        _legend(figure, [one.card for one in measured], key)
        texts = [str(number) for number in numbers] if crowded else texts
        _labels(figure, axes, texts, np.array([[row[6], row[3]] for row in rows], dtype=np.float64))
    return Drawing(figure=figure, header=_HEADER, rows=rows)


def _row(one: Measured, definition: Definition, label: str) -> tuple[str | float | None, ...]:
    scores = (
        one.score(key + end) for key in (definition.alignment, definition.uniformity) for end in ("", "/low", "/high")
    )
    described = (definition.data, definition.positives, definition.sentences, one.result.protocol)
    return (one.card.name, label, KINDS[_marker(one.card)], *scores, one.sts, *described)


def _marker(card: EncoderCard) -> str:
    if card.fitted_on is not None:
        return "D"
    if card.trained_on is not None:
        return "^"
    wordwise = card.max_tokens is None  # word vectors have a backbone too, but no context that a limit could cut
    return "s" if card.backbone is None or wordwise else "o"


def _colours(figure: Figure, axes: Axes, measured: Sequence[Measured], definition: Definition) -> Mapping[str, object]:
    """Encoder -> colour, and the colour bar above the axes where there is a score to explain."""
    known = {one.card.name: one.sts for one in measured if one.sts is not None}
    if not known:
        return {}
    low, high = 5 * np.floor(min(known.values()) / 5), 5 * np.ceil(max(known.values()) / 5)
    ramp = ScalarMappable(Normalize(low, max(high, low + 5)), matplotlib.colormaps["viridis"])
    bar = figure.colorbar(ramp, ax=axes, location="top", aspect=15 * figure.get_figwidth(), pad=0.02)
    bar.set_label(f"{COLOUR_NAMES[definition.task]} (Spearman × 100), also in brackets", fontsize=7, labelpad=3)
    bar.ax.tick_params(labelsize=6, length=2, pad=1)
    bar.outline.set_linewidth(0.4)
    return {name: ramp.to_rgba(np.array(value)) for name, value in known.items()}


def _points(axes: Axes, measured: Sequence[Measured], definition: Definition, colours: Mapping[str, object]) -> None:
    for one in measured:
        y, *y_ends = (one.score(definition.alignment + end) for end in ("", "/low", "/high"))
        x, *x_ends = (one.score(definition.uniformity + end) for end in ("", "/low", "/high"))
        axes.plot(x_ends, [y, y], [x, x], y_ends, color="#999999", linewidth=0.7, zorder=2)
        fill = colours.get(one.card.name, _UNSCORED)
        axes.plot(
            [x], [y], _marker(one.card), markerfacecolor=fill, markeredgecolor=EDGE, markeredgewidth=0.6, zorder=3
        )


def _describe(axes: Axes, measured: Sequence[Measured], definition: Definition) -> None:
    counts = measured[0].result.counts
    pairs = counts[f"positives/{definition.positives}/{definition.split}"]
    number = counts[f"sentences/{definition.sentences}/{definition.split}"]
    axes.set_xlabel(
        f"Uniformity (lower is better)\n{UNIFORMITY}, {number:,} {SENTENCES[definition.sentences]}", linespacing=1
    )
    axes.set_ylabel(
        f"Alignment (lower is better)\n{ALIGNMENT}, {pairs:,} pairs, {POSITIVES[definition.positives]}", linespacing=1
    )
    axes.margins(0.08)


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
            [*(KINDS[m] for m in used), *(text.replace("$", r"\$") for text in key)],
            loc="outside lower center",
            ncols=1 if key else 4,
            fontsize=5.5 if key else 6,
            handletextpad=0,
            columnspacing=1,
            labelspacing=0.15 if key else 0.5,
        )


def _labels(figure: Figure, axes: Axes, texts: Sequence[str], points: np.ndarray) -> None:
    """Labels beside the points, at places that need the final layout."""
    canvas.settle(figure)
    drawn = [axes.text(0, 0, text, fontsize=6.5) for text in texts]
    boxes = [artist.get_window_extent() for artist in drawn]
    for artist in drawn:
        artist.remove()
    scale = figure.dpi / 72  # pixels a point
    anchors = axes.transData.transform(points)
    frame = axes.get_window_extent()
    bounds = (frame.x0 + 2, frame.y0 + 2, frame.x1 - 2, frame.y1 - 2)
    sizes = np.array([[box.width + 2 * scale, box.height + scale] for box in boxes])
    centres = place(anchors, sizes, bounds, gap=4 * scale)
    for text, point, anchor, centre, size in zip(texts, points, anchors, centres, sizes, strict=True):
        end = leader_end(anchor, centre, size)
        line = {
            "arrowstyle": "-",
            "color": "#777777",
            "linewidth": 0.4,
            "shrinkA": 0,
            "shrinkB": 3,
            "relpos": tuple((end - centre) / size + 0.5),
        }
        axes.annotate(
            text,
            point,
            (centre - anchor) / scale,
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=6.5,
            zorder=4,
            arrowprops=line if np.linalg.norm(end - anchor) > _LEADER * scale else None,
        )
