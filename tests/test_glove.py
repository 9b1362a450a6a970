"""avg-glove as an encoder, and its archive over real HTTP from 127.0.0.1: what arrives, what is asked for, failures."""

import hashlib
import io
import json
import socket
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from typer.testing import CliRunner

from harness.cli.main import app
from harness.data import download
from harness.data.download import fetch_glove
from harness.encoders.context import Context
from harness.encoders.protocol import Transductive, embed
from harness.encoders.registry import build
from harness.errors import DataError, UsageError
from harness.progress import silent

TEXT = "the 1 0 0\ndog 0 2 0\nruns 0 0 4\n. 1 1 1\nThe 9 9 9\n"
INSTEAD = "put a copy of the archive there, or name a text of vectors with avg-glove[backbone=FILE]"


def zip_of(**members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in members.items():
            archive.writestr(f"{name}.txt", text)
    return buffer.getvalue()


ARCHIVE = zip_of(**{"glove.840B.300d": TEXT}) + bytes(22)  # the padding makes it worth cutting; zip allows a comment


class Server(ThreadingHTTPServer):
    """Serves the archive; `cut` ends the next answer early, `answer` is given to everything, `ranges` may be off."""

    content, cut, answer, ranges = ARCHIVE, None, None, True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked = []

    @property
    def base(self):
        return f"http://127.0.0.1:{self.server_address[1]}/data"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        wanted = self.headers["Range"]
        self.server.asked.append(wanted)
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if self.server.ranges else 0
        if start >= len(self.server.content):
            self.send_error(416)
            return
        if self.answer(206 if self.server.ranges else 200, start):
            cut, self.server.cut = self.server.cut, None
            self.wfile.write(self.server.content[start:cut])
            if cut is not None:
                self.connection.shutdown(socket.SHUT_RDWR)

    def answer(self, status, start):
        if self.server.answer:
            self.send_error(self.server.answer)
            return False
        self.send_response(status)
        self.send_header("Content-Length", str(len(self.server.content) - start))
        self.end_headers()
        return True

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        monkeypatch.setenv("BENCH_GLOVE_URL", running.base)
        monkeypatch.setattr(download, "_GLOVE_SHA256", hashlib.sha256(ARCHIVE).hexdigest())
        yield running
        running.shutdown()
        thread.join()


def fetch(cache, *, offline=False, progress=silent):
    return fetch_glove(cache, offline=offline, progress=progress)


def refused(cache, **options):
    with pytest.raises((DataError, UsageError)) as caught:
        fetch(cache, **options)
    return str(caught.value)


def files(cache):
    return sorted(path.name for path in (cache / "glove").iterdir())


def test_fetched_once_and_read_as_it_is(server, tmp_path):
    told = []
    path = fetch(tmp_path, progress=lambda *step: told.append(step))
    assert path.read_bytes() == ARCHIVE
    assert told[-1] == ("downloading", len(ARCHIVE), len(ARCHIVE))
    asked = len(server.asked)
    assert fetch(tmp_path, offline=True) == path
    assert len(server.asked) == asked
    assert files(tmp_path) == ["glove.840B.300d.zip"]
    encoder = build("avg-glove", Context(cache_dir=tmp_path, offline=True))
    assert embed(encoder, ["the dog runs"]) == pytest.approx(np.array([[1, 2, 4]]) / 3)


def test_a_cut_download_goes_on_where_it_stopped(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "_BLOCK", 10)
    server.cut = 100
    message = refused(tmp_path)
    assert message.startswith(f"{server.base}/glove.840B.300d.zip: the connection failed (")
    assert message.endswith(
        "); check the network and the proxy and run the command again, which continues a partial download, or "
        + INSTEAD
    )
    assert files(tmp_path) == [".glove.840B.300d.zip.part"]
    assert fetch(tmp_path).read_bytes() == ARCHIVE
    assert server.asked == ["bytes=0-", "bytes=100-"]
    assert files(tmp_path) == ["glove.840B.300d.zip"]


def test_a_part_that_is_whole_needs_no_more_bytes(server, tmp_path):
    (tmp_path / "glove").mkdir()
    (tmp_path / "glove" / ".glove.840B.300d.zip.part").write_bytes(ARCHIVE)
    assert fetch(tmp_path).read_bytes() == ARCHIVE
    assert server.asked == [f"bytes={len(ARCHIVE)}-"]


def test_a_server_that_cannot_continue_sends_it_again(server, tmp_path):
    server.cut = 100
    refused(tmp_path)
    server.ranges = False
    assert fetch(tmp_path).read_bytes() == ARCHIVE


@pytest.mark.parametrize(
    "content",
    [b"<html>Please log in</html>", ARCHIVE[:-60], ARCHIVE.replace(b"dog 0 2 0", b"dog 0 3 0"), ARCHIVE + b"more"],
    ids=["a web page", "truncated on the server", "other numbers", "longer"],
)
def test_what_is_not_the_known_archive_is_thrown_away(server, tmp_path, content):
    server.content = content
    assert refused(tmp_path) == (
        f"{server.base}/glove.840B.300d.zip: what came has another sha256 than the archive's "
        f"{download._GLOVE_SHA256}; run the command again, or {INSTEAD}"
    )
    assert files(tmp_path) == []
    server.content = ARCHIVE
    assert fetch(tmp_path).read_bytes() == ARCHIVE


def test_a_copy_with_wrong_bytes_inside(tmp_path):
    path = tmp_path / "glove" / "glove.840B.300d.zip"
    path.parent.mkdir()
    path.write_bytes(ARCHIVE.replace(b"dog 0 2 0", b"dog 0 3 0"))
    with pytest.raises(DataError) as caught:
        build("avg-glove", Context(cache_dir=tmp_path, offline=True))
    assert str(caught.value) == (
        f"{path}: the word vectors cannot be read (Bad CRC-32 for file 'glove.840B.300d.txt'), expected a whole file, "
        "plain or packed by gzip or zip; if it is damaged, download it again"
    )
    assert list((tmp_path / "vectors").iterdir()) == []


def test_a_member_that_the_archive_does_not_have(server, tmp_path):
    path = fetch(tmp_path)
    with pytest.raises(UsageError) as caught:
        build("avg-glove[member=glove.6B.300d.txt]", Context(cache_dir=tmp_path, offline=True))
    assert str(caught.value) == (f"{path}: member=glove.6B.300d.txt is not in the archive; it has glove.840B.300d.txt")


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        (404, "expected the archive; check BENCH_GLOVE_URL and the proxy, or "),
        (503, "which is busy; try again later, or "),
    ],
)
def test_an_answer_that_is_not_the_archive(server, tmp_path, status, advice):
    server.answer = status
    assert refused(tmp_path) == (f"{server.base}/glove.840B.300d.zip: the server answered {status}, {advice}{INSTEAD}")


def test_no_network_and_switched_off(tmp_path, monkeypatch):
    assert refused(tmp_path, offline=True) == (
        f"{tmp_path / 'glove/glove.840B.300d.zip'}: was not downloaded before and the network is switched off; run "
        f"`bench data fetch glove` with a network, {INSTEAD}"
    )
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("BENCH_GLOVE_URL", f"http://127.0.0.1:{free.getsockname()[1]}")
        assert "the connection failed (" in refused(tmp_path)
    for address in ("ftp://127.0.0.1", "http://[", "https://"):
        monkeypatch.setenv("BENCH_GLOVE_URL", address)
        assert refused(tmp_path) == (
            f"BENCH_GLOVE_URL {address}: expected http:// or https://, the folder that has glove.840B.300d.zip"
        )


def test_the_command(server, tmp_path):
    done = CliRunner().invoke(app, ["data", "fetch", "glove", "--cache-dir", str(tmp_path), "--json"])
    assert json.loads(done.stdout) == [{"file": str(tmp_path / "glove/glove.840B.300d.zip"), "use": "avg-glove"}]
    done = CliRunner().invoke(app, ["data", "fetch", "gloves", "--cache-dir", str(tmp_path)])
    assert (done.exit_code, done.stderr) == (2, "bench: no data set is named 'gloves'; did you mean 'glove'?\n")


@pytest.fixture
def context(tmp_path):
    (tmp_path / "words.txt").write_text(TEXT)
    (tmp_path / "two.zip").write_bytes(zip_of(a=TEXT, b="the 5 5\n"))
    return Context(cache_dir=tmp_path / "cache", offline=True)


def encoder(context, **parameters):
    given = ",".join(f"{key}={value}" for key, value in parameters.items())
    return build(f"avg-glove[{given}]", context)


def test_words_are_averaged_as_written(context, tmp_path):
    plain = encoder(context, backbone=tmp_path / "words.txt")
    found = embed(plain, ["the dog dog cat", "", "cat", "The"])
    assert found == pytest.approx(np.array([[1 / 3, 4 / 3, 0], [1, 1, 1], [0, 0, 0], [9, 9, 9]]))
    assert plain.card.dim == 3
    assert plain.card.fitted_on is None
    lower = encoder(context, backbone=tmp_path / "words.txt", lower="true")
    assert embed(lower, ["The"]) == pytest.approx(np.array([[1, 0, 0]]))
    content = encoder(context, backbone=tmp_path / "words.txt", stop_words="true")
    assert embed(content, ["The dog runs ."]) == pytest.approx(np.array([[0, 1, 2]]))


def test_sif_is_fitted_on_the_task_and_says_so(context, tmp_path):
    sif = encoder(context, backbone=tmp_path / "words.txt", sif="0.001")
    assert isinstance(sif, Transductive)
    assert sif.card.fitted_on == "target"
    texts = ["the dog", "the dog runs", "dog runs .", "the ."]
    found = embed(sif.fit_target(texts), texts)
    assert np.linalg.matrix_rank(found.astype(np.float64), tol=1e-7) == 2  # of 3: one component is gone


def test_a_member_of_an_archive(context, tmp_path):
    assert encoder(context, backbone=tmp_path / "two.zip", member="b.txt").card.dim == 2
    with pytest.raises(UsageError) as caught:
        encoder(context, backbone=tmp_path / "two.zip")
    assert str(caught.value) == (
        f"{tmp_path / 'two.zip'}: the archive has 2 files, expected one; name it with member=FILE; it has a.txt, b.txt"
    )


def test_no_vectors_and_no_overlap(context, tmp_path):
    with pytest.raises(UsageError) as caught:
        build("avg-glove", context)
    assert str(caught.value) == (
        "avg-glove: no word vectors 'glove.840B.300d'; run `bench data fetch glove` (2 GB), name a text file, or use "
        "backbone=tiny"
    )
    with pytest.raises(DataError) as caught:
        embed(encoder(context, backbone=tmp_path / "words.txt"), ["der Hund", "die Katze"])
    assert str(caught.value) == (
        "words.txt: none of the 4 different tokens of 2 sentences is among its 5 words, expected some; is it of "
        "another language or case?"
    )


def test_the_identity_is_the_vectors_and_no_path(context, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "renamed.vec").write_text(TEXT)
    here, there = (encoder(context, backbone=tmp_path / name).card for name in ("words.txt", "other/renamed.vec"))
    assert here.identity == there.identity
    digest = hashlib.sha256(TEXT.encode()).hexdigest()[:12]
    assert here.name == f"avg-glove[backbone=words.txt@{digest}]"
    assert (here.backbone, there.parameters["backbone"]) == (f"words.txt@{digest}", f"renamed.vec@{digest}")
    assert build(here.name, context).card == here  # a name from a report can be used
    others = [encoder(context, backbone=tmp_path / "words.txt", **{name: value}).card.identity
              for name, value in {"lower": "true", "stop_words": "true", "sif": "0.001"}.items()]  # fmt: skip
    assert len({here.identity, *others}) == 4
