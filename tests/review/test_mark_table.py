"""Marks as a table."""

import io

import numpy as np
import pyarrow.parquet as pq
import pytest
from pyarrow import csv

from fastcell.dataset.marks.journal import Mark
from fastcell.dataset.marks.replay import MarkedCells
from fastcell.errors import ArgumentError
from fastcell.review.mark_table import export_marks, mark_table, table_as_csv


def test_one_row_a_marked_cell(planted, tmp_path):
    data = planted(20)
    first = Mark.now("anna", np.array([1, 2]), label='new, "quoted"')
    marks = [
        first,
        Mark.now("ben", np.array([2]), label="top"),
        Mark.now("anna", np.array([3]), label=""),
        Mark.now("anna", np.array([4]), unsure=True, tag="odd"),
        Mark.now("anna", np.array([4]), tag="two"),
        Mark.now("anna", np.array([5]), verdict="drop"),
        undone := Mark.now("anna", np.array([6]), label="top"),
        Mark.now("anna", np.empty(0, np.int64), undo=undone.op),
    ]
    table = mark_table(data, MarkedCells.after(marks, 20), np.arange(20) == 5)
    rows = {row["cell_id"]: row for row in table.to_pylist()}
    assert list(rows) == [1, 2, 3, 4, 5]
    assert rows[1]["label"] == 'new, "quoted"'
    assert (rows[1]["recorded"], rows[1]["key"], rows[1]["who"], rows[1]["when"]) == (
        "right", "cell-0001.npy", "anna", first.at,
    )  # fmt: skip
    assert (rows[2]["label"], rows[2]["who"]) == ("top", "ben")
    assert rows[2]["history"].startswith('new, "quoted" (anna ')
    assert (rows[3]["label"], rows[3]["no_class"]) == (None, True)
    assert (rows[4]["unsure"], rows[4]["tags"], rows[4]["who"]) == (True, "odd; two", None)
    assert (rows[5]["verdict"], rows[1]["verdict"]) == ("drop", "keep")
    back = csv.read_csv(io.BytesIO(table_as_csv(table)))
    assert back.column("label").to_pylist() == ['new, "quoted"', "top", "", "", ""]
    export_marks(tmp_path / "m.parquet", table)
    assert pq.read_table(tmp_path / "m.parquet").to_pylist() == table.to_pylist()
    export_marks(tmp_path / "m.csv", table)
    assert (tmp_path / "m.csv").read_bytes() == table_as_csv(table)
    with pytest.raises(ArgumentError, match=r"\.csv or \.parquet"):
        export_marks(tmp_path / "m.xlsx", table)
