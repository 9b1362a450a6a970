"""Side by side with other implementations: a stand-in checkout with SentEval's interface, and sentence-transformers."""

import sys

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from harness.cli.main import app
from harness.data.locate import BUNDLED
from harness.encoders.context import Context
from harness.encoders.registry import build
from harness.errors import EncoderError, UsageError
from harness.integrations import senteval as integration
from harness.integrations.senteval import open_senteval
from harness.tasks.suites import TASKS
from harness.verify import compare, open_upstream

MINI = TASKS["mini-sts"]

# A package with upstream's interface, and with all that keeps upstream from running on today's Python without CUDA.
STAND_IN = {
    "__init__.py": "from senteval import engine, sts, utils\n",
    "utils.py": """
import inspect
from torch import optim

def check():
    assert inspect.getargspec(optim.Adam.__init__)[0][:2] == ["self", "params"]
""",
    "sts.py": """
import numpy as np
from scipy import stats

def token_lists(texts):
    return np.array([text.split() for text in texts])[np.ones(len(texts), dtype=bool)]

def scores(cosine, gold):
    return {"spearman": {"all": stats.spearmanr(cosine, gold)[0]}, "pearson": {"all": stats.pearsonr(cosine, gold)[0]}}
""",
    "tools/__init__.py": "",
    "tools/classifier.py": """
import torch
from torch import nn

def check():
    assert torch.cuda.is_available()
    x = torch.ones(2, 3).to(torch.device("cuda")).cuda()
    assert isinstance(x, torch.cuda.FloatTensor)
    return nn.Linear(3, 1).cuda()(x)
""",
    "tools/relatedness.py": "import torch\n",
    "engine.py": """
import numpy as np
from senteval import sts, utils
from senteval.tools import classifier
from harness.data.locate import BUNDLED
from harness.data.sts import semeval

class SE:
    def __init__(self, params, batcher, prepare=None):
        self.params, self.batcher = params, batcher
        self.list_tasks = ["STS12"]

    def eval(self, name):
        assert name in self.list_tasks, f"{name} not in the list of tasks"
        utils.check(), classifier.check()
        cosine, gold = [], []
        for subset in semeval(BUNDLED, year="MINI").subsets:
            for a, b in zip(sts.token_lists(subset.left), sts.token_lists(subset.right)):
                u, v = (self.batcher(self.params, [tokens])[0].astype(float) for tokens in (a, b))
                cosine.append(u @ v / np.sqrt((u @ u) * (v @ v)))
            gold += subset.gold
        return {"all": sts.scores(cosine, gold)}
""",
}


@pytest.fixture
def checkout(tmp_path):
    for name, content in STAND_IN.items():
        path = tmp_path / "upstream" / "senteval" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    yield tmp_path / "upstream"
    for name in [name for name in sys.modules if name.partition(".")[0] == "senteval"]:
        del sys.modules[name]


def context(tmp_path):
    return Context(cache_dir=tmp_path / "cache")


def test_both_routes_give_the_same_numbers(checkout, monkeypatch, tmp_path):
    monkeypatch.setattr(integration, "_SEMEVAL", ("mini-sts",))
    upstream = open_senteval(checkout)
    monkeypatch.setattr(upstream.module.engine.SE, "__init__", _knowing("mini-sts"))
    cuda = torch.Tensor.cuda, torch.nn.Module.cuda
    rows = list(compare(build("bag-of-words", context(tmp_path)), [MINI], BUNDLED, context(tmp_path), upstream))
    assert [row.score for row in rows] == ["spearman/all/test", "pearson/all/test"]
    for row in rows:
        assert row.ours == pytest.approx(row.theirs, abs=1e-6)
        assert row.our_seconds > 0
        assert row.their_seconds > 0
    assert (torch.Tensor.cuda, torch.nn.Module.cuda) == cuda


def _knowing(name):
    def make(self, params, batcher, prepare=None):
        self.params, self.batcher, self.list_tasks = params, batcher, [name]

    return make


def test_the_batcher_joins_tokens_and_decodes_bytes(tmp_path):
    encoder = build("random[dim=4]", context(tmp_path))
    vectors = integration._batcher(encoder)(None, [["a", "b"], [b"caf\xc3\xa9"], []])
    np.testing.assert_array_equal(vectors, encoder.encode(["a b", "café", ""]))


def test_a_task_without_counterpart_has_a_row_that_says_so(checkout, tmp_path):
    upstream = open_senteval(checkout)
    tasks = [TASKS["STSBenchmark"], TASKS["mini-mr"], TASKS["geometry-stsb"]]
    rows = list(compare(build("random", context(tmp_path)), tasks, BUNDLED, context(tmp_path), upstream))
    assert [(row.task, row.ours, row.note) for row in rows] == [
        ("STSBenchmark", None, "this copy trains a regressor for it; SimCSE's copy takes cosines"),
        ("mini-mr", None, "senteval has no task mini-mr"),
        ("geometry-stsb", None, "senteval has no task geometry-stsb"),
    ]


def test_the_original_stops_its_regressor_on_pearson(checkout):
    upstream = open_senteval(checkout)
    task = upstream.counterpart(TASKS["STSBenchmark-finetune"])
    assert (task.stop_on, task.protocol) == ("pearson", "senteval-regressor[stop_on=pearson]")
    assert TASKS["STSBenchmark-finetune"].protocol == "senteval-regressor"


def test_upstreams_own_failure_is_quoted(checkout, monkeypatch, tmp_path):
    monkeypatch.setattr(integration, "_SEMEVAL", ("mini-sts",))
    encoder = build("random", context(tmp_path))
    with pytest.raises(EncoderError, match="senteval: scoring on mini-sts failed with AssertionError: mini-sts not in"):
        list(compare(encoder, [MINI], BUNDLED, context(tmp_path), open_senteval(checkout)))


def test_without_a_checkout_it_says_how_to_get_one(tmp_path):
    sentence = (
        "--against senteval: no checkout is named, and senteval is not on the package index; clone "
        "https://github.com/facebookresearch/SentEval or https://github.com/princeton-nlp/SimCSE and name the folder "
        "with --senteval"
    )
    done = CliRunner().invoke(app, ["verify", "--against", "senteval", "--suite", "sts"])
    assert (done.exit_code, done.stderr) == (2, f"bench: {sentence}\n")
    with pytest.raises(UsageError) as caught:
        open_senteval(tmp_path)
    assert str(caught.value) == (
        f"--senteval {tmp_path}: no senteval/engine.py in it, expected a checkout of facebookresearch/SentEval or "
        "princeton-nlp/SimCSE; clone one of them and name its folder"
    )


def test_a_checkout_that_cannot_be_imported_is_one_sentence(checkout):
    (checkout / "senteval" / "engine.py").write_text("import there_is_no_such_module\n")
    with pytest.raises(UsageError, match="importing it failed with ModuleNotFoundError: No module named 'there_is_no"):
        open_senteval(checkout)


def test_sentence_transformers_evaluator_gives_the_same_numbers(tmp_path):
    pytest.importorskip("sentence_transformers")
    upstream = open_upstream("sentence-transformers", None)
    tasks = [MINI, TASKS["mini-mr"]]
    rows = list(compare(build("bag-of-words", context(tmp_path)), tasks, BUNDLED, context(tmp_path), upstream))
    assert [row.score for row in rows] == ["spearman/all/test", "pearson/all/test", ""]
    for row in rows[:2]:
        assert row.ours == pytest.approx(row.theirs, abs=1e-6)
    assert rows[2].note.startswith("sentence-transformers has no evaluator with the protocol senteval[mode=test]")
