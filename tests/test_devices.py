"""Work on several threads and devices: order, sharing out, padding to few shapes, and where the time went."""

import json
import subprocess
import sys
import time
from pathlib import Path
from threading import Event, Lock, get_ident

import numpy as np
import pytest
import torch
from conftest import make_bert
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from harness import progress
from harness.encoders import transformer
from harness.encoders.batching import pad, pad_flat, prefetch, share_out
from harness.encoders.context import Context, every_device, torch_device
from harness.encoders.forward import BERTS, forward_pooled
from harness.encoders.pooling import POOLINGS
from harness.encoders.registry import build
from harness.errors import UsageError
from harness.progress import take_timings, timed
from harness.tasks.probes import probe_device

SENTENCES = [f"{'the ' * (i % 7)}dog {'runs ' * (i % 11)}in {'a ' * (i % 5)}park" for i in range(80)]


def encoder(folder, tmp_path, pooling="avg", **context):
    return build(f"hf:{folder}[pooling={pooling}]", Context(cache_dir=tmp_path, **context))


def test_items_come_in_order_and_only_a_few_ahead():
    started = []
    made = prefetch(lambda i: started.append(i) or (i, get_ident()), range(100), ahead=3)
    first = next(made)
    assert first[0] == 0 and first[1] != get_ident()
    assert [i for i, _ in made] == list(range(1, 100))
    some = prefetch(started.append, range(100), ahead=3)
    del started[:]
    next(some)
    some.close()
    assert len(started) <= 4


def test_the_next_window_is_made_while_this_one_is_in_use():
    second = Event()
    made = prefetch(lambda i: second.set() if i else None, range(2), ahead=1)
    next(made)
    assert second.wait(10)
    made.close()


def test_an_error_on_a_thread_reaches_the_consumer():
    with pytest.raises(ZeroDivisionError):
        list(prefetch(lambda i: 1 // i, [2, 1, 0]))


def test_work_goes_to_a_copy_that_is_free_and_comes_back_in_order():
    lock, busy, done, others = Lock(), set(), [], Event()

    def work(copy, item):
        with lock:
            assert copy not in busy
            busy.add(copy)
        if item == 0:
            assert others.wait(10)  # the other copy goes on meanwhile
        with lock:
            busy.remove(copy)
            done.append(item)
        if item == 3:
            others.set()
        return item

    assert list(share_out(work, range(20), ["a", "b"], ahead=4)) == list(range(20))
    assert done[:3] == [1, 2, 3]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_two_devices_give_what_one_gives(bert_folder, tmp_path, monkeypatch, dtype):
    monkeypatch.setattr(transformer, "can_pack", lambda: False)  # weights that are laid out for a CPU are not copied
    monkeypatch.setattr(transformer, "_PLAN_AT_ONCE", 9)
    expected = encoder(bert_folder, tmp_path, dtype=dtype).encode(SENTENCES)
    monkeypatch.setattr(transformer, "every_device", lambda name: ["cpu", "cpu"])
    several = encoder(bert_folder, tmp_path, dtype=dtype)
    used = set()
    original = transformer.Backbone._forward

    def forward(self, loaded, ids, poolings):
        used.add(id(loaded.model))
        return original(self, loaded, ids, poolings)

    monkeypatch.setattr(transformer.Backbone, "_forward", forward)
    np.testing.assert_array_equal(several.encode(SENTENCES * 4)[:80], expected)
    first, second = several.backbone._load()
    assert first.model is not second.model and used == {id(first.model), id(second.model)}


def test_cuda_is_every_gpu_and_a_number_is_that_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert every_device("cuda") == ["cuda:0", "cuda:1", "cuda:2"]
    assert every_device("cuda:1") == ["cuda:1"] and probe_device("cuda:1") == "cuda:1"
    assert every_device("cpu") == ["cpu"] and probe_device("mps") == "cpu"
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert every_device("cuda") == ["cuda"]


@pytest.mark.parametrize("pooling", [*POOLINGS, "max", "last_token"])
def test_lengths_in_multiples_of_8_change_rounding_alone(bert_folder, tmp_path, pooling):
    one = encoder(bert_folder, tmp_path, pooling)
    expected = one.encode(SENTENCES)
    shapes = set()
    forward = one.backbone._load()[0].model.forward

    def seen(input_ids, attention_mask, **more):
        shapes.add(input_ids.shape[1])
        return forward(input_ids, attention_mask, **more)

    one.backbone._load()[0].model.forward = seen
    one.backbone._quantum = 8
    np.testing.assert_allclose(one.encode(SENTENCES), expected, atol=2e-6)
    assert shapes == {8, 16, 24}
    assert one.backbone._width(61) == 64 and one.backbone._width(64) == 64


@pytest.mark.parametrize("kind", sorted(set(BERTS) - {"camembert", "xlm-roberta"}))
def test_a_mask_that_a_gpu_need_not_look_at_says_the_same(kind):
    """The mask of four dimensions is given on a GPU alone; here the library is asked on the CPU whether both agree."""
    from transformers import AutoConfig, AutoModel

    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    model = AutoModel.from_config(AutoConfig.for_model(kind, vocab_size=30, embedding_size=16, **sizes)).eval()
    ids, mask = pad([[5, 6, 7], [8, 9, 10, 11, 12]], model.config.pad_token_id)
    with torch.no_grad():
        plain = forward_pooled(model, ids, mask, ["avg"])["avg"]
        known = model(input_ids=ids, attention_mask=mask[:, None, None, :].bool()).last_hidden_state
    kept = mask[..., None]
    torch.testing.assert_close((known * kept).sum(1) / kept.sum(1), plain)


def test_lists_and_flat_tokens_are_padded_alike():
    ids, mask = pad([[5, 6], [7], []], 1, width=4)
    assert ids.tolist() == [[5, 6, 1, 1], [7, 1, 1, 1], [1, 1, 1, 1]]
    assert mask.tolist() == [[1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    flat, seen = pad_flat(np.array([5, 6, 7]), np.array([2, 1, 0]), 1)
    assert flat.tolist() == [[5, 6], [7, 1], [1, 1]] and seen.tolist() == [[1, 1], [1, 0], [0, 0]]


class NoDoubles(TorchDispatchMode):
    """Fails on any tensor of float64, which Apple's mps does not have."""

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        found = operator(*args, **(kwargs or {}))
        for x in tree_leaves(found):
            assert not (isinstance(x, torch.Tensor) and x.dtype == torch.float64), operator
        return found


@pytest.mark.parametrize("pooling", [*POOLINGS, "max", "last_token", "weighted_mean", "sqrt_mean"])
def test_no_number_of_a_forward_pass_is_float64(bert_folder, tmp_path, monkeypatch, pooling):
    monkeypatch.setattr(transformer, "can_pack", lambda: False)  # the library's own blocks, as on mps
    one = encoder(bert_folder, tmp_path, pooling)
    loaded = one.backbone._load()[0]
    with NoDoubles():
        one.backbone._compute(loaded, [[[2, 5, 6, 3]] * 3, [[2, 5, 3]]], [pooling])


def test_a_device_that_is_not_here_is_one_sentence():
    for name in {"cuda", "mps", "cuda:7"}:
        if name == "mps" and torch.backends.mps.is_available():
            continue
        if name.startswith("cuda") and torch.cuda.is_available():
            continue
        with pytest.raises(UsageError) as caught:
            torch_device(name)
        told = str(caught.value)
        assert told.startswith(f"--device {name}: not usable here (") and told.endswith("); use cpu or auto")
        assert "\n" not in told


def test_time_is_counted_once_and_work_of_all_threads_is_added(monkeypatch):
    with take_timings() as taken:
        with monkeypatch.context() as patch:
            patch.setattr(progress.time, "perf_counter", iter([0.0, 2.0, 7.0, 10.0]).__next__)
            with timed("outer"), timed("inner"):
                pass
        list(prefetch(timed("thread")(lambda i: time.sleep(0.01)), range(4), workers=2))
    assert taken["outer"] == 5.0 and taken["inner"] == 5.0 and taken["thread"] >= 0.04
    with timed("later"):
        pass
    assert "later" not in taken


def test_timings_of_a_run(tmp_path):
    from typer.testing import CliRunner

    from harness.cli.main import app

    folder = make_bert(tmp_path / "bert")
    arguments = ["run", "-t", "mini-sts", "-m", f"hf:{folder}[pooling=avg]", "--device", "cpu", "--timings"]
    folders = ["--results-dir", tmp_path / "results", "--cache-dir", tmp_path / "cache", "--offline"]
    done = CliRunner().invoke(app, [*arguments, *map(str, folders)])
    assert done.exit_code == 0, done.output
    rows = [line.split() for line in done.stderr.splitlines()]
    for what in ("imports", "loading", "reading", "encoding", "scoring", "writing", "in"):
        assert any(row and row[0] == what for row in rows), done.stderr
    total = float(next(row[2] for row in rows if row[:2] == ["in", "all"]))
    parts = [float(row[-2]) for row in rows if row and row[-1].endswith("%") and row[:2] != ["in", "all"]]
    assert sum(parts) == pytest.approx(total, abs=0.05)
    assert "tokenising took" in done.stderr


@pytest.mark.slow
def test_every_measurement_of_the_gpu_benchmark_runs(tmp_path):
    pytest.importorskip("datasets"), pytest.importorskip("accelerate")
    words = "red old small big house tree river dog cat bird runs sleeps sees hears".split()
    lines = [" ".join(words[(i * k) % len(words)] for k in range(3, 9)) + f" {i}" for i in range(300)]
    (tmp_path / "text.txt").write_text("\n".join(lines) + "\n")
    script = Path(__file__).parents[1] / "benchmarks" / "gpu.py"
    command = [sys.executable, script, "--text", tmp_path / "text.txt", "--device", "cpu", "--quick", "--limit", 600]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=True)
    rows = [line.partition("{") for line in done.stdout.splitlines()]
    assert len(rows) == 17 and all(brace for _, brace, _ in rows), done.stdout
    found = [(side.split("  ")[0], json.loads("{" + values)) for side, _, values in rows]
    assert {side for side, _ in found} >= {"card", "train", "encode", "run", "probes", "feed"}
    assert all(values["sentences/s"] > 0 for side, values in found if side.startswith(("train", "feed")))
