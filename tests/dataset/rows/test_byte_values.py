"""Hashes of a column as an array, whatever its chunks and where it begins."""

import itertools

import numpy as np
import pyarrow as pa
import pytest

from fastcell.dataset.rows.byte_values import byte_values, distinct_values

VALUES = [bytes(range(number, number + 4)) for number in range(7)]


@pytest.mark.parametrize("edges", [[], [3], [2, 2, 5]])
def test_bytes_come_back(edges):
    starts = [0, *edges, 7]
    parts = [VALUES[first:end] for first, end in itertools.pairwise(starts)]
    column = pa.chunked_array([pa.array(part, pa.binary(4)) for part in parts], pa.binary(4))
    np.testing.assert_array_equal(byte_values(column), np.array([list(value) for value in VALUES], np.uint8))
    some = column.slice(1, 5)
    assert [bytes(value) for value in byte_values(some)] == VALUES[1:6]


def test_no_rows_and_no_copy():
    assert byte_values(pa.chunked_array([], pa.binary(16))).shape == (0, 16)
    column = pa.chunked_array([pa.array(VALUES, pa.binary(4))])
    assert not byte_values(column).flags.owndata


@pytest.mark.parametrize("num", [0, 1, 300])
def test_distinct_values(num):
    """Against a dictionary, with values that differ in one half only."""
    rng = np.random.default_rng(0)
    values = np.zeros((num, 16), np.uint8)
    values[:, [0, 12]] = rng.integers(0, 9, (num, 2))
    first, number = distinct_values(values)
    seen = {}
    assert number.tolist() == [seen.setdefault(row.tobytes(), len(seen)) for row in values]
    assert first.tolist() == [number.tolist().index(k) for k in range(len(seen))]
