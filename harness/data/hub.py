"""One file from the Hugging Face hub: through its own cache, continued where it stopped, every failure one sentence.

Files land in the cache of `huggingface_hub` (HF_HOME), where other tools find them. HF_ENDPOINT, HF_TOKEN and
HF_HUB_OFFLINE are honoured. `huggingface_hub` is imported by the functions, so that importing this module is cheap.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from harness import files
from harness.errors import DataError

if TYPE_CHECKING:
    from huggingface_hub import HfFileMetadata

_REVISION = "main"  # resolved to a commit by the hub; the commit is the name of the folder that holds the file


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

    def url(self, revision: str = _REVISION) -> str:
        return f"{self.page}/resolve/{revision}/{quote(self.filename)}"


def hub_file(repo: str, filename: str, *, repo_type: str, instead: str) -> HubFile:
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
    """Download the file, or the rest of it, into the hub's cache.

    Returns:
        `<cache>/<repo>/snapshots/<commit>/<filename>`.

    Raises:
        DataError: if the hub, the network or the disk fails, or if what came is not what the hub announced.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_download
    from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]

    if not progress:
        disable_progress_bars("huggingface_hub.http_get")
    with _hub_answers(file), files.writing(file.cache):
        _fill_blob(file, get_hf_file_metadata(file.url(), endpoint=file.endpoint))
        path = hf_hub_download(  # finds the content in its place, and adds the snapshot and the reference to it
            file.repo,
            file.filename,
            repo_type=file.repo_type,
            revision=_REVISION,
            cache_dir=file.cache,
            endpoint=file.endpoint,
        )
    return Path(path)


def _fill_blob(file: HubFile, remote: "HfFileMetadata") -> None:
    """Download the content to where the hub's cache keeps it, continuing what an earlier call has left.

    `hf_hub_download` itself (as of 2.4) starts again at the first byte: it deletes what it has when it is interrupted.
    The layout of its cache is public: https://huggingface.co/docs/huggingface_hub/guides/manage-cache
    """
    from huggingface_hub.file_download import http_get, repo_folder_name
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    etag, commit, size = _announced(file, remote)
    folder = repo_folder_name(repo_id=file.repo, repo_type=file.repo_type)
    blob = file.cache / folder / "blobs" / etag
    blob.parent.mkdir(parents=True, exist_ok=True)
    with files.lock(file.cache / ".locks" / folder / f"{etag}.lock"):  # the lock that hf_hub_download takes
        if blob.exists():
            return
        part = blob.with_name(f"{etag}.incomplete")
        have = part.stat().st_size if part.exists() else 0
        if have < size:
            # Compressed on the way, a response has no length and cannot be continued.
            headers = build_hf_headers() | {"Accept-Encoding": "identity"}
            with part.open("ab") as stream:
                http_get(file.url(commit), stream, resume_size=have, headers=headers, displayed_filename=file.filename)
        _check_content(file, part, etag, size)
        part.replace(blob)


def _announced(file: HubFile, remote: "HfFileMetadata") -> tuple[str, str, int]:
    etag, commit, size = remote.etag, remote.commit_hash, remote.size
    if not etag or "/" in etag or not commit or not re.fullmatch("[0-9a-f]{40}", commit) or size is None:
        raise DataError(
            f"{file.url()}: the answer has no commit, ETag or size, expected a Hugging Face hub there;"
            f" check HF_ENDPOINT and the proxy, or {file.instead}"
        )
    return etag, commit, size


def _check_content(file: HubFile, part: Path, etag: str, size: int) -> None:
    found = part.stat().st_size
    if found != size:
        part.unlink()  # the server ended it as if it were whole, so there is nothing to continue
        raise DataError(
            f"{file.url()}: the download has {found} bytes, expected {size}; run the command again, or {file.instead}"
        )
    if re.fullmatch("[0-9a-f]{64}", etag) and (digest := files.sha256(part)) != etag:  # large files: ETag is the sha256
        part.unlink()
        raise DataError(
            f"{file.url()}: the download has sha256 {digest}, expected {etag}; run the command again, or {file.instead}"
        )


@contextmanager
def _hub_answers(file: HubFile) -> Iterator[None]:
    """Turn what huggingface_hub and its HTTP library raise into one sentence."""
    from huggingface_hub.errors import (  # type: ignore[attr-defined]  # HTTPError is that of the httpx it uses
        HfHubHTTPError,
        HTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    try:
        yield
    except RepositoryNotFoundError as error:
        raise DataError(
            f"{file.page}: the hub answered {error.response.status_code}, expected a {file.repo_type} that it shows;"
            f" check HF_ENDPOINT, set HF_TOKEN if it is private or gated, or {file.instead}"
        ) from error
    except HfHubHTTPError as error:
        raise DataError(
            f"{file.url()}: the hub answered {error.response.status_code}, expected the file;"
            f" try again later, or {file.instead}"
        ) from error
    except (HTTPError, LocalEntryNotFoundError) as error:
        cause = error.__cause__ if isinstance(error, LocalEntryNotFoundError) else error
        raise DataError(
            f"{file.url()}: the connection failed ({cause}), expected an answer; check the network, the proxy and"
            f" HF_ENDPOINT and run the command again, which continues a partial download, or {file.instead}"
        ) from error
