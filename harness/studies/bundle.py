"""One tar file with all that a study reads, for a machine without a network, and a manifest of digests.

    bundle/study.toml        the study file
    bundle/manifest.json     sha256 of every other file, and the names of texts
    bundle/data/             what its tasks read, in SentEval's layout
    bundle/hub/              checkpoints and texts of the hub, as the hub's own cache has them
    bundle/cache/            trained models and word vectors
    bundle/...               the user's own files, under the relative paths that the study has for them

What a study reads is found by looking: everything that could be read of data, hub and cache is opened once, as for a
plan, and what was opened is packed. Weights of the hub are whole snapshots.
"""

import io
import json
import os
import shutil
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness import files
from harness.data.archive import Expected, unpack
from harness.data.download import hub_cache
from harness.data.named_texts import file_named, keep_name
from harness.encoders.context import Context
from harness.encoders.registry import resolve
from harness.errors import DataError, UsageError
from harness.results.record import packages
from harness.run import build_cached
from harness.studies.cells import named_in
from harness.studies.study import Study
from harness.tasks.outcome import prepare

_TOP = "bundle"
_MANIFEST = "manifest.json"
_KEPT_OF_CACHE = ("trained", "glove")  # what takes long to make, or a network; the rest is made anew
_BLOCK = 1 << 20

_opened: list[set[Path]] = []  # what is opened goes into the last one; an audit hook cannot be taken away again


def pack(file: Path, study: Study, output: Path) -> list[str]:
    """Write the bundle of a study and its file as a tar file, and give the names of its members.

    What is missing on this machine is downloaded first, unless the study is offline.

    Raises:
        UsageError: if the study names a file by an absolute path, or one outside the folder that the command runs in.
        BenchError: whatever is missing.
        WriteError: if the bundle cannot be written.
    """
    context = study.context()
    roots = {"hub": hub_cache(), "cache": study.cache_dir}
    if any(not task.bundled for task in study.chosen_tasks()) or study.data_dir is not None:
        roots = {"data": context.data_root(), **roots}
    with _watching() as opened:
        _open_everything(study, context)
    members = {"study.toml": file.absolute()}
    for path in opened:
        members |= _member(path, {name: root.absolute() for name, root in roots.items()})
    texts: dict[str, str] = {}
    for value in dict.fromkeys(value for spec in study.specs for value in named_in(spec)):
        members |= _own_files(value)
        if (given := file_named(value, study.cache_dir)) is not None:
            texts[value] = f"texts/{value}/{given.name}"
            members[texts[value]] = given
    _write(output, members, texts, study.title)
    return sorted(members)


def unpack_bundle(archive: Path, folder: Path) -> Path:
    """Unpack a bundle into a new folder, verify every file, and give the folder that the study is to be run in.

    The new folder appears complete or not at all.

    Raises:
        UsageError: if the folder exists.
        DataError: if the archive is damaged or unsafe, or a file is not what the manifest says.
        WriteError: if the folder cannot be written.
    """
    if folder.exists():
        raise UsageError(f"{folder}: exists already, expected a new folder; name another --output")
    expected = Expected("a bundle's", "bundle/study.toml", "pack the study again", most_bytes=_size(archive))
    with files.writing(folder), files.draft_folder(folder.absolute()) as draft:
        root = unpack(archive, draft / "unpacked", holding=_TOP, expected=expected)
        _verify(archive, root / _TOP, folder / _TOP)
        (root / _TOP).replace(draft / _TOP)
        shutil.rmtree(draft / "unpacked")
    return folder / _TOP


def _verify(archive: Path, root: Path, place: Path) -> None:
    """Hold every file against the manifest, and let the names of texts stand for their files at `place`."""
    try:
        manifest = json.loads((root / _MANIFEST).read_bytes())
        digests, texts = dict(manifest["files"]), dict(manifest["texts"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{archive}: has no {_MANIFEST} that can be read ({error}); pack the study again") from error
    found = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()} - {_MANIFEST}
    for name in sorted(found ^ set(digests)):
        raise DataError(f"{archive}: {name} is {'not in' if name in found else 'only in'} its manifest; pack again")
    for name, digest in digests.items():
        if files.sha256(root / name) != digest:
            raise DataError(f"{archive}: {name} has another sha256 than its manifest says; copy the archive again")
    for name, member in texts.items():
        keep_name(name, place / member, digests[member], root / "cache")


def _open_everything(study: Study, context: Context) -> None:
    """Open all that the study would read: data, texts, weights and what is trained already; nothing is computed."""
    for task in study.chosen_tasks():
        prepare(task, context)
    for spec in study.specs:
        asked = resolve(spec, context)
        work = asked.work
        cost = work.cost(context) if work else None  # opens the text too
        if work is None or work.kind == "fit" or (cost is not None and cost.done):
            build_cached(asked, context)


@contextmanager
def _watching() -> Iterator[set[Path]]:
    """The files that this process opens meanwhile."""
    if not _opened:
        sys.addaudithook(_note_opened)
    _opened.append(set())
    try:
        yield _opened[-1]
    finally:
        _opened.append(set())


def _note_opened(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
        _opened[-1].add(Path(os.fsdecode(arguments[0])).absolute())


def _member(path: Path, roots: dict[str, Path]) -> dict[str, Path]:
    """What an opened file brings into the bundle: itself, its snapshot of the hub, or its folder of the cache."""
    name = next((name for name, root in roots.items() if path.is_relative_to(root)), None)
    if name is None or not path.is_file():
        return {}
    root, parts = roots[name], path.relative_to(roots[name]).parts
    if name == "data":
        return {f"data/{'/'.join(parts)}": path}
    if name == "hub" and len(parts) > 3 and parts[1] == "snapshots":
        folder, refs = root.joinpath(*parts[:3]), root / parts[0] / "refs"
        return _files_below(folder, root, name) | _files_below(refs, root, name)
    if name == "cache" and parts[0] in _KEPT_OF_CACHE and len(parts) > 2:
        return _files_below(root.joinpath(*parts[:2]), root, name)
    return {}


def _files_below(folder: Path, root: Path, name: str) -> dict[str, Path]:
    return {f"{name}/{path.relative_to(root).as_posix()}": path for path in folder.rglob("*") if path.is_file()}


def _own_files(value: str) -> dict[str, Path]:
    path = Path(value)
    if not path.exists():
        return {}
    if path.is_absolute() or ".." in path.parts:
        raise UsageError(
            f"{value}: lies outside this folder, so the study would not find it where it is unpacked; name it by a "
            "path from here, or a text by `bench data add`"
        )
    return {value: path.absolute()} if path.is_file() else _files_below(path, path, path.as_posix())


def _write(output: Path, members: dict[str, Path], texts: dict[str, str], title: str) -> None:
    """The tar file, the same bytes for the same content; it appears whole or not at all."""
    digests = {name: files.sha256(path) for name, path in sorted(members.items())}
    manifest = {"title": title, "versions": packages(), "texts": texts, "files": digests}
    note = (json.dumps(manifest, indent=1) + "\n").encode()
    first = _plain(tarfile.TarInfo(f"{_TOP}/{_MANIFEST}"))
    first.size = len(note)
    with (
        files.writing(output),
        files.draft(output.absolute()) as file,
        tarfile.open(fileobj=file, mode="w", dereference=True) as tar,
    ):
        tar.addfile(first, io.BytesIO(note))
        for name, path in sorted(members.items()):
            tar.add(path, f"{_TOP}/{name}", recursive=False, filter=_plain)


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = ""
    member.mode, member.type = 0o644, tarfile.REGTYPE  # a second name of a file is a file too
    return member


def _size(archive: Path) -> int:
    try:
        return archive.stat().st_size
    except OSError as error:
        raise UsageError(f"{archive}: cannot be read ({error.strerror}), expected a bundle of `bench pack`") from error
