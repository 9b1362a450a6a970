"""Where the data are: the user's folder, the environment's, the bundled suite, or what was fetched from the hub."""

import logging
import os
from pathlib import Path

from harness.data.fetch import fetch_senteval
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
