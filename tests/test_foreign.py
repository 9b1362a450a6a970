"""Other people's encoders: whatever their code raises costs their own cells and nothing else."""

import json
import locale
import os
import shutil
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from harness.cli.main import app
from harness.encoders.cached import Encoded
from harness.encoders.registry import _plugged
from harness.names import EncoderCard

PLUGIN = """
from types import SimpleNamespace
import numpy as np
from harness.encoders.entry import EncoderEntry, parameter, parameters
from harness.names import EncoderCard


class Evil:
    def __init__(self, name, error=None, **card):
        self.card, self.error = EncoderCard(name=name, method=name, dim=4, **card), error

    def encode(self, sentences, /):
        if self.error:
            raise self.error
        return np.ones((len(sentences), 4), np.float32)


class Fitted:
    card = EncoderCard(name="evil-fit", method="evil-fit", dim=4, fitted_on="target")

    def fit_target(self, sentences, /):
        raise ZeroDivisionError(f"no {len(sentences)}")


def broken(spec, chosen, context):
    raise RuntimeError("the GPU\\n  is on fire")


MAKE = {
    "evil-boom": lambda spec, chosen, context: Evil("evil-boom", ValueError("boom")),
    "evil-memory": lambda spec, chosen, context: Evil("evil-memory", MemoryError()),
    "evil-long": lambda spec, chosen, context: Evil("evil-long", OSError("x" * 1000)),
    "evil-ctrl-c": lambda spec, chosen, context: Evil("evil-ctrl-c", KeyboardInterrupt()),
    "evil-json": lambda spec, chosen, context: Evil("evil-json", parameters={"x": {1}}),
    "evil-bare": lambda spec, chosen, context: SimpleNamespace(),
    "evil-text": lambda spec, chosen, context: SimpleNamespace(card="evil-text"),
    "evil-fit": lambda spec, chosen, context: Fitted(),
    "evil-build": broken,
}
@parameters
class Dim:
    dim: int = parameter(4, "dimensions")


ENCODERS = [
    EncoderEntry(name=name, summary="", build=build, parameters=Dim)
    for name, build in MAKE.items()
]
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """A function that installs a package of one module under a name, with that name as its entry point."""
    monkeypatch.syspath_prepend(tmp_path / "site")

    def install(name, code, value=None, version="1.0"):
        folder = tmp_path / "site" / f"{name}-1.0.dist-info"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (folder / "entry_points.txt").write_text(f"[bench.encoders]\n{name} = {value or f'{name}:ENCODERS'}\n")
        (tmp_path / "site" / f"{name}.py").write_text(code)

    return install


@pytest.fixture
def bench(tmp_path):
    folders = ["--results-dir", str(tmp_path / "results"), "--cache-dir", str(tmp_path / "cache"), "--offline"]
    return lambda *arguments: CliRunner().invoke(app, [*arguments, *folders])


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        ("evil-boom", "evil-boom: encoding failed with ValueError: boom; BENCH_DEBUG=1 shows the traceback"),
        ("evil-memory", "evil-memory: encoding failed with MemoryError; BENCH_DEBUG=1 shows the traceback"),
        ("evil-long", f"evil-long: encoding failed with OSError: {'x' * 300}…; BENCH_DEBUG=1 shows the traceback"),
        (
            "evil-json",
            "evil-json: building failed with TypeError: Object of type set is not JSON serializable; "
            "BENCH_DEBUG=1 shows the traceback",
        ),
        (
            "evil-bare",
            "evil-bare: built a SimpleNamespace with no card, expected an EncoderCard; "
            "see harness.encoders.protocol.Encoder",
        ),
        (
            "evil-text",
            "evil-text: built a SimpleNamespace with a card that is a str, expected an EncoderCard; "
            "see harness.encoders.protocol.Encoder",
        ),
        (
            "evil-fit",
            "evil-fit: fitting on mini-sts failed with ZeroDivisionError: no 672; BENCH_DEBUG=1 shows the traceback",
        ),
        (
            "evil-build[dim=8]",
            "evil-build[dim=8]: building failed with RuntimeError: the GPU is on fire; "
            "BENCH_DEBUG=1 shows the traceback",
        ),
    ],
)
def test_an_encoder_that_raises_costs_its_own_cells_only(install, bench, model, sentence):
    install("evil", PLUGIN)
    done = bench("run", "-t", "mini-sts", "-m", f"{model},random", "--json")
    assert done.exit_code == 1, done.output
    failed, good = json.loads(done.stdout)
    assert (failed["encoder"], failed["error"], failed["result"]) == (model, sentence, None)
    assert (good["encoder"], good["error"]) == ("random", None)
    assert f"bench: {sentence}\n" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_traceback_is_there_for_those_who_ask(install, bench, monkeypatch):
    install("evil", PLUGIN)
    monkeypatch.setenv("BENCH_DEBUG", "1")
    done = bench("run", "-t", "mini-sts", "-m", "evil-boom,random")
    assert done.exit_code == 1
    assert "Traceback (most recent call last)" in done.stderr
    assert 'evil.py", line' in done.stderr


def test_ctrl_c_within_an_encoder_interrupts_the_run(install, bench):
    install("evil", PLUGIN)
    done = bench("run", "-t", "mini-sts", "-m", "evil-ctrl-c,random")
    assert done.exit_code == 130


@pytest.mark.parametrize(
    ("name", "code", "value", "why"),
    [
        ("plugin1", "import no_such_module", None, "ModuleNotFoundError: No module named 'no_such_module'"),
        ("plugin2", "", None, "AttributeError: module 'plugin2' has no attribute 'ENCODERS'"),
        ("plugin3", "ENCODERS = ['mine']", None, "TypeError: found a str in it, expected EncoderEntry"),
        ("plugin4", "ENCODERS = None", None, "TypeError: 'NoneType' object is not iterable"),
        (
            "plugin5",
            "",
            "harness.encoders.registry:_OWN",
            "ValueError: an encoder named 'minilm' is there already",
        ),
    ],
)  # fmt: skip
def test_a_plug_in_that_cannot_be_loaded_is_left_out(install, bench, name, code, value, why):
    install(name, code, value)
    left_out = (
        f"bench: left out: plug-in '{name}' ({value or f'{name}:ENCODERS'}): loading failed with {why}; "
        "BENCH_DEBUG=1 shows the traceback\n"
    )
    done = bench("run", "-t", "mini-sts", "-m", "random,bag-of-words", "--quiet")
    assert done.exit_code == 0, done.output
    assert done.stderr == left_out  # once, however often names are looked up
    assert CliRunner().invoke(app, ["list", "models"]).exit_code == 0
    unknown = bench("run", "-t", "mini-sts", "-m", "minee")
    assert unknown.exit_code == 2
    assert unknown.stderr.startswith("bench: no model is named 'minee'; ")


HOSTILE = """
import locale
import os
import signal
import sys
import warnings
import numpy as np
import torch
from harness.encoders.entry import EncoderEntry
from harness.names import EncoderCard

torch.set_default_dtype(torch.float64)  # at import, for everybody


class Base(BaseException):
    pass


class Speechless(Exception):
    def __str__(self):
        raise ValueError("no words")


class Hostile:
    def __init__(self, name, act):
        self.card, self.act = EncoderCard(name=name, method=name, dim=4), act

    def encode(self, sentences, /):
        self.act()
        return np.random.default_rng(0).normal(size=(len(sentences), 4)).astype(np.float32)


def leave():
    sys.exit(0)


def raise_base():
    raise Base("not an Exception")


def raise_speechless():
    raise Speechless


class Silent(BaseException):
    def __str__(self):
        sys.exit(3)


def raise_silent():
    raise Silent


def raise_generator_exit():
    raise GeneratorExit


def colour():
    raise ValueError("\\x1b]0;title\\x07\\x1b[31mred")


def change():
    torch.set_default_dtype(torch.float16)
    sys.setrecursionlimit(150)
    sys.stdout = sys.stderr = sys.excepthook = None
    torch.set_float32_matmul_precision("medium")  # other digits for everybody
    torch.set_num_threads(torch.get_num_threads() + 1)
    torch.use_deterministic_algorithms(True)
    np.seterr(all="raise")
    warnings.simplefilter("error")
    locale.setlocale(locale.LC_ALL, "C")
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.environ["BENCH_CACHE_DIR"] = "elsewhere"
    os.chdir("/")


def fork():
    if os.fork():
        os.wait()


ACTS = {"leave": leave, "base": raise_base, "speechless": raise_speechless, "colour": colour, "change": change}
ACTS |= {"silent": raise_silent, "generator": raise_generator_exit, "fork": fork}
ENCODERS = [
    EncoderEntry(name=f"h-{name}", summary="", build=lambda spec, *_: Hostile(spec.name, ACTS[spec.name[2:]]))
    for name in ACTS
]
ENCODERS += [
    EncoderEntry(name="h-exit", summary="", build=lambda *_: sys.exit(0)),
    EncoderEntry(name="h-thief", summary="", build=lambda *_: Hostile("random", lambda: None)),
]
"""


@pytest.mark.parametrize(
    ("model", "why"),
    [
        ("h-leave", "h-leave: encoding failed with SystemExit: 0;"),
        ("h-base", "h-base: encoding failed with Base: not an Exception;"),
        ("h-speechless", "h-speechless: encoding failed with Speechless: a message that cannot be read (ValueError);"),
        ("h-silent", "h-silent: encoding failed with Silent: a message that cannot be read (SystemExit);"),
        ("h-generator", "h-generator: encoding failed with GeneratorExit;"),
        ("h-colour", "h-colour: encoding failed with ValueError: ]0;title[31mred;"),
        ("h-exit", "h-exit: building failed with SystemExit: 0;"),
        ("h-thief", "h-thief: built an encoder whose card is named 'random', expected the specification's own name"),
    ],
)
def test_nothing_that_a_plug_in_does_reaches_the_others(install, bench, model, why):
    install("hostile", HOSTILE)
    done = bench("run", "-t", "mini-sts", "-m", f"{model},bert[backbone=tiny],random", "--json")
    assert done.exit_code == 1, done.output
    failed, *others = json.loads(done.stdout)
    assert failed["error"].startswith(why) and failed["error"].isprintable()
    assert [one["error"] for one in others] == [None, None]


def state():
    names = ("get_num_threads", "are_deterministic_algorithms_enabled", "get_float32_matmul_precision")
    of_torch = [getattr(torch, name)() for name in (*names, "get_default_dtype")]
    errors = sum(one[0] == "error" for one in warnings.filters)
    of_python = [locale.setlocale(locale.LC_ALL), signal.getsignal(signal.SIGTERM), sys.getrecursionlimit(), errors]
    return [*of_torch, *of_python, np.geterr(), Path.cwd(), os.environ.get("BENCH_CACHE_DIR"), sys.excepthook]


@pytest.mark.parametrize("model", ["h-change", "h-fork"])
def test_what_a_plug_in_changes_is_put_back(install, bench, tmp_path, model):
    install("hostile", HOSTILE)
    alone = json.loads(bench("run", "-t", "mini-sts", "-m", "bert[backbone=tiny]", "--json").stdout)
    shutil.rmtree(tmp_path / "cache")  # the vectors are made again
    before = state()
    done = bench("run", "-t", "mini-sts", "-m", f"{model},bert[backbone=tiny]", "--json", "--force")
    changed, after = json.loads(done.stdout)
    assert state() == before
    assert changed["error"] is None
    assert after["result"]["scores"] == alone[0]["result"]["scores"]


def test_a_plug_in_that_gives_one_buffer_at_each_call_does_not_change_what_it_gave():
    class Reused:
        card = EncoderCard(name="reused", method="reused", dim=2)
        buffer = np.zeros((1, 2), np.float32)

        def encode(self, sentences, /):
            self.buffer += 1
            return self.buffer

    encoder = Reused()
    first = Encoded(encoder, ["a"])
    Encoded(encoder, ["b"])
    assert first.encode(["a"]).tolist() == [[1.0, 1.0]]


def test_a_plug_in_that_closes_the_streams_loses_no_notice(tmp_path):
    code = """
import sys
from harness.encoders.foreign import foreign

with foreign("mine", "encoding"):
    sys.stdout.close()
    sys.stderr.close()
print("told")
print("warned", file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("told\n", "warned\n")


SEEDED = """
import zlib
from pathlib import Path
import numpy as np
from harness.encoders.entry import EncoderEntry, parameter, parameters
from harness.names import EncoderCard


@parameters
class Chosen:
    vectors: str = parameter("", "a file or folder")
    told: bool = parameter(False, "whether the card says what decides the vectors")


class Seeded:
    def __init__(self, spec, chosen):
        content = {"method": "seeded"} if chosen.told else {}
        parameters = {"vectors": chosen.vectors, "told": chosen.told}
        self.card = EncoderCard(name=str(spec), method="seeded", dim=8, parameters=parameters, content=content)

    def encode(self, sentences, /):
        rows = [np.random.default_rng(zlib.crc32(text.encode())).standard_normal(8) for text in sentences]
        return np.array(rows, np.float32)


class Fitted(Seeded):
    def fit_target(self, sentences, /):
        return self


ENCODERS = [
    EncoderEntry(name=kind.__name__.lower(), summary="", parameters=Chosen, build=lambda s, c, _, kind=kind: kind(s, c))
    for kind in (Seeded, Fitted)
]
"""


@pytest.mark.parametrize("model", ["seeded", "seeded[told=true]", "fitted"])
def test_results_of_another_version_of_a_package_are_not_kept(install, bench, model):
    outcomes = []
    for version in ("1.0", "1.0", "2.0"):
        install("seeded_plugin", SEEDED, version=version)
        _plugged.cache_clear()
        outcomes.append(json.loads(bench("run", "-m", model, "-t", "mini-sts", "--json").stdout)[0]["skipped"])
    assert outcomes == [False, True, False]


@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_file_that_a_plug_in_is_given_is_known_by_content_and_never_by_path(install, bench, tmp_path, what):
    install("seeded_plugin", SEEDED)
    _plugged.cache_clear()
    given = tmp_path / "secret" / "v.txt" if what == "file" else tmp_path / "secret"
    given.parent.mkdir(exist_ok=True)
    names = []
    for content in ("1", "2"):
        (tmp_path / "secret").mkdir(exist_ok=True)
        (tmp_path / "secret" / "v.txt").write_text(content)
        assert bench("run", "-m", f"seeded[vectors={given}]", "-t", "mini-sts").exit_code == 0
    cards = [json.loads(path.read_text()) for path in (tmp_path / "results").rglob("encoder.json")]
    names = {card["name"] for card in cards}
    assert len(names) == 2 and all(name.startswith(f"seeded[vectors={given.name}@") for name in names)
    assert all("secret/" not in path.read_text() for path in (tmp_path / "results").rglob("*.json"))
    plugins = [card["plugin"] for card in cards]
    assert {one["package"] for one in plugins} == {"seeded_plugin"} and len({one["vectors"] for one in plugins}) == 2
