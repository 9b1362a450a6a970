"""Downloads: files of SimCSE's data set on the Hugging Face hub, and GloVe's archive; every failure is one sentence.

Files of the hub land in the cache of `huggingface_hub` (HF_HOME), where other tools find them. HF_ENDPOINT, HF_TOKEN
and HF_HUB_OFFLINE are honoured. Libraries are imported by the functions, so that importing this module is cheap.
"""

import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from pathlib import Path
from urllib.parse import quote, urlsplit

from harness import files
from harness.errors import DataError, UsageError
from harness.progress import Progress

_log = logging.getLogger(__name__)

SIMCSE_DATA = "princeton-nlp/datasets-for-simcse"  # a dataset on the hub: SentEval, and both training corpora
TRAINING_FILES = {"nli": "nli_for_simcse.csv", "wiki": "wiki1m_for_simcse.txt"}

_REVISION = "main"  # resolved to a commit by the hub; the commit is the name of the folder that holds the file
_WAITS = (1.0, 4.0)  # seconds before content that a busy server refused is asked for again, if it does not say
_LONGEST_WAIT = 120.0

_BUSY = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
_ADVICE = {
    401: "set HF_TOKEN to a token that may read it, check HF_ENDPOINT",
    403: "the token may not read it: accept the conditions on {page}",
    404: "it is not there: check the name on {page} and HF_ENDPOINT",
    429: "it was asked too often: wait some minutes, set HF_TOKEN, whose limits are higher",
    451: "it may not be given out where you are: use a copy",
    503: "it is overloaded or being repaired: try again later",
}

_GLOVE = "glove.840B.300d.zip"
_GLOVE_ADDRESS = "https://nlp.stanford.edu/data"
# The authors publish no digest. Half a dozen public projects, independent of one another, hold the archive to this one.
_GLOVE_SHA256 = "c06db255e65095393609f19a4cfca20bf3a71e20cc53e892aafa490347e3849f"
_GLOVE_INSTEAD = "put a copy of the archive there, or name a text of vectors with avg-glove[backbone=FILE]"
_BLOCK = 1 << 16  # bytes; what came of a block when the connection fails is lost
_TIMEOUT = 60.0  # seconds without a byte


def is_offline(offline: bool) -> bool:
    """Whether the network is off, by `--offline` or by HF_HUB_OFFLINE."""
    from huggingface_hub import constants

    return offline or constants.HF_HUB_OFFLINE


def hub_cache() -> Path:
    """The folder in which `huggingface_hub` keeps files, as the environment names it now.

    The library itself looks at the environment once, when it is imported first.
    """
    from huggingface_hub import constants

    home = os.environ.get("HF_HOME")
    named = os.environ.get("HF_HUB_CACHE") or (f"{home}/hub" if home else constants.HF_HUB_CACHE)
    return Path(named).expanduser()


def fetch_training_file(name: str, *, offline: bool, progress: bool = True) -> Path:
    """One of SimCSE's training texts, a key of `TRAINING_FILES`; see `fetch_file`."""
    instead = "copy the hub's cache (HF_HOME) from a machine that has the file"
    return fetch_file(TRAINING_FILES[name], offline=offline, progress=progress, instead=instead)


def fetch_file(filename: str, *, offline: bool, progress: bool, instead: str, absent: str | None = None) -> Path:
    """A file of SimCSE's data set in the hub's own cache, `<cache>/<repo>/snapshots/<commit>/<filename>`.

    It is downloaded only if it is not there yet. A busy hub is asked again after the time that it names (Retry-After).

    Args:
        filename: in the data set.
        offline: never use the network. HF_HUB_OFFLINE has the same effect.
        progress: show a bar while downloading, if standard error is a terminal.
        instead: the user's way out where the file cannot be had.
        absent: the sentence where the file is not there and the network is off; None: a general one.

    Raises:
        DataError: if the hub or the network fails, or if what came is not what the hub announced.
        WriteError: if the hub's cache cannot be written.
    """
    from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache
    from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]

    endpoint = (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")
    cache, file = hub_cache(), _HubFile(f"{endpoint}/datasets/{SIMCSE_DATA}", filename, instead)
    known = try_to_load_from_cache(SIMCSE_DATA, filename, cache_dir=cache, revision=_REVISION, repo_type="dataset")
    if isinstance(known, str):
        return Path(known)
    if is_offline(offline):
        raise DataError(
            absent
            or f"{cache}: {filename} of {file.page} was not downloaded before and the network is switched off,"
            f" expected it in the hub's cache; run once with a network, or {instead}"
        )

    def ask() -> str:
        return hf_hub_download(
            SIMCSE_DATA, filename, repo_type="dataset", revision=_REVISION, cache_dir=cache, endpoint=endpoint
        )

    _log.info("%s: downloading into %s", file.url, cache)
    if not progress:
        disable_progress_bars("huggingface_hub.http_get")
    with _hub_answers(file), files.writing(cache):
        path = patiently(ask)
    blob = path.resolve()  # a large file's sha256 is the name that it has in the hub's cache
    if re.fullmatch("[0-9a-f]{64}", blob.name) and (digest := files.sha256(blob)) != blob.name:
        blob.unlink()
        path.unlink(missing_ok=True)
        raise DataError(
            f"{file.url}: the download has sha256 {digest}, expected {blob.name}; run the command again, or {instead}"
        )
    return path


def patiently(ask: Callable[[], str]) -> Path:
    """The path that a function of huggingface_hub gives; a busy hub is asked again after the time that it names.

    The library asks again for metadata (HEAD) by itself, but not for content or lists of files behind a 503.

    Raises:
        HfHubHTTPError: if the hub refuses, or is still busy at the third attempt.
        LocalEntryNotFoundError: if it cannot be reached.
    """
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    for wait in (*_WAITS, None):
        try:
            with _one_line_of_retries():
                return Path(ask())
        except (HfHubHTTPError, LocalEntryNotFoundError) as error:
            # The library says of a refusal, too, that the file is not in the cache.
            cause = error.__cause__ if isinstance(error, LocalEntryNotFoundError) else error
            if not isinstance(cause, HfHubHTTPError):
                raise
            response = cause.response
            if wait is None or response.status_code not in _BUSY or response.request.method == "HEAD":
                raise cause from error
            time.sleep(_seconds(response.headers.get("Retry-After"), wait))
    raise AssertionError("the last attempt returns or raises")


@contextmanager
def _one_line_of_retries() -> Iterator[None]:
    """Of the library's two lines for each of its attempts, only the first is written."""
    logger, told = logging.getLogger("huggingface_hub.utils._http"), list[logging.LogRecord]()

    def is_first(record: logging.LogRecord) -> bool:
        told.append(record)
        record.msg, record.args = f"{record.getMessage()}; asked again, five times at the most", ()
        return len(told) == 1

    logger.addFilter(is_first)
    try:
        yield
    finally:
        logger.removeFilter(is_first)


def _seconds(retry_after: str | None, otherwise: float) -> float:
    """What the header says, a number of seconds or a date; at most two minutes. `otherwise` where it says nothing."""
    said = (retry_after or "").strip()
    if said.isascii() and said.isdecimal():
        return min(float(said), _LONGEST_WAIT)
    try:
        left = parsedate_to_datetime(said).timestamp() - time.time()
    except (ValueError, OverflowError):
        return otherwise
    return min(max(left, 0.0), _LONGEST_WAIT)


@dataclass(frozen=True, slots=True)
class _HubFile:
    """What sentences about a file say: the page of its data set, its name there, and the user's way out."""

    page: str
    filename: str
    instead: str

    @property
    def url(self) -> str:
        return f"{self.page}/resolve/{_REVISION}/{quote(self.filename)}"


@contextmanager
def _hub_answers(file: _HubFile) -> Iterator[None]:
    """Turn what huggingface_hub and its HTTP library raise into one sentence."""
    from huggingface_hub.errors import (  # type: ignore[attr-defined]  # HTTPError is that of the httpx it uses
        FileMetadataError,
        HfHubHTTPError,
        HTTPError,
        LocalEntryNotFoundError,
    )

    try:
        yield
    except (HTTPError, LocalEntryNotFoundError, FileMetadataError) as error:
        cause = error.__cause__ if isinstance(error, LocalEntryNotFoundError) and error.__cause__ else error
        if isinstance(cause, HfHubHTTPError):
            raise _refusal(file, cause) from error
        if isinstance(cause, FileMetadataError):
            raise DataError(
                f"{file.url}: the answer has no commit, ETag or size, expected a Hugging Face hub there;"
                f" check HF_ENDPOINT and the proxy, or {file.instead}"
            ) from error
        raise DataError(
            f"{file.url}: the connection failed ({cause}), expected an answer; check the network, the proxy and"
            f" HF_ENDPOINT and run the command again, or {file.instead}"
        ) from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise DataError(  # huggingface_hub's own check of the size
            f"{file.url}: the download is not what the hub announced ({str(error).splitlines()[0]});"
            f" run the command again, or {file.instead}"
        ) from error


def _refusal(file: _HubFile, error: Exception) -> DataError:
    """The sentence about an HTTP status, with the advice that fits it."""
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    assert isinstance(error, HfHubHTTPError)
    status = error.response.status_code
    if isinstance(error, RepositoryNotFoundError) and not isinstance(error, GatedRepoError):
        return DataError(
            f"{file.page}: the hub answered {status}, expected a dataset that it shows;"
            f" check HF_ENDPOINT, set HF_TOKEN if it is private or gated, or {file.instead}"
        )
    advice = _ADVICE.get(status, "try again later").format(page=file.page)
    return DataError(f"{file.url}: the hub answered {status}, expected the file; {advice}, or {file.instead}")


def fetch_glove(cache_dir: Path, *, offline: bool, progress: Progress) -> Path:
    """The authors' 840B archive in `cache_dir/glove/`, 2 GB; downloaded only if it is not there, and never unpacked.

    An interrupted download goes on where it stopped. The address of the folder that the archive is in can be set by
    BENCH_GLOVE_URL, for a mirror. Two processes may call this at once.

    Raises:
        UsageError: if BENCH_GLOVE_URL is no http address.
        DataError: if the archive cannot be had or is another than is known; in one sentence.
        WriteError: if it cannot be written.

    Source: Pennington, Socher & Manning 2014, https://nlp.stanford.edu/projects/glove/
    """
    path = cache_dir / "glove" / _GLOVE
    if path.is_file():
        return path
    if is_offline(offline):
        raise DataError(
            f"{path}: was not downloaded before and the network is switched off; run `bench data fetch glove` with a "
            f"network, {_GLOVE_INSTEAD}"
        )
    with files.lock(cache_dir / "locks" / "glove.lock"):
        if not path.is_file():  # else another process fetched it, while this one waited
            _download_glove(path, progress)
    return path


def _download_glove(path: Path, progress: Progress) -> None:
    import pooch

    url = _glove_url()
    _log.info("%s: downloading to %s", url, path)
    pooch.get_logger().setLevel(logging.WARNING)  # the progress is told by us

    def resume(url: str, draft: str, _: object) -> None:
        part = path.with_name(f".{_GLOVE}.part")
        _append(url, part, progress)
        part.replace(draft)

    try:
        with files.writing(path):
            pooch.retrieve(url, f"sha256:{_GLOVE_SHA256}", fname=path.name, path=path.parent, downloader=resume)
    except ValueError as error:  # of pooch, whose message has the digest that was found
        raise DataError(
            f"{url}: what came has another sha256 than the archive's {_GLOVE_SHA256}; run the command again, or "
            f"{_GLOVE_INSTEAD}"
        ) from error


def _glove_url() -> str:
    base = os.environ.get("BENCH_GLOVE_URL") or _GLOVE_ADDRESS
    try:
        known = urlsplit(base).scheme in ("http", "https") and bool(urlsplit(base).hostname)
    except ValueError:  # no address at all
        known = False
    if not known:
        raise UsageError(f"BENCH_GLOVE_URL {base}: expected http:// or https://, the folder that has {_GLOVE}")
    return f"{base.rstrip('/')}/{_GLOVE}"


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
                raise _refused(url, answer.status_code)
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


def _failed(url: str, reason: str) -> DataError:
    return DataError(
        f"{url}: the connection failed ({reason}); check the network and the proxy and run the command again, which "
        f"continues a partial download, or {_GLOVE_INSTEAD}"
    )


def _refused(url: str, status: int) -> DataError:
    advice = "expected the archive; check BENCH_GLOVE_URL and the proxy"
    if status in _BUSY:
        advice = "which is busy; try again later"
    return DataError(f"{url}: the server answered {status}, {advice}, or {_GLOVE_INSTEAD}")
