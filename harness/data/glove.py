"""The 840B GloVe vectors from their authors: 2 GB over plain HTTP, continued where an earlier download stopped.

Source: Pennington, Socher & Manning 2014, https://nlp.stanford.edu/projects/glove/
"""

import hashlib
import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import BinaryIO
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from harness import files
from harness.data.hub import is_offline
from harness.errors import DataError, UsageError

Progress = Callable[[str, int, int], None]  # what is being done, bytes done, bytes in all

_ARCHIVE = "glove.840B.300d.zip"
_ADDRESS = "https://nlp.stanford.edu/data"
_BLOCK = 1 << 20
_TIMEOUT = 60.0  # seconds without a byte
_INSTEAD = "put a copy of the archive there, or name a text of vectors with avg-glove[backbone=FILE]"


@dataclass(frozen=True, slots=True)
class _Announced:
    """What the server says of the archive: its size, and whatever changes when its content does."""

    url: str
    size: int
    version: str

    @property
    def part(self) -> str:
        """Name of an unfinished download; that of another version has another name, so they are never mixed."""
        return f".{_ARCHIVE}.{hashlib.sha256(f'{self.size} {self.version}'.encode()).hexdigest()[:12]}.part"


def fetch_glove(cache_dir: Path, *, offline: bool, progress: Progress) -> Path:
    """The archive, in `cache_dir/glove/`; downloaded only if it is not there. It is read without unpacking it.

    The address of the folder it is in can be set by BENCH_GLOVE_URL, for a mirror. Two processes may call this at once.

    Raises:
        UsageError: if BENCH_GLOVE_URL is no http address.
        DataError: if the archive cannot be had, is not whole, or cannot be written; in one sentence.
    """
    folder = cache_dir / "glove"
    path = folder / _ARCHIVE
    if path.is_file():
        return path
    if is_offline(offline):
        raise DataError(
            f"{path}: was not downloaded before and the network is switched off; run `bench data fetch glove` with a "
            f"network, {_INSTEAD}"
        )
    with files.writing(cache_dir), files.lock(folder / ".lock"):
        if not path.is_file():  # else another process fetched it, while this one waited
            _fetch(path, progress)
    return path


def _fetch(path: Path, progress: Progress) -> None:
    announced = _ask(_url())
    part = path.with_name(announced.part)
    for other in path.parent.glob(f".{_ARCHIVE}.*.part"):
        if other != part:
            other.unlink()
    have = part.stat().st_size if part.exists() else 0
    if have < announced.size:
        with part.open("ab") as stream:
            _append(announced, stream, progress)
            stream.flush()
            os.fsync(stream.fileno())
    if part.stat().st_size != announced.size or not zipfile.is_zipfile(part):
        found = part.stat().st_size
        part.unlink()
        raise DataError(
            f"{announced.url}: what came is no zip archive of {announced.size} bytes but {found} bytes of something "
            f"else; run the command again, or {_INSTEAD}"
        )
    part.replace(path)


def _url() -> str:
    base = os.environ.get("BENCH_GLOVE_URL") or _ADDRESS
    if urlsplit(base).scheme not in ("http", "https"):
        raise UsageError(f"BENCH_GLOVE_URL {base}: expected http:// or https://, the folder that has {_ARCHIVE}")
    return f"{base.rstrip('/')}/{_ARCHIVE}"


def _ask(url: str) -> _Announced:
    with _open(Request(url, method="HEAD")) as response:
        size = response.headers.get("Content-Length", "")
        version = response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
    if not size.isdigit():
        raise DataError(f"{url}: the answer has no size, expected that of {_ARCHIVE}; check the proxy, or {_INSTEAD}")
    return _Announced(url, int(size), version)


def _append(announced: _Announced, stream: BinaryIO, progress: Progress) -> None:
    have = stream.tell()
    with _open(Request(announced.url, headers={"Range": f"bytes={have}-"})) as response:
        if response.status != HTTPStatus.PARTIAL_CONTENT:  # a server that only sends the whole
            have = stream.truncate(0)
        while have < announced.size:
            block = _read(response, announced.url)
            if not block:
                raise _failed(announced.url, f"it ended after {have} of {announced.size} bytes")
            stream.write(block)
            have += len(block)
            progress("downloading", have, announced.size)


def _open(request: Request) -> HTTPResponse:
    try:
        response: HTTPResponse = urlopen(request, timeout=_TIMEOUT)
    except HTTPError as error:
        raise DataError(
            f"{request.full_url}: the server answered {error.code}, expected the archive; try again later, or "
            f"{_INSTEAD}"
        ) from error
    except (OSError, HTTPException) as error:
        raise _failed(request.full_url, str(error)) from error
    return response


def _read(response: HTTPResponse, url: str) -> bytes:
    try:
        return response.read1(_BLOCK)
    except (OSError, HTTPException) as error:
        raise _failed(url, str(error)) from error


def _failed(url: str, reason: str) -> DataError:
    return DataError(
        f"{url}: the connection failed ({reason}); check the network and the proxy and run the command again, which "
        f"continues a partial download, or {_INSTEAD}"
    )
