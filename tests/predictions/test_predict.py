from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from fastcell.dataset.schema import QUARANTINE_SCHEMA
from fastcell.errors import ArgumentError, DataError
from fastcell.predictions.table import check_output, prediction_table


def make_manifest(bad: int = 1) -> SimpleNamespace:
    table = pa.table({"key": ["k0", "k1", "k2", "k3"], "group": ["g", None, "g", "h"], "class": ["x", None, "y", "x"]})
    row = {
        "cell_id": None,
        "key": "bad",
        "source": "s",
        "class": "x",
        "group": "h",
        "collection": None,
        "reason": "empty",
    }
    return SimpleNamespace(table=table, quarantine=lambda: pa.Table.from_pylist([row] * bad, schema=QUARANTINE_SCHEMA))


def make_table(**arguments) -> pa.Table:
    chances = np.array([[0.25, 0.75], [0.5, 0.5], [1.0, 0.0]], np.float32)
    return prediction_table(make_manifest(), ["x", "y"], np.arange(4), np.array([0, 1, 3]), chances, **arguments)


def test_one_row_per_cell_in_manifest_order_and_the_bad_ones_last():
    table = make_table()
    assert table.column_names == ["key", "group", "class", "confidence", "p_x", "p_y", "reason"]
    assert table.to_pydict() == {
        "key": ["k0", "k1", "k2", "k3", "bad"],
        "group": ["g", None, "g", "h", "h"],
        "class": ["y", "x", None, "x", None],
        "confidence": [0.75, 0.5, None, 1.0, None],
        "p_x": [0.25, 0.5, None, 1.0, None],
        "p_y": [0.75, 0.5, None, 0.0, None],
        "reason": [None, None, "could not be read during the run", None, "empty"],
    }


def test_truth_is_a_column_of_its_own():
    table = make_table(truth=True, quarantined=False)
    assert table.column_names[:4] == ["key", "group", "true_class", "class"]
    assert table.column("true_class").to_pylist() == ["x", None, "y", "x"]


def test_rows_may_be_some_of_the_cells_in_any_order_with_repeats():
    rows, ids, chances = np.array([3, 1, 3]), np.array([0, 1, 2]), np.array([[1, 0], [0, 1], [1, 0]], np.float32)
    table = prediction_table(make_manifest(0), ["x", "y"], rows, ids, chances)
    assert table.column("key").to_pylist() == ["k1", "k3"]
    assert table.column("class").to_pylist() == ["y", None]
    assert table.column("p_y").to_pylist() == [1.0, None]


def test_outputs_that_cannot_be_written_are_refused_before_the_run(tmp_path):
    with pytest.raises(ArgumentError, match=r"--out must be a file name that ends in \.csv, \.parquet or \.fcs"):
        check_output(tmp_path / "p.txt")
    with pytest.raises(DataError, match="there is no folder"):
        check_output(tmp_path / "none" / "p.csv")
    (tmp_path / "d.csv").mkdir()
    with pytest.raises(DataError, match="is a folder"):
        check_output(tmp_path / "d.csv")
    assert check_output(str(tmp_path / "p.csv")) == tmp_path / "p.csv"
