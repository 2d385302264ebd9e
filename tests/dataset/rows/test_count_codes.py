"""Counts by several columns are those of a loop over the rows."""

from collections import Counter

import numpy as np

from fastcell.dataset.rows import count_codes as module
from fastcell.dataset.rows.count_codes import count_codes


def test_counts_are_those_of_a_loop(monkeypatch):
    monkeypatch.setattr(module, "_PART", 7)
    rng = np.random.default_rng(0)
    columns = [(rng.integers(-1, num, 50).astype(kind), num) for num, kind in ((3, np.int8), (5, np.int64), (1, int))]
    counts = count_codes(*columns)
    assert counts.shape == (4, 6, 2)
    assert counts.sum() == 50
    for place, expected in Counter(zip(*(codes.tolist() for codes, _ in columns), strict=True)).items():
        assert counts[place] == expected


def test_no_rows_and_no_names():
    assert count_codes((np.empty(0, np.int8), 2)).tolist() == [0, 0, 0]
    assert count_codes((np.full(3, -1, np.int8), 0), (np.array([0, 0, -1]), 1)).tolist() == [[2, 1]]
