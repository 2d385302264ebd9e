"""Block records: raw pixels of several hundred cells, stored together and read in one call without decoding.

Layout of a record `block-NNNNNNNN.cells`; all numbers are little-endian:

    0    8s          magic, b"fastcell"
    8    uint32      version, 1
    12   uint32      n, number of cells, >= 1
    16   int64       cell_id of the first cell; the cell_ids of a block are consecutive
    24   uint64      p, offset of the pixels, a multiple of 64
    32   int32 (n)   heights in pixels, >= 1
    ..   int32 (n)   widths in pixels, >= 1
    ..   zeros up to p
    p    uint8       grey levels, cell after cell, each in row-major order, without padding
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fastcell.errors import DataError

MAGIC = b"fastcell"
VERSION = 1
FIRST_CELL_POSITION = 16
MAX_BLOCK_BYTES = 1 << 31

_HEADER = struct.Struct("<8sIIqQ")
_ALIGNMENT = 64
_MAX_CELL = (1 << 63) - 1


class BlockCells(NamedTuple):
    """The n cells of one block.

    Attributes:
        pixels: uint8 1-D, a view of the record: the pixels of all cells, one cell after the other.
        offsets: (n,) int64, start of each cell in `pixels`.
        heights: (n,) int32, in pixels.
        widths: (n,) int32, in pixels.
        cell_ids: (n,) int64.
    """

    pixels: np.ndarray
    offsets: np.ndarray
    heights: np.ndarray
    widths: np.ndarray
    cell_ids: np.ndarray


def make_block(cells: Sequence[np.ndarray], first_cell: int = 0) -> tuple[bytes, int]:
    """Encode cells as one record.

    Args:
        cells: images, (H, W) uint8 each.
        first_cell: cell_id of the first cell.

    Returns:
        The bytes of the record, and the offset of its pixels in bytes.
    """
    header = make_block_header([cell.shape for cell in cells], first_cell)
    return b"".join([header, *(cell.tobytes() for cell in cells)]), len(header)


def make_block_header(shapes: npt.ArrayLike, first_cell: int) -> bytes:
    """Return the bytes of a record that precede its pixels.

    Args:
        shapes: (n, 2) int, height and width of each cell in pixels.
        first_cell: cell_id of the first cell.
    """
    sides = np.asarray(shapes, dtype="<i4").reshape(-1, 2)
    start = _HEADER.size + 8 * len(sides)
    start += -start % _ALIGNMENT
    header = _HEADER.pack(MAGIC, VERSION, len(sides), first_cell, start) + sides.T.tobytes()
    return header.ljust(start, b"\0")


def read_block(payload: np.ndarray) -> BlockCells:
    """Decode one record.

    Args:
        payload: (bytes,) uint8, the whole record. The returned pixels are a view of it.

    Raises:
        DataError: `payload` is not a block record, has another version, or has a length that contradicts its header.
    """
    if payload.ndim != 1 or payload.dtype != np.uint8:
        raise DataError(f"a block must be one row of uint8, got {payload.dtype} of {payload.ndim} axes.")
    if len(payload) < _HEADER.size:
        raise _damaged(f"{len(payload)} bytes")
    magic, version, count, first_cell, start = _HEADER.unpack(payload[: _HEADER.size].tobytes())
    if magic != MAGIC or version != VERSION:
        raise _damaged(f"magic {magic!r}, version {version}")
    if not count or start < _HEADER.size + 8 * count or start > len(payload):
        raise _damaged(f"{count} cells, pixels at byte {start} of {len(payload)}")
    sides = np.frombuffer(payload, "<i4", 2 * count, _HEADER.size).reshape(2, count)
    heights, widths = (np.array(side, dtype=np.int32) for side in sides)
    if sides.min() < 1:
        raise _damaged("a cell without pixels")
    areas = heights.astype(np.int64) * widths
    if areas.max() > len(payload):  # checked before summing: the sum can overflow int64 and still match
        raise _damaged(f"a cell of {areas.max()} pixels in {len(payload)} bytes")
    if not 0 <= first_cell <= _MAX_CELL - count:
        raise _damaged(f"first cell {first_cell}")
    ends = np.cumsum(areas)
    if ends[-1] != len(payload) - start:
        raise _damaged(f"{len(payload) - start} pixels where its sizes say {ends[-1]}")
    offsets = np.concatenate([np.zeros(1, np.int64), ends[:-1]])
    return BlockCells(payload[start:], offsets, heights, widths, np.arange(first_cell, first_cell + count))


def _damaged(what: str) -> DataError:
    return DataError(f"a record is not a block of cells of version {VERSION}: {what}. Pack the data again.")
