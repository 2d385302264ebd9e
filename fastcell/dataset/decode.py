"""Decode the stored bytes of one cell to grey pixels, and reject unusable cells.

Sizes in headers are checked before memory is allocated. A truncated file is rejected even if the decoder would fill the
missing part with grey. Every decoder of a run can therefore read a cell that passes these checks.
"""

from __future__ import annotations

import math
import os
import re
import threading
from types import TracebackType
from typing import NamedTuple

import cv2
import numpy as np

from fastcell.dataset.grey_window import window_table
from fastcell.dataset.image_headers import MAX_PIXELS, NpyHeader, parse_npy_header, peek_jpg, peek_png, sniff
from fastcell.dataset.tiff import peek_tif
from fastcell.errors import BadCell

ENCODINGS = ("jpg", "png", "tif", "npy", "raw")

# Largest number of pixels that one stored byte can encode: a JPEG block of 64 pixels takes at least one bit, deflate
# expands one byte to at most 1,032, LZW to fewer than 4,096. An image that claims more is rejected, unless it has at
# most `_SMALL_PIXELS` pixels: small images are decoded whatever they claim.
_DENSEST = {"jpg": 512, "png": 8 * 1032, "tif": 4096}
_SMALL_PIXELS = 1 << 20
_DAMAGE = re.compile(rb"Corrupt JPEG data: (premature end|bad Huffman|found marker)[^\n]*|Premature end of JPEG[^\n]*")


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

    Colour is converted to grey with OpenCV's weights (0.299 R + 0.587 G + 0.114 B). Alpha is dropped. An EXIF
    orientation is applied.

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
    header = _PEEK[actual](data)
    if header.height < 1 or header.width < 1:
        raise BadCell("no pixels")
    if header.height * header.width > MAX_PIXELS:
        raise BadCell(f"too large: {header.width} x {header.height} pixels")
    if header.height * header.width > max(_SMALL_PIXELS, _DENSEST[actual] * len(data)):
        raise BadCell(f"truncated: {header.width} x {header.height} pixels in {len(data)} bytes")
    return _decode_image(data, actual), header.channels, actual


class DecoderMessages:
    """Context manager that captures what the image libraries print on stderr and turns their warnings into `BadCell`.

    libjpeg decodes a scan with missing or damaged data without an error and only prints a warning to file descriptor 2.
    Inside this context, `check()` reads that warning, and nothing is printed to the terminal. The file descriptor is
    shared by the whole process, so a second thread waits until the first has left the context.
    """

    _lock = threading.RLock()

    def __enter__(self) -> DecoderMessages:
        self._lock.acquire()
        try:
            self._file = os.memfd_create("decoder-messages")
            self._position = 0
            self._stderr = os.dup(2)
            os.dup2(self._file, 2)
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.dup2(self._stderr, 2)
        os.close(self._stderr)
        os.close(self._file)
        self._lock.release()

    def check(self) -> None:
        """Check what was printed since the last call.

        Raises:
            BadCell: a decoder reported damaged data.
        """
        end = os.lseek(self._file, 0, os.SEEK_CUR)
        if end == self._position:
            return
        text = os.pread(self._file, min(end - self._position, 1 << 16), self._position)
        self._position = end
        found = _DAMAGE.search(text)
        if found:
            raise BadCell("damaged: " + found.group(0).decode("ascii", "replace").strip())


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


def _decode_image(data: bytes, encoding: str) -> np.ndarray:
    flag = cv2.IMREAD_GRAYSCALE if encoding == "jpg" else cv2.IMREAD_ANYDEPTH  # ANYDEPTH alone: grey, original depth
    try:
        grey = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
    except cv2.error:
        grey = None
    if grey is None:
        raise BadCell(f"{encoding} that cannot be decoded")
    if grey.dtype not in (np.uint8, np.uint16):
        raise BadCell(f"pixels of type {grey.dtype}, not uint8 or uint16")
    return grey


_PEEK = {"jpg": peek_jpg, "png": peek_png, "tif": peek_tif}
