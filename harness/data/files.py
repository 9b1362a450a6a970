"""Reading one data file: bytes once, digest, encoding, line count; wrong files are refused by name."""

import hashlib
import logging
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from harness.data.locate import BUNDLED
from harness.data.manifest import FileFacts, facts_of
from harness.errors import DataError
from harness.packaged import packaged

_log = logging.getLogger(__name__)


class Copy(StrEnum):
    """Which copy of a file this is. Public copies differ in tokenisation, so another one is no error by itself."""

    KNOWN = "known"  # the known lines in the known order, however they end
    OTHER = "other"
    UNMEASURED = "unmeasured"  # the manifest has no checksum of this file


@dataclass(frozen=True, slots=True)
class TextFile:
    """A data file as read: path in SentEval's layout, its lines, the sha256 of its bytes, which copy it is."""

    path: str
    lines: list[str]
    sha256: str
    copy: Copy


def digest_of_text(lines: list[str], encoding: str) -> str:
    """Sha256 of the lines joined by line feeds: equal for two files that differ only in how their lines end."""
    return hashlib.sha256("\n".join(lines).encode(encoding)).hexdigest()


def digest_of_sorted_lines(content: bytes) -> str:
    """Sha256 of the sorted lines: equal for two files that differ only in the order of their lines."""
    return hashlib.sha256(b"\n".join(sorted(content.splitlines()))).hexdigest()


def read_text_file(root: Path, path: str) -> TextFile:
    r"""Read `root/path` as the reference does, and hold it to the manifest.

    Lines end at any of the boundaries of `str.splitlines`, as in SentEval's loaders. A file with the known lines in
    the known order counts as the known copy whatever they end in (CR LF after a checkout on Windows, no end after the
    last), because nothing that is read differs; its sha256 is that of its own bytes all the same.

    Raises:
        DataError: if the file is missing, not in its encoding, has another number of lines, or is the known
            file with its lines in another order.
    """
    facts = facts_of(path)
    place = packaged(f"harness/data/mini/{path}") if root == BUNDLED else root / path
    content = _content(place)
    sha256 = hashlib.sha256(content).hexdigest()
    lines = _decode(content, facts, place)
    _log.debug("%s: %d lines read", place, len(lines))
    if len(lines) != facts.lines:
        raise DataError(
            f"{place}: {len(lines)} lines, expected {facts.lines}; the file is damaged: delete it and get it again"
        )
    if facts.sha256 is None:
        return TextFile(path, lines, sha256, Copy.UNMEASURED)
    if sha256 == facts.sha256 or digest_of_text(lines, facts.encoding) == facts.text_sha256:
        return TextFile(path, lines, sha256, Copy.KNOWN)
    if digest_of_sorted_lines(content) == facts.lines_sha256:
        raise DataError(
            f"{place}: the known lines in another order, so scores and sentences would not match; get the file again"
        )
    return TextFile(path, lines, sha256, Copy.OTHER)


def _content(place: Path) -> bytes:
    try:
        content = place.read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"{place}: cannot be read ({error.strerror}); `bench data fetch` gets the files") from error
    except OSError as error:
        raise DataError(
            f"{place}: cannot be read ({error.strerror}); mend its permissions or the disk, or get the file again"
        ) from error
    except MemoryError as error:
        raise DataError(f"{place}: there is too little memory to read its {place.stat().st_size:,} bytes") from error
    if content.startswith(b"version https://git-lfs.github.com/"):
        raise DataError(f"{place}: holds a pointer of Git LFS, expected the file itself; run `git lfs pull` there")
    return content


def _decode(content: bytes, facts: FileFacts, place: Path) -> list[str]:
    try:
        text = content.decode(facts.encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(
            f"{place}:{line}: byte 0x{content[error.start]:02x} is not {facts.encoding}, which this file is in; "
            "get the file again"
        ) from error
    # Latin-1 files hold bytes such as 0x85 that `str.splitlines` would take for line ends once decoded.
    if facts.encoding == "utf-8":
        return text.splitlines()
    return text.replace("\r\n", "\n").removesuffix("\n").split("\n")
