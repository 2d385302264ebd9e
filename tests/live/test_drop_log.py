"""The list of cells without a class: ranges of ids, one header, no end of the server when the disk is full."""

import csv

import numpy as np
import pytest

from fastcell.errors import ArgumentError
from fastcell.live.drop_log import COLUMNS, DropLog, check_drop_log, id_ranges

LAST = (1 << 64) - 1


@pytest.mark.parametrize(
    ("ids", "ranges"),
    [
        ([5], [(5, 5)]),
        ([5, 6, 7], [(5, 7)]),
        ([5, 6, 9, 10, 3], [(5, 6), (9, 10), (3, 3)]),
        ([7, 7], [(7, 7), (7, 7)]),
        ([LAST - 1, LAST], [(LAST - 1, LAST)]),
    ],
)
def test_ids_become_ranges(ids, ranges):
    assert id_ranges(np.array(ids, np.uint64)) == ranges


def test_rows_are_appended_under_one_header(tmp_path):
    path = tmp_path / "dropped.csv"
    said = []
    DropLog(path, said.append).add("none", np.empty(0, np.uint64), "queue full")
    assert not path.exists()
    for _ in range(2):
        log = DropLog(path, said.append)
        log.add("unix#1", np.array([1, 2, 9], np.uint64), "queue full")
        log.add("unix#2", np.array([4], np.uint64), "client gone")
        log.close()
    with open(path) as file:
        rows = list(csv.reader(file))
    assert tuple(rows[0]) == COLUMNS
    assert [row[1:] for row in rows[1:4]] == [
        ["unix#1", "1", "2", "2", "queue full"],
        ["unix#1", "9", "9", "1", "queue full"],
        ["unix#2", "4", "4", "1", "client gone"],
    ]
    assert len(rows) == 7
    assert [line.split()[0] for line in said] == ["3", "1", "3", "1"]


def test_a_file_that_cannot_be_written_is_said_once(tmp_path):
    said = []
    log = DropLog(tmp_path / "missing" / "dropped.csv", said.append)
    for _ in range(3):
        log.add("a", np.array([1], np.uint64), "queue full")
    assert sum("cannot be written" in line for line in said) == 1


@pytest.mark.parametrize("there", ["a,b\n1,2\n", "\0\1"])
def test_another_table_gets_no_rows(tmp_path, there):
    (tmp_path / "mine.csv").write_text(there)
    with pytest.raises(ArgumentError, match="--drop_log must be a list of dropped cells"):
        check_drop_log(str(tmp_path / "mine.csv"))
    assert (tmp_path / "mine.csv").read_text() == there


def test_a_new_an_empty_and_an_earlier_list_are_taken(tmp_path):
    path = tmp_path / "dropped.csv"
    assert check_drop_log(str(path)) == path
    path.touch()
    assert check_drop_log(str(path)) == path
    DropLog(path, lambda line: None).add("a", np.array([1], np.uint64), "queue full")
    assert check_drop_log(str(path)) == path
    with pytest.raises(ArgumentError, match="--drop_log"):
        check_drop_log(str(tmp_path))
