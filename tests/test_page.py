"""The HTML page: valid structure, nothing from outside, data that parse, and pairs by a second route."""

import base64
import gzip
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from report_cases import card, result
from scipy.stats import rankdata, spearmanr
from typer.testing import CliRunner

from harness.cli.main import app
from harness.data import sts
from harness.data.locate import BUNDLED
from harness.reports.page import choose, explore, percentiles
from harness.reports.report import ReportOptions, report
from harness.results import store
from harness.results.items import PairItems, text_id
from harness.results.store import read_all

VOID = {"meta", "link", "input", "img", "wbr", "br"}
NASTY = '</script><script>alert("x")</script> & <b>'


class Page(HTMLParser):
    """Elements as (tag, attributes, text); fails on a tag that is closed out of order."""

    def __init__(self, html):
        super().__init__()
        self.open, self.elements = [], []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        element = [tag, dict(attrs), ""]
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag, tag

    def handle_data(self, data):
        for element in self.open:
            element[2] += data

    def all(self, tag, **wanted):
        return [e for e in self.elements if e[0] == tag and all(e[1].get(k.strip("_")) == v for k, v in wanted.items())]

    def json(self, name):
        (element,) = self.all("script", id=name)
        return json.loads(gzip.decompress(base64.b64decode(element[2])))


def pairs(n, seed, left="a man runs"):
    rng = np.random.default_rng(seed)
    gold = np.linspace(0, 5, n)
    return PairItems(
        subset=["two"] * (n // 2) + ["one"] * (n - n // 2),
        left=[text_id(f"{left} {i}") for i in range(n)],
        right=[text_id(f"a dog walks {i}") for i in range(n)],
        words=np.arange(n) + 4,
        overlap=np.linspace(0, 1, n),
        gold=gold,
        cosine=gold / 5 + rng.normal(0, 0.3, n),
    )


def stored(encoder, task, items, root, **values):
    """A result whose score follows from its items."""
    score = float(spearmanr(items.gold, items.cosine).statistic)
    store.write(result(encoder, task, {"spearman/all/test": score}, **values).with_items(items), root)


SENTENCES = {text_id(text): text for i in range(40) for text in (f"a man runs {i}", f"a dog walks {i}")}


@pytest.fixture
def folder(tmp_path):
    for task in ("STS12", "STSBenchmark"):
        mine = card("minilm", parameters={"pooling": "avg"})
        stored(mine, task, pairs(40, seed=1), tmp_path / "results", flags=("a flag",))
        stored(card("hf:some/model[pooling=cls]"), task, pairs(40, seed=2), tmp_path / "results")
    (tmp_path / "out" / "figures").mkdir(parents=True)
    (tmp_path / "out" / "figures" / "a-spectrum.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
    return tmp_path


def made(folder, **options):
    summary = report(folder / "results", folder / "out", ReportOptions(formats=["html"], intervals=False, **options))
    assert [path.name for path in summary.paths] == ["report.html"]
    return summary.paths[0].read_text(encoding="utf-8")


def test_the_page_is_whole_and_asks_for_nothing_outside(folder):
    html = made(folder)
    page = Page(html)
    assert html.startswith("<!doctype html>")
    assert not re.search(r"https?://|@import|url\(", html.replace("http://www.w3.org/2000/svg", ""))
    assert not [e for e in page.elements if {"onclick", "onload", "style"} & set(e[1])]
    links = [e[1].get("src") or e[1].get("href") for e in page.elements if {"src", "href"} & set(e[1])]
    assert {link.partition(":")[0] for link in links if not link.startswith("#")} == {"data"}
    (policy,) = page.all("meta", **{"http-equiv": "Content-Security-Policy"})
    assert policy[1]["content"].startswith("default-src 'none'; img-src data:;")
    names = [e[1]["id"] for e in page.elements if "id" in e[1]]
    assert len(names) == len(set(names))
    assert {link[1:] for link in links if link.startswith("#")} <= set(names)
    assert page.all("img", alt="A spectrum")


def test_columns_are_sorted_by_buttons_that_say_their_state(folder):
    page = Page(made(folder))
    buttons = page.all("button", class_="sort")
    heads = [head for head in page.all("th", scope="col") if "aria-sort" in head[1]]
    assert len(buttons) == len(heads) and {head[1]["aria-sort"] for head in heads} == {"none"}
    assert [b[2] for b in buttons[:3]] == ["Encoder", "STS12", "STS13"]
    assert all(e[1].get("aria-labelledby") or e[1].get("aria-label") for e in page.all("div", role="region"))
    assert all(e[1].get("tabindex") == "0" for e in page.all("div", role="region"))


def test_every_measured_number_leads_to_its_result(folder):
    page = Page(made(folder))
    data = page.json("provenance-data")
    results, _ = read_all(folder / "results")
    shown = {}
    for button in (one for one in page.all("button", class_="number") if "data-results" in one[1]):
        entry = data["results"][int(button[1]["data-results"])]
        shown[data["cards"][entry["card"]]["name"], entry["task"]] = button[2]
    assert shown == {(r.encoder.name, r.task): f"{100 * next(iter(r.scores.values())):.2f}" for r in results}
    first = data["results"][0]
    assert data["runs"][first["run"]]["packages"] == {"numpy": "2.4"}
    assert data["data"][first["data"]] == {"STS12.txt": "ab"}
    assert len(data["runs"]) == 1 and len(data["cards"]) == 2
    assert first["items"] == results[0].items_sha256


def test_text_from_results_cannot_break_out_of_the_page(tmp_path):
    stored(card("minilm"), "STS12", pairs(5, 0, left=NASTY), tmp_path / "results", flags=(NASTY,))
    sentences = {text_id(f"{NASTY} {i}"): f"{NASTY} {i}" for i in range(5)}
    html = made(tmp_path, sentences=SENTENCES | sentences)
    page = Page(html)
    assert len(page.all("script")) == 4
    assert page.json("explorer-data")["tasks"][0]["left"][0] == f"{NASTY} 0"
    assert page.json("provenance-data")["results"][0]["flags"] == [NASTY]
    assert any(NASTY in e[2] for e in page.all("li"))


def test_pairs_are_left_out_when_not_asked_for(folder):
    assert "a man runs 0" in Page(made(folder, sentences=SENTENCES)).json("explorer-data")["tasks"][0]["left"]
    html = made(folder, pairs=0, sentences=SENTENCES)
    assert Page(html).json("explorer-data") == {"encoders": [], "names": [], "tasks": []}
    assert not Page(html).all("form", id="explorer")


def test_percentiles_are_average_ranks():
    values = np.array([3.0, 1.0, 1.0, 2.0, 9.0, 2.0, 2.0])
    assert percentiles(values) == pytest.approx(100 * (rankdata(values) - 1) / 6)
    assert percentiles(np.array([4.0])) == pytest.approx([0.0])


def test_the_largest_residuals_and_disagreements_are_chosen():
    rng = np.random.default_rng(0)
    gold, cosines = rng.uniform(0, 100, 60), rng.uniform(0, 100, (3, 60))
    rows, depth = choose(gold, cosines, 4, room=60)
    expected = set()
    for values in (*(row - gold for row in cosines), *(cosines[a] - cosines[b] for a, b in ((0, 1), (0, 2), (1, 2)))):
        expected |= set(sorted(range(60), key=lambda i: -abs(values[i]))[:4])
    assert depth == 4 and set(rows) == expected and list(rows) == sorted(rows)
    fewer, depth = choose(gold, cosines, 4, room=12)
    assert depth < 4 and len(fewer) <= 12
    assert choose(gold, cosines[:1], 4, room=60)[1] == 0


def test_the_explorer_holds_what_it_says(folder):
    results, _ = read_all(folder / "results")
    found = explore(results, 3, SENTENCES)
    assert found.encoders == ("minilm", "hf:some/model[pooling=cls]") and found.notes == ()
    assert found.labels == ("minilm", "model [pooling=cls]")
    assert [task["name"] for task in found.tasks] == ["STS12", "STSBenchmark"]
    task = found.tasks[0]
    own = pairs(40, seed=1)
    place = own.left.index(text_id(task["left"][0]))
    assert task["total"] == 40 and task["depth"] == 3
    assert task["subsets"][task["subset"][0]] == own.subset[place]
    assert task["cosines"][0][0] == round(float(own.cosine[place]), 3)
    assert task["ranks"][0][0] == round(100 * (rankdata(own.cosine)[place] - 1) / 39, 1)
    assert task["words"][0] == own.words[place]
    assert task["overlap"][0] == round(100 * own.overlap[place])


def test_without_data_the_page_has_no_sentences_and_says_so(folder):
    found = explore(read_all(folder / "results")[0], 3, {})
    assert [(task["left"], task["right"]) for task in found.tasks] == [(None, None)] * 2
    assert found.notes == tuple(
        f"The page has no sentences of {task}; `bench report --data-dir FOLDER` adds them."
        for task in ("STS12", "STSBenchmark")
    )
    assert found.notes[0] in made(folder)


def test_a_run_of_the_mini_suite_ends_in_a_page_with_its_sentences(tmp_path):
    places = ["--results-dir", str(tmp_path / "results")]
    for command in (
        ["run", "-q", "--suite", "mini", "--models", "random,bag-of-words", *places],
        ["report", "-q", "--format", "html", "--output", str(tmp_path), "--no-intervals", *places],
    ):
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 0, done.output
    task = Page((tmp_path / "report.html").read_text(encoding="utf-8")).json("explorer-data")["tasks"][0]
    data = sts.semeval(BUNDLED, year="MINI")
    known = {pair for subset in data.subsets for pair in zip(subset.left, subset.right, strict=True)}
    shown = list(zip(task["left"], task["right"], strict=True))
    assert task["name"] == "mini-sts" and len(shown) > 20 and set(shown) <= known
    assert task["words"] == [len(left.split()) + len(right.split()) for left, right in shown]
    assert max(task["overlap"]) > 20


def test_other_pairs_and_lost_files_are_named(folder):
    stored(card("random"), "STS12", pairs(39, seed=3), folder / "results")
    results, _ = read_all(folder / "results", check=False)
    lost = next((folder / "results").glob("minilm_*/STS12*.parquet"))
    lost.unlink()
    notes = explore(results, 3, SENTENCES).notes
    assert notes == (
        f"minilm on STS12 is left out: {lost}: is missing; run the task again.",
        "random on STS12 is left out: it was scored on other pairs than the encoders above.",
    )


def test_the_page_needs_no_torch(folder):
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "from pathlib import Path\n"
        "from harness.reports.report import ReportOptions, report\n"
        "report(Path(sys.argv[1]), Path(sys.argv[2]), ReportOptions(formats=['html']))\n"
        "print([m for m in ('transformers', 'pandas', 'matplotlib') if m in sys.modules])\n"
    )
    command = [sys.executable, "-c", program, folder / "results", folder / "page"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"
    assert Path(folder / "page" / "report.html").stat().st_size > 10_000
