"""Tables of rows in the types of their schema."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fastcell.dataset.schema import (
    BLOCKS_SCHEMA,
    FORMAT_VERSION,
    NULLABLE,
    QUALITY_SCHEMA,
    QUARANTINE_SCHEMA,
    SCHEMA,
    SPLIT_SCHEMA,
    SPLITS,
    VERDICTS,
    make_table,
)


def test_rows_become_columns_of_the_schema():
    table = make_table([("s.tar", 512, 40, 0, 3, "train"), ("s.tar", 1024, 50, 3, 1, "test")], BLOCKS_SCHEMA)
    assert table.schema == BLOCKS_SCHEMA
    assert table.column("num_cells").to_pylist() == [3, 1]
    assert [table.num_rows, table.num_columns] == [2, len(BLOCKS_SCHEMA)]


@pytest.mark.parametrize("schema", [SCHEMA, QUARANTINE_SCHEMA, BLOCKS_SCHEMA])
def test_no_rows_are_an_empty_table(schema):
    assert make_table([], schema).equals(schema.empty_table())


def test_rows_that_do_not_fit():
    with pytest.raises(pa.ArrowException):
        make_table([("s.tar", "no number", 40, 0, 3, "train")], BLOCKS_SCHEMA)
    with pytest.raises(ValueError, match="shorter"):
        make_table([("s.tar", 512, 40, 0, 3, "train"), ("s.tar",)], BLOCKS_SCHEMA)


def columns(schema):
    return {field.name: str(field.type) for field in schema}


def test_columns_of_version_1():
    assert FORMAT_VERSION == 1
    assert columns(SCHEMA) == {
        "cell_id": "int64", "key": "string", "shard": "string", "offset": "int64", "bytes": "int64",
        "encoding": "string", "height": "int32", "width": "int32", "depth": "int8", "channels": "int8",
        "um_per_px": "float", "class": "string", "group": "string", "collection": "string",
        "byte_hash": "fixed_size_binary[16]", "pixel_hash": "fixed_size_binary[16]", "mean_intensity": "float",
        "border_median": "float", "block": "int32",
    }  # fmt: skip
    names = ("key", "source", "class", "group", "collection", "reason")
    assert columns(QUARANTINE_SCHEMA) == {"cell_id": "int64", **dict.fromkeys(names, "string")}
    assert columns(BLOCKS_SCHEMA) == {
        "shard": "string", "offset": "int64", "bytes": "int64", "first_cell": "int64", "num_cells": "int32",
        "split": "string",
    }  # fmt: skip
    assert columns(QUALITY_SCHEMA) == {"cell_id": "int64", "score": "float", "reason": "string", "verdict": "string"}
    assert columns(SPLIT_SCHEMA) == {"cell_id": "int64", "split": "string"}
    assert (SPLITS, VERDICTS) == (("train", "valid", "test"), ("keep", "drop"))
    assert set(NULLABLE) == {"um_per_px", "class", "group", "collection"}


def test_written_tables_have_these_columns(make_dataset):
    folder = make_dataset(20, layout="block").path
    assert pq.read_schema(folder / "manifest.parquet").remove_metadata().equals(SCHEMA)
    assert pq.read_schema(folder / "blocks.parquet").remove_metadata().equals(BLOCKS_SCHEMA)
    assert pq.read_schema(folder / "splits" / "default.parquet").remove_metadata().equals(SPLIT_SCHEMA)
