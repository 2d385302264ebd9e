"""Shards: cells written into tars, and the shards of a run put together as a data set.

Cell layout: `KEY.jpg|png|tif|npy` with the source's bytes and `KEY.cls` with the class number as text, as every
WebDataset tool reads them. Block layout: `block-NNNNNNNN.cells` (`fastcell.dataset.block_layout`). Headers carry no
time and no owner, so the same cells give the same bytes.
"""

from __future__ import annotations

import io
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fastcell import __version__
from fastcell.dataset import tar
from fastcell.dataset.block_layout import FIRST_CELL_POSITION, MAX_BLOCK_BYTES, BlockCells, make_block, read_block
from fastcell.dataset.decode import DecodedCell, DecoderMessages
from fastcell.dataset.grey_window import Window
from fastcell.dataset.instrument_features import Features, write_features
from fastcell.dataset.manifest import DatasetInfo, Manifest, write_manifest, write_quarantine, write_split
from fastcell.dataset.parquet import write_parquet
from fastcell.dataset.schema import BLOCKS_SCHEMA, SCHEMA
from fastcell.errors import DataError, invalid
from fastcell.packing.records import CellTable, Record, ShardResult, make_table
from fastcell.storage.saved_pieces import load_pieces, save_pieces
from fastcell.storage.staging import put_in_place, staging
from fastcell.system.text import storable

__all__ = [
    "BlockCells",
    "Record",
    "ShardResult",
    "finish_dataset",
    "put_in_place",
    "read_block",
    "staging",
    "write_block_shard",
    "write_cell_shard",
]

_UNSAFE = re.compile(r"[^\w\-+=@,./]+")
_MAX_KEY_BYTES = 80


def write_cell_shard(
    path: str | os.PathLike[str], records: Iterable[Record], window: Window = None, classes: Sequence[str] = ()
) -> ShardResult:
    """Write a shard with one cell per record; every record is decoded once, bad ones go to quarantine instead.

    Args:
        path: of the tar; it must not exist.
        records: in the order to be stored; may be a generator that reads files.
        window: grey levels (low, high) of 16-bit cells that map to 0 and 255. Stored bytes stay as they are.
        classes: class names in the order of their numbers, for `.cls`.

    Raises:
        ArgumentError: 16-bit cells without window, or a class that is not in `classes`.
        OSError: the file cannot be written.
    """
    path = Path(path)
    numbers = {name: b"%d" % number for number, name in enumerate(classes)}
    table, names = CellTable(path.name, window), set[str]()
    with open(path, "xb", buffering=1 << 20) as file, DecoderMessages() as messages:
        position = 0
        for record in records:
            cell = table.decode(record, messages)
            if cell is None:
                continue
            data = _file_bytes(record, cell)
            extension = "npy" if cell.encoding == "raw" else cell.encoding
            name = _record_name(record.key, names)
            table.admit(record, cell, position + tar.BLOCK, data)
            position += _write_member(file, f"{name}.{extension}", data)
            if record.class_name is not None:
                if record.class_name not in numbers:
                    raise invalid("classes", "the list of all class names", list(classes), f"Add {record.class_name!r}")
                position += _write_member(file, f"{name}.cls", numbers[record.class_name])
        return _close_shard(path, file, table)


def write_block_shard(
    path: str | os.PathLike[str], blocks: Iterable[tuple[str, Sequence[Record]]], window: Window = None
) -> ShardResult:
    """Write a shard with one block of cells per record, decoded and, where 16-bit, windowed.

    Args:
        path: of the tar; it must not exist.
        blocks: (split, records) each; `split` is train, valid, test or empty. A block without a good cell is
            left out.
        window: as in `write_cell_shard`.

    Raises:
        ArgumentError: 16-bit cells without window, or more than 2 GiB of pixels in one block.
        OSError: the file cannot be written.
    """
    path = Path(path)
    table = CellTable(path.name, window)
    block_rows: list[tuple[str, int, int, int, int, str]] = []
    with open(path, "xb", buffering=1 << 20) as file, DecoderMessages() as messages:
        position = 0
        for split, records in blocks:
            pairs = [(record, table.decode(record, messages)) for record in records]
            good = [(record, cell) for record, cell in pairs if cell is not None]
            if not good:
                continue
            if sum(cell.pixels.size for _, cell in good) > MAX_BLOCK_BYTES:
                raise invalid("block size", "at most 2 GiB of pixels", f"{len(good)} cells", "Put fewer in a block")
            payload, start = make_block([cell.pixels for _, cell in good], len(table))
            number, first = len(block_rows), position + tar.BLOCK
            block_rows.append((path.name, first, len(payload), len(table), len(good), split))
            for record, cell in good:
                table.admit(record, cell, first + start, memoryview(payload)[start : start + cell.pixels.size], number)
                start += cell.pixels.size
            position += _write_member(file, f"block-{number:08d}.cells", payload)
        return _close_shard(path, file, table)._replace(blocks=make_table(block_rows, BLOCKS_SCHEMA))


def finish_dataset(
    tmp_dir: Path,
    out_dir: str | os.PathLike[str],
    results: Sequence[ShardResult],
    info: DatasetInfo,
    splits: Mapping[str, np.ndarray | Mapping[str, str]] | None = None,
    quarantine: pa.Table | None = None,
    features: Features | None = None,
) -> Manifest:
    """Give the cells their ids, write manifest and sidecars beside the shards, and put the folder in place.

    Args:
        tmp_dir: folder from `staging(out_dir)` with the shards of `results`, and nothing that is not to be kept.
        out_dir: as given to `staging`.
        results: one per shard in stored order; cell_ids count through them. Shards without a cell are dropped.
        info: name, classes, layout and so on; shards and counts are filled in here, and `um_per_px` where all cells
            share it.
        splits: for each name the sides, as (N,) str in the order of cell_id or as mapping from key to side. Without a
            split named `default`, the block layout takes it from its blocks.
        quarantine: further rows of `QUARANTINE_SCHEMA`, e.g. of files that could not be read.
        features: of the instrument, by key.

    Raises:
        DataError: no usable cell.
    """
    bad = pa.concat_tables([result.quarantine for result in results] + ([] if quarantine is None else [quarantine]))
    results = _drop_empty_shards(tmp_dir, results)
    if not results:
        raise DataError(f"no usable cell: {describe_reasons(bad)}. Check the source folder and its pattern.")
    write_sidecars(tmp_dir, results, info, splits, bad, features)
    return Manifest.open(put_in_place(tmp_dir, Path(out_dir).resolve()))


def write_sidecars(
    folder: Path,
    results: Sequence[ShardResult],
    info: DatasetInfo,
    splits: Mapping[str, np.ndarray | Mapping[str, str]] | None,
    bad: pa.Table,
    features: Features | None = None,
) -> None:
    """Write everything but the shards into `folder`, dataset.json last. Arguments as of `finish_dataset`; `bad` is the
    whole quarantine table."""
    table, blocks = number_cells(results)
    unknown = set(table.column("class").unique().to_pylist()) - {None, *info.classes}
    if unknown:
        raise invalid("classes", "the list of all class names", info.classes, f"Add {sorted(unknown)}")
    info = fill_info(info, results, table, bad.num_rows)
    if blocks is not None:
        write_parquet(folder / "blocks.parquet", blocks)
        _number_blocks(folder, blocks)
        sides = np.repeat(blocks.column("split").to_numpy(zero_copy_only=False), blocks.column("num_cells").to_numpy())
        splits = {"default": sides.astype(str), **(splits or {})}
    for name, given in (splits or {}).items():
        write_split(folder, name, _sides(given, table))
    if bad.num_rows:
        write_quarantine(folder, bad)
    if features is not None:
        write_features(folder, features, table.column("key"))
    write_manifest(folder, table, info)


def number_cells(results: Sequence[ShardResult]) -> tuple[pa.Table, pa.Table | None]:
    """Join the rows of the shards; cell_ids, block numbers and `first_cell` then count over the whole data set."""
    table = pa.concat_tables([result.rows for result in results]).combine_chunks()
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
    """`info` with shards and counts, and with `um_per_px` where all cells share one."""
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


def describe_reasons(quarantine: pa.Table, most: int = 3) -> str:
    """`412 bad: truncated (400), empty file (12)`; the `most` commonest reasons of a quarantine table."""
    if not quarantine.num_rows:
        return "none found"
    counts = Counter(quarantine.column("reason").to_pylist()).most_common()
    listed = ", ".join(f"{reason} ({count:,})" for reason, count in counts[:most])
    rest = sum(count for _, count in counts[most:])
    return f"{quarantine.num_rows:,} bad: {listed}" + (f", others ({rest:,})" if rest else "")


def _drop_empty_shards(tmp_dir: Path, results: Sequence[ShardResult]) -> list[ShardResult]:
    for result in results:
        if not result.rows.num_rows:
            (tmp_dir / result.name).unlink(missing_ok=True)
    return [result for result in results if result.rows.num_rows]


def _number_blocks(tmp_dir: Path, blocks: pa.Table) -> None:
    """Write the cell_id of each block's first cell, known only now, into its record."""
    for name in blocks.column("shard").unique().to_pylist():
        mine = blocks.filter(pc.equal(blocks.column("shard"), name))
        with open(tmp_dir / name, "r+b") as file:
            for block in mine.select(["offset", "first_cell"]).to_pylist():
                file.seek(block["offset"] + FIRST_CELL_POSITION)
                file.write(block["first_cell"].to_bytes(8, "little", signed=True))
            file.flush()
            os.fsync(file.fileno())


def _sides(sides: np.ndarray | Mapping[str, str], table: pa.Table) -> np.ndarray:
    if isinstance(sides, Mapping):
        return np.array([sides.get(key, "") for key in table.column("key").to_pylist()], dtype="<U5")
    if len(sides) != table.num_rows:
        raise invalid("splits", f"one side for each of the {table.num_rows} cells", len(sides), "Give a mapping by key")
    return np.asarray(sides).astype("<U5")


def _close_shard(path: Path, file: BinaryIO, table: CellTable) -> ShardResult:
    file.write(tar.END)
    file.flush()
    os.fsync(file.fileno())
    return ShardResult(path.name, os.fstat(file.fileno()).st_size, table.rows(), table.quarantine())


def _write_member(file: BinaryIO, name: str, data: bytes) -> int:
    """Write header, data and padding; returns how many bytes that were."""
    padding = tar.padding(len(data))
    file.write(tar.make_header(name.encode(), len(data)))
    file.write(data)
    file.write(padding)
    return tar.BLOCK + len(data) + len(padding)


def _file_bytes(record: Record, cell: DecodedCell) -> bytes:
    if isinstance(record.data, bytes):
        return record.data
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asarray(record.data).reshape(cell.pixels.shape), allow_pickle=False)
    return file.getvalue()


def _record_name(key: str, names: set[str]) -> str:
    """A name for `key` that is safe in a tar: no dot, at most 80 bytes, and not in `names` yet, where it is added."""
    folder, _, base = key.rpartition("/")
    stem = base.rpartition(".")[0] or base
    parts = [part for part in (*folder.split("/"), stem.replace(".", "_")) if part.strip(". ")]
    name = _UNSAFE.sub("_", "/".join(parts)) or "cell"
    encoded = name.encode("utf-8", "replace")
    if len(encoded) > _MAX_KEY_BYTES:
        name = encoded[: _MAX_KEY_BYTES - 17].decode("utf-8", "ignore").rstrip("/")
        name += "-" + blake2b(storable(key).encode(), digest_size=8).hexdigest()
    unique, number = name, 2
    while unique in names:
        unique, number = f"{name}-{number}", number + 1
    names.add(unique)
    return unique


def shard_once(path: Path, saved_dir: Path, stamp: str, write: Callable[[], ShardResult]) -> ShardResult:
    """The shard `path`: as it is where an earlier run has finished it from the same source, else written anew.

    Args:
        path: of the tar.
        saved_dir: `Staging.saved_dir`.
        stamp: of the source files, so that a change of one is seen.
        write: makes the tar.

    Raises:
        OSError: something cannot be written; what `write` raises.
    """
    saved_path = saved_dir / f"{path.name}.saved"
    saved = load_pieces(saved_path, stamp)
    if saved is not None and path.exists() and path.stat().st_size == saved.facts["bytes"]:
        return ShardResult(path.name, saved.facts["bytes"], *saved.tables)
    saved_path.unlink(missing_ok=True)
    path.unlink(missing_ok=True)
    result = write()
    tables = [table for table in (result.rows, result.quarantine, result.blocks) if table is not None]
    save_pieces(saved_path, {"stamp": stamp, "bytes": result.bytes}, tables)
    return result
