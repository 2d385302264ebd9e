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


def distinct_values(values: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return where each distinct row of (N, 16) bytes occurs first, (n,) ascending, and the number of each row, (N,).

    Row k of the N is equal to row `first[number[k]]`. Sorting takes less memory than a table of hashes.
    """
    low, high = np.ascontiguousarray(values).view(np.uint64).T
    order = np.lexsort((low, high))  # stable: the first of equal rows comes first
    low, high = low[order], high[order]
    is_new = np.append(True, (low[1:] != low[:-1]) | (high[1:] != high[:-1]))[: len(order)]
    found = order[is_new]
    rank = np.empty(len(found), np.int64)
    rank[np.argsort(found)] = np.arange(len(found))
    number = np.empty(len(order), np.int64)
    number[order] = rank[np.cumsum(is_new) - 1]
    return np.sort(found), number


def _values(chunk: pa.Array, width: int) -> npt.NDArray[np.uint8]:
    values = np.frombuffer(chunk.buffers()[1] or b"", np.uint8)
    return values[width * chunk.offset : width * (chunk.offset + len(chunk))].reshape(-1, width)
