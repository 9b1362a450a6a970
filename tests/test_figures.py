"""Figures: what is drawn is what was measured, nothing is cut off or covered, and equal results give equal bytes."""

import csv
import json
import subprocess
import sys
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from matplotlib.text import Text
from typer.testing import CliRunner

from harness.cli import plot
from harness.cli.plot import plot_app
from harness.data import sts
from harness.data.locate import BUNDLED
from harness.encoders.context import Context
from harness.encoders.registry import build
from harness.errors import ResultError
from harness.names import EncoderCard
from harness.reports.figures import canvas
from harness.reports.figures.canvas import save
from harness.reports.figures.geometry import _density, alignment_uniformity, similarity_density, spectrum
from harness.reports.figures.measured import COLOUR_TASKS, Definition, find, together
from harness.reports.figures.scores import heat_map, scores
from harness.reports.figures.trajectory import Point, Trajectory, read_log, trajectory
from harness.reports.match import short_names
from harness.reports.table import Cell, Column, Row, Table
from harness.results import documents, store
from harness.results.items import SeriesItems
from harness.results.record import Result, Run
from harness.tasks import suites
from harness.tasks.geometry import GeometryTask

MINI = partial(sts.semeval, year="MINI")
DEFINITION = Definition()
RUN = Run(
    started="2026-01-02T03:04:05+00:00",
    seconds=1.0,
    encoding_seconds=1.0,
    machine={},
    packages={},
    commit=None,
    dirty=None,
    device="cpu",
    threads=1,
)
MODELS = ("random[dim=16]", "random[dim=32]", "bag-of-words", "bag-of-words[dim=64]", "bag-of-words[dim=64,seed=1]")


def task(name: str, load=MINI) -> GeometryTask:
    return GeometryTask(name=name, title="", loads={"test": load}, load_target=load, bundled=True)


def result(card: EncoderCard, name: str, protocol: str, scores: dict[str, float], **values: object) -> Result:
    blank = dict(metric=next(iter(scores)), counts={}, data={}, flags=(), seed=None, run=RUN)
    encoder = EncoderCard(**asdict(card))
    return Result(task=name, protocol=protocol, scores=scores, encoder=encoder, **(blank | values))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Results of five encoders, under the name of the STS-B task; the last one has no STS scores."""
    root = tmp_path_factory.mktemp("results")
    context = Context(cache_dir=root)
    for number, model in enumerate(MODELS):
        encoder = build(model, context)
        outcome = task("geometry-stsb").prepare(BUNDLED).score(encoder, context)
        own = result(encoder.card, "geometry-stsb", "geometry[alpha=2,t=2]", outcome.scores, counts=outcome.counts)
        store.write(own.with_items(outcome.items), root)
        for i, name in enumerate(COLOUR_TASKS["geometry-stsb"] if model != MODELS[-1] else ()):
            store.write(result(encoder.card, name, "sts", {"spearman/all/test": 0.1 * number + 0.01 * i}), root)
    return root


@pytest.fixture(scope="module")
def measured(folder):
    return find(folder, "geometry-stsb", MODELS).measured


RUNS = [
    Trajectory(name, tuple(Point(125 * i, 0.2 + slope * i, -1.5 - 0.1 * i, 60.0 + i) for i in range(9)))
    for name, slope in (("dropout", 0.01), ("no dropout", 0.04), ("delete one word", 0.02))
]
LONG = Table(
    name="t",
    title="T",
    caption="C",
    columns=(Column(head="STS12", task="STS12", key="spearman/all/test"), Column(head="Avg.", task="Avg")),
    rows=tuple(
        Row(kind="measured", label=f"simcse-unsup [sentences=300000, augmentation={edit}], 3 seeds", cells=cells)
        for edit in ("delete-one", "delete-two")
        for cells in ((Cell(value=50.0), Cell(value=60.0, deviation=1.0, seeds=3)),)
    ),
)
DRAWINGS = {
    "alignment-uniformity": lambda measured, width: alignment_uniformity(measured, DEFINITION, width=width),
    "spectrum": lambda measured, width: spectrum(measured, DEFINITION, width=width),
    "spectrum-centred": lambda measured, width: spectrum(measured, DEFINITION, centred=True, width=width),
    "similarity-density": lambda measured, width: similarity_density(measured, DEFINITION, width=width),
    "trajectory": lambda measured, width: trajectory(RUNS, width=width),
    "scores": lambda measured, width: scores(LONG, width=width),
    "heat-map": lambda measured, width: heat_map(LONG, width=width),
}


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_equal_results_give_equal_bytes_in_four_formats(measured, tmp_path):
    first, again = (
        canvas.save(alignment_uniformity(measured, DEFINITION), tmp_path / day, "figure") for day in ("a", "b")
    )
    assert [path.suffix for path in first] == [".pdf", ".svg", ".png", ".csv", ".tex"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]
    assert b"CreationDate" not in first[0].read_bytes()
    assert b"<dc:date>" not in first[1].read_bytes()


@pytest.mark.parametrize("name", DRAWINGS)
@pytest.mark.parametrize("width", canvas.WIDTHS)
def test_no_text_is_cut_off(name, width, measured):
    figure = DRAWINGS[name](measured, width).figure
    with canvas.style():
        canvas.settle(figure)
        figure.set_dpi(300)  # as files have it, where letters have other widths than on a screen
        drawn = figure.get_tightbbox()
    assert figure.get_figwidth() == canvas.WIDTHS[width]
    assert drawn.x0 > -0.01
    assert drawn.y0 > -0.01
    assert drawn.x1 < figure.get_figwidth() + 0.01
    assert drawn.y1 < figure.get_figheight() + 0.01


@pytest.mark.parametrize("label", ["name {}", "a name that is far too long for such a column, number {}"])
def test_names_stand_beside_the_points_or_numbers_do_and_nothing_is_covered(measured, label):
    """Names where there is room; else numbers, and the names in the legend."""
    drawn = [replace(measured[i], label=label.format(i)) for i in (0, 2, 4)]
    drawing = alignment_uniformity(drawn, DEFINITION)
    axes = drawing.figure.axes[0]
    with canvas.style():
        drawing.figure.canvas.draw()
        boxes = [Text.get_window_extent(text) for text in axes.texts]
    points = [axes.transData.transform((row[7], row[4])) for row in drawing.rows]
    beside = {text.get_text().partition(" ")[0] for text in axes.texts}
    assert beside == ({"name"} if label == "name {}" else {"1", "2", "3"})
    if "long" in label:
        below = [text.get_text() for text in drawing.figure.legends[0].get_texts()]
        assert all(any(one.label in text for text in below) for one in drawn)
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[i + 1 :])
        assert not any(box.contains(*point) for point in points)


def test_seeds_are_one_point_with_their_mean_and_spread(measured):
    runs = [replace(one, sts=sts) for one, sts in zip(measured[:3], (10.0, 20.0, 60.0), strict=True)]
    both = together(runs)
    drawing = alignment_uniformity([replace(both, label="three", published=40.25)], DEFINITION)
    (row,) = drawing.rows
    values = [one.result.scores["alignment/gt4/test"] for one in runs]
    assert row[3:6] == (3, pytest.approx(np.mean(values)), pytest.approx(np.mean(values) - np.std(values, ddof=1)))
    assert row[10:12] == (pytest.approx(30.0), 40.25)
    assert drawing.figure.axes[0].texts[0].get_text() == "three (30.0 | 40.3)"
    assert "one standard deviation" in drawing.caption and "that the paper prints" in drawing.caption


def test_points_are_the_results(only_csv, measured, tmp_path):
    drawing = alignment_uniformity(measured, DEFINITION)
    rows = read_csv(canvas.save(drawing, tmp_path, "figure")[0])
    assert [row["model"] for row in rows] == list(MODELS)
    for row, one in zip(rows, measured, strict=True):
        scores = one.result.scores
        assert float(row["alignment"]) == scores["alignment/gt4/test"]
        assert float(row["alignment_low"]) == scores["alignment/gt4/test/low"]
        assert float(row["uniformity_high"]) == scores["uniformity/unique/test/high"]
        assert (row["data"], row["positives"], row["sentences"]) == ("STS-B test", "gt4", "unique")
    assert float(rows[3]["sts"]) == pytest.approx(33)
    assert rows[4]["sts"] == ""
    axes = drawing.figure.axes[0]
    assert "672 unique sentences" in drawing.caption and "85 pairs of STS-B test (gold > 4)" in drawing.caption
    assert (axes.get_xlabel(), axes.get_ylabel()) == (r"$\ell_{\mathrm{uniform}}$", r"$\ell_{\mathrm{align}}$")


def test_another_variant_is_drawn_and_said(measured):
    other = Definition(positives="ge4", sentences="occurrences")
    drawing = alignment_uniformity(measured, other)
    assert drawing.rows[0][4] == measured[0].result.scores["alignment/ge4/test"]
    assert "gold ≥ 4" in drawing.caption and "repeated ones included" in drawing.caption
    assert other.suffix == "-ge4-occurrences"
    assert Definition(task="mini-geometry").suffix == "-mini-geometry"


def test_a_split_that_was_not_measured_is_an_error(measured):
    path = measured[0].result.file
    with pytest.raises(ResultError) as caught:
        alignment_uniformity(measured, Definition(split="dev"))
    assert str(caught.value) == (
        f"{path}: has no score alignment/gt4/dev, it covers the split(s) test; choose one of them, or another --task"
    )
    with pytest.raises(ResultError) as caught:
        similarity_density(measured, Definition(split="dev"))
    assert str(caught.value) == (f"{path}: its per-item file has no series pairs/dev; choose another --split or --task")


def test_spectrum_is_the_sidecars_and_the_legend_is_by_rank(measured):
    drawing = spectrum(measured, DEFINITION)
    assert len(drawing.rows) == sum(one.card.dim for one in measured if one.card.dim < 672) + 672
    ranks = [row[5] for row in drawing.rows]
    assert ranks == sorted(ranks, reverse=True)
    assert {row[3] for row in drawing.rows if row[2] == 1} == {1.0}
    (legend,) = drawing.figure.legends
    assert legend.get_texts()[0].get_text().endswith("/1024)")


def test_density_integrates_to_one_and_keeps_to_cosines():
    grid = np.linspace(-1, 1, 2001)
    values = np.clip(np.random.default_rng(0).normal(0.9, 0.1, 300), -1, 1)
    density, bandwidth = _density(values, grid)
    assert np.trapezoid(density, grid) == pytest.approx(1, abs=2e-3)
    assert bandwidth == pytest.approx(values.std(ddof=1) * 300**-0.2)
    assert _density(values[:1], grid)[0].max() == 0


def test_density_of_a_band_by_a_second_route(measured):
    from scipy.stats import gaussian_kde

    drawing = similarity_density(measured[2:3], DEFINITION)
    gold, cosines = measured[2].series("pairs/test")
    band = cosines[(gold >= 1) & (gold < 2)]
    rows = [row for row in drawing.rows if row[2] == "1-2"]
    grid, density = np.array([row[3] for row in rows]), np.array([row[4] for row in rows])
    expected = gaussian_kde(band)(grid) + gaussian_kde(2 - band)(grid)
    np.testing.assert_allclose(density, expected, atol=1e-9)
    assert rows[0][5] == len(band)


def card(name: str, **parameters: object) -> EncoderCard:
    return EncoderCard(**asdict(EncoderCard(name=name, method=name.partition("[")[0], parameters=parameters, dim=2)))


@pytest.mark.parametrize(
    ("cards", "labels", "left_out"),
    [
        pytest.param(
            [card("a[backbone=tiny]", backbone="tiny"), card("b[backbone=tiny]", backbone="tiny"), card("c")],
            ["a", "b", "c"],
            ("backbone=tiny",),
            id="shared by all that have it",
        ),
        pytest.param(
            [card("a[backbone=tiny]", backbone="tiny"), card("b", backbone="large")],
            ["a [backbone=tiny]", "b"],
            (),
            id="another one's default differs",
        ),
        pytest.param([card("a[dim=8]", dim=8), card("b")], ["a [dim=8]", "b"], (), id="one alone"),
        pytest.param([card("hf:x/m"), card("hf:y/n")], ["m", "n"], (), id="repositories"),
        pytest.param([card("hf:x/m"), card("hf:y/m")], ["hf:x/m", "hf:y/m"], (), id="equal ends"),
        pytest.param([card("m"), card("hf:y/m")], ["m", "hf:y/m"], (), id="a repository like a method"),
    ],
)
def test_short_names(cards, labels, left_out):
    assert short_names(cards) == (dict(zip([c.name for c in cards], labels, strict=True)), left_out)


def test_find_names_what_it_lacks(folder):
    found = find(folder, "geometry-stsb", ("minilm", *MODELS))
    assert found.missing == ("minilm",)
    assert [one.card.name for one in found.measured] == list(MODELS)
    assert found.measured[0].sts == pytest.approx(3)
    assert found.measured[-1].sts is None
    assert {one.card.name for one in find(folder, "geometry-stsb").measured} == set(MODELS)
    assert find(folder, "mini-geometry").measured == ()


def write_log(path: Path, *entries: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return path


def test_training_log(tmp_path):
    first = {"step": 0, "dev_alignment": 0.2, "dev_uniformity": -1.5, "dev_spearman": 0.6}
    log = write_log(
        tmp_path / "seed-42" / "log.jsonl",
        first | {"step": 125, "dev_spearman": None},
        {"step": 60, "loss": 1.0},
        first,
    )
    expected = Trajectory("seed-42", (Point(0, 0.2, -1.5, 60.0), Point(125, 0.2, -1.5, None)))
    assert read_log(log) == read_log(log.parent) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '{"step": 1, "loss": 2}\n',
            "{}: no line has dev_alignment and dev_uniformity; train again with a development set, or for longer",
        ),
        (
            '{"step": 1, "dev_alignment": NaN, "dev_uniformity": -1}\n',
            "{}:1: dev_alignment is nan, expected a number; look at what wrote the log",
        ),
        (
            '{"dev_alignment": 1, "dev_uniformity": -1}\n',
            "{}:1: step is None, expected a number; look at what wrote the log",
        ),
        (
            '{"step"',
            "{}:1: is not JSON (Expecting ':' delimiter: line 1 column 8 (char 7)); "
            "delete the line if the run was cut off there",
        ),
    ],
)
def test_bad_training_logs(tmp_path, text, message):
    log = tmp_path / "log.jsonl"
    log.write_text(text)
    with pytest.raises(ResultError) as caught:
        read_log(log)
    assert str(caught.value) == message.format(log)


def test_missing_training_log(tmp_path):
    with pytest.raises(ResultError) as caught:
        read_log(tmp_path / "none.jsonl")
    assert str(caught.value) == (
        f"{tmp_path / 'none.jsonl'}: cannot be read (No such file or directory), expected a training log; check --runs"
    )


@pytest.fixture
def only_csv(monkeypatch):
    monkeypatch.setattr(canvas, "_FORMATS", {})


def call(*arguments: object):
    return CliRunner().invoke(plot_app, [str(argument) for argument in arguments], env={"COLUMNS": "400"})


@pytest.mark.parametrize("name", ["alignment-uniformity", "spectrum", "similarity-density"])
def test_commands_draw_all_that_is_measured(only_csv, name, folder, tmp_path):
    done = call(name, "--results-dir", folder, "-o", tmp_path, "--json", "--width", "page")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout) == {
        "files": [str(tmp_path / f"{name}.{ending}") for ending in ("csv", "tex")],
        "missing": [],
    }
    assert {row["model"] for row in read_csv(tmp_path / f"{name}.csv")} == set(MODELS)


def test_command_trajectory(only_csv, tmp_path):
    entry = {"step": 0, "dev_alignment": 0.2, "dev_uniformity": -1.5, "dev_spearman": 0.6}
    runs = [write_log(tmp_path / name / "log.jsonl", entry).parent for name in ("a", "b")]
    assert call("trajectory", "--runs", f"{runs[0]},other={runs[1]}", "-o", tmp_path).exit_code == 0
    assert [row["run"] for row in read_csv(tmp_path / "trajectory.csv")] == ["a", "other"]
    done = call("trajectory", "--cache-dir", tmp_path)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "nothing to draw, found no training log there, and no run of that name in" in done.stderr


def test_command_trajectory_finds_the_runs_of_the_cache_by_name(only_csv, tmp_path):
    entry = {"step": 0, "dev_alignment": 0.2, "dev_uniformity": -1.5, "dev_spearman": 0.6}
    for seed, method in enumerate(("simcse-unsup", "simcse-unsup", "simcse-sup")):
        folder = write_log(tmp_path / "trained" / f"digest{seed}" / "log.jsonl", entry).parent
        card = {
            "backbone": {"name": "tiny"},
            "data": {"name": "wiki.txt"},
            "settings": {"method": method, "seed": seed},
        }
        (folder / "card.json").write_text(json.dumps(card))

    def drawn(*options):
        done = call("trajectory", "--cache-dir", tmp_path, "-o", tmp_path, *options)
        assert done.exit_code == 0, done.stderr
        return {row["run"] for row in read_csv(tmp_path / "trajectory.csv")}

    both = {"simcse-unsup[seed=0]", "simcse-unsup[seed=1]"}
    assert drawn() == {*both, "simcse-sup[seed=2]"}
    assert drawn("--runs", tmp_path / "trained") == {*both, "simcse-sup[seed=2]"}
    assert drawn("--runs", "simcse-unsup") == both
    assert drawn("--runs", "simcse-unsup[backbone=tiny,seed=1],simcse-sup") == {"simcse-unsup", "simcse-sup"}


def test_what_is_not_measured_is_named_and_the_rest_drawn(only_csv, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(plot, "_evaluate", lambda models, *_, **__: models)
    models = f"minilm,{MODELS[0]},{MODELS[4]}"
    done = call("alignment-uniformity", "--results-dir", folder, "-o", tmp_path, "-m", models, "-q")
    assert done.exit_code == 1
    assert done.stderr.splitlines() == [
        f"bench: minilm: not drawn, {folder} has no result of geometry-stsb; `bench run -t geometry-stsb -m minilm`",
        f"bench: {MODELS[4]}: drawn hollow, because it lacks a result of STS12,STS13,STS14,STS15,STS16,STSBenchmark,"
        "SICKRelatedness; `bench run -t STS12,STS13,STS14,STS15,STS16,STSBenchmark,SICKRelatedness "
        f"-m '{MODELS[4]}'`",
    ]
    assert len(read_csv(tmp_path / "alignment-uniformity.csv")) == 2


def test_nothing_measured_says_what_to_run(tmp_path):
    done = call("spectrum", "--results-dir", tmp_path, "-o", tmp_path)
    assert done.exit_code == 2
    assert done.stderr == (
        f"bench: {tmp_path}: nothing to draw, found no result of geometry-stsb; "
        "run `bench run -t geometry-stsb -m MODEL,MODEL` first\n"
    )


def test_what_is_missing_is_evaluated(only_csv, tmp_path, monkeypatch):
    monkeypatch.setattr(suites, "TASKS", {**suites.TASKS, "mini-geometry": task("mini-geometry")})
    arguments = ("--task", "mini-geometry", "--results-dir", tmp_path, "-o", tmp_path, "-m", "random,bag-of-words")
    done = call("alignment-uniformity", *arguments)
    assert done.exit_code == 0, done.stderr
    rows = read_csv(tmp_path / "alignment-uniformity-mini-geometry.csv")
    assert [row["model"] for row in rows] == ["random", "bag-of-words"]
    assert all(row["sts"] for row in rows)
    again = call("alignment-uniformity", *arguments, "-q")
    assert (again.exit_code, again.stderr) == (0, "")


def test_edited_points_are_refused(folder, tmp_path):
    one = find(folder, "geometry-stsb", MODELS[:1]).measured[0]
    items = SeriesItems(series=["pairs/test"], x=np.ones(1), y=np.ones(1))
    written = store.write(one.result.with_items(items), tmp_path)
    documents.scores_file(written.file).write_bytes(b"edited")
    done = call("spectrum", "--results-dir", tmp_path, "-o", tmp_path)
    assert done.exit_code == 2
    assert f"left out: {documents.scores_file(written.file)}: cannot be read as Parquet" in done.stderr


def test_drawing_needs_no_torch(folder, tmp_path):
    code = (
        "import sys; from harness.cli.plot import plot_app\n"
        f"try: plot_app(['alignment-uniformity', '--results-dir', {str(folder)!r}, '-o', {str(tmp_path)!r}, '-q'])\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "assert 'torch' not in sys.modules "
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_rows_have_their_names_in_full(measured):
    axes = scores(LONG).figure.axes[0]
    texts = [label.get_text().replace("\n", " ") for label in axes.get_yticklabels()]
    assert texts == [row.label for row in LONG.rows]
    assert all(label.get_text().endswith(", 3 seeds") for label in axes.get_yticklabels())


def test_scores_and_their_heat_map_are_drawn_from_a_table(tmp_path):
    cells = [(Cell(value=50.0 + i), Cell(value=60.0 + i, interval=(59.0, 61.5))) for i in range(3)]
    rows = tuple(Row(kind="measured", label=f"e${i}", name=f"e${i}", cells=one) for i, one in enumerate(cells))
    published = Row(kind="published", label="theirs", cells=(Cell(value=1.0), Cell(value=1.0)))
    columns = (Column(head="STS12", task="STS12", key="spearman/all/test"), Column(head="Avg.", task="Avg"))
    table = Table(name="t", title="T", caption="C", columns=columns, rows=(*rows, published))
    dots, colours = scores(table), heat_map(table)
    assert [(row[0], row[3], row[4]) for row in dots.rows] == [(f"e${i}", 60.0 + i, 59.0) for i in range(3)]
    assert [row[3] for row in colours.rows] == [50.0, 60.0, 51.0, 61.0, 52.0, 62.0]
    paths = save(dots, tmp_path, "dots")
    assert {path.suffix for path in paths} == {".pdf", ".svg", ".png", ".csv", ".tex"}
    svg = (tmp_path / "dots.svg").read_text()
    assert "<text" in svg and "e$0" in svg  # text stays text, and a dollar starts no formula
    with pytest.raises(ResultError, match="no encoder has a score on every task"):
        scores(replace(table, rows=(published,)))
