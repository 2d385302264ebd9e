"""Rows of chunks are those of the whole table."""

import numpy as np
import pyarrow as pa
import pytest

from fastcell.dataset.rows.take_rows import take_rows

TEXTS = [f"k{number}" if number % 7 else None for number in range(100)]


@pytest.mark.parametrize("edges", [[], [1, 30, 30, 99]])
@pytest.mark.parametrize("rows", [[], [0], [99, 0, 5, 5, 30, 29, 31], list(range(100))])
def test_rows_come_in_the_order_asked_for(edges, rows):
    pieces = [pa.array(TEXTS[begin:end], pa.string()) for begin, end in zip([0, *edges], [*edges, 100], strict=True)]
    table = pa.table({"text": pa.chunked_array(pieces), "number": pa.array(np.arange(100))})
    found = take_rows(table, np.array(rows, np.int32))
    assert found.schema == table.schema
    assert found.to_pydict() == {"text": [TEXTS[row] for row in rows], "number": rows}


def test_chunks_are_not_joined():
    text = pa.chunked_array([pa.array(["x" * 50] * 20_000)] * 50)
    before = pa.total_allocated_bytes()
    pool = pa.default_memory_pool()
    peak = pool.max_memory()
    take_rows(pa.table({"text": text}), [3, 999_999])
    assert pool.max_memory() <= max(peak, before + (1 << 20))
