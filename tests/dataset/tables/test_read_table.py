"""Tables of users by value; Python's csv states what their files hold."""

import csv

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fastcell.dataset.tables.dialect import read_dialect
from fastcell.dataset.tables.read_table import csv_options, read_table, read_text_columns
from fastcell.errors import DataError

TEXTS = ("path", "label", "group")


def columns(path):
    table = read_table(path, TEXTS)
    comma = table.has_decimal_comma()
    found = {}
    for place, name in enumerate(table.names):
        numbers = None if name in TEXTS else table.numbers(place, comma)
        found[name] = list(table.texts(place)) if numbers is None else numbers.tolist()
    return found


def write(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize(("delimiter", "comma", "encoding"), [(",", ".", "utf-8"), (";", ",", "utf-8-sig")])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_table_with_an_index_is_read_as_it_was_written(tmp_path, delimiter, comma, encoding, end):
    paths, labels, areas = ["a,1;.png", 'b"2.png', "c\n3.png"], ["1.0", "", "2.0"], ["0.5", "", "1234.25"]
    with open(tmp_path / "t.csv", "w", encoding=encoding, newline="") as file:
        writer = csv.writer(file, delimiter=delimiter, lineterminator=end)
        writer.writerow(["", "path", "label", "area"])
        for row, words in enumerate(zip(paths, labels, areas, strict=True)):
            writer.writerow([row, *(word.replace(".", comma) if word[:1].isdigit() else word for word in words)])
    with open(tmp_path / "t.csv", encoding=encoding, newline="") as file:
        stored = list(csv.DictReader(file, delimiter=delimiter))
    found = columns(tmp_path / "t.csv")
    assert found.pop("") == [0, 1, 2]
    assert found["path"] == [row["path"] for row in stored] == paths
    assert found["label"] == ["1", None, "2"]
    np.testing.assert_array_equal(found["area"], [0.5, np.nan, 1234.25])


def test_names_are_kept_as_they_are_written(tmp_path):
    found = columns(write(tmp_path / "t.csv", "path,label,group,n\nx,NA,01,1\ny,nan,,NA\nz,null, a ,3\n"))
    assert found["label"] == ["NA", "nan", "null"]
    assert found["group"] == ["01", None, "a"]
    np.testing.assert_array_equal(found["n"], [1, np.nan, 3])


def test_two_unicode_forms_are_one_name(tmp_path):
    path = write(tmp_path / "t.csv", "path,label\ncafe\u0301.png,Gro\u0308\u00dfe\ncaf\u00e9.png,Gr\u00f6\u00dfe\n")
    assert columns(path) == {"path": ["caf\u00e9.png"] * 2, "label": ["Gr\u00f6\u00dfe"] * 2}


def test_rows_without_values_and_missing_or_empty_last_fields(tmp_path):
    path = write(tmp_path / "t.csv", "path,label,n\nx,A\n,,\n\ny,B,2,,\n ,,\n")
    table = read_table(path, TEXTS)
    assert table.rows.tolist() == [0, 2]
    assert columns(path)["label"] == ["A", "B"]
    np.testing.assert_array_equal(columns(path)["n"], [np.nan, 2])
    with pytest.raises(
        DataError, match=r"must have 2 fields in each line as in its header, got 3 in line 3 \('y,B,2'\)"
    ):
        read_table(write(tmp_path / "t.csv", "path,label\nx,A\ny,B,2\n"), TEXTS)


def test_a_decimal_comma_in_one_column_decides_for_the_others(tmp_path):
    found = columns(write(tmp_path / "t.csv", "path;a;b\nx;1,500;0,5\ny;2,250;1,5\n"))
    assert (found["a"], found["b"]) == ([1.5, 2.25], [0.5, 1.5])
    found = columns(write(tmp_path / "t.csv", "path;a\nx;1,500\ny;2,250\n"))
    assert found["a"] == ["1,500", "2,250"]
    table = read_table(tmp_path / "t.csv", TEXTS)
    assert table.looks_numeric(1)
    assert not table.looks_numeric(0)


def test_columns_of_parquet(tmp_path):
    table = pa.table(
        {
            "Path": pa.array(["x", "y"]).dictionary_encode(),
            "label": pa.array([1.5, 2.0]),
            "group": pa.array([1, None]),
            "n": pa.array(["1,5", "2"]),
            "__index_level_0__": [4, 5],
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    read = read_table(tmp_path / "t.parquet", TEXTS)
    assert [read.texts(place) for place in range(3)] == [["x", "y"], ["1.5", "2"], ["1", None]]
    assert read.place(TEXTS) == 0
    assert [read.is_index(place) for place in range(5)] == [False] * 4 + [True]
    assert read.numbers(3) is not None
    pq.write_table(pa.table({"path": [["a"]]}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match="must hold texts or numbers"):
        read_table(tmp_path / "t.parquet", TEXTS).texts(0)


def test_chosen_columns(tmp_path):
    path = write(tmp_path / "t.csv", "Key;VERDICT;more\nx;keep;1,5\ny;;2\n")
    table = read_text_columns(path, ("cell_id", "key", "verdict"))
    assert table.to_pydict() == {"key": ["x", "y"], "verdict": ["keep", None]}
    assert table.schema.metadata[b"names"] == b"Key, VERDICT, more"
    reading, parsing = csv_options(read_dialect(path))
    assert (reading.skip_rows, reading.column_names, parsing.delimiter) == (1, ["0", "1", "2"], ";")
    with pytest.raises(DataError, match="must have one column key, got 2"):
        read_text_columns(write(path, "key,Key\nx,y\n"), ("key",))


def test_a_quote_that_is_not_closed(tmp_path):
    path = write(tmp_path / "t.csv", 'path,label,note\nx,"A\ny,B,1\n')
    with pytest.raises(DataError, match=r'must close each quote \("\), got an odd number'):
        read_table(path, TEXTS)
    assert columns(write(path, 'path,label\nx,12" dish\ny,"two\nlines"\nz,B\n'))["label"][1] == "two\nlines"


def test_files_that_are_no_tables(tmp_path):
    with pytest.raises(DataError, match="must be a table, got no file"):
        read_table(tmp_path / "no.csv", TEXTS)
    with pytest.raises(DataError, match=r"cannot be read \(.*\)\. Correct it\."):
        read_table(write(tmp_path / "t.parquet", "PAR1"), TEXTS, "Correct it")
    far = "path,label\n" + "x,A\n" * 300_000
    with pytest.raises(DataError, match="got byte 0xf6 in line 300,002"):
        read_table(write(tmp_path / "t.csv", far + "y,\u00f6\n", "latin-1"), TEXTS)
