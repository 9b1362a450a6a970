"""Files on the Hugging Face hub: downloaded once, and every failure is one sentence.

Files land in the cache of `huggingface_hub` (HF_HOME), where other tools find them. HF_ENDPOINT, HF_TOKEN and
HF_HUB_OFFLINE are honoured. `huggingface_hub` is imported by the functions, so that importing this module is cheap.
"""

import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import quote

from harness import files
from harness.errors import DataError

_log = logging.getLogger(__name__)

_REVISION = "main"  # resolved to a commit by the hub; the commit is the name of the folder that holds the file
_WAITS = (1.0, 4.0)  # seconds before content that a busy server refused is asked for again, if it does not say
_LONGEST_WAIT = 120.0

_BUSY = (429, 503)
_ADVICE = {
    401: "set HF_TOKEN to a token that may read it, check HF_ENDPOINT",
    403: "the token may not read it: accept the conditions on {page}",
    404: "it is not there: check the name on {page} and HF_ENDPOINT",
    429: "it was asked too often: wait some minutes, set HF_TOKEN, whose limits are higher",
    451: "it may not be given out where you are: use a copy",
    503: "it is overloaded or being repaired: try again later",
}


@dataclass(frozen=True, slots=True)
class HubFile:
    """Which file, from which hub, kept in which cache, and (`instead`) the user's way out where it cannot be had."""

    repo: str
    filename: str
    repo_type: str
    endpoint: str
    cache: Path
    instead: str

    @property
    def page(self) -> str:
        kind = "" if self.repo_type == "model" else f"{self.repo_type}s/"
        return f"{self.endpoint}/{kind}{self.repo}"

    def url(self) -> str:
        return f"{self.page}/resolve/{_REVISION}/{quote(self.filename)}"


def hub_file(repo: str, filename: str, *, repo_type: str, instead: str) -> HubFile:
    """The file of that name, on the hub and in the cache that the environment names."""
    from huggingface_hub import constants

    # Read here and not only by huggingface_hub, which looks at the environment once, when it is imported first.
    endpoint = os.environ.get("HF_ENDPOINT") or constants.ENDPOINT
    home = os.environ.get("HF_HOME")
    cache = os.environ.get("HF_HUB_CACHE") or (f"{home}/hub" if home else constants.HF_HUB_CACHE)
    return HubFile(repo, filename, repo_type, endpoint.rstrip("/"), Path(cache).expanduser(), instead)


def is_offline(offline: bool) -> bool:
    """Whether the network is off, by `--offline` or by HF_HUB_OFFLINE."""
    from huggingface_hub import constants

    return offline or constants.HF_HUB_OFFLINE


def cached(file: HubFile) -> Path | None:
    """The file as downloaded before, by this program or another; no request is made."""
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(
        file.repo, file.filename, cache_dir=file.cache, revision=_REVISION, repo_type=file.repo_type
    )
    return Path(path) if isinstance(path, str) else None


def download(file: HubFile, *, progress: bool) -> Path:
    """Download the file into the hub's cache. A busy hub is asked again after the time that it names (Retry-After).

    Returns:
        `<cache>/<repo>/snapshots/<commit>/<filename>`.

    Raises:
        DataError: if the hub or the network fails, or if what came is not what the hub announced.
        WriteError: if the cache cannot be written.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]

    def ask() -> str:
        return hf_hub_download(
            file.repo,
            file.filename,
            repo_type=file.repo_type,
            revision=_REVISION,
            cache_dir=file.cache,
            endpoint=file.endpoint,
        )

    _log.info("%s: downloading into %s", file.url(), file.cache)
    if not progress:
        disable_progress_bars("huggingface_hub.http_get")
    with _hub_answers(file), files.writing(file.cache):
        path = patiently(ask)
    _check_content(file, path)
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


def _check_content(file: HubFile, path: Path) -> None:
    """Hold a large file to its sha256, which is the name that it has in the hub's cache."""
    blob = path.resolve()
    if re.fullmatch("[0-9a-f]{64}", blob.name) and (digest := files.sha256(blob)) != blob.name:
        blob.unlink()
        path.unlink(missing_ok=True)
        raise DataError(
            f"{file.url()}: the download has sha256 {digest}, expected {blob.name}; run the command again, or "
            f"{file.instead}"
        )


@contextmanager
def _hub_answers(file: HubFile) -> Iterator[None]:
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
                f"{file.url()}: the answer has no commit, ETag or size, expected a Hugging Face hub there;"
                f" check HF_ENDPOINT and the proxy, or {file.instead}"
            ) from error
        raise DataError(
            f"{file.url()}: the connection failed ({cause}), expected an answer; check the network, the proxy and"
            f" HF_ENDPOINT and run the command again, or {file.instead}"
        ) from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise DataError(  # huggingface_hub's own check of the size
            f"{file.url()}: the download is not what the hub announced ({str(error).splitlines()[0]});"
            f" run the command again, or {file.instead}"
        ) from error


def _refusal(file: HubFile, error: Exception) -> DataError:
    """The sentence about an HTTP status, with the advice that fits it."""
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    assert isinstance(error, HfHubHTTPError)
    status = error.response.status_code
    if isinstance(error, RepositoryNotFoundError) and not isinstance(error, GatedRepoError):
        return DataError(
            f"{file.page}: the hub answered {status}, expected a {file.repo_type} that it shows;"
            f" check HF_ENDPOINT, set HF_TOKEN if it is private or gated, or {file.instead}"
        )
    advice = _ADVICE.get(status, "try again later").format(page=file.page)
    return DataError(f"{file.url()}: the hub answered {status}, expected the file; {advice}, or {file.instead}")
