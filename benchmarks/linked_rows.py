"""Data sets with many rows and few stored cells: the same tars, linked under many names."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from fastcell.dataset.manifest import Manifest
from fastcell.packing.finish_dataset import finish_dataset
from fastcell.packing.records import ShardResult
from fastcell.storage.staging import staging

SHARD_CELLS = 10_000


def make_rows(base: Manifest, out: Path, num_rows: int, shard_cells: int = SHARD_CELLS) -> Manifest:
    """A data set of `num_rows` rows over the stored cells of `base`: its tars under many names, by links.

    Keys and pixel hashes differ in every row, as they do in a set without copies; byte hashes are those of the bytes.

    Args:
        base: with `shard_cells` cells in each shard.
        out: folder of the set, on the file system of `base`.
        num_rows: a multiple of `shard_cells`.
        shard_cells: cells of a shard.
    """
    sides = base.split()
    edges = np.searchsorted(base.shard_index, np.arange(len(base.info.shards) + 1))
    rng = np.random.default_rng(0)
    results, split = [], []
    with staging(out) as folder:
        for number, first in enumerate(range(0, num_rows, shard_cells)):
            shard = number % len(base.info.shards)
            begin, end = int(edges[shard]), min(int(edges[shard + 1]), int(edges[shard]) + num_rows - first)
            if end < edges[shard + 1]:
                raise ValueError(f"num_rows must be a multiple of {shard_cells:,}, got {num_rows:,}")
            name = f"shard-{number:06d}.tar"
            os.link(base.shard_path(shard), folder / name)
            rows = base.table.slice(begin, end - begin)
            columns = {
                "key": pa.array([f"{number:04d}/{key}" for key in rows.column("key").to_pylist()]),
                "shard": pa.array([name] * len(rows)),
                "pixel_hash": pa.FixedSizeBinaryArray.from_buffers(
                    pa.binary(16), len(rows), [None, pa.py_buffer(rng.bytes(16 * len(rows)))]
                ),
            }
            for column, values in columns.items():
                rows = rows.set_column(rows.schema.get_field_index(column), column, values)
            size = base.info.shards[shard]["bytes"]
            results.append(ShardResult(name, size, rows, base.quarantine().slice(0, 0)))
            split.append(sides[begin:end])
        info = replace(base.info, shards=[], name=f"{num_rows:,} rows")
        return finish_dataset(folder, out, results, info, {"default": np.concatenate(split)})
