"""Columns of per-item scores as Parquet files.

Arrow arrays are made from buffers and read through DLPack, as its conversions would load pandas, which takes as long as
reading hundreds of files.
"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness.errors import ResultError
from harness.results.items import Columns, Numbers


def to_parquet(columns: Columns) -> bytes:
    """The file's bytes; numbers keep their dtype."""
    import pyarrow as pa
    import pyarrow.parquet

    real = {name: "BYTE_STREAM_SPLIT" for name, values in columns.items() if _is_real(values)}  # a sixth smaller
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


def _is_real(values: Any) -> bool:
    return isinstance(values, np.ndarray) and np.issubdtype(values.dtype, np.floating)
