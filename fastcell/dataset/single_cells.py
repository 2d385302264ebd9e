"""Read single cells by cell_id directly from the tar: for figures, checks and error messages, not for training."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from fastcell.dataset.decode import decode
from fastcell.dataset.manifest import Manifest
from fastcell.errors import BadCell, DataError

_AT_ONCE = 256
_SHARDS_AT_ONCE = 8
HINT_RESTORE_SHARD = "Restore the shard from a copy, or pack or index the data again"


def read_cells(manifest: Manifest, rows: Iterable[int], verify: bool = True, depth: int = 8) -> Iterator[np.ndarray]:
    """Yield the pixels of cells in the given order.

    Args:
        manifest: manifest of the data set.
        rows: cell_ids.
        verify: compare the stored bytes with the manifest's hash before decoding.
        depth: bits per grey level, 8 or 16, as for `fastcell.dataset.decode.decode`.

    Yields:
        (H, W) uint8 or uint16, grey. A 16-bit source is mapped by the window of the data set.

    Raises:
        DataError: a shard is missing or too short, or the stored bytes differ from the bytes that were packed. The
            error names shard and key.
    """
    ids = np.fromiter(rows, np.int64)
    columns = ("key", "shard", "offset", "bytes", "encoding", "height", "width", "byte_hash")
    table = manifest.select_cells(columns, ids).to_pylist()
    window = None if manifest.info.window is None else (manifest.info.window[0], manifest.info.window[1])
    files: dict[str, int] = {}
    try:
        for place, cell in enumerate(table):
            shard, key = cell["shard"], cell["key"]
            try:
                if manifest.remote is not None:
                    if place % _AT_ONCE == 0:
                        downloaded = _download(manifest, table[place : place + _AT_ONCE])
                    data = downloaded[place % _AT_ONCE]
                else:
                    if shard not in files:
                        files[shard] = manifest.open_shard(shard)
                    data = os.pread(files[shard], cell["bytes"], cell["offset"])
            except FileNotFoundError:
                raise DataError(f"the shard is missing. {HINT_RESTORE_SHARD}.", shard=shard) from None
            if len(data) != cell["bytes"]:
                raise DataError(f"the shard ends before the cell does. {HINT_RESTORE_SHARD}.", shard=shard, key=key)
            if verify and hashlib.blake2b(data, digest_size=16).digest() != cell["byte_hash"]:
                raise DataError(
                    f"the stored bytes are not those that were packed. {HINT_RESTORE_SHARD}.", shard=shard, key=key
                )
            if cell["encoding"] == "raw":
                pixels = np.frombuffer(data, np.uint8).reshape(cell["height"], cell["width"])
                yield pixels if depth == 8 else pixels.astype(np.uint16) * np.uint16(257)
                continue
            try:
                yield decode(data, cell["encoding"], window, depth).pixels
            except BadCell as error:
                raise DataError(f"{error.reason}. {HINT_RESTORE_SHARD}.", shard=shard, key=key) from None
    finally:
        for handle in files.values():
            os.close(handle)


def _download(manifest: Manifest, cells: list[dict[str, Any]]) -> list[bytes]:
    """Return the stored bytes of cells of a data set at an address, without the rest of their shards."""
    places: dict[str, list[int]] = {}
    for number, cell in enumerate(cells):
        places.setdefault(cell["shard"], []).append(number)

    def download(shard: str) -> list[bytes]:
        ranges = [
            (cells[number]["offset"], cells[number]["offset"] + cells[number]["bytes"]) for number in places[shard]
        ]
        return manifest.remote.read_ranges(shard, manifest.shard_sizes[shard], ranges)  # type: ignore[union-attr]

    found = [b""] * len(cells)
    with ThreadPoolExecutor(_SHARDS_AT_ONCE, "fastcell-ranges") as pool:
        for shard, parts in zip(places, pool.map(download, places), strict=True):
            for number, data in zip(places[shard], parts, strict=True):
                found[number] = data
    return found
