"""Some rows of a table of many chunks, without joining the chunks, as Arrow's own `take` does."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa


def take_rows(table: pa.Table, rows: npt.ArrayLike) -> pa.Table:
    """Return rows of a table, in the given order.

    Args:
        table: N rows; its columns may be divided into chunks differently.
        rows: (n,) integers, 0 to N - 1.
    """
    places = np.asarray(rows, np.int64)
    columns = [_take(table.column(number), places) for number in range(table.num_columns)]
    return pa.Table.from_arrays(columns, schema=table.schema)


def _take(column: pa.ChunkedArray, rows: np.ndarray) -> pa.ChunkedArray | pa.Array:
    if column.num_chunks <= 1:
        return column.take(pa.array(rows))
    if not len(rows):
        return column.slice(0, 0)
    ends = np.cumsum([len(chunk) for chunk in column.chunks])
    chunks = np.searchsorted(ends, rows, "right")
    order = np.argsort(chunks, kind="stable")
    used, starts = np.unique(chunks[order], return_index=True)
    parts = [
        column.chunk(int(number)).take(pa.array(rows[mine] - (ends[number - 1] if number else 0)))
        for number, mine in zip(used, np.split(order, starts[1:]), strict=True)
    ]
    back = np.empty(len(rows), np.int64)
    back[order] = np.arange(len(rows))
    return pa.concat_arrays(parts).take(pa.array(back))
