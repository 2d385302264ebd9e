"""Write cells into tars: the shards of a data set.

Cell layout: `KEY.jpg|png|tif|npy` with the bytes of the source and `KEY.cls` with the class number as text, which every
WebDataset tool can read. Block layout: `block-NNNNNNNN.cells` (`fastcell.dataset.block_layout`). Tar headers contain no
time and no owner, so that the same cells give the same bytes.
"""

from __future__ import annotations

import io
import os
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from fastcell.dataset import tar
from fastcell.dataset.block_layout import MAX_BLOCK_BYTES, make_block
from fastcell.dataset.decode import DecodedCell
from fastcell.dataset.decoder_messages import DecoderMessages
from fastcell.dataset.grey_window import Window
from fastcell.dataset.schema import BLOCKS_SCHEMA, make_table
from fastcell.errors import invalid
from fastcell.packing.quick_jpegs import decode_quickly
from fastcell.packing.records import CellTable, Record, ShardResult
from fastcell.system.text import storable

_UNSAFE = re.compile(r"[^\w\-+=@,./]+")
_MAX_KEY_BYTES = 80
_BUFFER_BYTES = 1 << 20
_BATCH_CELLS = 64
_BATCH_BYTES = 1 << 20


def write_cell_shard(
    path: str | os.PathLike[str],
    records: Iterable[Record],
    window: Window = None,
    classes: Sequence[str] = (),
    quick: bool = False,
) -> ShardResult:
    """Write a shard with one cell per record, decode every record once, and quarantine the unusable ones.

    Args:
        path: path of the tar; it must not exist.
        records: records in the order of writing; may be a generator that reads files.
        window: grey levels (low, high) of 16-bit cells that map to 0 and 255. The stored bytes are not changed.
        classes: class names in the order of their numbers, for `.cls`.
        quick: decode plain JPEG cells with compiled loops, which take half a second to load. The results are the same.

    Returns:
        Contents of the shard.

    Raises:
        ArgumentError: If there are 16-bit cells and no window, or a class is not in `classes`.
        OSError: If the file cannot be written.
    """
    path = Path(path)
    numbers = {name: b"%d" % number for number, name in enumerate(classes)}
    table, names = CellTable(path.name, window), set[str]()
    with _open_shard(path) as file, DecoderMessages() as messages:
        position = 0
        for record, cell, measured in _decoded(records, table, messages, quick):
            data = _file_bytes(record, cell)
            extension = "npy" if cell.encoding == "raw" else cell.encoding
            name = _record_name(record.key, names)
            table.admit(record, cell, position + tar.BLOCK, data, measured=measured)
            member = _member(f"{name}.{extension}", data)
            if record.class_name is not None:
                if record.class_name not in numbers:
                    raise invalid("classes", "the list of all class names", list(classes), f"Add {record.class_name!r}")
                member += _member(f"{name}.cls", numbers[record.class_name])
            file.write(member)
            position += len(member)
        return _close_shard(path, file, table)


def _decoded(
    records: Iterable[Record], table: CellTable, messages: DecoderMessages, quick: bool
) -> Iterator[tuple[Record, DecodedCell, tuple[float, float] | None]]:
    """Yield the usable records with their decoded cells, and with mean and border median if they are known."""
    for some in _in_batches(records) if quick else ([record] for record in records):
        done = decode_quickly(some) if quick else [None]
        for record, found in zip(some, done, strict=True):
            if found is not None:
                yield record, DecodedCell(found.pixels, 8, 1, "jpg"), (found.mean, found.border)
            elif (cell := table.decode(record, messages)) is not None:
                yield record, cell, None


def _in_batches(records: Iterable[Record]) -> Iterator[list[Record]]:
    """Yield records in their order, as many at a time as fit into little memory."""
    batch: list[Record] = []
    size = 0
    for record in records:
        batch.append(record)
        size += len(record.data) if isinstance(record.data, bytes) else 0
        if len(batch) == _BATCH_CELLS or size > _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def write_block_shard(
    path: str | os.PathLike[str], blocks: Iterable[tuple[str, Sequence[Record]]], window: Window = None
) -> ShardResult:
    """Write a shard with one block of decoded cells per record. 16-bit cells are mapped by the window.

    Args:
        path: path of the tar; it must not exist.
        blocks: pairs (split, records); `split` is train, valid, test or empty. A block without a usable cell is left
            out.
        window: as in `write_cell_shard`.

    Returns:
        Contents of the shard.

    Raises:
        ArgumentError: If there are 16-bit cells and no window, or one block has more than 2 GiB of pixels.
        OSError: If the file cannot be written.
    """
    path = Path(path)
    table = CellTable(path.name, window)
    block_rows: list[tuple[str, int, int, int, int, str]] = []
    with _open_shard(path) as file, DecoderMessages() as messages:
        position = 0
        for split, records in blocks:
            pairs = [(record, table.decode(record, messages)) for record in records]
            good = [(record, cell) for record, cell in pairs if cell is not None]
            if not good:
                continue
            if sum(cell.pixels.size for _, cell in good) > MAX_BLOCK_BYTES:
                raise invalid(
                    "block size", "at most 2 GiB of pixels", f"{len(good)} cells", "Put fewer cells in a block"
                )
            payload, start = make_block([cell.pixels for _, cell in good], len(table))
            number, first = len(block_rows), position + tar.BLOCK
            block_rows.append((path.name, first, len(payload), len(table), len(good), split))
            for record, cell in good:
                table.admit(record, cell, first + start, memoryview(payload)[start : start + cell.pixels.size], number)
                start += cell.pixels.size
            member = _member(f"block-{number:08d}.cells", payload)
            file.write(member)
            position += len(member)
        return _close_shard(path, file, table)._replace(blocks=make_table(block_rows, BLOCKS_SCHEMA))


class _SummedFile(io.FileIO):
    """File that is written from start to end, with the CRC-32 of its content (2.5 us for 10 kB)."""

    crc32 = 0

    def write(self, data: Any, /) -> int:
        num = super().write(data)
        self.crc32 = zlib.crc32(memoryview(data)[:num], self.crc32)
        return num


def _open_shard(path: Path) -> io.BufferedWriter:
    return io.BufferedWriter(_SummedFile(path, "x"), _BUFFER_BYTES)


def _close_shard(path: Path, file: io.BufferedWriter, table: CellTable) -> ShardResult:
    file.write(tar.END)
    file.flush()
    os.fsync(file.fileno())
    assert isinstance(file.raw, _SummedFile)
    size = os.fstat(file.fileno()).st_size
    return ShardResult(path.name, size, table.rows(), table.quarantine(), crc32=file.raw.crc32, num_deep=table.num_deep)


def _member(name: str, data: bytes) -> bytes:
    """Return header, data and padding."""
    return b"".join((tar.make_header(name.encode(), len(data)), data, tar.padding(len(data))))


def _file_bytes(record: Record, cell: DecodedCell) -> bytes:
    if isinstance(record.data, bytes):
        return record.data
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asarray(record.data).reshape(cell.pixels.shape), allow_pickle=False)
    return file.getvalue()


def _record_name(key: str, names: set[str]) -> str:
    """Return a new name for `key` that is safe in a tar (no dot, at most 80 bytes), and add it to `names`."""
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
