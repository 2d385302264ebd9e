"""A Parquet file that claims more than it holds is refused before it is read."""

import os
import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fastcell.dataset.parquet import group_rows, read_parquet, write_parquet
from fastcell.errors import DataError

SCHEMA = pa.schema([("cell_id", pa.int64()), ("key", pa.string())])


def written(path, cell_id, key, schema=None, **options):
    pq.write_table(pa.table({"cell_id": cell_id, "key": key}, schema=schema), path, compression="zstd", **options)
    return path


def test_round_trip_casts_and_drops_other_columns(tmp_path):
    pq.write_table(pa.table({"x": [1.0, 2.0], "key": ["a", None], "cell_id": [0, 1]}), tmp_path / "a.parquet")
    table = read_parquet(tmp_path / "a.parquet", SCHEMA)
    assert table.schema == SCHEMA
    assert table.to_pylist() == [{"cell_id": 0, "key": "a"}, {"cell_id": 1, "key": None}]
    assert table.column("key").num_chunks == 1


def test_a_text_stored_once_and_used_in_every_row(tmp_path):
    key = pa.DictionaryArray.from_arrays(np.zeros(100_000, np.int32), ["x" * (1 << 20)])  # 100 GB
    path = written(tmp_path / "a.parquet", np.arange(100_000), key)
    assert path.stat().st_size < 1 << 20
    with pytest.raises(DataError, match="claims to hold 104,857,600,000 of text"):
        read_parquet(path, SCHEMA)


def test_rows_and_bytes_that_the_size_cannot_hold(tmp_path):
    path = written(tmp_path / "a.parquet", np.zeros(1_100_000, np.int64), pa.nulls(1_100_000, pa.string()))
    with pytest.raises(DataError, match=r"must have at most [\d,]+ rows, got 1,100,000"):
        read_parquet(path, SCHEMA)
    with pytest.raises(DataError, match="must have at most 7 rows"):
        read_parquet(path, SCHEMA, most_rows=7)
    path = written(tmp_path / "b.parquet", [0], ["x" * ((1 << 26) + 1)], use_dictionary=False)
    with pytest.raises(DataError, match=r"claims to hold 67,1[\d,]+\. Pack"):
        read_parquet(path, SCHEMA)


def test_damage_of_every_byte_is_a_message_or_a_table(tmp_path):
    data = written(tmp_path / "a.parquet", np.arange(50), [f"{i}.png" for i in range(50)]).read_bytes()
    refused = 0
    for place in range(len(data)):
        (tmp_path / "b.parquet").write_bytes(data[:place] + bytes([data[place] ^ 0x55]) + data[place + 1 :])
        try:
            assert read_parquet(tmp_path / "b.parquet", SCHEMA).num_rows <= 1 << 20
        except DataError as error:
            assert "b.parquet" in str(error)  # noqa: PT017
            refused += 1
    assert refused > len(data) / 4


def test_text_that_is_no_text(tmp_path):
    bad = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(np.array([0, 2], "<i4")), pa.py_buffer(b"\xff\xfe")]
    )
    with pytest.raises(DataError, match="cannot be read"):
        read_parquet(written(tmp_path / "a.parquet", [0], bad), SCHEMA)


def test_nothing_is_unpickled(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "went-off"), "w"))

    names = {b"ARROW:extension:name": b"arrow.py_extension_type", b"ARROW:extension:metadata": pickle.dumps(Bomb())}
    schema = pa.schema([pa.field("cell_id", pa.int64(), metadata=names), pa.field("key", pa.string())])
    path = written(tmp_path / "a.parquet", [3], ["x"], schema)
    assert read_parquet(path, SCHEMA).to_pylist() == [{"cell_id": 3, "key": "x"}]
    assert not (tmp_path / "went-off").exists()


def test_a_pipe_and_a_folder_are_no_files(tmp_path):
    os.mkfifo(tmp_path / "a.parquet")
    (tmp_path / "b.parquet").mkdir()
    for name in ("a", "b", "c"):
        with pytest.raises(DataError, match=rf"{name}\.parquet is missing or is not a file"):
            read_parquet(tmp_path / f"{name}.parquet", SCHEMA)


def test_damage_inside_is_found(tmp_path):
    """Bits that flip and pages that are zeroed, at 400 places: refused by name, or the same table."""
    rng, path = np.random.default_rng(0), tmp_path / "t.parquet"
    names = pa.array(["left", "right"]).take(pa.array(rng.integers(0, 2, 3000)))
    columns = {"cell_id": pa.array(range(3000)), "name": names, "size": pa.array(rng.integers(0, 99, 3000))}
    table = pa.table(columns)
    write_parquet(path, table)
    data, refused = path.read_bytes(), 0
    for number in range(400):
        hurt, place = bytearray(data), int(rng.integers(len(data)))
        if number % 4:
            hurt[place] ^= 1 << number % 8
        else:
            hurt[place : place + 256] = bytes(len(hurt[place : place + 256]))
        path.write_bytes(hurt)
        try:
            found = read_parquet(path, table.schema)
        except DataError as error:
            refused += str(path) in str(error)
        else:
            assert found.equals(table), place
    assert refused > 300


@pytest.mark.parametrize("error", [pa.ArrowMemoryError("malloc"), OSError("Failed to launch worker thread: again")])
def test_memory_that_ran_out_is_no_damage(error, tmp_path, monkeypatch):
    write_parquet(tmp_path / "x.parquet", pa.table({"x": [1]}))

    def fail(*_, **__):
        raise error

    monkeypatch.setattr(pq, "read_table", fail)
    with pytest.raises(MemoryError):
        read_parquet(tmp_path / "x.parquet", pa.schema([("x", pa.int64())]))


def test_row_groups_are_an_eighth_of_a_table():
    nums = (0, 1, 16_384, 80_000, 1_000_000, 8_000_000, 100_000_000)
    assert [group_rows(num) for num in nums] == [1 << 14, 1 << 14, 1 << 14, 1 << 14, 1 << 17, 1 << 20, 1 << 20]
