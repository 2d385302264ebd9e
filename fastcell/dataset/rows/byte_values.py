"""Columns of fixed-size bytes, such as hashes, as NumPy arrays."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa


def byte_values(column: pa.ChunkedArray) -> npt.NDArray[np.uint8]:
    """Return a column of fixed-size binary values as (N, width) uint8, without a copy if it has one chunk.

    Null values have any bytes.
    """
    width = column.type.byte_width
    parts = [_values(chunk, width) for chunk in column.chunks]
    return parts[0] if len(parts) == 1 else np.concatenate([np.empty((0, width), np.uint8), *parts])


def _values(chunk: pa.Array, width: int) -> npt.NDArray[np.uint8]:
    values = np.frombuffer(chunk.buffers()[1] or b"", np.uint8)
    return values[width * chunk.offset : width * (chunk.offset + len(chunk))].reshape(-1, width)
