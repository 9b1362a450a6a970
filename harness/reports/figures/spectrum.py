"""Singular values of the sentence vectors, divided by the largest: the paper's Figure F.1."""

from collections.abc import Sequence

from harness.errors import ResultError
from harness.reports.figures import canvas
from harness.reports.figures.canvas import Drawing
from harness.reports.figures.measured import Definition, Measured, labels_of
from harness.reports.plain import visible

_HEADER = ("model", "label", "index", "singular_value", "effective_rank", "centred", "data", "sentences", "protocol")
_LOWEST = 1e-3  # of the axis: smaller values are of directions that no cosine notices


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
    if not measured:
        raise ResultError("spectrum: no encoder has a result; run `bench run --suite geometry` first")
    kind = "-centred" if centred else ""
    key = f"effective-rank{kind}/unique/{definition.split}"
    ordered = sorted(measured, key=lambda one: (-one.score(key), one.card.name))
    labels, note = labels_of(ordered)
    rows: list[Sequence[object]] = []
    with canvas.style():
        names = [visible(labels[one.card.name]).replace("$", r"\$") for one in ordered]
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
    seeds = " Of several seeds the first is drawn." if any(len(one.results) > 1 for one in measured) else ""
    caption = (
        f"Singular values of the {what} of {number:,} unique sentences of {definition.data}, divided by the largest. "
        f"In brackets stand the effective rank (the exponential of the values' entropy) and the dimensions."
        f"{seeds}{note}"
    )
    return Drawing(figure=figure, header=_HEADER, rows=rows, caption=caption)
