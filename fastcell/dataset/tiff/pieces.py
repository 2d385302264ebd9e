"""Decode one strip or tile of a TIFF page, and check that its codec wrote every pixel and reported no damage."""

from __future__ import annotations

import math
from typing import Any

import cv2
import imagecodecs
import numpy as np

from fastcell.dataset.decoder_messages import DecoderMessages
from fastcell.dataset.image_headers import MAX_PIXELS, peek_jpg
from fastcell.dataset.tiff.supported import COMPRESSION_NAMES, JPEG, LZW
from fastcell.errors import BadCell

_LOW_BIT_FIRST = 2


def decode_piece(samples: np.ndarray, page: Any, index: int, data: bytes) -> None:
    """Decode a strip or tile with tifffile and write its pixels to their place.

    Args:
        samples: (S, 1, H, W, s) array of the whole page, written; S planes, s samples of a pixel in one plane.
        page: the `tifffile.TiffPage`; `check_page` accepts it.
        index: number of the strip or tile.
        data: its encoded bytes.

    Raises:
        BadCell: the data are damaged, or do not fill the piece.
    """
    tables = page.jpegtables if page.compression == JPEG else None
    if page.compression == JPEG and not _is_whole_jpeg(page, data, tables):
        raise _damaged(page, index)
    try:
        piece, (plane, _, row, column, _), shape = page.decode(data, index, jpegtables=tables)
        is_whole = page.compression != LZW or _is_whole_lzw(page, data, shape)
    except Exception:  # noqa: BLE001, every codec has errors of its own
        raise _damaged(page, index) from None
    room = samples[plane, 0, row : row + shape[1], column : column + shape[2]]
    piece = piece[0, : room.shape[0], : room.shape[1]]
    if not is_whole or piece.shape != room.shape:
        raise _damaged(page, index)
    room[:] = piece


def _damaged(page: Any, index: int) -> BadCell:
    piece = "tile" if page.is_tiled else "strip"
    return BadCell(f"damaged: {piece} {index} of a tif with compression {COMPRESSION_NAMES[int(page.compression)]}")


def _is_whole_lzw(page: Any, data: bytes, shape: tuple[int, ...]) -> bool:
    """Return True if LZW data give as many bytes as the piece has; tifffile cuts off what is too long."""
    if page.fillorder == _LOW_BIT_FIRST:
        data = bytes(imagecodecs.bitorder_decode(data))
    size = page.dtype.itemsize * math.prod(shape)
    sizes = {size}
    if not page.is_tiled:  # the last strip may have as many rows as the others
        sizes.add(size // shape[1] * page.rowsperstrip)
    return len(imagecodecs.lzw_decode(data, out=max(sizes) + 1)) in sizes


def _is_whole_jpeg(page: Any, data: bytes, tables: bytes | None) -> bool:
    """Return True if libjpeg decodes a JPEG strip or tile without a warning.

    imagecodecs discards these warnings, after which libjpeg fills missing parts of an image.

    Raises:
        BadCell: the header is damaged or states an image larger than the piece, or libjpeg reports damage.
    """
    if tables is not None:
        data = data[:2] + tables[2:-2] + data[2:]
    header = peek_jpg(data)
    rows, columns = (page.tilelength, page.tilewidth) if page.is_tiled else (page.imagelength, page.imagewidth)
    if header.height > rows or header.width > columns or header.height * header.width > MAX_PIXELS:
        raise BadCell("damaged jpg header")
    with DecoderMessages() as messages:
        grey = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION)
        messages.check()
    return grey is not None
