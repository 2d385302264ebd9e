"""Histograms and points of a scatter plot by value."""

import numpy as np

from fastcell.review import distributions
from fastcell.review.cell_columns import CellColumns
from fastcell.review.distributions import histogram, scatter


def read_points(data):
    num = int(np.frombuffer(data, "<u4", 1)[0])
    kinds = [("<f4", 4), ("<f4", 4), ("<i4", 4), ("<i2", 2)]
    found, at = [], 4
    for kind, size in kinds:
        found.append(np.frombuffer(data, kind, num, at))
        at += num * size
    assert at == len(data)
    return tuple(found)


def test_histograms(planted):
    columns = CellColumns(planted(60), "default")
    rows = np.arange(10, dtype=np.int32)
    found = histogram(columns, "class", rows)
    assert found == {"names": ["left", "right", "top"], "all": [20, 20, 20], "view": [4, 3, 3]}
    found = histogram(columns, "cell_id", rows)
    assert sum(found["all"]) == 60
    assert sum(found["view"]) == 10
    assert found["view"][:4] == found["all"][:4]
    assert 0 <= found["low"] < found["high"] <= 59
    same = histogram(columns, "height", rows)
    assert (max(same["all"]), same["low"], same["high"]) == (60, 11.5, 12.5)
    assert sum(histogram(columns, "um_per_px", rows)["all"]) == 0  # unknown for all


def test_points(planted, monkeypatch):
    data = planted(60)
    columns = CellColumns(data, "default")
    rows = np.arange(5, 40, dtype=np.int32)
    x, y, ids, codes = read_points(scatter(columns, ("cell_id", "mean_intensity"), rows))
    assert ids.tolist() == x.tolist() == rows.tolist()
    assert np.array_equal(y, np.asarray(data.column("mean_intensity"), np.float32)[rows])
    names = columns.category("class").names
    assert [names[code] for code in codes] == data.column("class")[rows].tolist()
    monkeypatch.setattr(distributions, "MOST_POINTS", 10)
    ids = read_points(scatter(columns, ("cell_id", "height"), rows))[2]
    assert (len(ids), ids[0], ids[-1]) == (10, 5, 39)
    assert len(read_points(scatter(columns, ("cell_id", "um_per_px"), rows))[0]) == 0
