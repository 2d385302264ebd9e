"""Which cells meet a query, in which order, and what is refused."""

import numpy as np
import pytest

from fastcell.dataset.marks.journal import Mark
from fastcell.errors import ArgumentError
from fastcell.review.cell_columns import CellColumns
from fastcell.review.cell_query import CellQuery, inside_polygon, parse_query


@pytest.fixture
def columns(planted):
    return CellColumns(planted(60), "default")


def rows(columns, *terms, sort=""):
    return CellQuery(list(terms), sort).rows(columns).tolist()


def test_terms_by_value(columns):
    names = columns.manifest.column("class")
    left = np.flatnonzero(names == "left").tolist()
    assert rows(columns, {"column": "class", "is": ["left"]}) == left
    assert rows(columns, {"column": "class", "is": ["left"], "not": True}) == sorted(set(range(60)) - set(left))
    assert rows(columns, {"column": "class", "is": ["left", "right", "top"]}) == list(range(60))
    assert rows(columns, {"column": "class", "is": ["nothing"]}) == []
    assert rows(columns, {"column": "cell_id", "from": 10, "to": 12}) == [10, 11, 12]
    assert rows(columns, {"column": "cell_id", "from": 58}) == [58, 59]
    assert rows(columns, {"cells": "3-5,9"}) == [3, 4, 5, 9]
    assert rows(columns, {"cells": ""}) == []
    assert rows(columns, {"key": "CELL-001"}) == list(range(10, 20))
    assert rows(columns, {"key": "%"}) == []  # no wildcard
    groups = columns.manifest.column("group")
    both = rows(columns, {"column": "class", "is": ["left"]}, {"column": "group", "is": ["donor-0"]})
    assert both == np.flatnonzero((names == "left") & (groups == "donor-0")).tolist()
    assert rows(columns, {"tag": "odd"}) == []
    columns.take_marks([Mark.now("anna", np.array([4, 7]), tag="odd")])
    assert rows(columns, {"tag": "odd"}) == [4, 7]
    columns.take_marks([Mark.now("anna", np.array([0]), label="new")])
    assert rows(columns, {"column": "class", "is": ["new"]}) == [0]


def test_order(columns):
    values = np.asarray(columns.manifest.column("mean_intensity"))
    assert rows(columns, sort="mean_intensity") == np.argsort(values, kind="stable").tolist()
    assert rows(columns, sort="-mean_intensity") == np.argsort(-values, kind="stable").tolist()
    names = columns.manifest.column("class").astype(str)
    assert rows(columns, sort="class") == np.argsort(names, kind="stable").tolist()
    assert rows(columns, {"cells": "9,2"}, sort="-cell_id") == [9, 2]
    missing = columns.numbers("um_per_px")
    assert np.isnan(missing).all()
    assert rows(columns, sort="-um_per_px") == list(range(60))


def test_gate(columns):
    x, y = columns.numbers("cell_id"), columns.numbers("mean_intensity")
    low, high = float(y.min()) - 1, float(np.median(y)) + 1e-3
    corners = [[9.5, low], [30.5, low], [30.5, high], [9.5, high]]
    found = rows(columns, {"gate": ["cell_id", "mean_intensity"], "points": corners})
    assert found == np.flatnonzero((x >= 10) & (x <= 30) & (y < high)).tolist()
    assert 5 < len(found) < 16


def test_polygon_against_paths_of_matplotlib():
    from matplotlib.path import Path

    rng = np.random.default_rng(0)
    points = rng.normal(size=(2_000, 2))
    for corners in (rng.normal(size=(3, 2)), [[-1, -1], [1, -1], [0, 0], [1, 1], [-1, 1]]):
        expected = Path(np.array(corners)).contains_points(points)
        assert (inside_polygon(*points.T, corners) == expected).all()
    assert not inside_polygon([np.nan], [0.0], [[-1, -1], [1, -1], [0, 1]]).any()
    bow = [[0, 0], [1, 1], [1, 0], [0, 1]]  # even-odd: both triangles of a bow tie
    assert inside_polygon([0.1, 0.9, 0.5], [0.5, 0.5, 0.9], bow).tolist() == [True, True, False]


def test_words_of_a_command_line():
    found = parse_query("class=A|B quality>=0.5 quality<=0.8 cells=0-5 tag='odd one' key~run1/ class!=C sort=-quality")
    assert found["sort"] == "-quality"
    assert found["terms"] == [
        {"column": "class", "is": ["A", "B"]},
        {"column": "quality", "from": 0.5},
        {"column": "quality", "to": 0.8},
        {"cells": "0-5"},
        {"tag": "odd one"},
        {"key": "run1/"},
        {"column": "class", "is": ["C"], "not": True},
    ]


@pytest.mark.parametrize("text", ["quality", "quality>=x", "'open", "quality>=nan"])
def test_words_that_are_no_query(text, columns):
    with pytest.raises(ArgumentError, match=r"--select|must be"):
        CellQuery(**parse_query(text)).rows(columns)


@pytest.mark.parametrize(
    "term",
    [
        {},
        {"column": "nothing", "is": ["a"]},
        {"column": "class", "is": "left"},
        {"column": "class", "from": 1},
        {"column": ["class"], "is": []},
        {"column": "cell_id", "from": "1"},
        {"column": "cell_id", "from": True},
        {"cells": "70"},
        {"cells": "5-3"},
        {"cells": {}},
        {"gate": ["cell_id", "height"], "points": [[0, 0], [1, 1]]},
        {"gate": ["cell_id"], "points": [[0, 0], [1, 1], [1, 0]]},
        {"gate": ["cell_id", "height"], "points": [[0, 0], [1, 1], [1, "x"]]},
        {"gate": ["cell_id", "height"], "points": [[0, 0], [1, 1], [1, 1e999]]},
        {"gate": ["cell_id", "height"], "points": [[0, 0], [1, 1], [1]]},
        {"key": 5},
    ],
)
def test_other_terms_are_refused(term, columns):
    with pytest.raises(ArgumentError):
        rows(columns, term)


def test_slips_get_a_hint(columns):
    with pytest.raises(ArgumentError, match="mean_intensity"):
        rows(columns, {"column": "mean_intensty", "from": 1})
    for sort in ("nothing", 5, "--cell_id"):
        with pytest.raises(ArgumentError):
            CellQuery([], sort).rows(columns)
    with pytest.raises(ArgumentError, match="at most 50"):
        CellQuery([{"cells": "0"}] * 51)
