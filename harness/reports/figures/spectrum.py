"""Singular values of the sentence vectors, divided by the largest: the paper's Figure F.1."""

from collections.abc import Sequence

from harness.errors import ResultError
from harness.reports.figures import canvas
from harness.reports.figures.canvas import Drawing
from harness.reports.figures.measured import Definition, Measured, labels_of

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
        legend = [f"{labels[one.card.name]} ({one.score(key):.0f}/{one.card.dim})" for one in ordered]
        columns = canvas.columns(legend, width)
        figure = canvas.blank(width, 2.5 + 0.12 * -(-len(legend) // columns))
        axes = figure.add_subplot()
        for i, (one, colour) in enumerate(zip(ordered, canvas.colours(len(ordered)), strict=True)):
            x, y = one.series(f"spectrum{kind}/{definition.split}")
            axes.plot(x, y, color=colour, linestyle=canvas.LINES[i % len(canvas.LINES)], label=legend[i])
            described = (one.score(key), centred, definition.data, "unique", one.result.protocol)
            rows += [
                (one.card.name, labels[one.card.name], int(index), float(value), *described)
                for index, value in zip(x, y, strict=True)
            ]
        axes.set(xscale="log", yscale="log", xlim=(1, None), ylim=(_LOWEST, 1.15))
        number = measured[0].result.counts[f"sentences/unique/{definition.split}"]
        what = "centred unit vectors" if centred else "unit vectors, not centred"
        axes.set_xlabel(f"Index of singular value\n{what}, {number:,} unique sentences", linespacing=1.15)
        axes.set_ylabel("Singular value / largest")
        axes.set_title(canvas.wrapped(definition.data + note, width), fontsize=7, pad=2)
        title = "Encoder (effective rank/dimensions)"
        figure.legend(loc="outside lower center", ncols=columns, fontsize=6, title=title, title_fontsize=6)
    return Drawing(figure=figure, header=_HEADER, rows=rows)
