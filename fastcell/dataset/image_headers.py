"""Parse and check the headers of JPEG, PNG and NPY files before memory is allocated; detect the type of a file."""

from __future__ import annotations

import math
import re
import struct
import zlib
from typing import Any, NamedTuple

import numpy as np

from fastcell.errors import BadCell

MAX_PIXELS = 1 << 26
MAX_FILE_BYTES = MAX_PIXELS * 8  # four channels of 16 bits
TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""First bytes of TIFF and BigTIFF in both byte orders."""
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_MOST_SCANS = 64
_NPY_HEADER = re.compile(
    rb"\{'descr': '(?P<descr>[^'\n]{1,20})', 'fortran_order': (?P<fortran>True|False), "
    rb"'shape': \((?P<shape>[0-9, ]{0,100})\),? *\} *\n?"
)


class ImageHeader(NamedTuple):
    """Height, width and number of channels according to a file's header."""

    height: int
    width: int
    channels: int


class NpyHeader(NamedTuple):
    """Header of an `.npy` file.

    Attributes:
        descr: type of the values as written in the file, such as `<u2`; any text of up to 20 characters.
        fortran: True for Fortran order (the first axis varies fastest).
        shape: shape of the array.
        start: offset of the values, in bytes.
    """

    descr: str
    fortran: bool
    shape: tuple[int, ...]
    start: int

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values.

        Raises:
            TypeError, ValueError or SyntaxError: `descr` is not a valid dtype.
        """
        return np.dtype(self.descr)

    @property
    def num_bytes(self) -> int:
        """Size of all values in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


def parse_npy_header(data: bytes) -> NpyHeader:
    """Parse the header of an `.npy` file (NEP 1) without evaluating it.

    The header consists of the magic bytes, the version, the header length as uint16 (version 1) or uint32, and a Python
    literal.

    Args:
        data: the file, or at least its header.

    Raises:
        BadCell: `data` ends within the header, or the header does not describe a plain array.
    """
    wide = data[6:7] != b"\x01"
    first = 12 if wide else 10
    start = first + int.from_bytes(data[8:first], "little")
    if len(data) < first or len(data) < start:
        raise BadCell("truncated")
    match = _NPY_HEADER.fullmatch(data[first:start])
    if match is None:
        raise BadCell("damaged npy header")
    shape = tuple(int(side) for side in re.findall(rb"\d+", match["shape"]))
    return NpyHeader(match["descr"].decode("latin-1"), match["fortran"] == b"True", shape, start)


def sniff(data: bytes) -> str:
    """Detect the encoding of a file from its first bytes.

    Returns:
        ``jpg``, ``png``, ``tif`` or ``npy``.

    Raises:
        BadCell: the encoding is none of these.
    """
    if data[:3] == b"\xff\xd8\xff":
        return "jpg"
    if data[:8] == _PNG_SIGNATURE:
        return "png"
    if data[:4] in TIFF_STARTS:
        return "tif"
    if data[:6] == b"\x93NUMPY":
        return "npy"
    if not data:
        raise BadCell("empty file")
    raise BadCell("all bytes zero" if not any(data) else "not an image")


def peek_jpg(data: bytes) -> ImageHeader:
    """Read the header of a JPEG by walking its markers to the first scan.

    A truncated JPEG is detected by its missing end marker. Content that different decoders handle differently is
    rejected: bytes between segments, and a second EXIF block.

    Args:
        data: the file.

    Raises:
        BadCell: the file is truncated or damaged, is not 8-bit, or has too many scans.
    """
    header, position, end, num_exif = None, 2, len(data), 0
    while position + 4 <= end:
        if data[position] != 0xFF:
            raise BadCell("damaged jpg header")
        marker = data[position + 1]
        if marker == 0xFF:
            position += 1
            continue
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:
            position += 2
            continue
        if marker < 0xC0 or marker == 0xC8 or 0xF0 <= marker <= 0xFD:
            raise BadCell("damaged jpg header")
        length = (data[position + 2] << 8) | data[position + 3]
        if marker == 0xE1 and data[position + 4 : position + 10] == b"Exif\0\0":
            num_exif += 1
            if num_exif > 1:
                raise BadCell("jpg with two EXIF blocks")
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xCC):
            if position + 10 > end:
                break
            precision, height, width, channels = struct.unpack_from(">BHHB", data, position + 4)
            if precision != 8:
                raise BadCell(f"{precision}-bit jpg")
            header = ImageHeader(height, width, channels)
        elif marker == 0xDA:
            if header is None:
                raise BadCell("damaged jpg header")
            if data.rfind(b"\xff\xd9", position) < 0:
                raise BadCell("truncated")
            scans = data.count(b"\xff\xda", position)  # the decoder passes over the whole image once per scan
            if scans > _MOST_SCANS or scans * header.height * header.width > 16 * MAX_PIXELS:
                raise BadCell(f"jpg of {scans} scans")
            return header
        elif marker == 0xD9:
            raise BadCell("jpg without image data")
        position += 2 + length
    raise BadCell("truncated")


def peek_png(data: bytes) -> ImageHeader:
    """Read the header of a PNG, and check the checksums of all chunks up to IEND.

    Args:
        data: the file.

    Raises:
        BadCell: the file is truncated or damaged.
    """
    if len(data) < 33:
        raise BadCell("truncated")
    if data[12:16] != b"IHDR":
        raise BadCell("damaged png header")
    width, height, _, color = struct.unpack_from(">IIBB", data, 16)
    position, end = 8, len(data)
    while position + 12 <= end:
        (length,) = struct.unpack_from(">I", data, position)
        stop = position + 12 + length
        if stop > end:
            break
        kind = data[position + 4 : position + 8]
        if zlib.crc32(data[position + 4 : stop - 4]) != int.from_bytes(data[stop - 4 : stop], "big"):
            raise BadCell(f"damaged: checksum of png chunk {kind.decode('ascii', 'replace')}")
        if kind == b"IEND":
            return ImageHeader(height, width, {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}.get(color, 1))
        position = stop
    raise BadCell("truncated")
