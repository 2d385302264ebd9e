"""BLAKE2b hashes of cells: stored bytes against the manifest."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
import pyarrow as pa

from fastcell.dataset.manifest import Manifest
from fastcell.dataset.shard_reader import Stored


def wrong_bytes(manifest_hashes: np.ndarray, stored: Stored, places: np.ndarray) -> np.ndarray:
    """(k,) bool: whether the stored bytes differ from the manifest's hash (BLAKE2b of 128 bit, 3 us a cell).

    Args:
        manifest_hashes: (N, 16) uint8, from `hashes_of`.
        stored: bytes that were read.
        places: (k,) int64, which of them to look at.
    """
    view = stored.buffer.data
    starts = stored.starts[places]
    ends = starts + stored.sizes[places]
    pairs = zip(starts.tolist(), ends.tolist(), strict=True)
    digests = b"".join([blake2b(view[start:end], digest_size=16).digest() for start, end in pairs])
    found = np.frombuffer(digests, np.uint8).reshape(-1, 16)
    return (found != manifest_hashes[stored.cell_ids[places]]).any(axis=1)  # type: ignore[no-any-return]


def hashes_of(manifest: Manifest) -> np.ndarray:
    """(N, 16) uint8, the byte hash of every cell, without a copy."""
    column = manifest.table.column("byte_hash").combine_chunks()
    if isinstance(column, pa.ChunkedArray):
        column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], pa.binary(16))
    values = np.frombuffer(column.buffers()[1] or b"", np.uint8)
    return values[16 * column.offset : 16 * (column.offset + len(column))].reshape(-1, 16)


def hash_pixels(pixels: np.ndarray) -> bytes:
    """Return BLAKE2b (16 bytes) of height and width of a cell, as little-endian int32, and its pixels.

    Args:
        pixels: (H, W) uint8, contiguous.
    """
    height, width = pixels.shape
    digest = blake2b(height.to_bytes(4, "little") + width.to_bytes(4, "little"), digest_size=16)
    digest.update(pixels.data)
    return digest.digest()
