import json
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from typer.testing import CliRunner

from harness.cli.main import app
from harness.errors import ResultError
from harness.names import STS, EncoderCard
from harness.reports.comparison import compare
from harness.reports.contrasts import ON_LETTERS
from harness.reports.report import ReportOptions, report
from harness.reports.runs import Estimates
from harness.reports.suite import build
from harness.reports.table import notes_below, numbered, texts
from harness.results import documents, store
from harness.results.items import PairItems, RowItems
from harness.results.record import Result, Run

N = 240


def card(name: str, **values: object) -> EncoderCard:
    blank = dict(
        method=name.partition("[")[0], parameters={}, backbone=None, revision=None, weights_sha256=name, pooling=None,
        dim=4, max_tokens=None, dtype="float32", normalized=False, fitted_on=None, trained_on=None, seed=None,
        content={"name": name},
    )  # fmt: skip
    return EncoderCard(name=name, **(blank | values))


def record(
    encoder: EncoderCard, task: str, scores: dict[str, float], protocol: str = "sts", **values: object
) -> Result:
    run = Run(
        started="2026-01-02T03:04:05+00:00", seconds=1.0, encoding_seconds=1.0, machine={"processor": "A"},
        packages={"numpy": "2.4"}, commit=None, dirty=None, device="cpu", threads=1,
    )  # fmt: skip
    blank = dict(metric=next(iter(scores)), counts={}, data={f"{task}.txt": "ab"}, flags=(), seed=None)
    return Result(task=task, protocol=protocol, scores=scores, encoder=encoder, run=run, **(blank | values))


def similarity(root, encoder: EncoderCard, task: str, noise: float, seed: int, **values: object) -> np.ndarray:
    """Store a result whose cosines follow the gold scores with that much noise; every task has the same pairs."""
    gold = np.random.default_rng(0).random(N) * 5
    cosine = gold / 5 + noise * np.random.default_rng(seed).normal(size=N)
    items = PairItems(
        subset=["a"] * N,
        left=[f"l{i}" for i in range(N)],
        right=[f"r{i}" for i in range(N)],
        words=np.full(N, 2),
        overlap=np.zeros(N),
        gold=gold,
        cosine=cosine,
    )
    score = float(stats.spearmanr(gold, items.cosine).statistic)
    split = "dev" if task.endswith("dev") else "test"
    store.write(record(encoder, task, {f"spearman/all/{split}": score}, **values).with_items(items), root)
    return items.cosine


def probe(root, encoder: EncoderCard, task: str, wrong: int, offset: int = 0) -> None:
    predicted = [int(offset <= i < offset + wrong) for i in range(N)]
    scores = {"accuracy/test": 1 - wrong / N}
    items = RowItems(
        first=[f"r{i}" for i in range(N)], second=None, gold=np.zeros(N, dtype=int), predicted=np.array(predicted)
    )
    store.write(record(encoder, task, scores, "senteval[mode=test]").with_items(items), root)


@pytest.fixture
def results(tmp_path):
    """One encoder that is clearly better than another on STS12, and two that differ by nothing but noise on STS13."""
    for name, noise, seed in (("good", 0.2, 1), ("bad", 0.6, 2)):
        similarity(tmp_path, card(name), "STS12", noise, seed)
        similarity(tmp_path, card(name), "STS13", 0.3, seed)
        probe(tmp_path, card(name), "MR", 30 if name == "good" else 60, offset=0 if name == "good" else 5)
    return tmp_path


def test_each_task_has_its_paired_difference_and_verdict(results):
    found = compare(store.read_all(results)[0], ("good", "bad"))
    assert [(row.task, row.higher) for row in found.rows] == [
        ("STS12", "a"), ("STS13", "not told apart"), ("average", "a"), ("MR", "a")
    ]  # fmt: skip
    first, second, average, accuracy = found.rows
    assert first.low < first.difference < first.high and first.p < 1e-6
    assert average.difference == pytest.approx((first.difference + second.difference) / 2)
    assert (average.p_holm, average.n) == (average.p, 2 * N)
    # good alone is wrong in rows 0-4, bad alone in rows 30-64: 5 against 35 of 240
    share = np.array([1.0] * 35 + [-1.0] * 5 + [0.0] * (N - 40))
    assert accuracy.difference == pytest.approx(100 * 30 / N)
    assert (accuracy.high - accuracy.low) / 2 == pytest.approx(196 * share.std() / N**0.5, rel=1e-3)
    assert accuracy.p < 1e-5
    assert (found.seeds, found.notes, found.left_out) == ((1, 1), (), ())
    assert list(found.frame().task) == ["STS12", "STS13", "average", "MR"]


def test_the_interval_is_that_of_the_difference_and_not_of_the_scores(results):
    gold = np.random.default_rng(0).random(N) * 5
    a, b = (gold / 5 + 0.3 * np.random.default_rng(seed).normal(size=N) for seed in (1, 2))
    rng = np.random.default_rng(9)
    differences = []
    for _ in range(2000):
        rows = rng.integers(0, N, N)
        differences.append(
            stats.spearmanr(gold[rows], a[rows]).statistic - stats.spearmanr(gold[rows], b[rows]).statistic
        )
    found = compare(store.read_all(results)[0], ("good", "bad")).rows[1]
    assert (found.high - found.low) / 2 == pytest.approx(196 * np.std(differences), rel=0.1)


def trained(name, seed):
    return card(f"{name}[seed={seed}]", seed=seed, trained_on="wiki@1", weights_sha256=f"{name}{seed}")


def test_seeds_of_a_recipe_are_compared_by_their_mean_and_their_noise_counts(tmp_path):
    for seed in range(4):
        similarity(tmp_path, trained("one", seed), "STS12", 0.3 + 0.05 * seed, 10 + seed)
        similarity(tmp_path, trained("two", seed), "STS12", 0.3 + 0.05 * seed, 20 + seed)
    found = compare(store.read_all(tmp_path)[0], ("one", "two"))
    assert (found.seeds, found.notes) == ((4, 4), ())
    (row,) = found.rows
    scores = {
        name: [r.scores["spearman/all/test"] for r in store.read_all(tmp_path)[0] if r.encoder.method == name]
        for name in ("one", "two")
    }
    assert row.a == pytest.approx(100 * np.mean(scores["one"]))
    seeds_alone = 100 * (np.var(scores["one"], ddof=1) / 4 + np.var(scores["two"], ddof=1) / 4) ** 0.5
    assert (row.high - row.low) / 2 > 1.96 * seeds_alone
    one_seed = compare(store.read_all(tmp_path)[0], ("one[seed=0]", "two[seed=0]"))
    assert [note.split(" was ")[0] for note in one_seed.notes] == ["one[seed=0]", "two[seed=0]"]
    assert "about these weights and not about the method" in one_seed.notes[0]


def test_a_comparison_covers_alignment_and_uniformity(tmp_path):
    for name, value in (("one", -2.0), ("two", -2.5)):
        scores = {"uniformity/unique/test": value, "alignment/gt4/test": 0.3}
        scores |= {
            f"{key}/{end}": score + shift
            for key, score in scores.items()
            for end, shift in (("low", -0.05), ("high", 0.05))
        }
        store.write(record(card(name), "geometry-stsb", scores, "geometry[alpha=2,t=2]"), tmp_path)
    found = {row.task: row for row in compare(store.read_all(tmp_path)[0], ("one", "two")).rows}
    uniformity = found["geometry-stsb uniformity"]
    assert (uniformity.a, uniformity.higher) == (-2.0, "a")
    assert uniformity.high - uniformity.difference == pytest.approx(0.05 * 2**0.5, rel=1e-3)
    assert found["geometry-stsb alignment"].higher == "not told apart"


def test_other_data_and_missing_items_are_named_and_left_out(results):
    similarity(results, card("bad"), "STS12", 0.6, 2, data={"STS12.txt": "cd"})
    scores = documents.scores_file(documents.encoder_folder(results, card("bad")) / "STS13.sts.json")
    scores.unlink()
    found = compare(store.read_all(results, check=False)[0], ("good", "bad"))
    assert [row.task for row in found.rows] == ["MR"]
    assert found.left_out == (
        "STS12: the two were scored on different data files; run one of them again",
        f"STS13: {scores}: is missing; run the task again",
    )


def test_nothing_in_common_is_one_sentence(tmp_path):
    similarity(tmp_path, card("one"), "STS12", 0.2, 1)
    similarity(tmp_path, card("two"), "STS13", 0.2, 1)
    with pytest.raises(ResultError) as caught:
        compare(store.read_all(tmp_path)[0], ("one", "two"))
    assert str(caught.value) == "the results hold no task to compare one and two on; `bench run` both on one suite"


def test_the_command_prints_a_table_or_json_and_knows_names(results):
    runner = CliRunner()
    options = ["--results-dir", str(results)]
    done = runner.invoke(app, ["compare", "good", "bad", *options])
    assert done.exit_code == 0, done.output
    assert "STS13" in done.stdout and "not told apart" in done.stdout
    as_json = json.loads(runner.invoke(app, ["compare", "good", "bad", *options, "--json"]).stdout)
    assert (as_json["a"], len(as_json["rows"])) == ("good", 4)
    wrong = runner.invoke(app, ["compare", "good", "badd", *options])
    assert wrong.exit_code == 2
    assert wrong.stderr == "bench: no result's encoder is named 'badd'; did you mean 'bad'?\n"


def rows(table, kind):
    numbers = numbered(table)
    return [texts(row, table, numbers) for row in table.rows if row.kind == kind]


def test_tables_show_intervals_and_letters_of_what_they_cannot_tell_apart(tmp_path):
    tasks = ("STS12", "STS13", "STS14", "STS15", "STS16", "STSBenchmark", "SICKRelatedness")
    for number, task in enumerate(tasks):
        for name, noise, seed in (("one", 0.3, 1), ("two", 0.3, 2), ("worse", 0.8, 3)):
            similarity(tmp_path, card(name), task, noise, 10 * number + seed)
    table = build(store.read_all(tmp_path)[0], estimates=Estimates())[0]
    shown = {cells[0]: cells for cells in rows(table, "measured")}
    assert [column.head for column in table.columns][-2:] == ["95 %", "Ties"]
    assert all("–" in cells[-2] for cells in shown.values())
    assert (shown["one"][-1], shown["two"][-1], shown["worse"][-1]) == ("a", "a", "b")
    assert not any(cell.best for row in table.rows for cell in row.cells[7:])  # the average of neither is the best
    assert "share a letter" in table.caption


def ties(results):
    """Label -> letters of the first table, whose notes and caption come with them."""
    table = build(results, estimates=Estimates())[0]
    rows = [row for row in table.rows if row.kind == "measured"]
    return [(row.label, row.cells[-1].words) for row in rows], [note for _, note in notes_below(table)], table.caption


def test_a_release_and_ones_own_seeds_have_letters_of_their_own(tmp_path):
    """They have one name without the seed, so that letters by name gave both those of the other."""
    for task in STS:
        similarity(tmp_path, card("simcse-unsup"), task, 0.1, 1)
        similarity(tmp_path, card("bag-of-words"), task, 0.5, 9)
        for seed in range(3):
            similarity(tmp_path, trained("simcse-unsup", seed), task, 0.5, 10 + seed)
    found, notes, caption = ties(store.read_all(tmp_path)[0])
    assert dict(found)["simcse-unsup"] == "a"
    assert dict(found)["simcse-unsup, 3 seeds"] == dict(found)["bag-of-words"] == "b"
    other = "is no replicate of the other row of this name, which differs in who trained it, its training text"
    assert other in notes
    assert ON_LETTERS in caption
    assert any(note.startswith("1,007 of the 1,379 pairs of STS-B are in STS12 to STS16") for note in notes)


def test_letters_pool_the_spread_of_seeds_over_a_methods_settings(tmp_path):
    """Two seeds that differ by much tell nothing alone: Student's t with one degree of freedom."""
    for task in STS:
        similarity(tmp_path, card("good"), task, 0.1, 1)
        for setting, noises in (("x=1", (0.6, 0.8)), ("x=2", (0.7, 0.71)), ("x=3", (0.72, 0.73)), ("x=4", (0.7, 0.72))):
            for seed, noise in enumerate(noises):
                name = f"one[{setting},seed={seed}]"
                encoder = card(name, seed=seed, trained_on="wiki@1", weights_sha256=name, parameters={"x": setting[2:]})
                similarity(tmp_path, encoder, task, noise, 10 + seed)
    found, _, _ = ties(store.read_all(tmp_path)[0])
    assert {label: words for label, words in found if label == "good"} == {"good": "a"}
    assert all("a" not in words for label, words in found if label != "good")


def test_an_encoder_of_other_data_has_no_letter_and_silences_nobody(tmp_path):
    for name, noise, seed in (("stray", 0.05, 1), ("one", 0.2, 2), ("two", 0.5, 3)):
        for task in STS:
            data = {"other.txt": "ff"} if (name, task) == ("stray", "STS12") else {f"{task}.txt": "ab"}
            similarity(tmp_path, card(name), task, noise, seed, data=data)
    found, _, caption = ties(store.read_all(tmp_path)[0])
    assert found == [("stray", "other data"), ("one", "a"), ("two", "b")]
    assert "“other data” stands where an encoder was scored on other files than most" in caption


def test_an_average_is_over_the_seeds_that_have_every_task(tmp_path):
    for seed in range(3):
        for task in ("STS12", "STS13") if seed else ("STS12",):
            similarity(tmp_path, trained("one", seed), task, 0.3 + 0.1 * seed, 10 + seed)
    for task in ("STS12", "STS13"):
        similarity(tmp_path, card("two"), task, 0.4, 30)
    results = store.read_all(tmp_path)[0]
    found = compare(results, ("one", "two"))
    whole = [r.scores["spearman/all/test"] for r in results if r.encoder.seed in (1, 2)]
    assert found.rows[-1].a == pytest.approx(100 * np.mean(whole))
    assert found.left_out == ("average: is without 1 run that lack a task",)


def test_a_name_that_two_recipes_have_says_which_is_compared(tmp_path):
    for seed, dtype in enumerate(("float32", "float32", "bfloat16")):
        similarity(tmp_path, replace(trained("one", seed), dtype=dtype), "STS12", 0.3, 10 + seed)
    similarity(tmp_path, card("two"), "STS12", 0.4, 30)
    found = compare(store.read_all(tmp_path)[0], ("one", "two"))
    assert found.seeds == (2, 1)
    assert found.notes[0].startswith("one stands for 2 of the 3 encoders of that name; the others differ in who")


def test_sets_with_few_chains_of_sentences_are_marked(tmp_path):
    """Every pair of a set shares its first sentence, so there is one chain; the other set has one for each pair."""
    for name, seed in (("one", 1), ("two", 2)):
        gold = np.random.default_rng(0).random(N)
        cosine = gold + 0.2 * np.random.default_rng(seed).normal(size=N)
        half = N // 2
        items = PairItems(
            subset=["star"] * half + ["apart"] * half,
            left=["hub"] * half + [f"l{i}" for i in range(half)],
            right=[f"r{i}" for i in range(N)],
            words=np.full(N, 2), overlap=np.zeros(N), gold=gold, cosine=cosine,
        )  # fmt: skip
        parts = (slice(0, half), slice(half, N))
        each = [float(stats.spearmanr(gold[part], items.cosine[part]).statistic) for part in parts]
        whole = float(stats.spearmanr(gold, items.cosine).statistic)
        scores = {"spearman/all/test": whole, "spearman/mean/test": float(np.mean(each))}
        scores |= {"spearman/subset:star/test": each[0], "spearman/subset:apart/test": each[1]}
        store.write(record(card(name), "STS12", scores).with_items(items), tmp_path)
    tables = {table.name: table for table in build(store.read_all(tmp_path)[0], estimates=Estimates())}
    (note,) = [note for note in tables["sts-mean"].notes if "chains" in note]
    assert note.startswith("Pairs that share sentences form chains, of which there are so few in STS12 star (1) that")
    (whole,) = [note for note in tables["sts-all"].notes if "chains" in note]
    assert "in STS12 (4)" in whole  # 1 / (1/4 + 120 / 240^2) = 3.97
    assert "STS12 (4)" in compare(store.read_all(tmp_path)[0], ("one", "two")).notes[-1]


def test_a_result_with_a_damaged_file_is_named_and_left_out(tmp_path):
    similarity(tmp_path, card("one"), "STS12", 0.3, 1)
    similarity(tmp_path, card("one"), "STS13", 0.3, 1)
    scores = documents.scores_file(documents.encoder_folder(tmp_path, card("one")) / "STS12.sts.json")
    scores.write_bytes(b"")
    summary = report(tmp_path, tmp_path / "out", ReportOptions(formats=["md"]))
    (problem,) = summary.problems
    assert problem.startswith(f"{scores}: cannot be read as Parquet (")
    assert summary.n_results == 1
    assert problem in summary.paths[0].read_text()


def published_run(seed: int, average: float, name: str = "simcse-unsup") -> list[Result]:
    encoder = card(
        name if seed == 42 else f"{name}[seed={seed}]",
        method="simcse-unsup",
        backbone="bert-base-uncased",
        seed=seed,
        trained_on="wiki ab",
        weights_sha256=f"{seed}",
    )
    published = {"STS12": 68.40, "STS13": 82.41, "STS14": 74.38, "STS15": 80.91, "STS16": 78.56,
                 "STSBenchmark": 76.85, "SICKRelatedness": 72.23}  # fmt: skip
    shift = average - 76.25
    return [record(encoder, task, {"spearman/all/test": (value + shift) / 100}) for task, value in published.items()]


def test_seeds_have_a_mean_with_their_deviation_and_one_verdict():
    results = [r for seed, average in ((42, 75.0), (1, 76.0), (2, 77.0)) for r in published_run(seed, average)]
    table = build(results)[0]
    assert [row.kind for row in table.rows[:2]] == ["measured", "published"]
    (mean,) = rows(table, "measured")
    assert mean[0] == "simcse-unsup, 3 seeds"
    assert mean[-2:] == ["76.00", "sd 1.00"]
    assert rows(table, "published")[0][-2] == "76.25 ="


def test_one_seed_of_an_unknown_spread_says_that_more_would_tell():
    encoder = card("simcse-sup", backbone="bert-base-uncased", seed=42, trained_on="nli ab")
    table = build([record(encoder, "STS12", {"spearman/all/test": 0.7})])[0]
    assert rows(table, "published")[0][1] == "75.30 ?"
    assert any("undecided (?): about " in note for _, note in notes_below(table))


def test_cells_made_with_other_versions_are_marked():
    results = published_run(42, 76.25)
    other = replace(results[0], run=replace(results[0].run, packages={"numpy": "1.0"}))
    table = build([other, *results[1:]])[0]
    assert any("the cells of this row were made with different versions of numpy" in n for _, n in notes_below(table))


def refused(results, sentence, *arguments):
    done = CliRunner().invoke(app, ["compare", *arguments, "--results-dir", str(results)])
    assert (done.exit_code, done.stderr) == (2, f"bench: {sentence}\n")


def test_an_encoder_without_results_is_told_from_one_that_does_not_exist(results):
    refused(
        results,
        f"{results}: holds no result of minilm[pooling=cls]; "
        "`bench run --suite sts --models 'minilm[pooling=cls]'` measures it",
        *("good", "minilm[pooling=cls]"),
    )
    for task in ("STSBenchmark-dev", "SICKRelatedness-dev"):
        similarity(results, card("good"), task, 0.2, 1)
    refused(
        results,
        f"{results}: holds no result of bert[backbone=tiny]; "
        "`bench run --suite sts-dev --models 'bert[backbone=tiny]'` measures it",
        *("bert", "good", "--backbone", "tiny"),
    )
    refused(
        results, "no result's encoder is named 'minilm[pooling=no]'; known: bad, good", "good", "minilm[pooling=no]"
    )


def test_an_encoder_beside_itself_is_one_sentence(results):
    similarity(results, card("random"), "STS12", 0.2, 1)
    refused(results, "compare good good: both are good, expected two encoders; name another one", *("good", "good"))
    refused(
        results,
        "compare random random[seed=0]: both are random, expected two encoders; name another one",
        *("random", "random[seed=0]"),
    )


def test_tasks_have_the_heads_of_papers(tmp_path):
    for name, noise in (("good", 0.2), ("bad", 0.6)):
        for task in ("STSBenchmark", "SICKRelatedness"):
            similarity(tmp_path, card(name), task, noise, 1)
    done = CliRunner().invoke(app, ["compare", "good", "bad", "--results-dir", str(tmp_path)])
    assert [line.split()[0] for line in done.stdout.splitlines()[5:]] == ["STS-B", "SICK-R", "average"]
