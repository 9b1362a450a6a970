"""Image captions to search in: one a line, or the last column of a table."""

import gzip
import zlib
from pathlib import Path

from harness.errors import DataError


def read_captions(path: Path) -> list[str]:
    """The distinct captions of a file, in its order.

    `.tsv` has them in the last column under a header, any other file one a line; `.gz` is unpacked on the fly.

    Raises:
        DataError: if the file cannot be read or holds none.
    """
    table = path.name.removesuffix(".gz").endswith(".tsv")
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        lines = content.decode("utf-8").split("\n")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}), expected a whole file of captions in UTF-8") from error
    texts = (line.rpartition("\t")[2].strip() for line in (lines[1:] if table else lines))
    captions = list(dict.fromkeys(text for text in texts if text))
    if not captions:
        raise DataError(f"{path}: holds no captions, expected one a line, or a .tsv with a header")
    return captions
