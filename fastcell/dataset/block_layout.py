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

import numpy as np
import numpy.typing as npt

MAGIC = b"fastcell"
VERSION = 1
FIRST_CELL_POSITION = 16
MAX_BLOCK_BYTES = 1 << 31

_HEADER = struct.Struct("<8sIIqQ")
_ALIGNMENT = 64


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
