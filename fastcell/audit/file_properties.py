"""Properties of a stored file besides its pixels: settings of the program that wrote it, and number of bytes."""

from __future__ import annotations

import io
import struct
import zlib

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

_JPEG_TABLES, _JPEG_HUFFMAN, _JPEG_SCAN, _JPEG_END = 0xDB, 0xC4, 0xDA, 0xD9
_MOST_CHUNKS = 10_000
_STANDARD_CODES = (12 + 162, 2 * (12 + 162))  # in the tables of the standard, for grey and for colour


def file_settings(data: bytes, encoding: str) -> tuple[str, int]:
    """Read from the headers of one file the settings of its writer and the number of bytes that hold no pixels.

    Args:
        data: encoded file that can be decoded.
        encoding: jpg, png, tif, npy or raw.

    Returns:
        A text that is equal for files written with the same settings, and the number of bytes outside the pixel data.
    """
    if encoding == "jpg":
        return _jpeg(data)
    if encoding == "png":
        return _png(data)
    if encoding == "tif":
        return f"tif {data[:4]!r}", 0
    return encoding, 0


def _jpeg(data: bytes) -> tuple[str, int]:
    """Return quantisation tables, frame type and sampling as text, and the bytes before the first scan.

    The Huffman tables are not counted.
    """
    place, tables, frame, fitted, codes = 2, 0, "", 0, 0
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xFF:  # fill byte
            place += 1
            continue
        (length,) = struct.unpack(">H", data[place + 2 : place + 4])
        if marker == _JPEG_TABLES:
            tables = zlib.crc32(data[place + 4 : place + 2 + length], tables)
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            frame = f"{marker:02x} {data[place + 9 : place + 2 + length].hex()}"
        elif marker == _JPEG_HUFFMAN:  # some writers optimise them for the pixels
            fitted += length
            codes += _num_codes(data[place + 4 : place + 2 + length])
        elif marker in (_JPEG_SCAN, _JPEG_END):
            break
        place += 2 + max(length, 2)
    standard = "standard" if codes in _STANDARD_CODES else "fitted"
    return f"jpg tables {tables:08x} frame {frame} {standard} codes", min(place, len(data)) - fitted


def _num_codes(segment: bytes) -> int:
    """Return the number of codes in the Huffman tables of a segment."""
    place, num = 0, 0
    while place + 17 <= len(segment):
        here = sum(segment[place + 1 : place + 17])
        num, place = num + here, place + 17 + here
    return num


def _png(data: bytes) -> tuple[str, int]:
    """Return bit depth, colour, interlace and compression level as text, and the bytes outside the pixel chunks."""
    place, inside, header, level = 8, 0, "", ""
    for _ in range(_MOST_CHUNKS):
        if place + 12 > len(data):
            break
        length, kind = struct.unpack(">I4s", data[place : place + 8])
        if kind == b"IHDR":
            header = data[place + 16 : place + 21].hex()
        elif kind == b"IDAT":
            inside += length + 12  # the number of such chunks depends on the size
            level = level or f"level {data[place + 9] >> 6}" if length > 1 else level
        place += 12 + length
    return f"png {header} {level}", len(data) - inside


def plain_sizes(pixels: npt.NDArray[np.uint8], encoding: str, stored: int) -> tuple[int, int]:
    """Return the bytes that the same pixels take in the same encoding with fast and with thorough compression.

    The bytes of a JPEG follow from its pixels and its settings. For jpg, npy and raw the result is therefore `stored`
    itself.
    """
    if encoding == "png":
        quick = len(cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1])
        whole = io.BytesIO()
        Image.fromarray(pixels).save(whole, "PNG", compress_level=6)
        return quick, whole.tell()
    if encoding == "tif":
        return len(zlib.compress(pixels.tobytes(), 1)), pixels.size
    return stored, stored
