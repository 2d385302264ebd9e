"""Decode and measure many JPEG cells with compiled loops while they are packed.

A cell is decoded here only if the compiled decoder vouches for the whole file: one grey baseline scan whose pixels use
all of its bits, then the end marker as the last bytes. `fastcell.dataset.decode` accepts such a file with the same
pixels, and libjpeg prints no message about it. All other cells are left to `fastcell.dataset.decode`.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fastcell.dataset.image_headers import MAX_PIXELS
from fastcell.packing.records import Record

FEWEST_CELLS = 16_000
"""Smallest number of cells of a process for which compiled loops save more time than loading them takes (0.5 s)."""

_FRAME = b"\xff\xc0\x00\x0b\x08"  # baseline frame of one component of 8 bits; height and width follow
_END = b"\xff\xd9"
_ALWAYS_PIXELS = 1 << 20  # as in `fastcell.dataset.decode`
_DENSEST = 512
_MOST_PIXELS = 1 << 24  # of all cells that are decoded together


class Measured(NamedTuple):
    """A cell that the compiled loops have decoded and measured.

    Attributes:
        pixels: (H, W) uint8.
        mean: mean of the pixels.
        border: median of the outermost frame of pixels.
    """

    pixels: np.ndarray
    mean: float
    border: float


def decode_quickly(records: Sequence[Record]) -> list[Measured | None]:
    """Decode those of some records that are plain grey JPEG files; None for all others."""
    from fastcell.ops.cpu.cell_levels import measure_levels  # loads numba
    from fastcell.ops.jpeg import unused_bits

    found: list[Measured | None] = [None] * len(records)
    places: list[int] = []
    files: list[bytes] = []
    sides: list[tuple[int, int]] = []
    num_pixels = 0
    for place, record in enumerate(records):
        side = _sides(record.data) if isinstance(record.data, bytes) else None
        if side is not None and num_pixels + side[0] * side[1] <= _MOST_PIXELS:
            num_pixels += side[0] * side[1]
            places.append(place)
            files.append(record.data)  # type: ignore[arg-type]
            sides.append(side)
    if not places:
        return found
    heights, widths = (np.array(column, np.int32) for column in zip(*sides, strict=True))
    sizes, areas = np.array(list(map(len, files)), np.int64), heights.astype(np.int64) * widths
    offsets = np.cumsum(areas) - areas
    pixels = np.empty(int(areas.sum()), np.uint8)
    data = np.frombuffer(b"".join(files), np.uint8)
    unused = unused_bits(data, np.cumsum(sizes) - sizes, sizes, heights, widths, pixels, offsets)
    whole = np.flatnonzero((unused >= 0) & (unused < 8))
    sums, borders = np.empty(len(whole), np.int64), np.empty(len(whole))
    measure_levels(pixels, offsets[whole], heights[whole], widths[whole], sums, borders)
    means = sums / areas[whole]
    for number, mean, border in zip(whole.tolist(), means.tolist(), borders.tolist(), strict=True):
        start, (height, width) = int(offsets[number]), sides[number]
        cell = pixels[start : start + height * width].reshape(height, width)
        found[places[number]] = Measured(cell, mean, border)
    return found


def _sides(data: bytes) -> tuple[int, int] | None:
    """Return height and width of a file that may be a plain grey JPEG; None for another one."""
    at = data.find(_FRAME)
    if at < 0 or data[:3] != b"\xff\xd8\xff" or data.find(_END) != len(data) - 2 or at + 9 > len(data):
        return None
    height, width = struct.unpack_from(">HH", data, at + 5)
    area = height * width
    return None if not 0 < area <= min(MAX_PIXELS, max(_ALWAYS_PIXELS, _DENSEST * len(data))) else (height, width)
