"""A split as a file: one byte a cell, written and read in parts."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from fastcell.dataset.parquet import read_parquet_parts
from fastcell.dataset.rows import split_table
from fastcell.dataset.rows.split_table import read_split, subset_codes, subset_names, write_split
from fastcell.errors import ArgumentError, DataError


@pytest.mark.parametrize("num_cells", [0, 1, 40])
def test_parts_give_the_split(tmp_path, num_cells, monkeypatch):
    codes = np.random.default_rng(0).integers(-1, 3, num_cells).astype(np.int8)
    monkeypatch.setattr(split_table, "GROUP_ROWS", 7)
    monkeypatch.setattr(split_table, "group_rows", lambda num: 7)
    monkeypatch.setattr(
        split_table,
        "read_parquet_parts",
        lambda path, schema, most_rows: read_parquet_parts(path, schema, most_rows, part_rows=5),
    )
    write_split(tmp_path, "some", codes)
    np.testing.assert_array_equal(read_split(tmp_path / "splits" / "some.parquet", num_cells).whole(), codes)


def test_subsets_by_name_are_the_same_file(tmp_path):
    names = np.array(["train", "", "test", "valid"])
    write_split(tmp_path, "named", names)
    write_split(tmp_path, "numbered", subset_codes(names))
    named, numbered = (tmp_path / "splits" / f"{name}.parquet" for name in ("named", "numbered"))
    assert named.read_bytes() == numbered.read_bytes()
    assert pq.read_table(named).to_pylist() == [
        {"cell_id": 0, "split": "train"}, {"cell_id": 2, "split": "test"}, {"cell_id": 3, "split": "valid"},
    ]  # fmt: skip


def test_names_and_numbers_of_subsets():
    codes = np.array([0, -1, 2, 1], np.int8)
    assert subset_names(codes).tolist() == ["train", "", "test", "valid"]
    assert subset_codes(subset_names(codes)).tolist() == codes.tolist()
    assert subset_codes(codes) is codes


def test_a_cell_that_stands_twice(tmp_path):
    write_split(tmp_path, "twice", np.array([0, 1, 2], np.int8))
    path = tmp_path / "splits" / "twice.parquet"
    table = pq.read_table(path)
    pq.write_table(table.take([0, 0, 1]), path)
    with pytest.raises(DataError, match="cell_id must occur once for each cell"):
        read_split(path, 3)


def test_another_name_of_a_subset():
    with pytest.raises(ArgumentError, match="must be one of train, valid, test, or empty, got 'left'"):
        subset_codes(np.array(["train", "left"]))
