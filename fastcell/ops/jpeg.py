"""Decode batches of grey JPEG cells on the CPU: `fastcell.ops.cpu.jpeg` with checked arguments."""

from __future__ import annotations

import sys

import numpy as np
import numpy.typing as npt

from fastcell.errors import invalid
from fastcell.ops.cpu.jpeg.decode import ZIGZAG, decode_range


def decode_jpegs(*arrays: np.ndarray) -> npt.NDArray[np.bool_]:
    """Decode one-component JPEG cells with one baseline scan (ITU-T T.81) and skip all others.

    The pixels equal, bit for bit, those of libjpeg-turbo and of OpenCV's ``imdecode(data, IMREAD_GRAYSCALE)``: Huffman
    decoding is exact, and the inverse transform is the accurate integer transform of libjpeg's ``jidctint.c``. Skipped
    are colour, progressive and arithmetic coding, restart markers, 12-bit samples, files with an EXIF block (which may
    rotate the image), and files that look damaged, have another size than stated or have coefficients that no image
    produces. On a big-endian processor all cells are skipped. The interpreter lock is released.

    Args:
        *arrays: data, starts, sizes, heights, widths, out and offsets, in the order of `unused_bits`.

    Returns:
        (B,) bool, True for the cells that were decoded. The pixels of the other cells in `out` are undefined.

    Raises:
        ArgumentError: a cell extends beyond `data` or `out`, or an array has the wrong dtype, shape or layout.
    """
    return unused_bits(*arrays) >= 0


def unused_bits(
    data: npt.NDArray[np.uint8],
    starts: npt.NDArray[np.int64],
    sizes: npt.NDArray[np.int64],
    heights: npt.NDArray[np.int32],
    widths: npt.NDArray[np.int32],
    out: npt.NDArray[np.uint8],
    offsets: npt.NDArray[np.int64],
) -> npt.NDArray[np.int64]:
    """Decode cells as `decode_jpegs` does, and return how much of each scan its pixels leave.

    Args:
        data: (bytes,) uint8, contiguous, holds the encoded cells.
        starts: (B,) int64, first byte of each cell in `data`.
        sizes: (B,) int64, encoded size of each cell [bytes].
        heights, widths: (B,) int32, size that each cell must have [px].
        out: (pixels,) uint8, contiguous, written.
        offsets: (B,) int64, first pixel of each cell in `out`.

    Returns:
        (B,) int64, number of bits after the last pixel of each scan, below 8 for a file that is whole; below 0 for the
        cells that were not decoded, whose pixels in `out` are undefined.

    Raises:
        ArgumentError: a cell extends beyond `data` or `out`, or an array has the wrong dtype, shape or layout.
    """
    for name, array in (("data", data), ("out", out)):
        if array.dtype != np.uint8 or array.ndim != 1 or not array.flags.c_contiguous:
            raise invalid(name, "contiguous uint8 of one dimension", f"{array.dtype} {array.shape}", "Flatten it")
    count = len(starts)
    columns: list[np.ndarray] = []
    for name, column, dtype in (
        ("starts", starts, np.int64),
        ("sizes", sizes, np.int64),
        ("heights", heights, np.int32),
        ("widths", widths, np.int32),
        ("offsets", offsets, np.int64),
    ):
        if column.dtype != dtype or column.shape != (count,):
            got = f"{column.dtype} {column.shape}"
            raise invalid(
                name, f"a {np.dtype(dtype).name} array of shape ({count},)", got, "Convert it before the call"
            )
        columns.append(np.ascontiguousarray(column))
    first_bytes, num_bytes, rows, row_widths, first_pixels = columns
    num_pixels = rows.astype(np.int64) * row_widths
    for name, first, size, memory in (
        ("starts", first_bytes, num_bytes, data),
        ("offsets", first_pixels, num_pixels, out),
    ):
        inside = (size >= 0) & (first >= 0) & (first <= memory.size - size)
        if not inside.all():
            row = int(np.argmin(inside))
            rule = f"inside of the {memory.size} bytes with the whole cell"
            raise invalid(f"{name}[{row}]", rule, int(first[row]), "Check it against the sizes")
    unused = np.full(count, -1, np.int64)
    if sys.byteorder != "little":
        return unused
    decode_range(
        data.ctypes.data,
        first_bytes,
        num_bytes,
        rows,
        row_widths,
        out.ctypes.data,
        first_pixels,
        ZIGZAG.ctypes.data,
        unused,
        0,
        count,
    )
    return unused
