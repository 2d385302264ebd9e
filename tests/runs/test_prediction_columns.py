"""Columns of predictions are the same from both kinds of files, and damaged ones are refused."""

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from fastcell.errors import DataError
from fastcell.runs.prediction_columns import FORMAT_METADATA, prediction_columns, read_prediction_columns
from fastcell.storage.formats import NewerFormatError

TABLE = pa.table(
    {
        "key": ["000123", "NA", "a\nb,c"],
        "group": ["1", None, "nan"],
        "confidence": [0.1, None, 1.0],
        "p_A": [0.1, None, 1.0],
    }
)
SCHEMA = pa.schema([("confidence", pa.float64()), ("group", pa.string()), ("key", pa.string())])


def write(path, table=TABLE):
    if path.suffix == ".csv":
        pyarrow.csv.write_csv(table, path)
    else:
        pq.write_table(table, path)
    return path


@pytest.mark.parametrize("name", ["p.csv", "p.parquet"])
def test_columns_are_read_as_they_were_written(tmp_path, name):
    path = write(tmp_path / name)
    assert prediction_columns(path) == ["key", "group", "confidence", "p_A"]
    table = read_prediction_columns(path, SCHEMA, "Predict again")
    assert table.schema == SCHEMA
    assert table.column("key").to_pylist() == ["000123", "NA", "a\nb,c"]
    assert table.column("group").to_pylist() == ["1", None, "nan"]
    assert table.column("confidence").to_pylist() == [0.1, None, 1.0]


def test_what_cannot_be_read_is_refused_with_the_hint(tmp_path):
    path = write(tmp_path / "p.csv")
    with pytest.raises(pa.ArrowInvalid, match="conversion error to float"):
        read_prediction_columns(path, pa.schema([("key", pa.float32())]), "Predict again")
    cut = write(tmp_path / "p.parquet")
    content = cut.read_bytes()
    cut.write_bytes(content[:4] + bytes(60) + content[64:])
    with pytest.raises(DataError, match=r"p\.parquet cannot be read \(.*\)\. Predict again\.$"):
        read_prediction_columns(cut, SCHEMA, "Predict again")
    cut.write_bytes(content[:40])
    with pytest.raises((pa.ArrowException, OSError)):
        prediction_columns(cut)


def test_files_of_other_versions(tmp_path):
    """Without a number, as older versions wrote them, they are read; with a newer one they name the version."""
    old = write(tmp_path / "old.parquet")
    assert prediction_columns(old) == TABLE.column_names
    now = write(tmp_path / "now.parquet", TABLE.replace_schema_metadata(FORMAT_METADATA))
    assert prediction_columns(now) == TABLE.column_names
    newer = {"fastcell.format": "2", "fastcell.version": "3.1"}
    path = write(tmp_path / "newer.parquet", TABLE.replace_schema_metadata(newer))
    with pytest.raises(NewerFormatError, match=r"format must be 1, got 2. Install fastcell 3\.1 or a later"):
        prediction_columns(path)
    path = write(tmp_path / "odd.parquet", TABLE.replace_schema_metadata({"fastcell.format": "x"}))
    with pytest.raises(DataError, match="predictions format must be 1, got x"):
        prediction_columns(path)


@pytest.mark.parametrize(
    ("delimiter", "comma", "encoding"), [(";", ",", "utf-8-sig"), ("\t", ",", "utf-16"), (";", ".", "utf-8")]
)
def test_predictions_saved_again_by_a_spreadsheet(tmp_path, delimiter, comma, encoding):
    lines = [["key", "class", "confidence", "p_a", "p_b"], ["k1", "a", "0.75", "0.75", "0.25"], ["NA", "", "", "", ""]]
    text = "\r\n".join(delimiter.join(word.replace(".", comma) for word in line) for line in lines)
    (tmp_path / "p.csv").write_bytes(text.encode(encoding))
    assert prediction_columns(tmp_path / "p.csv") == lines[0]
    schema = pa.schema([("key", pa.string()), ("class", pa.string()), ("p_b", pa.float32()), ("p_a", pa.float32())])
    assert read_prediction_columns(tmp_path / "p.csv", schema, "hint").to_pydict() == {
        "key": ["k1", "NA"],
        "class": ["a", None],
        "p_b": [0.25, None],
        "p_a": [0.75, None],
    }
