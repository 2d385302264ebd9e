"""Data sets with many rows and few stored cells: the same tars or blocks, linked under many names."""

import os
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fastcell.dataset.manifest import Manifest
from fastcell.dataset.parquet import write_parquet
from fastcell.dataset.rows.split_table import write_split
from fastcell.dataset.schema import SCHEMA
from fastcell.storage.staging import put_in_place, staging
from fastcell.storage.whole_files import write_text

SHARD_CELLS = 10_000
_PART_SHARDS = 100


def make_rows(base, out, num_rows, shard_cells=SHARD_CELLS):
    """The data set that `write_rows` writes."""
    return Manifest.open(write_rows(base, out, num_rows, shard_cells))


def write_rows(base, out, num_rows, shard_cells=SHARD_CELLS):
    """Write a data set of `num_rows` rows over the stored cells of `base`: its tars under many names, by links.

    Keys and pixel hashes differ in every row, as they do in a set without copies; byte hashes are those of the bytes.

    Args:
        base: with `shard_cells` cells in each shard.
        out: folder of the set, on the file system of `base`.
        num_rows: a multiple of `shard_cells`.
        shard_cells: cells of a shard.
    """
    shards, edges = base.info.shards, base.shard_edges
    assert edges is not None
    sides, rng = base.split_codes(), np.random.default_rng(0)
    if num_rows % shard_cells or any(shard["num_cells"] != shard_cells for shard in shards):
        raise ValueError(f"num_rows must be a multiple of {shard_cells:,}, got {num_rows:,}")
    numbers = range(num_rows // shard_cells)
    names = [f"shard-{number:06d}.tar" for number in numbers]

    def rows(number):
        rows = base.table.slice(int(edges[number % len(shards)]), shard_cells)
        hashes = pa.py_buffer(rng.bytes(16 * shard_cells))
        columns = {
            "cell_id": pa.array(np.arange(number * shard_cells, (number + 1) * shard_cells)),
            "key": pc.binary_join_element_wise(f"{number:04d}", rows.column("key").cast(pa.string()), "/"),
            "shard": pa.array([names[number]] * shard_cells, pa.string()),
            "pixel_hash": pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), shard_cells, [None, hashes]),
        }
        for column, values in columns.items():
            rows = rows.set_column(rows.schema.get_field_index(column), column, values)
        return rows.cast(SCHEMA)

    def parts():
        for first in range(0, len(numbers), _PART_SHARDS):
            yield pa.concat_tables(map(rows, numbers[first : first + _PART_SHARDS])).combine_chunks()

    with staging(out) as folder:
        for number, name in enumerate(names):
            os.link(base.shard_path(number % len(shards)), folder / name)
        whole = np.tile(sides, -(-num_rows // len(sides)))[:num_rows]
        write_split(folder, "default", whole)
        write_parquet(folder / "manifest.parquet", parts())
        info = replace(
            base.info,
            name=f"{num_rows:,} rows",
            num_cells=num_rows,
            num_quarantined=0,
            shards=[{**shards[number % len(shards)], "name": name} for number, name in enumerate(names)],
        )
        write_text(folder / "dataset.json", info.to_json())
        return put_in_place(folder, out.resolve())


def repeat_blocks(base, out, times):
    """Write a data set in blocks with the cells of `base` several times: its tars under many names, by links.

    Keys and pixel hashes differ in every row, as they do in a set without copies.

    Args:
        base: data set with the layout ``block``.
        out: folder of the set, on the file system of `base`.
        times: number of repeats, >= 1.
    """
    shards, num, rng = base.info.shards, len(base), np.random.default_rng(0)
    blocks = pq.read_table(base.path / "blocks.parquet")
    names = [f"shard-{number:06d}.tar" for number in range(times * len(shards))]
    old = pa.array([shard["name"] for shard in shards])

    def repeat(table, number, added):
        """The rows with the shards of a repeat, and with whole numbers raised by `added`."""
        places = pc.add(pc.index_in(table.column("shard").cast(pa.string()), old), number * len(shards))
        columns = {"shard": pa.array(names).take(places)}
        columns |= {name: pc.add(table.column(name).cast(pa.int64()), value) for name, value in added.items()}
        if "key" in table.column_names:
            hashes = pa.py_buffer(rng.bytes(16 * num))
            columns["key"] = pc.binary_join_element_wise(f"{number:04d}", table.column("key").cast(pa.string()), "/")
            columns["pixel_hash"] = pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), num, [None, hashes])
        schema = table.schema
        for name, values in columns.items():
            table = table.set_column(table.schema.get_field_index(name), name, values)
        return table.cast(schema)

    repeats = range(times)
    with staging(out) as folder:
        for number, name in enumerate(names):
            os.link(base.shard_path(number % len(shards)), folder / name)
        write_split(folder, "default", np.tile(base.split_codes(), times))
        numbers = [{"cell_id": num * number, "block": blocks.num_rows * number} for number in repeats]
        write_parquet(folder / "manifest.parquet", (repeat(base.table, *pair) for pair in enumerate(numbers)))
        firsts = [repeat(blocks, number, {"first_cell": num * number}) for number in repeats]
        write_parquet(folder / "blocks.parquet", pa.concat_tables(firsts))
        described = [{**shards[number % len(shards)], "name": name} for number, name in enumerate(names)]
        info = replace(
            base.info, name=f"{num * times:,} rows", num_cells=num * times, num_quarantined=0, shards=described
        )
        write_text(folder / "dataset.json", info.to_json())
        return put_in_place(folder, out.resolve())
