"""Columns of the tables on disk: a change of one is a change of the format."""

from __future__ import annotations

import pyarrow.parquet as pq

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
)


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
