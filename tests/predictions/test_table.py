from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from fastcell.dataset.parquet import write_parquet
from fastcell.dataset.schema import QUARANTINE_SCHEMA
from fastcell.errors import ArgumentError, DataError
from fastcell.packing.pack import pack
from fastcell.predictions.table import (
    check_output,
    prediction_table,
    read_predictions,
    with_features,
    without_formulas,
    write_csv_or_parquet,
)
from fastcell.runs.prediction_columns import event_numbers
from fastcell.splits.make_splits import SplitOptions

NAN = float("nan")


def make_table(keys=None):
    return pa.table(
        {
            "key": keys or ["k,0", "NA", 'k"2', "é\n3"],
            "group": ["g", None, "", "null"],
            "class": ["x", "y, z", None, "x"],
            "confidence": pa.array([0.75, 0.9, None, 0.6], pa.float32()),
            "p_x": pa.array([0.75, 0.1, None, 0.6], pa.float32()),
            "p_y, z": pa.array([0.25, 0.9, None, 0.4], pa.float32()),
            "reason": [None, None, "empty", None],
        }
    )


@pytest.mark.parametrize("name", ["p.csv", "p.parquet"])
def test_what_is_written_is_read_back(tmp_path, name):
    write_csv_or_parquet(tmp_path / name, make_table())
    assert [path.name for path in tmp_path.iterdir()] == [name]
    found = read_predictions(tmp_path / name)
    assert found.classes == ["x", "y, z"]
    assert found.table.equals(make_table())
    assert found.called().tolist() == [0, 1, -1, 0]
    assert found.groups().tolist() == ["g", "", "", "null"]
    np.testing.assert_array_equal(found.probabilities, np.float32([[0.75, 0.25], [0.1, 0.9], [NAN, NAN], [0.6, 0.4]]))


@pytest.mark.parametrize("name", ["p.csv", "p.parquet"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"key": ["a", "a", "b", "c"]}, "keys must be present and unique"),
        ({"p_x": [0.5, 0.5, 0.5, 1.5]}, "p_x must be from 0 to 1"),
        ({"confidence": [0.5, 0.5, 0.5, 7.0]}, "confidence must be from 0 to 1"),
        ({"unlike_score": [0.5, 2.5, None, -1.0]}, "unlike_score must be 0 or more"),
    ],
)
def test_values_that_cannot_be(tmp_path, name, change, message):
    write_csv_or_parquet(
        tmp_path / name, pa.table({**{n: make_table().column(n) for n in make_table().column_names}, **change})
    )
    with pytest.raises(DataError, match=message):
        read_predictions(tmp_path / name)


def test_probabilities_that_do_not_add_up_to_1_are_refused(tmp_path):
    table = make_table()
    for values, total in ([0.75, 0.1, None, 0.9], "1.3"), ([0.0, 0.1, None, 0.6], "0.25"):
        wrong = table.set_column(4, "p_x", pa.array(values, pa.float32()))
        write_csv_or_parquet(tmp_path / "p.csv", wrong)
        with pytest.raises(DataError, match=f"probabilities of a cell must add up to 1, got {total} for .* 0 others"):
            read_predictions(tmp_path / "p.csv")
    rounded = table.set_column(4, "p_x", pa.array([0.76, 0.1, None, 0.6], pa.float32()))
    write_csv_or_parquet(tmp_path / "p.csv", rounded)
    assert len(read_predictions(tmp_path / "p.csv")) == 4


def test_a_class_without_a_column(tmp_path):
    table = make_table().set_column(2, "class", pa.array(["x", "other", None, "x"]))
    write_csv_or_parquet(tmp_path / "p.csv", table)
    with pytest.raises(DataError, match="class must be one of x, y, z, got 'other'"):
        read_predictions(tmp_path / "p.csv").called()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("p.csv", b""),
        ("p.csv", b"key,class\n\xff\xfe\x00"),
        ("p.csv", b"a,b\n1,2\n"),
        ("p.csv", b"key,class,p_x\na,x,zz\n"),
        ("p.csv", b"key,class,p_x,p_x\na,x,1,1\n"),
        ("p.parquet", b""),
        ("p.parquet", b"PAR1" + bytes(50) + b"PAR1"),
    ],
)
def test_files_of_another_kind(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(
        DataError, match="Give a table that fastcell predict has written|Pack or index|UTF-8|header line"
    ):
        read_predictions(tmp_path / name)


def test_other_endings_and_missing_files(tmp_path):
    with pytest.raises(ArgumentError, match="PREDICTIONS must be a .csv or .parquet file"):
        read_predictions(tmp_path / "p.txt")
    with pytest.raises(DataError, match="is missing"):
        read_predictions(tmp_path / "p.csv")


def classify(manifest, path, rows):
    """Predictions of some cells and of a quarantined one, which the manifest does not have."""
    keys = [*manifest.column("key")[rows].tolist(), "bad"]
    chances = np.linspace(0, 1, len(rows)).astype(np.float32)
    table = pa.table(
        {
            "key": keys,
            "class": [*["A"] * len(rows), None],
            "p_A": pa.array([*chances.tolist(), None], pa.float32()),
            "p_B": pa.array([*(1 - chances).tolist(), None], pa.float32()),
        }
    )
    write_csv_or_parquet(path, table)
    return table


def test_features_stand_beside_their_cells(make_set, tmp_path):
    manifest = make_set(20)
    rows = [3, 17, 4]
    classify(manifest, tmp_path / "p.parquet", rows)
    predictions = read_predictions(tmp_path / "p.parquet")
    assert with_features(predictions, manifest) == (predictions.table, [])
    ids = np.random.default_rng(0).permutation(20)[:19]  # one cell has no row
    missing = int(np.setdiff1d(np.arange(20), ids)[0])
    area = pa.table({"cell_id": ids, "area": ids * 10.0, "confidence": ids * 1.0, "class": ids * 1.0, "p_C": ids * 1.0})
    write_parquet(manifest.path / "features.parquet", area)
    quality = pa.table({"cell_id": np.arange(20), "focus": np.arange(20) / 4, "area": np.arange(20) + 0.5})
    write_parquet(manifest.path / "quality.parquet", quality)
    table, names = with_features(predictions, manifest)
    assert names == ["area", "confidence", "feature_class", "feature_p_C", "quality_focus", "quality_area"]
    assert table.column_names[-6:] == names
    assert table.column("area").to_pylist() == [*[None if row == missing else 10.0 * row for row in rows], None]
    assert table.column("quality_focus").to_pylist() == [*[row / 4 for row in rows], None]
    assert table.column("quality_area").to_pylist() == [*[row + 0.5 for row in rows], None]


def test_features_of_another_data_set_are_refused(make_set, tmp_path):
    manifest = make_set(6)
    write_csv_or_parquet(tmp_path / "p.csv", make_table())
    with pytest.raises(DataError, match="no cell of .* is in"):
        with_features(read_predictions(tmp_path / "p.csv"), manifest)


def make_manifest(bad=1):
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


def make_predictions(**arguments):
    probabilities = np.array([[0.25, 0.75], [0.5, 0.5], [1.0, 0.0]], np.float32)
    return prediction_table(make_manifest(), ["x", "y"], np.arange(4), np.array([0, 1, 3]), probabilities, **arguments)


def test_one_row_per_cell_in_manifest_order_and_the_bad_ones_last():
    table = make_predictions()
    assert table.column_names == ["key", "group", "event", "class", "confidence", "p_x", "p_y", "reason"]
    assert table.to_pydict() == {
        "key": ["k0", "k1", "k2", "k3", "bad"],
        "event": [0, 1, 2, 3, None],
        "group": ["g", None, "g", "h", "h"],
        "class": ["y", "x", None, "x", None],
        "confidence": [0.75, 0.5, None, 1.0, None],
        "p_x": [0.25, 0.5, None, 1.0, None],
        "p_y": [0.75, 0.5, None, 0.0, None],
        "reason": [None, None, "could not be read during the run", None, "empty"],
    }


def test_truth_is_a_column_of_its_own():
    table = make_predictions(truth=True, quarantined=False)
    assert table.column_names[:5] == ["key", "group", "true_class", "event", "class"]
    assert table.column("true_class").to_pylist() == ["x", None, "y", "x"]


def test_rows_may_be_some_of_the_cells_in_any_order_with_repeats():
    rows, ids, chances = np.array([3, 1, 3]), np.array([0, 1, 2]), np.array([[1, 0], [0, 1], [1, 0]], np.float32)
    table = prediction_table(make_manifest(0), ["x", "y"], rows, ids, chances)
    assert table.column("key").to_pylist() == ["k1", "k3"]
    assert table.column("class").to_pylist() == ["y", None]
    assert table.column("p_y").to_pylist() == [1.0, None]


def test_a_probability_that_is_no_number_is_no_class_and_has_a_reason():
    chances = np.array([[0.7, 0.3], [np.nan, 0.5], [0.5, np.inf], [-np.inf, 1]], np.float32)
    table = prediction_table(make_manifest(0), ["x", "y"], np.arange(4), np.arange(4), chances, reasons={1: "corrupt"})
    assert table.column("class").to_pylist() == ["x", None, None, None]
    assert table.column("confidence").to_pylist() == pytest.approx([0.7, None, None, None])
    assert table.column("p_y").to_pylist() == pytest.approx([0.3, None, None, None])
    assert table.column("reason").to_pylist() == [None, *["the network gives it no finite probability"] * 3]


@pytest.mark.parametrize("name", ["p.csv", "p.parquet"])
def test_a_file_with_a_class_without_finite_probabilities_has_no_class_there(tmp_path, name):
    table = make_table().set_column(4, "p_x", pa.array([0.75, np.inf, None, np.nan], pa.float32()))
    write_csv_or_parquet(tmp_path / name, table)
    found = read_predictions(tmp_path / name)
    assert found.called().tolist() == [0, -1, -1, -1]
    np.testing.assert_array_equal(found.probabilities, np.float32([[0.75, 0.25], *[[NAN, NAN]] * 3]))
    assert found.table.column("confidence").to_pylist() == [0.75, None, None, None]


def test_a_spreadsheet_finds_no_formula_and_numbers_stay_numbers(tmp_path):
    keys = ["=1+1", "+a", "-1", "@x", "\tb", "\rc", "d=", "", None]
    table = pa.table({"key": keys, "-x": [-1.5] * 9, "class": pa.array(["=cmd|' /C calc'!A0"] * 9, pa.large_string())})
    safe = without_formulas(table)
    assert safe.column_names == ["key", "'-x", "class"]
    assert safe.column("key").to_pylist() == ["'=1+1", "'+a", "'-1", "'@x", "'\tb", "'\rc", "d=", "", None]
    assert safe.column(1).to_pylist() == [-1.5] * 9
    assert set(safe.column("class").to_pylist()) == {"'=cmd|' /C calc'!A0"}
    write_csv_or_parquet(tmp_path / "p.csv", table)
    assert (tmp_path / "p.csv").read_text().splitlines()[1] == '"=1+1",-1.5,"=cmd|\' /C calc\'!A0"'  # names as they are


def test_outputs_that_cannot_be_written_are_refused_before_the_run(tmp_path):
    with pytest.raises(ArgumentError, match=r"--out must be a file name that ends in \.csv, \.parquet or \.fcs"):
        check_output(tmp_path / "p.txt")
    with pytest.raises(ArgumentError, match="--out must be a file in an existing folder"):
        check_output(tmp_path / "none" / "p.csv")
    (tmp_path / "d.csv").mkdir()
    with pytest.raises(ArgumentError, match="It is a folder"):
        check_output(tmp_path / "d.csv")
    assert check_output(str(tmp_path / "p.csv")) == tmp_path / "p.csv"


def test_files_that_are_quarantined_whole_have_no_row(tmp_path):
    root = tmp_path / "src"
    root.mkdir()
    np.savez(root / "a.npz", images=np.random.default_rng(0).integers(0, 256, (6, 4, 5)).astype(np.uint8))
    (root / "b.npz").write_bytes(b"no archive")
    manifest = pack(root, tmp_path / "out", split=SplitOptions(None))
    assert manifest.quarantine().column("key").to_pylist() == ["b.npz"]
    ids = np.arange(6)
    table = prediction_table(manifest, ["x", "y"], ids, ids, np.full((6, 2), 0.5, np.float32))
    assert sorted(table.column("key").to_pylist()) == [f"a.npz/{number:06d}" for number in range(6)]


def test_the_event_number_is_that_of_the_file_or_the_cell_id():
    keys = pa.chunked_array([["a.rtdc/000017", "bin/00003", "b/cell_4.png", "plain", "9"]])
    assert event_numbers(keys, np.arange(50, 55)).tolist() == [17, 3, 52, 53, 54]
