"""Build a data set from finished shards: number the cells, write manifest and sidecars, move the folder in place."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fastcell import __version__
from fastcell.dataset.block_layout import FIRST_CELL_POSITION
from fastcell.dataset.dataset_info import DatasetInfo
from fastcell.dataset.manifest import Manifest
from fastcell.dataset.parquet import write_parquet
from fastcell.dataset.rows.instrument_features import Features, write_features
from fastcell.dataset.rows.split_table import subset_codes, write_split
from fastcell.dataset.rows.write_rows import write_manifest, write_quarantine
from fastcell.dataset.schema import BLOCKS_SCHEMA, SCHEMA
from fastcell.errors import DataError, invalid
from fastcell.packing.quarantine import describe_reasons
from fastcell.packing.records import ShardResult
from fastcell.storage.staging import put_in_place


def finish_dataset(
    tmp_dir: Path,
    out_dir: str | os.PathLike[str],
    results: list[ShardResult],
    info: DatasetInfo,
    splits: Mapping[str, np.ndarray | Mapping[str, str]] | None = None,
    quarantine: pa.Table | None = None,
    features: Features | None = None,
) -> Manifest:
    """Number the cells, write the manifest and sidecars beside the shards, and move the folder to `out_dir`.

    Args:
        tmp_dir: folder made by `staging(out_dir)`. It holds the shards of `results`, and everything in it is kept.
        out_dir: the same path that was given to `staging`.
        results: one result per shard, in the order of writing; the cell_ids count through them in this order. Shards
            without a cell are dropped. The list is emptied when its rows are written, so that memory does not hold them
            beside the rows that are returned.
        info: name, classes, layout and so on. This function fills in shards and counts, and `um_per_px` if all cells
            share one value.
        splits: for each split name the subsets, in the order of cell_id as (N,) str or as (N,) int8 from
            `fastcell.dataset.rows.split_table.subset_codes`, or as a mapping from key to subset. In the block layout,
            the split `default` is taken from the blocks unless it is given here.
        quarantine: further rows of `QUARANTINE_SCHEMA`, e.g. for files that could not be read.
        features: features from the instrument, by key.

    Returns:
        The manifest of the finished data set.

    Raises:
        DataError: If no cell is usable.
    """
    bad = pa.concat_tables([result.quarantine for result in results] + ([] if quarantine is None else [quarantine]))
    full = _drop_empty_shards(tmp_dir, results)
    if not full:
        raise DataError(f"no usable cell: {describe_reasons(bad)}. Check the source folder and its pattern.")
    write_sidecars(tmp_dir, full, info, splits, bad, features)
    results.clear()
    del full, bad
    return Manifest.open(put_in_place(tmp_dir, Path(out_dir).resolve()))


def write_sidecars(
    folder: Path,
    results: Sequence[ShardResult],
    info: DatasetInfo,
    splits: Mapping[str, np.ndarray | Mapping[str, str]] | None,
    bad: pa.Table,
    features: Features | None = None,
) -> None:
    """Write all files except the shards into `folder`, dataset.json last.

    The arguments are those of `finish_dataset`, except that `bad` is the whole quarantine table.

    Raises:
        ArgumentError: If a cell has a class that is not in `info.classes`, or a split has another number of cells.
    """
    pa.default_memory_pool().release_unused()  # of the shards; a row group takes it again
    table, blocks = number_cells(results)
    unknown = set(table.column("class").unique().to_pylist()) - {None, *info.classes}
    if unknown:
        raise invalid("classes", "the list of all class names", info.classes, f"Add {sorted(unknown)}")
    info = fill_info(info, results, table, bad.num_rows)
    if blocks is not None:
        write_parquet(folder / "blocks.parquet", blocks)
        _number_blocks(folder, blocks)
        subsets = subset_codes(blocks.column("split").to_numpy(zero_copy_only=False).astype(str))
        splits = {"default": np.repeat(subsets, blocks.column("num_cells").to_numpy()), **(splits or {})}
    for name, given in (splits or {}).items():
        write_split(folder, name, _in_stored_order(given, table))
    if bad.num_rows:
        write_quarantine(folder, bad)
    if features is not None:
        write_features(folder, features, table.column("key"))
    write_manifest(folder, table, info)


def number_cells(results: Sequence[ShardResult]) -> tuple[pa.Table, pa.Table | None]:
    """Join the rows of the shards and number cells and blocks through the whole data set.

    Args:
        results: one result per shard, in the order of writing; at least one.

    Returns:
        The manifest rows with cell_ids and block numbers, and the rows of `BLOCKS_SCHEMA` with `first_cell`. The second
        table is None in the cell layout.
    """
    table = pa.concat_tables([result.rows for result in results])  # without a copy
    table = table.set_column(0, "cell_id", pa.array(np.arange(table.num_rows), pa.int64()))
    if results[0].blocks is None:
        return table, None
    blocks = pa.concat_tables([result.blocks for result in results if result.blocks is not None]).combine_chunks()
    counts = blocks.column("num_cells").to_numpy().astype(np.int64)
    place = BLOCKS_SCHEMA.get_field_index("first_cell")
    blocks = blocks.set_column(place, "first_cell", pa.array(np.cumsum(counts) - counts, pa.int64()))
    numbers = np.repeat(np.arange(len(counts)), counts)
    place = SCHEMA.get_field_index("block")
    return table.set_column(place, "block", pa.array(numbers, pa.int32())), blocks


def fill_info(info: DatasetInfo, results: Sequence[ShardResult], table: pa.Table, num_quarantined: int) -> DatasetInfo:
    """Return `info` with shards and counts filled in, and with `um_per_px` if all cells share one value.

    Args:
        info: description of the data set.
        results: one result per shard, in the order of writing.
        table: (N,) manifest rows.
        num_quarantined: number of quarantined cells.
    """
    pitch = np.unique(table.column("um_per_px").to_numpy())
    common = float(pitch[0]) if len(pitch) == 1 and np.isfinite(pitch[0]) else None
    return replace(
        info,
        shards=[{"name": item.name, "bytes": item.bytes, "num_cells": item.rows.num_rows} for item in results],
        num_cells=table.num_rows,
        num_quarantined=num_quarantined,
        um_per_px=info.um_per_px if info.um_per_px is not None else common,
        created_by=info.created_by or f"fastcell {__version__}",
    )


def _drop_empty_shards(tmp_dir: Path, results: Sequence[ShardResult]) -> list[ShardResult]:
    for result in results:
        if not result.rows.num_rows:
            (tmp_dir / result.name).unlink(missing_ok=True)
    return [result for result in results if result.rows.num_rows]


def _number_blocks(tmp_dir: Path, blocks: pa.Table) -> None:
    """Write the cell_id of each block's first cell, which is not known earlier, into the record of the block."""
    for name in blocks.column("shard").unique().to_pylist():
        mine = blocks.filter(pc.equal(blocks.column("shard"), name))
        with open(tmp_dir / name, "r+b") as file:
            for block in mine.select(["offset", "first_cell"]).to_pylist():
                file.seek(block["offset"] + FIRST_CELL_POSITION)
                file.write(block["first_cell"].to_bytes(8, "little", signed=True))
            file.flush()
            os.fsync(file.fileno())


def _in_stored_order(subsets: np.ndarray | Mapping[str, str], table: pa.Table) -> np.ndarray:
    if isinstance(subsets, Mapping):
        return subset_codes(np.array([subsets.get(key, "") for key in table.column("key").to_pylist()], str))
    if len(subsets) != table.num_rows:
        raise invalid(
            "splits", f"one subset for each of the {table.num_rows} cells", len(subsets), "Give a mapping by key"
        )
    return subset_codes(np.asarray(subsets))
