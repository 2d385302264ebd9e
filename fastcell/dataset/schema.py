"""Columns of the tables of a data set: manifest, quarantine, blocks, quality and splits."""

from __future__ import annotations

from typing import Any, Literal, get_args

import pyarrow as pa

SubsetName = Literal["train", "valid", "test"]

FORMAT_VERSION = 1
SCHEMA = pa.schema(
    [
        ("cell_id", pa.int64()),  # row number, given once
        ("key", pa.string()),  # path as the source had it, with "/", e.g. "G1/a.png"
        ("shard", pa.string()),  # file name, relative to the data folder
        ("offset", pa.int64()),  # of the cell's stored bytes, absolute in the tar
        ("bytes", pa.int64()),
        ("encoding", pa.string()),  # jpg | png | tif | npy | raw
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("depth", pa.int8()),  # 8 | 16 bit per grey level, of the stored bytes
        ("channels", pa.int8()),  # of the stored bytes; colour is turned into grey at decode
        ("um_per_px", pa.float32()),  # NaN: unknown
        ("class", pa.string()),  # null: unlabelled
        ("group", pa.string()),  # donor, run, source file: whatever must not be split; null: none
        ("collection", pa.string()),  # null: none
        ("byte_hash", pa.binary(16)),  # BLAKE2b of the stored bytes: integrity
        ("pixel_hash", pa.binary(16)),  # BLAKE2b of shape and decoded grey pixels: duplicates
        ("mean_intensity", pa.float32()),  # decoded 8-bit grey levels
        ("border_median", pa.float32()),  # median of the outermost frame of pixels, 8-bit grey levels
        ("block", pa.int32()),  # row of blocks.parquet; -1 in the cell layout
    ]
)
QUARANTINE_SCHEMA = pa.schema(
    [
        ("cell_id", pa.int64()),  # null: never admitted to the manifest
        ("key", pa.string()),
        ("source", pa.string()),  # file or shard it came from
        ("class", pa.string()),
        ("group", pa.string()),
        ("collection", pa.string()),
        ("reason", pa.string()),
    ]
)
BLOCKS_SCHEMA = pa.schema(
    [
        ("shard", pa.string()),
        ("offset", pa.int64()),  # of the record's payload, absolute in the tar
        ("bytes", pa.int64()),
        ("first_cell", pa.int64()),  # cell_ids in a block are consecutive
        ("num_cells", pa.int32()),
        ("split", pa.string()),  # side its cells were put on before they were read; splits/ has the last word
    ]
)
QUALITY_SCHEMA = pa.schema(
    [
        ("cell_id", pa.int64()),
        ("score", pa.float32()),  # 0 good .. 1 bad
        ("reason", pa.string()),  # the likeliest fault, whatever the verdict; empty: none
        ("verdict", pa.string()),  # keep | drop
    ]
)
SPLIT_SCHEMA = pa.schema([("cell_id", pa.int64()), ("split", pa.string())])
SPLITS: tuple[SubsetName, ...] = get_args(SubsetName)


SUBSET_NAMES = {"train": "training", "valid": "validation", "test": "test"}
"""What texts call the subsets."""


LAYOUTS = ("cell", "block")
VERDICTS = ("keep", "drop")
NULLABLE = ("um_per_px", "class", "group", "collection")


def make_table(rows: list[tuple[Any, ...]], schema: pa.Schema) -> pa.Table:
    """Rows as tuples in the order of `schema` -> table."""
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(schema)
    return pa.table([pa.array(column, kind) for column, kind in zip(columns, schema.types, strict=True)], schema=schema)
