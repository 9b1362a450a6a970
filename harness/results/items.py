"""The per-item scores of a result by column: tasks write them, reports read them, and no other file names a column.

Each kind of task has one kind of items. A column is either the task's, equal for every encoder, or the encoder's own.
In a Parquet file, Arrow arrays are made from buffers and read through DLPack: its conversions would load pandas, which
takes as long as reading hundreds of files.
"""

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple, get_type_hints

import numpy as np
from numpy.typing import NDArray

from harness.errors import ResultError

Numbers = NDArray[Any]
Columns = Mapping[str, Sequence[str] | Numbers]  # a table by column, equal lengths


class Column(NamedTuple):
    """What a column holds."""

    dtype: str  # of numpy; `str` for text, `number` where the task decides
    meaning: str  # what the values are, with their unit or range
    own: bool = False  # whether they are the encoder's own


def text_id(text: str) -> str:
    """Sixteen hex digits (BLAKE2b) that stand for a sentence: items are shared, and the sentences are not ours."""
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


class _Table:
    """What the kinds of items share: columns of one length, each of its dtype, equal where their content is."""

    __slots__ = ()

    def __post_init__(self) -> None:
        lengths = {}
        for name, column in SCHEMAS[type(self)].items():
            values = getattr(self, name)
            if values is None:
                continue
            dtype = None if column.dtype == "number" else column.dtype
            typed = tuple(values) if dtype == "str" else np.asarray(values, dtype=dtype)
            object.__setattr__(self, name, typed)
            lengths[name] = len(typed)
        if len(set(lengths.values())) > 1:
            raise ResultError(f"per-item scores have columns of the lengths {lengths}, expected equal lengths")

    def __eq__(self, other: object) -> bool:
        if not isinstance(self, Items) or not isinstance(other, type(self)):
            return NotImplemented
        return all(digest(columns(self, own=own)) == digest(columns(other, own=own)) for own in (False, True))

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PairItems(_Table):
    """Pairs of sentences with a gold score each, and the cosine that an encoder gives them."""

    subset: Annotated[Sequence[str], Column("str", "name of the pair's subset; a subset's pairs follow one another")]
    left: Annotated[Sequence[str], Column("str", "`text_id` of the first sentence")]
    right: Annotated[Sequence[str], Column("str", "`text_id` of the second sentence")]
    words: Annotated[Numbers, Column("int64", "words of both sentences together")]
    overlap: Annotated[Numbers, Column("float64", "F1 of the two sets of lower-cased words, 0..1")]
    gold: Annotated[Numbers, Column("float64", "score that people gave, in the task's unit")]
    cosine: Annotated[Numbers, Column("float32", "cosine of the two vectors, -1..1", own=True)]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RowItems(_Table):
    """Sentences, or pairs of them, with a label or rating each, and what a probe on the vectors predicts."""

    first: Annotated[Sequence[str], Column("str", "`text_id` of the sentence, or of the first of two")]
    second: Annotated[Sequence[str] | None, Column("str", "`text_id` of the second sentence; None if there is one")]
    gold: Annotated[Numbers, Column("number", "label (int64) or rating (float64)")]
    predicted: Annotated[Numbers, Column("number", "what the probe predicts, in the unit of `gold`", own=True)]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SeriesItems(_Table):
    """Points that figures are drawn from, several series below one another."""

    series: Annotated[Sequence[str], Column("str", "`pairs/<split>`, `spectrum/<split>`, `spectrum-centred/<split>`")]
    x: Annotated[Numbers, Column("float64", "gold score of a pair, or number of a singular value from 1")]
    y: Annotated[Numbers, Column("float32", "cosine of the pair, or singular value over the largest", own=True)]

    def points(self, series: str) -> tuple[Numbers, Numbers]:
        """(n,) x and (n,) y of one series; n is 0 where there is no such series."""
        rows = np.array(self.series) == series
        return self.x[rows], self.y[rows].astype(np.float64)


Items = PairItems | RowItems | SeriesItems
KINDS: tuple[type[Any], ...] = (PairItems, RowItems, SeriesItems)
SCHEMAS: Mapping[type[Any], Mapping[str, Column]] = {  # the columns of each kind by name, in order
    kind: {name: hint.__metadata__[0] for name, hint in get_type_hints(kind, include_extras=True).items()}
    for kind in KINDS
}


def columns(items: Items, *, own: bool) -> Columns:
    """The encoder's own columns, or those that every encoder shares; a column that is None is left out."""
    names = [name for name, column in SCHEMAS[type(items)].items() if column.own == own]
    return {name: getattr(items, name) for name in names if getattr(items, name) is not None}


def from_columns(given: Mapping[str, Any]) -> Items:
    """The items that those columns make.

    Raises:
        ResultError: if the columns are those of no kind of items, or have different lengths.
    """
    for kind, known in SCHEMAS.items():
        if known.keys() - {"second"} <= given.keys() <= known.keys():
            items: Items = kind(**dict.fromkeys(known) | dict(given))
            return items
    raise ResultError(f"per-item scores have the columns {', '.join(given)}, which no kind of task writes")


def digest(given: Columns) -> str:
    """Sha256 (hex) of what some columns hold, however a file stores them."""
    seen = hashlib.sha256()
    for name, values in given.items():
        if isinstance(values, np.ndarray):
            content = values.astype(values.dtype.newbyteorder("<")).tobytes()
        else:
            content = json.dumps(values).encode()
        seen.update(f"{name} {len(values)} {len(content)}\n".encode() + content)
    return seen.hexdigest()


def digest_of_all(items: Items, shared: str) -> str:
    """Sha256 (hex) of the encoder's own columns and of the digest of the shared ones, which is given."""
    return hashlib.sha256(f"{shared} {digest(columns(items, own=True))}".encode()).hexdigest()


def to_parquet(columns: Columns) -> bytes:
    """The file's bytes; numbers keep their dtype."""
    import pyarrow as pa
    import pyarrow.parquet

    real = {  # a sixth smaller
        name: "BYTE_STREAM_SPLIT"
        for name, values in columns.items()
        if isinstance(values, np.ndarray) and values.dtype.kind == "f"
    }
    arrays = [_numbers(v) if isinstance(v, np.ndarray) else _texts(v) for v in columns.values()]
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(
        pa.Table.from_arrays(arrays, names=list(columns)),
        buffer,
        compression="zstd",
        use_dictionary=[name for name in columns if name not in real],
        column_encoding=real or None,
    )
    return buffer.getvalue()


def from_parquet(path: Path) -> dict[str, Any]:
    """The columns of a file: text as tuples of strings, numbers as arrays that cannot be changed.

    Raises:
        ResultError: if the file is missing or damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:  # read_table() would load pandas too
            table = file.read()
        return {name: _values(table[name].combine_chunks()) for name in table.column_names}
    except FileNotFoundError:
        raise ResultError(f"{path}: is missing; run the task again") from None
    except PermissionError as error:  # whose message is a paragraph
        raise ResultError(f"{path}: cannot be read (Permission denied); check the path and its permissions") from error
    except (OSError, ValueError, TypeError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ResultError(f"{path}: cannot be read as Parquet ({reason}); run the task again") from error


def _numbers(values: Numbers) -> Any:
    import pyarrow as pa

    content = pa.py_buffer(np.ascontiguousarray(values))
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [None, content])


def _texts(values: Sequence[str]) -> Any:
    import pyarrow as pa

    encoded = [value.encode() for value in values]
    ends = np.cumsum([0, *map(len, encoded)], dtype=np.int32)
    return pa.StringArray.from_buffers(len(encoded), pa.py_buffer(ends), pa.py_buffer(b"".join(encoded)))


def _values(column: Any) -> Any:
    import pyarrow as pa

    return tuple(column.to_pylist()) if pa.types.is_string(column.type) else np.from_dlpack(column)
