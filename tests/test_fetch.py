"""Downloads over real HTTP from a hub on 127.0.0.1: what arrives, what is asked for, and every failure's sentence."""

import errno
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import as_ordinary_user
from hub_server import COMMIT, HubServer
from typer.testing import CliRunner

from harness.cli.main import app
from harness.data import download
from harness.data.download import SIMCSE_DATA, fetch_training_file
from harness.data.locate import Fetched, fetch_senteval
from harness.errors import DataError, WriteError

GOLD = "SentEval/data/downstream/STS/STS12-en-test/STS.gs.MSRpar.txt"
CHUNK = 10 * 1024 * 1024  # huggingface_hub hands on what it reads in pieces of this size; less is lost when cut
LAYOUT = "give --data-dir a folder in SentEval's layout"


def tar_of(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for info, content in members:
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


GOOD = tar_of((member(GOLD), b"4.2\n3.0\n"), (member("SentEval/data/probing/x.txt"), b"x" * 3000))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with HubServer(SIMCSE_DATA, {"senteval.tar": GOOD, "nli_for_simcse.csv": b"sent0,sent1,hard_neg\n"}) as server:
        for name in ("HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        yield server


def in_process(cache: Path) -> list[str]:
    code = "import sys, pathlib, harness.data.locate as f; f.fetch_senteval(pathlib.Path(sys.argv[1]), offline=False)"
    return [sys.executable, "-c", code, str(cache)]


def snapshot(tmp_path: Path) -> Path:
    return tmp_path / "hf/hub/datasets--princeton-nlp--datasets-for-simcse/snapshots" / COMMIT / "senteval.tar"


def blob(tmp_path: Path, content: bytes) -> Path:
    return tmp_path / "hf/hub/datasets--princeton-nlp--datasets-for-simcse/blobs" / hashlib.sha256(content).hexdigest()


def url(hub: HubServer) -> str:
    return f"{hub.endpoint}/datasets/princeton-nlp/datasets-for-simcse/resolve/main/senteval.tar"


def sentence(cache: Path, *, offline: bool = False) -> str:
    with pytest.raises((DataError, WriteError)) as caught:
        fetch_senteval(cache, offline=offline)
    return str(caught.value)


def test_archive_is_fetched_unpacked_and_recorded_and_never_asked_for_again(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    cache = tmp_path / "cache"
    fetched = fetch_senteval(cache, offline=False)

    digest = hashlib.sha256(GOOD).hexdigest()
    assert fetched == Fetched(cache / f"senteval-{COMMIT[:12]}/SentEval/data", SIMCSE_DATA, COMMIT, digest)
    assert (fetched.path / GOLD.removeprefix("SentEval/data/")).read_bytes() == b"4.2\n3.0\n"
    record = json.loads((cache / f"senteval-{COMMIT[:12]}.json").read_text())
    assert record.pop("extracted_at").endswith("+00:00")
    assert record == {
        "repo": SIMCSE_DATA,
        "revision": COMMIT,
        "file": "senteval.tar",
        "sha256": digest,
        "bytes": len(GOOD),
    }
    assert {request.token for request in hub.requests if "/resolve/" in request.path} == {"Bearer hf_secret"}
    assert [request.token for request in hub.content_requests()] == [None]  # the token stays with the hub

    asked = len(hub.requests)
    assert fetch_senteval(cache, offline=False) == fetched
    assert fetch_senteval(cache, offline=True) == fetched
    assert len(hub.requests) == asked


def test_archive_in_the_hub_cache_is_unpacked_offline(hub, tmp_path):
    fetched = fetch_senteval(tmp_path / "one", offline=False)
    asked = len(hub.requests)
    other = fetch_senteval(tmp_path / "two", offline=True)
    assert (other.revision, other.sha256, len(hub.requests)) == (fetched.revision, fetched.sha256, asked)


def test_single_file_is_fetched_once_and_found_offline(hub):
    path = fetch_training_file("nli", offline=False)
    assert (path.read_bytes(), path.parent.name) == (b"sent0,sent1,hard_neg\n", COMMIT)
    asked = len(hub.requests)
    assert fetch_training_file("nli", offline=True) == path
    assert len(hub.requests) == asked


def test_the_command_fetches_by_name(hub, tmp_path):
    def call(what):
        done = CliRunner().invoke(app, ["data", "fetch", what, "--cache-dir", str(tmp_path / "cache"), "--json"])
        assert done.exit_code == 0
        return json.loads(done.stdout)

    (archive,) = call("transfer")
    assert (archive["from"], archive["revision"]) == (SIMCSE_DATA, COMMIT)
    (text,) = call("nli")
    assert Path(text["file"]).read_bytes() == hub.files["nli_for_simcse.csv"]
    assert text["use"] == "fit=nli"


def test_damaged_record_means_unpacking_again(hub, tmp_path):
    fetched = fetch_senteval(tmp_path, offline=False)
    (tmp_path / f"senteval-{COMMIT[:12]}.json").write_text("{")
    (fetched.path / "downstream/stray").touch()
    assert fetch_senteval(tmp_path, offline=True) == fetched
    assert not (fetched.path / "downstream/stray").exists()


def test_cut_connection_is_mended_within_the_call(hub, tmp_path):
    hub.files["senteval.tar"] = archive = tar_of((member(GOLD), b"1\n"), (member("big"), bytes(CHUNK + 5000)))
    hub.next_cut = CHUNK + 1000
    assert fetch_senteval(tmp_path / "cache", offline=False).sha256 == hashlib.sha256(archive).hexdigest()


def test_killed_download_is_done_again_by_the_next_call(hub, tmp_path):
    hub.files["senteval.tar"] = archive = tar_of((member(GOLD), b"1\n"), (member("big"), bytes(CHUNK + 5000)))
    hub.next_stall = CHUNK + 1000
    with subprocess.Popen(in_process(tmp_path / "cache"), stderr=subprocess.DEVNULL) as process:
        assert hub.stalled.wait(20)
        process.kill()
    assert fetch_senteval(tmp_path / "cache", offline=False).sha256 == hashlib.sha256(archive).hexdigest()


def test_two_processes_at_once_share_one_download(hub, tmp_path):
    cache = tmp_path / "cache"
    with ThreadPoolExecutor() as pool:
        done = list(pool.map(lambda _: subprocess.run(in_process(cache), timeout=30).returncode, range(2)))
    assert done == [0, 0]
    assert len(hub.content_requests()) == 1
    assert sorted(path.name for path in cache.iterdir()) == [
        ".senteval.lock",
        f"senteval-{COMMIT[:12]}",
        f"senteval-{COMMIT[:12]}.json",
    ]


@pytest.mark.parametrize(
    ("archive", "found"),
    [
        pytest.param(GOOD[:700], "unexpected end of data", id="within a member"),
        pytest.param(GOOD[:1024], "no end-of-archive block", id="between two members"),
        pytest.param(b"<html>sign in</html>", None, id="another file"),
    ],
)
def test_damaged_archive_is_refused(hub, tmp_path, archive, found):
    hub.files["senteval.tar"] = archive
    message = sentence(tmp_path / "cache")
    if found is None:
        found = message.partition("archive (")[2].partition("), expected")[0]  # tarfile lists all that it tried
        assert found.startswith("file could not be opened successfully")
    assert message == (
        f"{snapshot(tmp_path)}: damaged as a tar archive ({found}), expected one that unpacks to its end;"
        f" delete {blob(tmp_path, archive)} to download it again, or {LAYOUT}"
    )
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [".senteval.lock"]


def test_deleting_the_damaged_archive_as_told_helps(hub, tmp_path):
    hub.files["senteval.tar"] = GOOD[:700]
    sentence(tmp_path / "cache")
    blob(tmp_path, GOOD[:700]).unlink()
    hub.files["senteval.tar"] = GOOD
    assert fetch_senteval(tmp_path / "cache", offline=False).sha256 == hashlib.sha256(GOOD).hexdigest()


def test_archive_without_the_data_is_refused(hub, tmp_path):
    hub.files["senteval.tar"] = tar_of((member("README"), b"moved"))
    assert sentence(tmp_path / "cache") == (
        f"{snapshot(tmp_path)}: no folder in it is named 'downstream', expected SentEval's layout"
        f" (downstream/STS/...); {LAYOUT}"
    )


ADVICE = {
    403: "the token may not read it: accept the conditions on {page}",
    404: "it is not there: check the name on {page} and HF_ENDPOINT",
    429: "it was asked too often: wait some minutes, set HF_TOKEN, whose limits are higher",
    451: "it may not be given out where you are: use a copy",
    503: "it is overloaded or being repaired: try again later",
}


@pytest.fixture
def waits(monkeypatch):
    """Seconds that are slept, which pass at once."""
    waited = []
    monkeypatch.setattr("time.sleep", waited.append)
    return waited


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("7", 7.0),
        ("99999", 120.0),
        ("Thu, 01 Jan 1970 00:01:40 GMT", 60.0),  # it is 40 seconds past 1970
        ("Thu, 01 Jan 1970 00:00:01 GMT", 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 120.0),
        ("-3", 1.5),
        ("\u0663", 1.5),
        ("soon", 1.5),
        (None, 1.5),
    ],
)
def test_retry_after_is_a_number_or_a_date(monkeypatch, said, seconds):
    monkeypatch.setattr("time.time", lambda: 40.0)
    assert download._seconds(said, 1.5) == seconds


@pytest.mark.parametrize("status", ADVICE)
def test_each_refusal_has_its_own_advice(hub, tmp_path, waits, status):
    hub.answer = status
    page = f"{hub.endpoint}/datasets/princeton-nlp/datasets-for-simcse"
    assert sentence(tmp_path / "cache") == (
        f"{url(hub)}: the hub answered {status}, expected the file; {ADVICE[status].format(page=page)}, or {LAYOUT}"
    )
    assert bool(waits) == (status in (429, 503))


def test_missing_file(hub, tmp_path):
    del hub.files["senteval.tar"]
    assert f"the hub answered 404, expected the file; {ADVICE[404].partition('{')[0]}" in sentence(tmp_path / "cache")


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_hub_is_asked_again_after_the_time_it_names(hub, tmp_path, waits, status):
    hub.next_answers = [status, status]
    assert fetch_senteval(tmp_path / "cache", offline=False).revision == COMMIT
    assert waits
    assert max(waits) >= 3


@pytest.mark.parametrize("status", [429, 503])
def test_busy_content_is_asked_for_again_after_the_time_it_names(hub, tmp_path, waits, status):
    hub.next_content_answers = [status]
    assert fetch_senteval(tmp_path / "cache", offline=False).revision == COMMIT
    assert len(hub.content_requests()) == 2
    assert max(waits) >= 3


def test_missing_dataset(hub, tmp_path):
    hub.repo = "someone/else"
    assert sentence(tmp_path / "cache") == (
        f"{hub.endpoint}/datasets/princeton-nlp/datasets-for-simcse: the hub answered 401, expected a dataset that it"
        f" shows; check HF_ENDPOINT, set HF_TOKEN if it is private or gated, or {LAYOUT}"
    )


def test_endpoint_that_is_no_hub(hub, tmp_path):
    hub.bare = True
    assert sentence(tmp_path / "cache") == (
        f"{url(hub)}: the answer has no commit, ETag or size, expected a Hugging Face hub there;"
        f" check HF_ENDPOINT and the proxy, or {LAYOUT}"
    )


def test_download_of_another_size_is_thrown_away(hub, tmp_path):
    hub.other_size = len(GOOD) + 7
    message = sentence(tmp_path / "cache")
    assert message.startswith(f"{url(hub)}: the download is not what the hub announced (")
    assert (str(len(GOOD)) in message, str(len(GOOD) + 7) in message) == (True, True)
    assert message.endswith(f"; run the command again, or {LAYOUT}")
    hub.other_size = None
    assert fetch_senteval(tmp_path / "cache", offline=False).revision == COMMIT


def test_download_with_other_bytes_is_thrown_away(hub, tmp_path):
    hub.other_sha256 = "0" * 64
    assert sentence(tmp_path / "cache") == (
        f"{url(hub)}: the download has sha256 {hashlib.sha256(GOOD).hexdigest()}, expected {'0' * 64};"
        f" run the command again, or {LAYOUT}"
    )
    hub.other_sha256 = None
    assert fetch_senteval(tmp_path / "cache", offline=False).revision == COMMIT


def test_no_network(hub, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")  # nobody listens on port 1
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    assert sentence(tmp_path / "cache") == (
        "http://127.0.0.1:1/datasets/princeton-nlp/datasets-for-simcse/resolve/main/senteval.tar: the connection"
        " failed ([Errno 111] Connection refused), expected an answer; check the network, the proxy and HF_ENDPOINT"
        f" and run the command again, or {LAYOUT}"
    )
    lines = [one.getMessage() for one in caplog.records if one.name.startswith("huggingface_hub")]
    assert len(lines) == 1 and lines[0].endswith("; asked again, five times at the most")


@pytest.mark.parametrize("switch", ["argument", "HF_HUB_OFFLINE"])
def test_offline_with_nothing_cached(hub, tmp_path, monkeypatch, switch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", switch == "HF_HUB_OFFLINE")
    cache = tmp_path / "cache"
    assert sentence(cache, offline=switch == "argument") == (
        f"{cache}: SentEval's data was not downloaded before and the network is switched off, expected a folder"
        " senteval-*; run `bench data fetch sts` on a machine with a network, or give --data-dir"
    )
    assert hub.requests == []


def test_single_file_offline_with_nothing_cached(hub, tmp_path):
    with pytest.raises(DataError) as caught:
        fetch_training_file("wiki", offline=True)
    assert str(caught.value) == (
        f"{tmp_path}/hf/hub: wiki1m_for_simcse.txt of {hub.endpoint}/datasets/princeton-nlp/datasets-for-simcse was"
        " not downloaded before and the network is switched off, expected it in the hub's cache; run once with a"
        " network, or copy the hub's cache (HF_HOME) from a machine that has the file"
    )


def test_full_disk(hub, tmp_path, monkeypatch):
    def full(*args, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("huggingface_hub.file_download.http_get", full)
    assert sentence(tmp_path / "cache") == (
        f"{tmp_path}/hf/hub: cannot be written (No space left on device); make room or give write permission, or name"
        " another folder"
    )


@pytest.mark.parametrize("name", [".", "new"])
def test_read_only_cache_folder(hub, name):
    import filelock

    assert filelock.FileLock  # loaded now: as another user, root's modules may be out of reach
    with tempfile.TemporaryDirectory() as root:
        Path(root).chmod(0o555)
        with as_ordinary_user():
            message = sentence(Path(root) / name)
    place, refusal = message.split(": ", 1)
    assert Path(place) in (Path(root) / name, Path(root) / name / ".senteval.lock")
    assert refusal == (
        "cannot be written (Permission denied); make room or give write permission, or name another folder"
    )


def test_importing_is_cheap():
    code = "import sys, harness.data.locate; sys.exit('huggingface_hub' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=30).returncode == 0
