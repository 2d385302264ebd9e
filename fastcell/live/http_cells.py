"""Cells in the body of an HTTP request: NumPy arrays and image files."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fastcell.dataset.decode import decode_levels
from fastcell.dataset.decoder_messages import DecoderMessages
from fastcell.dataset.image_headers import MAX_FILE_BYTES, parse_npy_header
from fastcell.errors import BadCell, FastcellError
from fastcell.inference.grey_cells import cell_arrays
from fastcell.sources.base import image_data

NPY_MAGIC = b"\x93NUMPY"
MOST_CELLS_OF_REQUEST = 10_000


class BodyError(FastcellError):
    """Raised for a body without usable cells."""


class BodyCells(NamedTuple):
    """Cells of a request.

    Attributes:
        keys: N names: those of the files, or numbers for the cells of an array.
        cells: N arrays (H, W) uint8 or uint16; None for a file that cannot be decoded.
        reasons: reason for each cell that is None, None for the others.
    """

    keys: list[str]
    cells: list[np.ndarray | None]
    reasons: list[str | None]


def read_parts(parts: list[tuple[str, bytes]]) -> BodyCells:
    """Read files of cells.

    Args:
        parts: name and bytes of each file: an image of one cell, or a .npy array of one or more cells.

    Raises:
        BodyError: an array is damaged or holds no grey cells, or there are too many cells.
    """
    keys: list[str] = []
    cells: list[np.ndarray | None] = []
    reasons: list[str | None] = []
    for name, data in parts:
        if data.startswith(NPY_MAGIC):
            array = _read_array(name, data)
            _check_number(len(keys) + len(array))
            found = list(array)
            keys += [f"{name}/{number}" if name else str(number) for number in range(len(found))]
            cells += found
            reasons += [None] * len(found)
            continue
        keys.append(name or "0")
        _check_number(len(keys))
        try:
            cells.append(_read_image(data))
            reasons.append(None)
        except BadCell as bad:
            cells.append(None)
            reasons.append(bad.reason)
    return BodyCells(keys, cells, reasons)


def _check_number(num: int) -> None:
    if num > MOST_CELLS_OF_REQUEST:
        raise BodyError(f"a request must have at most {MOST_CELLS_OF_REQUEST:,} cells, got {num:,}. Send fewer.")


def _read_array(name: str, data: bytes) -> np.ndarray:
    place = repr(name) if name else "the body"
    try:
        header = parse_npy_header(data)
        if header.dtype.kind != "u" or header.dtype.itemsize > 2:
            raise BodyError(f"{place} must be an array of uint8 or uint16, got {header.dtype}.")
        if len(data) - header.start < header.num_bytes:
            raise BodyError(f"{place} is truncated: {len(data) - header.start:,} of {header.num_bytes:,} bytes.")
        flat = np.frombuffer(data, header.dtype, int(np.prod(header.shape, dtype=object)), header.start)
        array = flat.reshape(header.shape, order="F" if header.fortran else "C")
        return np.asarray(cell_arrays(array.astype(header.dtype.newbyteorder("="), copy=False)))
    except (BadCell, FastcellError, ValueError, TypeError, SyntaxError) as error:
        if isinstance(error, BodyError):
            raise
        raise BodyError(f"{place} must be an array (N, H, W) of cells: {error}") from None


def _read_image(data: bytes) -> np.ndarray:
    if len(data) > MAX_FILE_BYTES:
        raise BadCell(f"too large: {len(data):,} bytes")
    with DecoderMessages() as messages:
        messages.forget()
        found = image_data(data, None, "", mixed=True)
        cell = found if isinstance(found, np.ndarray) else decode_levels(found)[0]
        messages.check(data)
    return cell
