"""Data that is downloaded: SentEval's files as SimCSE packed them, and single files such as training corpora."""

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from harness import files
from harness.data.archive import parent_of, unpack
from harness.data.hub import cached, download, hub_file, is_offline
from harness.errors import DataError

SIMCSE_DATA = "princeton-nlp/datasets-for-simcse"  # a dataset on the hub: SentEval, and both training corpora
TRAINING_FILES = {"nli": "nli_for_simcse.csv", "wiki": "wiki1m_for_simcse.txt"}


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


@dataclass(frozen=True, slots=True)
class _Record:
    """The JSON file beside an unpacked archive."""

    repo: str
    revision: str
    file: str
    sha256: str
    bytes: int
    extracted_at: str  # UTC, ISO 8601


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
    archive = hub_file(
        SIMCSE_DATA, "senteval.tar", repo_type="dataset", instead="give --data-dir a folder in SentEval's layout"
    )
    with files.lock(cache_dir / ".senteval.lock"):
        if (known := _find_unpacked(cache_dir)) is not None:  # by another process, while this one waited
            return known
        path = cached(archive)
        if path is None and is_offline(offline):
            raise DataError(
                f"{cache_dir}: SentEval's data was not downloaded before and the network is switched off, expected"
                f" a folder senteval-*; run `bench data fetch sts` on a machine with a network,"
                f" or give --data-dir"
            )
        return _unpack_senteval(path or download(archive, progress=progress), cache_dir)


def fetch_file(repo: str, filename: str, *, offline: bool, repo_type: str = "dataset", progress: bool = True) -> Path:
    """One file of a hub repository, in the hub's own cache; downloaded only if it is not there yet.

    Returns:
        The file, under `snapshots/<commit>/`.

    Raises:
        DataError: if the file cannot be had.
        WriteError: if the hub's cache cannot be written.
    """
    file = hub_file(
        repo, filename, repo_type=repo_type, instead="copy the hub's cache (HF_HOME) from a machine that has the file"
    )
    if (path := cached(file)) is not None:
        return path
    if is_offline(offline):
        raise DataError(
            f"{file.cache}: {filename} of {file.page} was not downloaded before and the network is switched off,"
            f" expected it in the hub's cache; run once with a network, or {file.instead}"
        )
    return download(file, progress=progress)


def fetch_training_file(name: str, *, offline: bool, progress: bool = True) -> Path:
    """One of SimCSE's training texts, a key of `TRAINING_FILES`; see `fetch_file`."""
    return fetch_file(SIMCSE_DATA, TRAINING_FILES[name], offline=offline, progress=progress)


def _find_unpacked(cache_dir: Path) -> Fetched | None:
    """The archive that was unpacked last, if it is still there."""
    known = []
    for path in cache_dir.glob("senteval-*.json"):
        try:
            record = _Record(**json.loads(path.read_bytes()))
        except (OSError, ValueError, TypeError):  # no record of ours: the archive is unpacked again, which replaces it
            continue
        data = parent_of("downstream", path.with_suffix(""))
        if data is not None:
            known.append((record.extracted_at, Fetched(data, record.repo, record.revision, record.sha256)))
    return max(known, key=lambda pair: pair[0])[1] if known else None


def _unpack_senteval(archive: Path, cache_dir: Path) -> Fetched:
    revision = archive.parent.name
    record = _Record(
        repo=SIMCSE_DATA,
        revision=revision,
        file=archive.name,
        sha256=files.sha256(archive),
        bytes=archive.stat().st_size,
        extracted_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    folder = cache_dir / f"senteval-{revision[:12]}"
    data = unpack(archive, folder, holding="downstream")
    content = json.dumps(asdict(record), indent=2) + "\n"
    files.replace(cache_dir / f"{folder.name}.json", content.encode())  # from now on `_find_unpacked` sees it
    return Fetched(data, record.repo, revision, record.sha256)
