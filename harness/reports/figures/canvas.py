"""What figures share: style, two widths, and saving as PDF, SVG, PNG and CSV. Equal results give equal bytes."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import matplotlib.style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath

from harness import files
from harness.packaged import packaged
from harness.reports.renderers import latex_text, visible

WIDTHS = {"column": 3.3, "page": 6.8}  # inches: one column, and both, of an ACL paper
EDGE = "#333333"  # of markers: keeps the light end of the colours legible on white
DISTINCT = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")  # Okabe and Ito, 2008
LINES: tuple[str | tuple[int, tuple[float, ...]], ...] = ("-", (0, (4, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1)))
_FORMATS: Mapping[str, Mapping[str, None]] = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": {}}
_DESCRIBED = {"pdf": "Subject", "svg": "Description", "png": "Description"}  # where each format holds the caption


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """A figure and the numbers in it."""

    figure: Figure
    header: Sequence[str]  # names of the columns
    rows: Sequence[Sequence[object]]  # everything that is drawn, so that somebody else can draw it again
    caption: str  # plain sentences on what is drawn, of which data, by which formula


@contextmanager
def style() -> Iterator[None]:
    """The project's style while it lasts, whatever the user's matplotlibrc says."""
    with matplotlib.style.context(["default", packaged("harness/reports/figures/figures.mplstyle")]):
        yield


def blank(width: str, height: float) -> Figure:
    """An empty figure that needs no display: `width` is a key of `WIDTHS`, `height` in inches. Call within `style`."""
    figure = Figure(figsize=(WIDTHS[width], height), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02)  # type: ignore[union-attr, call-arg]
    FigureCanvasAgg(figure)
    return figure


def settle(figure: Figure) -> None:
    """Lay the figure out now and for good: each format would do it again, with its own idea of how wide text is."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")


def plain(name: str) -> str:
    """A name that is drawn letter by letter; `$` would start a formula."""
    return visible(name).replace("$", r"\$")


def colours(n: int) -> list[tuple[float, float, float, float]]:
    """So many colours, dark to light: they differ in lightness too. The lightest would vanish on white."""
    ramp = matplotlib.colormaps["viridis"]
    return [ramp(0.87 * i / max(1, n - 1)) for i in range(n)]


def columns(labels: Sequence[str], width: str) -> int:
    """How many columns of a legend in 6 points fit, 24 points left for each handle. Call within `style`."""
    properties = FontProperties(family=matplotlib.rcParams["font.family"])
    widest = max(TextPath((0, 0), label, size=6, prop=properties).get_extents().width for label in labels)
    return max(1, int(72 * WIDTHS[width] / (1.05 * widest + 24)))


def save(drawing: Drawing, folder: Path, name: str) -> tuple[Path, ...]:
    """Write `<name>.pdf`, `.svg`, `.png`, the numbers as `.csv`, and a figure environment with the caption as `.tex`.

    Raises:
        ResultError: if they cannot be written.
    """
    contents = {}
    with style():
        settle(drawing.figure)
        for suffix, metadata in _FORMATS.items():
            buffer = io.BytesIO()
            drawing.figure.savefig(buffer, format=suffix, metadata={**metadata, _DESCRIBED[suffix]: drawing.caption})
            contents[suffix] = buffer.getvalue()
    contents["csv"] = _csv(drawing).encode()
    contents["tex"] = _tex(drawing, name).encode()
    for suffix, content in contents.items():
        files.replace(folder / f"{name}.{suffix}", content)
    return tuple(folder / f"{name}.{suffix}" for suffix in contents)


def _csv(drawing: Drawing) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(drawing.header)
    writer.writerows(drawing.rows)
    return buffer.getvalue()


def _tex(drawing: Drawing, name: str) -> str:
    r"""To `\input`; a figure of a column's width is as wide as the column."""
    wide = "*" if drawing.figure.get_figwidth() > WIDTHS["column"] else ""
    return (
        f"% Needs \\usepackage{{graphicx}}.\n\\begin{{figure{wide}}}[t]\n\\centering\n"
        f"\\includegraphics[width=\\linewidth]{{{name}.pdf}}\n\\caption{{{latex_text(drawing.caption)}}}\n"
        f"\\label{{fig:{name}}}\n\\end{{figure{wide}}}\n"
    )
