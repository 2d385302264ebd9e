"""Columns of the tables of a data set: manifest, quarantine, blocks, quality and splits."""

from __future__ import annotations

from typing import Any, Literal, get_args

import pyarrow as pa

from fastcell.storage.formats import FORMATS

SubsetName = Literal["train", "valid", "test"]

FORMAT_VERSION = FORMATS["data set"].number
PITCHES = (1e-6, 1e6)
"""Valid range of the pixel size that a user states [um]; float32 holds it."""
SCHEMA = pa.schema(
    [
        ("cell_id", pa.int64()),  # row number, never changes
        ("key", pa.string()),  # path in the source, with "/", e.g. "G1/a.png"
        ("shard", pa.string()),  # file name, relative to the data folder
        ("offset", pa.int64()),  # of the cell's stored bytes, from the start of the tar
        ("bytes", pa.int64()),
        ("encoding", pa.string()),  # jpg | png | tif | npy | raw
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("depth", pa.int8()),  # 8 | 16 bit per grey level, of the stored bytes
        ("channels", pa.int8()),  # of the stored bytes; colour is converted to grey when decoding
        ("um_per_px", pa.float32()),  # NaN: unknown
        ("class", pa.string()),  # null: unlabelled
        ("group", pa.string()),  # donor, run or source file whose cells stay in one subset; null: none
        ("collection", pa.string()),  # null: none
        ("byte_hash", pa.binary(16)),  # BLAKE2b of the stored bytes, for integrity checks
        ("pixel_hash", pa.binary(16)),  # BLAKE2b of shape and decoded grey pixels, to find duplicates
        ("mean_intensity", pa.float32()),  # mean of the decoded 8-bit grey levels
        ("border_median", pa.float32()),  # median of the outermost frame of pixels, 8-bit grey levels
        ("block", pa.int32()),  # row of blocks.parquet; -1 in the cell layout
    ]
)
QUARANTINE_SCHEMA = pa.schema(
    [
        ("cell_id", pa.int64()),  # null: the cell is not in the manifest
        ("key", pa.string()),
        ("source", pa.string()),  # source file or shard of the cell
        ("class", pa.string()),
        ("group", pa.string()),
        ("collection", pa.string()),
        ("reason", pa.string()),
    ]
)
BLOCKS_SCHEMA = pa.schema(
    [
        ("shard", pa.string()),
        ("offset", pa.int64()),  # of the record's payload, from the start of the tar
        ("bytes", pa.int64()),
        ("first_cell", pa.int64()),  # cell_ids in a block are consecutive
        ("num_cells", pa.int32()),
        ("split", pa.string()),  # subset planned for its cells before they were read; splits/ takes precedence
    ]
)
QUALITY_SCHEMA = pa.schema(
    [
        ("cell_id", pa.int64()),
        ("score", pa.float32()),  # 0 (good) to 1 (bad)
        ("reason", pa.string()),  # most likely fault, whatever the verdict; empty: none
        ("verdict", pa.string()),  # keep | drop
    ]
)
SPLIT_SCHEMA = pa.schema([("cell_id", pa.int64()), ("split", pa.string())])
SPLITS: tuple[SubsetName, ...] = get_args(SubsetName)


SUBSET_NAMES = {"train": "training", "valid": "validation", "test": "test"}
"""Names of the subsets in messages and reports."""


LAYOUTS = ("cell", "block")
VERDICTS = ("keep", "drop")
NULLABLE = ("um_per_px", "class", "group", "collection")


def make_table(rows: list[tuple[Any, ...]], schema: pa.Schema) -> pa.Table:
    """Build a table from rows, given as tuples in the order of `schema`."""
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(schema)
    return pa.table([pa.array(column, kind) for column, kind in zip(columns, schema.types, strict=True)], schema=schema)
