"""Columns of numbers, as spreadsheets and statistics programs write them."""

import numpy as np
import pyarrow as pa
import pytest

from fastcell.dataset.tables.numbers import looks_numeric, parse_numbers

NAN = float("nan")


@pytest.mark.parametrize(
    ("words", "comma", "values"),
    [
        (["1", "+2.5", "-.5", "3.", "1e3", ""], False, [1, 2.5, -0.5, 3, 1000, NAN]),
        (["NA", "#N/A", "nan", " 4 ", "inf", "-Infinity"], False, [NAN, NAN, NAN, 4, np.inf, -np.inf]),
        (["TRUE", "false", "NA"], False, [1, 0, NAN]),
        (["0,5", "12", "1,5e2"], False, [0.5, 12, 150]),
        (["1.234,5", "2,5"], False, [1234.5, 2.5]),
        (["1,234.5", "2"], False, [1234.5, 2]),
        (["1,234,567", "2,000"], False, [1234567, 2000]),
        (["0,500", "1,250"], False, [0.5, 1.25]),
        (["1,500", "2,000"], False, None),
        (["1,500", "2,000"], True, [1.5, 2]),
        (["1.5", "2,5"], False, None),
        (["1", "x"], False, None),
        (["", "NA"], False, None),
        (["2024-01-05"], False, None),
    ],
)
def test_numbers(words, comma, values):
    found = parse_numbers(pa.chunked_array([words]), comma)
    if values is None:
        assert found is None
    else:
        np.testing.assert_array_equal(found, np.array(values, float))


@pytest.mark.parametrize(
    ("words", "like"),
    [
        (["12 %", "3 %"], True),
        (["1.5 µm", "2 um"], True),
        (["<0.1", "0.2", "x"], True),
        (["1 234,5"], True),
        (["1'234"], True),
        (["2024-01-05", "12:30"], False),
        (["a1", "b2"], False),
        (["", "NA"], False),
        (["D1", "3", "x"], False),
    ],
)
def test_what_looks_like_numbers(words, like):
    assert looks_numeric(pa.chunked_array([words])) is like
