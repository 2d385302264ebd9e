"""A set of rows gives the rows that an array of them would give."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastcell.dataset.rows.row_set import RowSet


def counts_of(num_rows, kind, seed):
    rng = np.random.default_rng(seed)
    if kind == "bool":
        return rng.random(num_rows) < rng.random()
    return rng.integers(0, 4, num_rows).astype(kind) * (rng.random(num_rows) < 0.7).astype(kind)


@given(
    num_rows=st.sampled_from([0, 1, 7, 8, 4095, 4096, 4097, 12_288, 13_001]),
    kind=st.sampled_from(["bool", "uint8", "uint16"]),
    seed=st.integers(0, 2**31),
    data=st.data(),
)
def test_parts_are_those_of_the_array(num_rows, kind, seed, data):
    counts = counts_of(num_rows, kind, seed)
    found = RowSet(counts)
    if kind == "bool" and data.draw(st.booleans()):
        found = RowSet.of_masks(counts[begin : begin + 8192] for begin in range(0, num_rows, 8192))
    expected = np.repeat(np.arange(num_rows), counts.astype(np.int64))
    assert len(found) == len(expected)
    begin = data.draw(st.integers(0, len(expected)))
    stop = data.draw(st.integers(begin, len(expected) + 5))
    part = found.part(begin, stop)
    assert part.dtype == np.int64
    np.testing.assert_array_equal(part, expected[begin:stop])
    np.testing.assert_array_equal(found.part(0, len(found)), expected)
    rows = np.sort(np.random.default_rng(seed).integers(0, num_rows + 1, 5))
    np.testing.assert_array_equal(found.places_of(rows), np.searchsorted(expected, rows))
    first, last = sorted(data.draw(st.tuples(st.integers(0, num_rows), st.integers(0, num_rows))))
    np.testing.assert_array_equal(found.distinct(first, last), counts[first:last] > 0)


@pytest.mark.parametrize(("kind", "num_bytes"), [(bool, 1 / 8), (np.uint8, 1)])
def test_memory_of_a_row(kind, num_bytes):
    found = RowSet(np.ones(1 << 20, kind))
    kept = sum(values.nbytes for values in vars(found).values() if isinstance(values, np.ndarray))
    assert kept < (num_bytes + 0.01) * (1 << 20)
