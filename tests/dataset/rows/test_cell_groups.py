"""Groups as numbers are those of the column of names, in one byte a cell where they are few."""

import numpy as np
import pyarrow as pa
import pytest

from fastcell.dataset.rows.cell_groups import CellGroups, GroupNumbers
from fastcell.stats.intervals import unit_numbers

NAMES = ["d10", None, "d2", "", "d10", "d1", None]


def column(*chunks):
    return pa.chunked_array([pa.array(chunk, pa.string()) for chunk in chunks], pa.string())


@pytest.mark.parametrize("chunks", [[NAMES], [NAMES[:3], [], NAMES[3:]], [[name] for name in NAMES]])
def test_names_come_back_whatever_the_chunks(chunks):
    groups = CellGroups.of(column(*chunks))
    assert groups is not None
    assert groups[:].tolist() == ["d10", "", "d2", "", "d10", "d1", ""]
    assert groups[np.array([4, 1])].tolist() == ["d10", ""]
    assert (groups.names, groups.codes.dtype, len(groups)) == (["d1", "d10", "d2"], np.int8, 7)
    assert (groups[2], groups[3]) == ("d2", "")
    assert groups.different == ["d1", "d10", "d2", ""]


def test_columns_without_groups():
    assert CellGroups.of(column([None, None])) is None
    assert CellGroups.of(column([])) is None
    empty = CellGroups.of(column(["", None]))
    assert empty is not None
    assert (empty.names, empty[:].tolist(), empty.different) == ([], ["", ""], [""])
    assert CellGroups.of_names(None, 2)[:].tolist() == ["", ""]


def test_names_of_other_types_and_groups_as_they_are():
    groups = CellGroups.of_names(np.array(["b", "", "a"]), 3)
    assert groups[:].tolist() == ["b", "", "a"]
    assert CellGroups.of_names(groups, 3) is groups
    assert CellGroups.of_names([10, None, 9], 3)[:].tolist() == ["10", "", "9"]


def test_many_groups_take_more_bytes():
    names = [f"{number:05d}" for number in range(300)]
    groups = CellGroups.of(column(names))
    assert groups is not None
    assert groups.codes.dtype == np.int16
    assert groups[:].tolist() == names


def test_units_are_those_of_the_names():
    groups = CellGroups.of(column(NAMES))
    assert groups is not None
    np.testing.assert_array_equal(groups.units(), unit_numbers(groups[:]))


def test_some_cells_keep_their_groups_alone():
    groups = CellGroups.of(column(NAMES))
    assert groups is not None
    some = groups.subset(np.array([False, True, True, False, True, False, False]))
    assert (some[:].tolist(), some.names) == (["", "d2", "d10"], ["d10", "d2"])
    assert groups.subset(np.array([1, 3])).names == []
    assert groups.subset(slice(None)).names == groups.names


def test_natural_order():
    groups = CellGroups.of(column(NAMES))
    assert groups is not None
    names, places = groups.in_natural_order()
    assert names == ["d1", "d2", "d10"]
    assert places.tolist() == [2, -1, 1, -1, 2, 0, -1]


def test_numbers_of_the_parts_of_a_column():
    numbers = GroupNumbers()
    first, second = (numbers.add(pa.array(names, pa.string())) for names in (["z", None, "a"], ["a", "", "m"]))
    assert first.tolist() == [0, -1, 1]
    assert second.tolist() == [1, -1, 2]
    names, rank = numbers.sorted()
    assert (names, rank[first].tolist(), rank[second].tolist()) == (["a", "m", "z"], [2, -1, 0], [0, -1, 1])
