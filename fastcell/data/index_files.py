"""Index files for DALI's `readers.webdataset`: which bytes of which tar are read, in which order, how often.

Format (DALI's wds2idx, version 1.2): a line `v1.2 N`, then one line per record, `img OFFSET BYTES NAME`. The name
column carries the number of the record, 12 digits, which comes back with the bytes. DALI believes an index: a size past
the end of the tar ends the process by a signal, so every line is held against the tar here first.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fastcell.data import tar
from fastcell.data.manifest import Manifest, replace_file
from fastcell.errors import DataError, invalid

WAY_OUT = "Restore it from a copy, or pack or index the data again"
NUM_HEADERS_CHECKED = 64


class IndexFile(NamedTuple):
    """One index over one shard.

    Attributes:
        shard_path: the tar.
        index_path: its index file.
        num: records in the index, repeats counted.
    """

    shard_path: Path
    index_path: Path
    num: int


def write_index_files(manifest: Manifest, rows: np.ndarray, index_dir: Path) -> list[IndexFile]:
    """Write one index for each shard that `rows` touches, and check it against the tar.

    Args:
        manifest: of the data set.
        rows: (n,) int64, cell_ids, in the block layout rows of blocks.parquet; cells of one shard side by side, in the
            order to be read, one row as often as it is to be read.
        index_dir: folder for the index files; made where missing, files of that name are replaced.

    Returns:
        One entry per shard, in the order of `rows`.

    Raises:
        ArgumentError: a row that does not exist, or rows of a shard in several places.
        DataError: a shard is missing, was changed since the manifest was made, or has no such record; names it.
    """
    rows = np.asarray(rows, dtype=np.int64)
    shard, offsets, sizes = _records(manifest)
    if len(rows) and (rows.min() < 0 or rows.max() >= len(shard)):
        raise invalid("rows", f"from 0 to {len(shard) - 1}", f"{rows.min()} to {rows.max()}", "Use a view's rows")
    chosen = shard[rows]
    if (chosen < 0).any():
        raise DataError(f"{manifest.path}: the manifest names a shard that dataset.json has not. {WAY_OUT}.")
    starts = np.flatnonzero(np.diff(chosen, prepend=-1))
    numbers = chosen[starts]
    if len(np.unique(numbers)) != len(numbers):
        raise invalid("rows", "sorted by shard", f"{len(starts)} runs", "Sort them by the manifest's shard_index")
    index_dir.mkdir(parents=True, exist_ok=True)
    files = []
    for number, part in zip(numbers.tolist(), np.split(rows, starts[1:]), strict=False):
        path = manifest.shard_path(number)
        check_shard(path, offsets[part], sizes[part], expected_bytes=manifest.info.shards[number]["bytes"])
        text = _format(offsets[part], sizes[part], part)
        index_path = index_dir / f"{number:06d}-{path.stem}.idx"
        replace_file(index_path, lambda file, text=text: file.write_bytes(text))  # type: ignore[misc]
        files.append(IndexFile(path, index_path, len(part)))
    return files


def check_shard(path: Path, offsets: np.ndarray, sizes: np.ndarray, expected_bytes: int | None = None) -> None:
    """Hold records against the tar that is to have them.

    All are compared with the file's size and with the 512-byte grid of a tar; of up to 64 of them, spread over the
    file, the tar header in front is read, its checksum and size compared.

    Args:
        path: of the tar.
        offsets: (n,) int64, where the bytes of each record begin.
        sizes: (n,) int64, how many they are.
        expected_bytes: size that the file had when the manifest was made, None if not known.

    Raises:
        DataError: something does not fit.
    """
    try:
        file = os.open(path, os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"the shard is missing from {path.parent}. {WAY_OUT}.", shard=path.name) from None
    try:
        size = os.fstat(file).st_size
        if expected_bytes is not None and size != expected_bytes:
            was = f"it has {size:,} bytes, and had {expected_bytes:,} when the manifest was made"
            raise DataError(f"{was}. {WAY_OUT}.", shard=path.name)
        if not len(offsets):
            return
        wrong = (offsets < tar.BLOCK) | (offsets % tar.BLOCK != 0) | (sizes < 1) | (sizes > size - offsets)
        if wrong.any():
            first = int(np.argmax(wrong))
            raise _not_there(path, int(offsets[first]), int(sizes[first]))
        order = np.argsort(offsets, kind="stable")
        for place in order[np.unique(np.linspace(0, len(order) - 1, NUM_HEADERS_CHECKED).astype(np.int64))].tolist():
            header = os.pread(file, tar.BLOCK, int(offsets[place]) - tar.BLOCK)
            if not tar.checksum_holds(header) or tar.header_size(header) != sizes[place]:
                raise _not_there(path, int(offsets[place]), int(sizes[place]))
    finally:
        os.close(file)


def _records(manifest: Manifest) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Shard number, offset and size of every record, int64 each."""
    if manifest.info.layout != "block":
        return manifest.shard_index, manifest.column("offset"), manifest.column("bytes")
    blocks = manifest.blocks()
    names = {item["name"]: number for number, item in enumerate(manifest.info.shards)}
    shards: Iterable[int] = (names.get(name, -1) for name in blocks.column("shard").to_pylist())
    number = np.fromiter(shards, np.int64, blocks.num_rows)
    return number, blocks.column("offset").to_numpy(), blocks.column("bytes").to_numpy()


def _format(offsets: np.ndarray, sizes: np.ndarray, numbers: np.ndarray) -> bytes:
    columns = zip(offsets.tolist(), sizes.tolist(), numbers.tolist(), strict=True)
    lines = "".join([f"img {offset} {size} {number:012d}\n" for offset, size, number in columns])
    return f"v1.2 {len(numbers)}\n{lines}".encode()


def _not_there(path: Path, offset: int, size: int) -> DataError:
    return DataError(f"no record of {size:,} bytes begins at byte {offset:,}. {WAY_OUT}.", shard=path.name)
