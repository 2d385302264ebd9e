"""Decode the stored bytes of one cell to grey pixels, and reject unusable cells.

Sizes in headers are checked before memory is allocated. A truncated file is rejected even if the decoder would fill the
missing part with grey. Every decoder of a run can therefore read a cell that passes these checks.
"""

from __future__ import annotations

import math
import re
from typing import NamedTuple

import cv2
import numpy as np

from fastcell.dataset.grey_window import colours_to_grey, window_table
from fastcell.dataset.image_headers import MAX_PIXELS, NpyHeader, parse_npy_header, peek_jpg, peek_png, sniff
from fastcell.errors import BadCell

ENCODINGS = ("jpg", "png", "tif", "npy", "raw")

# Largest number of pixels that one stored byte can encode: a JPEG block of 64 pixels takes at least one bit, deflate
# expands one byte to at most 1,032. An image that claims more is rejected, unless it has at most `_SMALL_PIXELS`
# pixels: small images are decoded whatever they claim.
_DENSEST = {"jpg": 512, "png": 8 * 1032}
_SMALL_PIXELS = 1 << 20


class NeedsWindow(BadCell):
    """Error for a 16-bit cell that was decoded without a window.

    Attributes:
        low: smallest grey level of the cell.
        high: largest grey level of the cell.
    """

    def __init__(self, low: int, high: int) -> None:
        super().__init__("16 bit without window")
        self.low = low
        self.high = high

    def __reduce__(self) -> tuple[type[NeedsWindow], tuple[int, int]]:
        return NeedsWindow, (self.low, self.high)


class DecodedCell(NamedTuple):
    """A decoded cell.

    Attributes:
        pixels: (H, W) uint8, contiguous, grey; uint16 if a depth of 16 was requested.
        depth: 8 or 16, bits per grey level of the stored bytes.
        channels: number of channels of the stored bytes (1 grey, 3 colour, 2 or 4 with alpha).
        encoding: actual encoding of the bytes, whatever the file name: jpg, png, tif, npy or raw.
    """

    pixels: np.ndarray
    depth: int
    channels: int
    encoding: str


def decode(
    data: bytes | np.ndarray, encoding: str, window: tuple[float, float] | None = None, depth: int = 8
) -> DecodedCell:
    """Decode one cell to grey.

    Colour is converted to grey: 0.299 R + 0.587 G + 0.114 B of the stored values, whatever gamma or colour profile a
    file states. Alpha is dropped. An EXIF orientation is applied, and so is that of a TIFF.

    Args:
        data: the encoded file; for `raw` an array, (H, W) uint8 or uint16.
        encoding: one of `ENCODINGS`. An array is always `raw`; the encoding of a file is detected from its first bytes.
        window: grey levels (low, high) of 16-bit cells that map to 0 and 255. 8-bit cells are not changed.
        depth: bits per grey level of the returned pixels: 8 for uint8, or 16 for uint16, where 65535 corresponds to
            grey level 255. With 16, levels inside the window are not rounded to 8 bits.

    Raises:
        BadCell: `data` holds no usable image; the reason is `empty file`, `not an image`, `truncated`, `too large`, ...
        NeedsWindow: the cell has 16 bits and `window` is None.
    """
    if isinstance(data, np.ndarray):
        grey, channels, actual = _check_array(data), 1, "raw"
    else:
        grey, channels, actual = decode_levels(data)
    if grey.dtype == np.uint8:
        return DecodedCell(grey if depth == 8 else grey.astype(np.uint16) * np.uint16(257), 8, channels, actual)
    if window is None:
        raise NeedsWindow(int(grey.min()), int(grey.max()))
    return DecodedCell(window_table(float(window[0]), float(window[1]), depth)[grey], 16, channels, actual)


def decode_levels(data: bytes) -> tuple[np.ndarray, int, str]:
    """Decode a file to its own grey levels, without a window.

    Args:
        data: the encoded file.

    Returns:
        Grey levels, (H, W) uint8 or uint16; the number of channels of the file; and its encoding.

    Raises:
        BadCell: as for `decode`.
    """
    actual = sniff(data)
    if actual == "npy":
        return _decode_npy(data), 1, actual
    if actual == "tif":
        from fastcell.dataset.tiff.contents import read_single  # needs tifffile, which is not needed for most cells

        return *read_single(data), actual
    header = _PEEK[actual](data)
    if header.height < 1 or header.width < 1:
        raise BadCell("no pixels")
    if header.height * header.width > MAX_PIXELS:
        raise BadCell(f"too large: {header.width} x {header.height} pixels")
    if header.height * header.width > max(_SMALL_PIXELS, _DENSEST[actual] * len(data)):
        raise BadCell(f"truncated: {header.width} x {header.height} pixels in {len(data)} bytes")
    return _decode_image(data, actual, header.channels), header.channels, actual


def _check_array(array: np.ndarray) -> np.ndarray:
    if array.ndim == 3 and array.shape[0] == 1:
        array = array[0]
    elif array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim != 2:
        raise BadCell(f"array of {array.ndim} axes, not (H, W), (1, H, W) or (H, W, 1)")
    if array.dtype.kind != "u" or array.dtype.itemsize > 2:
        raise BadCell(f"pixels of type {array.dtype}, not uint8 or uint16")
    if array.size == 0:
        raise BadCell("no pixels")
    if array.size > MAX_PIXELS:
        raise BadCell(f"too large: {array.shape[1]} x {array.shape[0]} pixels")
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))


def _decode_npy(data: bytes) -> np.ndarray:
    header = parse_npy_header(data)
    if not re.fullmatch(r"[<>=|]?u[12]", header.descr):
        raise BadCell(f"pixels of type {_type_name(header)}, not uint8 or uint16")
    size = math.prod(header.shape)
    if len(header.shape) > 3:
        raise BadCell(f"array of {len(header.shape)} axes, not (H, W), (1, H, W) or (H, W, 1)")
    if max(header.shape, default=0) > MAX_PIXELS or size > MAX_PIXELS:
        raise BadCell(f"too large: npy of shape {header.shape}")
    if len(data) - header.start < header.num_bytes:
        raise BadCell("truncated")
    flat = np.frombuffer(data, header.dtype, size, header.start)
    return _check_array(flat.reshape(header.shape, order="F" if header.fortran else "C"))


def _type_name(header: NpyHeader) -> str:
    try:
        return header.dtype.name
    except (TypeError, ValueError, SyntaxError):
        return header.descr


def _decode_image(data: bytes, encoding: str, channels: int) -> np.ndarray:
    # OpenCV applies the gamma of a PNG when it converts colour to grey itself, but returns stored colours unchanged.
    is_colour_png = encoding == "png" and channels > 2
    flag = cv2.IMREAD_GRAYSCALE if encoding == "jpg" else cv2.IMREAD_ANYDEPTH
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flag | cv2.IMREAD_COLOR if is_colour_png else flag)
    except cv2.error:
        image = None
    if image is None:
        raise BadCell(f"{encoding} that cannot be decoded")
    if image.dtype not in (np.uint8, np.uint16):
        raise BadCell(f"pixels of type {image.dtype}, not uint8 or uint16")
    return colours_to_grey(image[:, :, ::-1]) if is_colour_png else image


_PEEK = {"jpg": peek_jpg, "png": peek_png}
