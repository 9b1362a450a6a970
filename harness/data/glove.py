"""The 840B GloVe vectors from their authors: 2 GB over HTTP, resumed where an earlier download stopped.

Source: Pennington, Socher & Manning 2014, https://nlp.stanford.edu/projects/glove/
"""

import logging
import os
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

from harness import files
from harness.data.hub import is_offline
from harness.errors import DataError, UsageError

Progress = Callable[[str, int, int], None]  # what is being done, bytes done, bytes in all

_log = logging.getLogger(__name__)

_ARCHIVE = "glove.840B.300d.zip"
_ADDRESS = "https://nlp.stanford.edu/data"
# The authors publish no digest. Half a dozen public projects, independent of one another, hold the archive to this one.
_SHA256 = "c06db255e65095393609f19a4cfca20bf3a71e20cc53e892aafa490347e3849f"
_BLOCK = 1 << 16  # bytes; what came of a block when the connection fails is lost
_TIMEOUT = 60.0  # seconds without a byte
_INSTEAD = "put a copy of the archive there, or name a text of vectors with avg-glove[backbone=FILE]"


def fetch_glove(cache_dir: Path, *, offline: bool, progress: Progress) -> Path:
    """The archive, in `cache_dir/glove/`; downloaded only if it is not there. It is read without unpacking it.

    The address of the folder it is in can be set by BENCH_GLOVE_URL, for a mirror. Two processes may call this at once.

    Raises:
        UsageError: if BENCH_GLOVE_URL is no http address.
        DataError: if the archive cannot be had or is another than is known; in one sentence.
        WriteError: if it cannot be written.
    """
    path = cache_dir / "glove" / _ARCHIVE
    if path.is_file():
        return path
    if is_offline(offline):
        raise DataError(
            f"{path}: was not downloaded before and the network is switched off; run `bench data fetch glove` with a "
            f"network, {_INSTEAD}"
        )
    with files.lock(cache_dir / "locks" / "glove.lock"):
        if not path.is_file():  # else another process fetched it, while this one waited
            _fetch(path, progress)
    return path


def _fetch(path: Path, progress: Progress) -> None:
    import pooch

    url = _url()
    _log.info("%s: downloading to %s", url, path)
    pooch.get_logger().setLevel(logging.WARNING)  # the progress is told by us

    def resume(url: str, draft: str, _: object) -> None:
        part = path.with_name(f".{_ARCHIVE}.part")
        _append(url, part, progress)
        part.replace(draft)

    try:
        with files.writing(path):
            pooch.retrieve(url, f"sha256:{_SHA256}", fname=path.name, path=path.parent, downloader=resume)
    except ValueError as error:  # of pooch, whose message has the digest that was found
        raise DataError(
            f"{url}: what came has another sha256 than the archive's {_SHA256}; run the command again, or {_INSTEAD}"
        ) from error


def _url() -> str:
    base = os.environ.get("BENCH_GLOVE_URL") or _ADDRESS
    try:
        known = urlsplit(base).scheme in ("http", "https") and bool(urlsplit(base).hostname)
    except ValueError:  # no address at all
        known = False
    if not known:
        raise UsageError(f"BENCH_GLOVE_URL {base}: expected http:// or https://, the folder that has {_ARCHIVE}")
    return f"{base.rstrip('/')}/{_ARCHIVE}"


def _append(url: str, part: Path, progress: Progress) -> None:
    """Download what the part lacks; it stays where it is when the connection fails."""
    import requests

    have = part.stat().st_size if part.exists() else 0
    headers = {"Range": f"bytes={have}-", "Accept-Encoding": "identity"}  # packed, it could not be continued
    try:
        with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as answer:
            if answer.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:  # the part is as long as the whole
                return
            if not answer.ok:
                raise DataError(f"{url}: the server answered {answer.status_code}, {_advice(answer.status_code)}")
            if answer.status_code != HTTPStatus.PARTIAL_CONTENT:  # a server that only sends the whole
                have = 0
            total = have + int(answer.headers.get("Content-Length", 0))
            with part.open("ab" if have else "wb") as stream:
                for block in answer.iter_content(_BLOCK):
                    stream.write(block)
                    have += len(block)
                    progress("downloading", have, total)
    except requests.RequestException as error:
        raise _failed(url, str(error)) from error
    if have < total:
        raise _failed(url, f"it ended after {have} of {total} bytes")


def _advice(status: int) -> str:
    if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
        return f"which is busy; try again later, or {_INSTEAD}"
    return f"expected the archive; check BENCH_GLOVE_URL and the proxy, or {_INSTEAD}"


def _failed(url: str, reason: str) -> DataError:
    return DataError(
        f"{url}: the connection failed ({reason}); check the network and the proxy and run the command again, which "
        f"continues a partial download, or {_INSTEAD}"
    )
