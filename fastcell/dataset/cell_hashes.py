"""BLAKE2b hashes of cells: compare stored bytes with the manifest."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b

import numpy as np
import pyarrow.compute as pc

from fastcell.dataset.manifest import Manifest
from fastcell.dataset.parquet import PART_ROWS
from fastcell.dataset.rows.byte_values import byte_values
from fastcell.dataset.shard_reader import Stored

_VERSION_COLUMNS = ("key", "class", "group", "collection")
_VERSION_BYTES = 6


_FEWEST_BYTES = 1 << 18  # bytes per thread; fewer bytes are hashed faster than a thread starts


def wrong_bytes(manifest_hashes: np.ndarray, stored: Stored, places: np.ndarray, threads: int = 1) -> np.ndarray:
    """Find cells whose stored bytes do not match the manifest's hash (128-bit BLAKE2b, about 1 GB/s and thread).

    Args:
        manifest_hashes: (N, 16) uint8, from `hashes_of`.
        stored: the bytes that were read.
        places: (k,) int64, indices into `stored.cell_ids` of the cells to check.
        threads: number of threads that may share the work.

    Returns:
        (k,) bool, True for a cell whose bytes do not match.
    """
    num_threads = min(threads, int(stored.sizes[places].sum()) // _FEWEST_BYTES)
    if num_threads > 1:
        with ThreadPoolExecutor(num_threads, "fastcell-hash") as pool:
            digests = b"".join(pool.map(lambda some: _digests(stored, some), np.array_split(places, num_threads)))
    else:
        digests = _digests(stored, places)
    found = np.frombuffer(digests, np.uint8).reshape(-1, 16)
    return (found != manifest_hashes[stored.cell_ids[places]]).any(axis=1)  # type: ignore[no-any-return]


def _digests(stored: Stored, places: np.ndarray) -> bytes:
    """Return the hashes of cells, 16 bytes each; the interpreter lock is released for every cell above 2 kB."""
    view = stored.buffer.data
    starts = stored.starts[places]
    pairs = zip(starts.tolist(), (starts + stored.sizes[places]).tolist(), strict=True)
    return b"".join([blake2b(view[start:end], digest_size=16).digest() for start, end in pairs])


def hashes_of(manifest: Manifest) -> np.ndarray:
    """Return the byte hash of every cell as (N, 16) uint8, without a copy if the manifest is whole."""
    return byte_values(manifest.table.column("byte_hash"))


def hash_pixels(pixels: np.ndarray) -> bytes:
    """Hash the height, width and pixels of a cell with 128-bit BLAKE2b.

    Height and width are hashed as little-endian int32, followed by the pixels.

    Args:
        pixels: (H, W) uint8, contiguous.

    Returns:
        The hash, 16 bytes.
    """
    height, width = pixels.shape
    digest = blake2b(height.to_bytes(4, "little") + width.to_bytes(4, "little"), digest_size=16)
    digest.update(pixels.data)
    return digest.digest()


def version_id(manifest: Manifest) -> str:
    """Return a hash of the keys, pixels, classes, groups and collections of all cells: 12 hexadecimal digits (BLAKE2b).

    It does not depend on the order of the cells, or on shards, splits and verdicts.
    """
    order = pc.sort_indices(manifest.table.column("key")).to_numpy()
    digest = blake2b(digest_size=_VERSION_BYTES)
    for name in (*_VERSION_COLUMNS, "pixel_hash"):
        for begin in range(0, len(order), PART_ROWS):
            values = manifest.select_cells([name], order[begin : begin + PART_ROWS]).column(0).to_pylist()
            digest.update(b"".join(map(_told, values)))
    return digest.hexdigest()


def _told(value: str | bytes | None) -> bytes:
    """Return the part of the hashed text that stands for a value of a column."""
    if isinstance(value, bytes):
        return str(value).encode()
    text = b"\xff" if value is None else value.encode("utf-8", "surrogateescape")
    return len(text).to_bytes(4, "little") + text
