"""Tables written down come back; torn ones and those of another job do not."""

import os
import shutil

import pyarrow as pa
import pytest

from fastcell.storage.saved_pieces import load_pieces, save_pieces

TABLE = pa.table({"a": [1, 2, 3]})


def test_saved_tables_come_back_and_torn_ones_do_not(tmp_path):
    path = tmp_path / "a.saved"
    other = pa.table({"b": pa.array(["x", None]), "c": pa.array([b"1" * 16, None], pa.binary(16))})
    assert load_pieces(path, "s") is None
    save_pieces(path, {"stamp": "s", "num": 7}, [TABLE, other, other.slice(0, 0)])
    saved = load_pieces(path, "s")
    assert saved is not None
    assert saved.facts["num"] == 7
    assert saved.tables == [TABLE, other, other.slice(0, 0)]
    assert load_pieces(path, "t") is None
    data = path.read_bytes()
    for place in (0, 20, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        assert load_pieces(path, "s") is None
        path.write_bytes(data[:place])
        assert load_pieces(path, "s") is None
    assert os.listdir(tmp_path) == ["a.saved"]
    shutil.rmtree(tmp_path)
    with pytest.raises(FileNotFoundError):
        save_pieces(path, {"stamp": "s"}, [TABLE])


def test_metadata_and_order_of_tables(tmp_path):
    path = tmp_path / "a.saved"
    described = TABLE.replace_schema_metadata({b"of": b"another program"})
    save_pieces(path, {"stamp": "s", "name": "µ", "shape": [2, 3]}, [described, pa.table({"b": [True]})])
    saved = load_pieces(path, "s")
    assert saved is not None
    assert [table.column_names for table in saved.tables] == [["a"], ["b"]]
    assert all(table.schema.metadata is None for table in saved.tables)
    assert (saved.facts["name"], saved.facts["shape"]) == ("µ", [2, 3])


def test_a_second_save_replaces_the_first(tmp_path):
    path = tmp_path / "a.saved"
    save_pieces(path, {"stamp": "s"}, [TABLE])
    save_pieces(path, {"stamp": "t"}, [TABLE.slice(1)])
    assert load_pieces(path, "s") is None
    saved = load_pieces(path, "t")
    assert saved is not None
    assert saved.tables == [TABLE.slice(1)]
