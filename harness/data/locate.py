"""Where the data are: the user's folder, the environment's, the bundled suite, or SentEval's archive from the hub."""

import json
import logging
import os
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from harness import files
from harness.data.archive import parent_of, unpack
from harness.data.download import SIMCSE_DATA, fetch_file
from harness.errors import DataError
from harness.packaged import ROOT

_log = logging.getLogger(__name__)

BUNDLED = ROOT / "harness" / "data" / "mini"


def data_root(given: Path | None, cache_dir: Path, *, offline: bool, progress: bool) -> Path:
    """The folder that contains `downstream/`.

    Looked up in this order: `--data-dir`, the environment's BENCH_DATA_DIR, the cache, the hub.

    Raises:
        DataError: if a named folder is not in SentEval's layout, or nothing can be fetched.
    """
    environment = os.environ.get("BENCH_DATA_DIR")
    if given is not None:
        return _check_layout(given, "--data-dir")
    if environment:
        return _check_layout(Path(environment), "BENCH_DATA_DIR")
    fetched = fetch_senteval(cache_dir, offline=offline, progress=progress).path
    _log.info("%s: SentEval's data, as they were downloaded", fetched)
    return fetched


def _check_layout(folder: Path, source: str) -> Path:
    try:
        next(folder.iterdir(), None)
    except (FileNotFoundError, NotADirectoryError):
        pass  # said below
    except OSError as error:
        raise DataError(
            f"{source} {folder}: cannot be read ({error.strerror}), expected a folder that contains downstream/; give "
            "read permission, or name another folder"
        ) from error
    if not folder.is_dir():
        raise DataError(
            f"{source} {folder}: no such folder; name one that contains downstream/STS, downstream/SICK, ..."
        )
    if folder.name == "downstream":
        return folder.parent
    if not (folder / "downstream").is_dir():
        raise DataError(
            f"{source} {folder}: no folder downstream/ in it, expected SentEval's layout (downstream/STS/...); "
            "name its parent, or run `bench data fetch`"
        )
    return folder


@dataclass(frozen=True, slots=True)
class Fetched:
    """Data that came from the hub.

    `path` is the folder that contains `downstream/`, `revision` the commit (40 hex digits) of the dataset `repo`,
    `sha256` that of the downloaded archive.
    """

    path: Path
    repo: str
    revision: str
    sha256: str


def fetch_senteval(cache_dir: Path, *, offline: bool, progress: bool = True) -> Fetched:
    """SentEval's data as packed by SimCSE (`senteval.tar`), unpacked under `cache_dir`.

    What is there already is returned without a request, whatever has happened upstream since. Two processes may call
    this at once.

    Args:
        cache_dir: the harness's cache; gets `senteval-<commit>/` and `senteval-<commit>.json`.
        offline: never use the network. HF_HUB_OFFLINE has the same effect.
        progress: show a bar while downloading, if standard error is a terminal.

    Raises:
        DataError: if the archive cannot be had, is damaged or unsafe.
        WriteError: if a cache cannot be written.
    """
    if (known := _find_unpacked(cache_dir)) is not None:
        return known
    with files.lock(cache_dir / ".senteval.lock"):
        if (known := _find_unpacked(cache_dir)) is not None:  # by another process, while this one waited
            return known
        archive = fetch_file(
            "senteval.tar",
            offline=offline,
            progress=progress,
            instead="give --data-dir a folder in SentEval's layout",
            absent=f"{cache_dir}: SentEval's data was not downloaded before and the network is switched off, expected"
            " a folder senteval-*; run `bench data fetch sts` on a machine with a network, or give --data-dir",
        )
        return _unpack_senteval(archive, cache_dir)


def _find_unpacked(cache_dir: Path) -> Fetched | None:
    """The archive that was unpacked last, if it is still there."""
    known = []
    for path in cache_dir.glob("senteval-*.json"):
        data = parent_of("downstream", path.with_suffix(""))
        with suppress(OSError, ValueError, TypeError, KeyError):  # no record of ours: the archive is unpacked again
            record = json.loads(path.read_bytes())
            if data is not None:
                found = Fetched(data, record["repo"], record["revision"], record["sha256"])
                known.append((record["extracted_at"], found))
    return max(known, key=lambda pair: pair[0])[1] if known else None


def _unpack_senteval(archive: Path, cache_dir: Path) -> Fetched:
    revision = archive.parent.name
    record = {
        "repo": SIMCSE_DATA,
        "revision": revision,
        "file": archive.name,
        "sha256": files.sha256(archive),
        "bytes": archive.stat().st_size,
        "extracted_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    folder = cache_dir / f"senteval-{revision[:12]}"
    data = unpack(archive, folder, holding="downstream")
    content = json.dumps(record, indent=2) + "\n"
    files.replace(cache_dir / f"{folder.name}.json", content.encode())  # from now on `_find_unpacked` sees it
    return Fetched(data, SIMCSE_DATA, revision, str(record["sha256"]))
