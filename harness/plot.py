"""The paper's figures of results in Python: each function gives a matplotlib figure, as `bench plot` draws it.

results = harness.load_results("results")
harness.plot.alignment_uniformity(results).savefig("figure.pdf")
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.errors import ResultError, UsageError
from harness.reports.figures import geometry
from harness.reports.figures.measured import Definition, Measured, find

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from harness.results.collection import Results


def alignment_uniformity(results: "Results", *, split: str = "test", width: str = "column") -> "Figure":
    """Alignment against uniformity on STS-B, coloured by average STS score (Figure 3).

    Args:
        results: of encoders that were scored on the suite `geometry` (or `mini`), and on `sts` for the colour.
        split: of STS-B: test, dev, train or all.
        width: column (3.3 in) or page (6.8 in).

    Raises:
        ResultError: if no encoder has a geometry result.
    """
    measured, definition = _measured(results, split)
    return geometry.alignment_uniformity(measured, definition, width=width).figure


def spectrum(results: "Results", *, split: str = "test", centred: bool = False, width: str = "column") -> "Figure":
    """Singular values of the sentence vectors, divided by the largest (Figure F.1); see `alignment_uniformity`."""
    measured, definition = _measured(results, split)
    return geometry.spectrum(measured, definition, centred=centred, width=width).figure


def similarity_density(results: "Results", *, split: str = "test", width: str = "column") -> "Figure":
    """How cosines spread within each band of human ratings (Figure G.1); see `alignment_uniformity`."""
    measured, definition = _measured(results, split)
    return geometry.similarity_density(measured, definition, width=width).figure


def _measured(results: "Results", split: str) -> tuple[Sequence[Measured], Definition]:
    tasks = {result.task for result in results}
    task = next((name for name in ("geometry-stsb", "mini-geometry") if name in tasks), None)
    if task is None:
        raise ResultError("nothing to draw: no result of geometry-stsb; evaluate with suite='geometry' first")
    if task == "mini-geometry" and split != "test":
        raise UsageError(f"split={split}: the mini suite has test alone")
    return find(results.folder, task, results.encoders).measured, Definition(task=task, split=split)
