"""Result files: written whole or not at all, and believed only after a check. `documents` says where they lie.

A result's scores file is replaced first and its JSON, which holds the digest of the per-item scores, last: after a
crash in between the two do not fit, and the result counts as not finished. Writers hold the folder's lock.
"""

import contextlib
import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from harness import files
from harness.errors import ResultError, WriteError
from harness.names import EncoderCard
from harness.results import documents
from harness.results.correlation import check_scores
from harness.results.items import Columns, Items, columns, digest, digest_of_all, from_columns, from_parquet, to_parquet
from harness.results.record import Result

_log = logging.getLogger(__name__)

Shared = dict[Path, Columns]  # columns that all encoders share, by their file, checked

_SETTLED = 2  # seconds after which a file is not being written any more
_TRIES, _PAUSE = 20, 0.01  # seconds between readings


def write(result: Result, root: Path) -> Result:
    """Write a result with the per-item scores it holds, and give it back with its file.

    The folder is made if missing. After a crash the result is there whole or counts as not finished.

    Raises:
        ResultError: if a score is not finite or does not follow from the per-item scores; nothing is written.
        WriteError: if the disk refuses.
    """
    file = documents.result_file(documents.encoder_folder(root, result.encoder), result.task, result.protocol)
    result = replace(result, file=file)
    advice = "nothing was written; look for a constant prediction or an empty set"
    documents.check_finite(result.scores, f"{file}", advice)
    check_scores(result, result.held)
    with files.lock(root / documents.LOCK):
        before = documents.shared_digest(file)
        if result.held is not None and result.shared_sha256 is not None:
            kept = documents.items_file(root, result.task, result.protocol, result.shared_sha256)
            if not _is_whole(kept, result.shared_sha256):
                files.replace(kept, to_parquet(columns(result.held, own=False)))
            files.replace(documents.scores_file(file), to_parquet(columns(result.held, own=True)))
        documents.write_card(result.encoder, file.with_name(documents.ENCODER))
        files.replace(file, documents.result_bytes(result))
        if result.items_sha256 is None:
            documents.scores_file(file).unlink(missing_ok=True)
        _write_index(root, result)
        if before is not None and before != result.shared_sha256:
            _drop_unused(documents.items_file(root, result.task, result.protocol, before), file)
    _log.info("%s: written", file)
    return result


def read(file: Path, *, check: bool = True) -> Result:
    """Read one result.

    Args:
        file: its JSON file.
        check: read the per-item scores too and hold the scores against them; False only to save time.

    Raises:
        ResultError: if it is missing, damaged, of another layout, not where it belongs, or was edited after it was
            written, if its per-item scores are not those it was written with, or if its scores do not follow from them.
    """
    card = documents.read_card(file.with_name(documents.ENCODER))
    return _read_settled(file, card, {} if check else None)


def read_all(root: Path, *, check: bool = True) -> tuple[list[Result], list[str]]:
    """Read every result below a folder, in the order of their paths, and one sentence for each thing left out.

    An encoder's name stands for one encoder: of two folders with one name but other vectors the newest counts.
    What was measured on a part of a task's data is no result and not among them. The index is not read. For `check` see
    `read`.

    Raises:
        ResultError: if the folder is there and cannot be read.
    """
    results, problems = scan(root, check=check)
    by_name: dict[str, dict[str, list[Result]]] = {}
    results = [result for result in results if result.is_whole]
    for result in results:
        by_name.setdefault(result.encoder.name, {}).setdefault(result.encoder.identity, []).append(result)
    newest = {id(one) for folders in by_name.values() for one in _newest([*folders.values()], problems)}
    return [result for result in results if id(result) in newest], sorted(problems)


def scan(root: Path, *, check: bool = True) -> tuple[list[Result], list[str]]:
    """Read results like `read_all`, those of an earlier encoder with an equal name too."""
    shared: Shared | None = {} if check else None
    problems: list[str] = []
    folders = _folders(root)
    if any(root.glob("*/*@*.json")):
        problems.append(f"{root}: holds results of an earlier layout, which is not read any more; measure them again")
    return [result for folder in folders for result in _read_folder(folder, shared, problems)], problems


def read_items(result: Result, shared: Shared | None = None) -> Items:
    """Read the per-item scores of a result with a file; `shared`, what all encoders share, is looked up and added to.

    Raises:
        ResultError: if they are missing, damaged, or not those that the result was written with.
    """
    assert result.file is not None and result.shared_sha256 is not None
    root = result.file.parent.parent
    place = documents.items_file(root, result.task, result.protocol, result.shared_sha256)
    shared = {} if shared is None else shared
    if place not in shared:
        shared[place] = _read_shared(place, result.shared_sha256)
    scores = documents.scores_file(result.file)
    own = from_parquet(scores)
    strange = f"{scores}: is not the file that {result.file.name} was written with; run the task again"
    try:
        items = from_columns({**shared[place], **own})
    except ResultError as error:  # another number of items
        raise ResultError(strange) from error
    if digest_of_all(items, result.shared_sha256) != result.items_sha256:
        raise ResultError(strange)
    return items


def finished(root: Path, task: str, protocol: str, card: EncoderCard, data: Mapping[str, str]) -> Result | None:
    """The result of an encoder on a task if it is there already, with its per-item scores and from the same data.

    Where a run was killed between the result and the index, the index gets its line now.

    Raises:
        ResultError: if the result's place holds something else, which must not be overwritten unasked.
    """
    file = documents.result_file(documents.encoder_folder(root, card), task, protocol)
    if not documents.is_there(file):
        return None
    result = read(file, check=False)
    for key in sorted({*result.data, *data}):
        if result.data.get(key) != data.get(key):
            raise ResultError(
                f"{file}: holds a result with another sha256 of {key} ({result.data.get(key)!r}, now "
                f"{data.get(key)!r}); replace it with --force, or choose another --results-dir"
            )
    try:
        items = None if result.items_sha256 is None else read_items(result)
    except ResultError:  # lost, damaged, or a crash came between the two files
        return None
    check_scores(result, items)
    if not documents.is_in_index(_read_index(root), result):
        with contextlib.suppress(WriteError), files.lock(root / documents.LOCK):
            _write_index(root, result)
    return result if items is None else replace(result, held=items)


def _folders(root: Path) -> list[Path]:
    """The folders of encoders."""
    if not documents.is_there(root):
        return []
    try:
        entries = [path for path in root.iterdir() if path.is_dir() and path.name != documents.ITEMS]
    except OSError as error:
        raise documents.unreadable(root, error) from error
    return sorted(path for path in entries if documents.is_there(path / documents.ENCODER, unless=True))


def _read_folder(folder: Path, shared: Shared | None, problems: list[str]) -> list[Result]:
    found = []
    try:
        card = documents.read_card(folder / documents.ENCODER)
        _check_place(folder, documents.encoder_folder(folder.parent, card), f"results of {card.name}")
    except ResultError as error:
        problems.append(f"{error} ({folder.name} is left out)")
        return []
    for file in sorted(folder.glob("*.json")):
        if file.name != documents.ENCODER:
            try:
                found.append(_read_settled(file, card, shared))
            except ResultError as error:
                problems.append(str(error))
    return found


def _read_settled(file: Path, card: EncoderCard, shared: Shared | None) -> Result:
    """Read a result; while its files are just being written, they may not fit, and it is read again."""
    for _ in range(_TRIES):
        try:
            return _read(file, card, shared)
        except ResultError:
            if not _is_being_written(file):
                raise
            time.sleep(_PAUSE)
    return _read(file, card, shared)


def _is_being_written(file: Path) -> bool:
    for part in (file, documents.scores_file(file)):
        with contextlib.suppress(OSError):
            if abs(time.time() - part.stat().st_mtime) < _SETTLED:
                return True
    return False


def _read(file: Path, card: EncoderCard, shared: Shared | None) -> Result:
    result = documents.read_result(file, card)
    _check_place(file, documents.result_file(file.parent, result.task, result.protocol), f"result of {result.task}")
    if shared is None:
        return result
    items = None if result.items_sha256 is None else read_items(result, shared)
    check_scores(result, items)
    return replace(result, held=items)


def _check_place(found: Path, expected: Path, what: str) -> None:
    if found.name != expected.name:
        raise ResultError(f"{found}: is not the place of the {what}, expected {expected.name}; rename or delete it")


def _newest(folders: list[list[Result]], problems: list[str]) -> list[Result]:
    """The results of the newest of several folders with one encoder's name; the others are named."""
    *others, newest = sorted(folders, key=lambda results: max(result.run.started for result in results))
    for result in (results[0] for results in others):
        kept, left_out = newest[0].file, result.file
        assert kept is not None and left_out is not None
        problems.append(
            f"{left_out.parent}: holds earlier results of {result.encoder.name}, made with other vectors than those in "
            f"{kept.parent.name}; they are left out, delete one of the folders"
        )
    return newest


def _read_shared(place: Path, expected: str) -> Columns:
    found: Columns = from_parquet(place)
    if digest(found) != expected:
        raise ResultError(f"{place}: does not hold the items that it is named after; run the task again")
    return found


def _is_whole(place: Path, expected: str) -> bool:
    try:
        _read_shared(place, expected)
    except ResultError:
        return False
    return True


def _write_index(root: Path, result: Result) -> None:
    """Add a result to the index; where that is missing, damaged or unreadable, make it anew from all results."""
    content = documents.index_with(_read_index(root), result) or documents.index_of(scan(root, check=False)[0])
    files.replace(root / documents.INDEX, content.encode())


def _read_index(root: Path) -> str:
    """The index; empty where it cannot be read."""
    with contextlib.suppress(OSError):
        return (root / documents.INDEX).read_text(encoding="utf-8", errors="replace")
    return ""


def _drop_unused(items: Path, replaced: Path) -> None:
    """Delete an items file that no result names any more."""
    for file in replaced.parent.parent.glob(f"*/{replaced.name}"):
        named = documents.shared_digest(file)
        if named is not None and items.name.endswith(f".{named[:12]}.parquet"):
            return
    items.unlink(missing_ok=True)


def find_problems(root: Path) -> list[str]:
    """Name every problem of a results folder, one sentence each; none where all is well.

    Found are results that are damaged, edited or in a wrong place, whose per-item scores are missing or do not give
    their scores, and that repeat an encoder's name; files that no result names; and an index that is out of date.
    """
    return sorted([*read_all(root)[1], *_find_unnamed(root), *_find_orphans(root), *_check_index(root)])


def _find_unnamed(root: Path) -> Iterator[str]:
    named = {
        f"{result.stem}.{(documents.shared_digest(result) or '')[:12]}.parquet" for result in root.glob("*/*.json")
    }
    for items in root.glob(f"{documents.ITEMS}/*.parquet"):
        if items.name not in named:
            yield f"{items}: is named by no result; delete it"


def _find_orphans(root: Path) -> Iterator[str]:
    for scores in root.glob("*/*.scores.parquet"):
        result = scores.with_name(scores.name.replace(".scores.parquet", ".json"))
        if not result.exists():
            yield f"{scores}: has no result beside it, as when a run is killed; run the task again, or delete it"
    for card in root.glob(f"*/{documents.ENCODER}"):
        if len([*card.parent.glob("*.json")]) == 1:
            yield f"{card.parent}: holds an encoder's card and no result; delete it"
    for draft in root.glob("**/.bench-*.tmp"):
        yield f"{draft}: was left by a killed run; delete it"


def _check_index(root: Path) -> Iterator[str]:
    results = scan(root, check=False)[0]
    place = root / documents.INDEX
    try:
        found = place.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        found = ""
    except OSError as error:
        yield str(documents.unreadable(place, error))
        return
    if results and found != documents.index_of(results):
        yield f"{place}: is not what the results give; delete it, and the next run makes it anew"
