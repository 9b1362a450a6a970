"""Side by side with upstream, on a stand-in module that has upstream's interface."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats
from typer.testing import CliRunner

from harness.cli.main import app
from harness.data.locate import BUNDLED
from harness.encoders.context import Context
from harness.encoders.registry import build
from harness.errors import EncoderError, UsageError
from harness.tasks.suites import TASKS
from harness.verify import adapter, compare, find_senteval

MINI = TASKS["mini-sts"]


class Engine:
    """Upstream's `SE`: parameters, batcher and prepare in, a result dictionary out."""

    def __init__(self, params, batcher, prepare):
        self.params, self.batcher, self.prepare = params, batcher, prepare

    def eval(self, name):
        if name != "mini-sts":
            raise AssertionError(f"{name} not in the list of tasks")
        gold, cosine, params = [], [], SimpleNamespace(**self.params)
        for subset in MINI.load(BUNDLED).subsets:
            pairs = [(a.split(), b.split()) for a, b in zip(subset.left, subset.right, strict=True)]
            self.prepare(params, [tokens for pair in pairs for tokens in pair])
            for left, right in pairs:
                u, v = (self.batcher(params, [tokens])[0].astype(float) for tokens in (left, right))
                cosine.append(u @ v / np.sqrt((u @ u) * (v @ v)))
            gold += subset.gold
        metric = {"spearman": stats.spearmanr, "pearson": stats.pearsonr}
        return {"all": {name: {"all": f(gold, cosine).statistic} for name, f in metric.items()}}


@pytest.fixture
def upstream(monkeypatch):
    monkeypatch.setitem(sys.modules, "senteval", SimpleNamespace(engine=SimpleNamespace(SE=Engine)))


def test_both_routes_give_the_same_numbers(upstream, tmp_path):
    context = Context(cache_dir=tmp_path)
    rows = compare(build("bag-of-words", context), [MINI], BUNDLED, context)
    assert [row.score for row in rows] == ["spearman/all/test", "pearson/all/test"]
    for row in rows:
        assert row.ours == pytest.approx(row.theirs, abs=1e-6)
        assert row.our_seconds > 0
        assert row.their_seconds > 0


def test_the_batcher_joins_tokens_and_decodes_bytes(tmp_path):
    encoder = build("random[dim=4]", Context(cache_dir=tmp_path))
    prepare, batcher = adapter(encoder)
    assert prepare(None, []) is None
    np.testing.assert_array_equal(
        batcher(None, [["a", "b"], [b"caf\xc3\xa9"], []]), encoder.encode(["a b", "café", ""])
    )


def test_upstreams_own_failure_is_quoted(upstream, tmp_path):
    context = Context(cache_dir=tmp_path)
    with pytest.raises(EncoderError) as caught:
        compare(build("random", context), [TASKS["mini-mr"]], BUNDLED, context)
    assert str(caught.value) == (
        "mini-mr: upstream stopped with AssertionError: mini-mr not in the list of tasks; its classifiers need CUDA "
        "and Python below 3.11"
    )


SENTENCE = (
    "senteval is not installed and not on the package index; run `pip install "
    "git+https://github.com/facebookresearch/SentEval`, whose classifiers need CUDA and Python below 3.11, or compare "
    "with the stored reference scores by `make test`"
)


def test_without_the_package_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "senteval", None)
    with pytest.raises(UsageError) as caught:
        find_senteval()
    assert str(caught.value) == SENTENCE
    done = CliRunner().invoke(app, ["verify", "--against", "senteval", "--suite", "sts"])
    assert (done.exit_code, done.stderr) == (2, f"bench: {SENTENCE}\n")
