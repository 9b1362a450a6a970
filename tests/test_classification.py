"""Classification tasks: order, features and parts as the reference has them; the golden accuracies where data are."""

import json
from dataclasses import replace

import numpy as np
import pytest

from harness import run as running
from harness.data.classification import Examples
from harness.data.locate import BUNDLED
from harness.encoders.context import Context
from harness.encoders.registry import build, resolve
from harness.tasks.classification import features, pair_features, senteval_order
from harness.tasks.suites import SUITES, TASKS, under


def test_rows_are_sorted_by_length_and_label_and_stay_stable():
    part = Examples(["c c", "a", "b  b", "d", ""], None, [0, 1, 0, 0, 1])
    assert senteval_order(part) == Examples(["", "d", "a", "c c", "b b"], None, [1, 0, 1, 0, 0])


def test_pairs_are_sorted_by_both_lengths_and_the_label():
    part = Examples(["a b", "a", "a", "a"], ["x", "y y", "z", "w"], [0, 0, 1, 0])
    assert senteval_order(part) == Examples(["a", "a", "a", "a b"], ["w", "z", "y y", "x"], [0, 1, 0, 0])


def test_pair_features_by_hand():
    u, v = np.array([[1, 2]], dtype=np.float32), np.array([[3, -1]], dtype=np.float32)
    assert pair_features(u, v).tolist() == [[2, 3, 3, -2]]


def test_features_have_the_width_of_the_task(tmp_path):
    encoder = build("random[dim=8]", Context(cache_dir=tmp_path))
    assert features(Examples(["a", "b"], None, [0, 1]), encoder).shape == (2, 8)
    assert features(Examples(["a", "b"], ["c", "d"], [0, 1]), encoder).shape == (2, 16)


def test_the_mode_is_in_the_protocol_and_in_the_main_score():
    task = TASKS["MR"]
    assert (task.protocol, task.metric) == ("senteval[mode=test]", "accuracy/test")
    dev = under(task, mode="dev", classifier="senteval-sklearn")
    assert (dev.protocol, dev.metric) == ("senteval-sklearn[mode=dev]", "accuracy/dev")
    assert under(TASKS["STS12"], mode="dev", classifier="senteval") == TASKS["STS12"]


def test_every_task_of_a_suite_exists():
    assert {name for suite in SUITES.values() for name in suite} <= set(TASKS)
    assert SUITES["transfer"] == ("MR", "CR", "SUBJ", "MPQA", "SST2", "TREC", "MRPC")


def cells(tmp_path, models, tasks, root=BUNDLED, **context):
    plan = running.Plan(
        models=[resolve(model) for model in models],
        tasks=tasks,
        results_dir=tmp_path / "results",
        context=Context(cache_dir=tmp_path / "cache", data_dir=root, offline=True, **context),
    )
    return {(cell.task, cell.result.protocol if cell.result else None): cell for cell in running.run(plan)}


def test_the_bundled_tasks_end_to_end(tmp_path):
    heard = []
    tasks = [under(TASKS[name], mode="fasttest", classifier="senteval") for name in ("mini-mr", "mini-mrpc")]
    found = cells(
        tmp_path,
        ["bag-of-words[dim=32]"],
        tasks,
        progress=lambda what, done, total, *_: heard.append((what, done, total)),
    )
    result = found["mini-mr", "senteval[mode=fasttest]"].result
    assert result.counts == {"rows/all": 528, "classes": 2, "empty sentences": 0}
    assert result.seed == 1111
    assert 0.4 < result.scores["accuracy/test"] < 0.8
    assert set(found["mini-mrpc", "senteval[mode=fasttest]"].result.scores) == {
        "accuracy/dev",
        "accuracy/test",
        "f1/test",
    }
    assert ("mini-mr probes", 105, 105) in heard  # k (4k + 1) heads for k = 5


def test_too_few_rows_for_the_folds_is_one_failed_cell(tmp_path):
    small = replace(TASKS["mini-mr"], load=lambda root: few(TASKS["mini-mr"].load(root)))
    found = list(cells(tmp_path, ["random"], [small, TASKS["mini-sts"]]).values())
    assert [cell.error is None for cell in found] == [False, True]
    assert found[0].error.exit_code in (1, 2)


def few(data):
    whole = data.parts["all"]
    keep = [*range(3), *range(len(whole.first) - 40, len(whole.first))]
    part = Examples([whole.first[i] for i in keep], None, [whole.labels[i] for i in keep])
    return replace(data, parts={"all": part})


@pytest.mark.shared
def test_empty_sentences_of_the_real_data_are_counted(shared, tmp_path):
    task = under(TASKS["CR"], mode="fasttest", classifier="senteval-sklearn")
    (cell,) = cells(tmp_path, ["random[dim=4]"], [task], root=shared / "data" / "senteval").values()
    assert cell.result.counts == {"rows/all": 3775, "classes": 2, "empty sentences": 4}


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.parametrize("mode", ["fasttest", "test"])
def test_the_reference_accuracies_of_minilm(shared, tmp_path, mode):
    """Accuracies and F1 within 0.05 points of the reference's classifiers on the same encoder and data."""
    golden = json.loads((shared / "golden" / "transfer_minilm.json").read_text())[mode]
    tasks = [under(TASKS[name], mode=mode, classifier="senteval") for name in golden]
    found = cells(tmp_path, ["minilm"], tasks, root=shared / "data" / "senteval")
    for (task, _), cell in found.items():
        for key, expected in golden[task].items():
            score = cell.result.scores["f1/test" if key == "f1" else f"accuracy/{key}"]
            assert 100 * score == pytest.approx(expected, abs=0.05), (task, key)
