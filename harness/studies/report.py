"""The figures that the table `[report]` of a study asks for, from its results and the logs of its trainings."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from harness.encoders.registry import resolve
from harness.errors import ResultError
from harness.names import Spec
from harness.reports.figures.canvas import Drawing, save
from harness.reports.figures.geometry import alignment_uniformity, similarity_density, spectrum
from harness.reports.figures.measured import DATA, Definition, find, gaps
from harness.reports.figures.scores import heat_map, scores
from harness.reports.figures.trajectory import read_log, runs_in, titles, trajectory
from harness.reports.runs import Estimates
from harness.reports.suite import build
from harness.reports.table import Table
from harness.results.store import read_all
from harness.studies.study import Study

OF_GEOMETRY: Mapping[str, Callable[..., Drawing]] = {
    "alignment-uniformity": alignment_uniformity,
    "spectrum": spectrum,
    "similarity-density": similarity_density,
}
_OF_TABLES: Mapping[str, Callable[..., Drawing]] = {"scores": scores, "heat-map": heat_map}


def draw(study: Study, tell: Callable[[str], None]) -> tuple[list[Path], bool]:
    """Draw the figures into `figures/` of the report's folder, where its HTML page shows them.

    `tell` gets one sentence about each figure that cannot be drawn, and each encoder that is not in one.

    Returns:
        The files, and whether every figure was drawn.

    Raises:
        WriteError: if the files cannot be written.
    """
    folder = Path(study.report.output) / "figures"
    tables = _tables(study) if _OF_TABLES.keys() & set(study.report.figures) else []
    paths: list[Path] = []
    whole = True
    for figure in study.report.figures:
        try:
            for name, drawing in _drawings(figure, study, tables, tell):
                paths += save(drawing, folder, name)
        except ResultError as error:
            tell(f"{figure}: {error}")
            whole = False
    return paths, whole


def _drawings(
    figure: str, study: Study, tables: list[Table], tell: Callable[[str], None]
) -> Iterator[tuple[str, Drawing]]:
    """The drawings of a figure by the names of their files: one for each of the data, or of the tables.

    Raises:
        ResultError: if there is nothing to draw.
    """
    if figure in OF_GEOMETRY:
        yield from _of_geometry(figure, study, tell)
    elif figure == "trajectory":
        yield figure, _trajectory(study)
    elif not tables:
        raise ResultError(f"{study.results_dir}: nothing to draw, no table of the report has a measured row")
    for table in tables if figure in _OF_TABLES else []:
        yield f"{figure}-{table.name}", _OF_TABLES[figure](table)


def _of_geometry(figure: str, study: Study, tell: Callable[[str], None]) -> Iterator[tuple[str, Drawing]]:
    by_task = {task: find(study.results_dir, task) for task in DATA}
    if not any(found.measured for found in by_task.values()):
        raise ResultError(f"{study.results_dir}: nothing to draw, found no result of {' or '.join(DATA)}")
    for task, found in by_task.items():
        if found.measured:
            definition = Definition(task=task)
            for gap in gaps(found, definition, study.results_dir, colour=figure == "alignment-uniformity"):
                tell(gap)
            yield f"{figure}{definition.suffix}", OF_GEOMETRY[figure](found.measured, definition)


def _trajectory(study: Study) -> Drawing:
    """The paths of the study's own trainings."""
    trained = study.cache_dir / "trained"
    wanted = [Spec.parse(spec) for spec in study.specs if (work := resolve(spec).work) and work.kind == "train"]
    runs = [run for run in runs_in(trained) if any(run.fits(spec) for spec in wanted)]
    if not runs:
        raise ResultError(f"{trained}: nothing to draw, found no finished training of this study")
    return trajectory([read_log(run.folder, title) for run, title in zip(runs, titles(runs), strict=True)])


def _tables(study: Study) -> list[Table]:
    """The tables that the report names, else those of its first page, else all."""
    results, _ = read_all(study.results_dir)
    tables = build(results, estimates=Estimates())
    if study.report.tables:
        return [table for table in tables if table.name in study.report.tables]
    return [table for table in tables if table.main] or tables
