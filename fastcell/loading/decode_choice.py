"""Choice of the decoder of stored cells: DALI, threads, or none if the stored bytes are the pixels.

DALI decodes 8-bit JPEG and grey PNG cells, on a GPU by default and on a CPU if requested. Threads decode everything
else, including CMYK, and PNG with colours or a palette, which DALI would convert to grey with the gamma of the file.
Pixels of blocks are used as they are stored in the file.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from functools import partial
from typing import Literal, get_args

import numpy as np

from fastcell.dataset.decode import ENCODINGS
from fastcell.dataset.manifest import Manifest
from fastcell.errors import invalid
from fastcell.loading.decode_cpu import CellDecoder, ThreadDecoding, take_stored, take_stored_as_pool
from fastcell.loading.ragged_cells import RaggedCells
from fastcell.loading.stores.reading import Piece, PieceReader

DecoderName = Literal["auto", "dali", "threads"]

DECODERS: tuple[DecoderName, ...] = get_args(DecoderName)

Decoding = Callable[[Iterator[Piece]], Iterator[RaggedCells]]
"""Function that decodes pieces of stored cells, in their order."""

_DALI_ENCODINGS = ("jpg", "png")
_GREY_CHANNELS = 2  # channels of grey, and of grey with alpha; a palette counts as three channels
_JPEG_CHANNELS = 3  # four are CMYK


def preferred_decoder(decoder: str, transform: str) -> str:
    """Return the decoder to use: ``dali`` if `decoder` is ``auto`` and DALI's transform is requested, else `decoder`.

    Args:
        decoder: ``auto``, ``dali`` or ``threads``.
        transform: requested transform: ``auto``, ``fused`` or ``dali``.
    """
    return "dali" if decoder == "auto" and transform == "dali" else decoder


def choose_decoding(
    decoder: str,
    manifest: Manifest,
    rows: np.ndarray | Iterator[np.ndarray],
    cells: CellDecoder,
    device_id: int | None,
) -> str:
    """Choose how to decode the cells of one rank.

    Args:
        decoder: ``dali``, ``threads``, or ``auto`` for DALI on a GPU if it is installed, else threads. Threads decode
            all rows if DALI cannot decode one of the cells.
        manifest: manifest of the data set.
        rows: (n,) int64 cell_ids, or an iterator of such arrays.
        cells: encodings of the cells and bits per grey level to return.
        device_id: GPU that DALI decodes on, or None for the CPU.

    Returns:
        ``stored`` (the bytes are the pixels), ``dali`` or ``threads``.

    Raises:
        ArgumentError: `decoder` is not one of these names.
    """
    if decoder not in DECODERS:
        raise invalid("decoder", f"one of {', '.join(DECODERS)}", decoder, "Leave it at auto")
    if decoder == "auto" and device_id is not None and not _has_dali():
        decoder = "threads"
    block = manifest.info.layout == "block"
    if not block and (decoder == "threads" or (decoder == "auto" and device_id is None)):
        return "threads"
    found = {_choose(manifest, some, cells) for some in ([rows] if isinstance(rows, np.ndarray) else rows)}
    if block and found == {"stored"}:
        return "stored"
    if decoder == "threads" or (decoder == "auto" and device_id is None):
        return "threads"
    return "dali" if found == {"dali"} and cells.depth == 8 else "threads"


def _has_dali() -> bool:
    try:
        return importlib.util.find_spec("nvidia.dali") is not None
    except ModuleNotFoundError:  # no package of NVIDIA at all
        return False


def _choose(manifest: Manifest, rows: np.ndarray, cells: CellDecoder) -> str:
    """Return ``stored`` if the bytes of all rows are pixels, ``dali`` if DALI can decode them, else ``threads``."""
    encodings = cells.encodings[rows]
    if (encodings == ENCODINGS.index("raw")).all():
        return "stored"
    plain = np.isin(encodings, [ENCODINGS.index(name) for name in _DALI_ENCODINGS])
    channels = manifest.column("channels")[rows]
    plain &= (encodings != ENCODINGS.index("png")) | (channels <= _GREY_CHANNELS)
    plain &= (encodings != ENCODINGS.index("jpg")) | (channels <= _JPEG_CHANNELS)
    deep = manifest.column("depth")[rows] > 8
    return "dali" if plain.all() and not deep.any() else "threads"


def make_decoding(
    chosen: str, reader: PieceReader, cells: CellDecoder, batch: int, threads: int, device_id: int | None
) -> Decoding:
    """Return the function that decodes the pieces of a reader.

    Args:
        chosen: result of `choose_decoding`.
        reader: source of the pieces.
        cells: decoder of the same data set.
        batch: maximum number of cells in a piece.
        threads: threads of the decoder, >= 1.
        device_id: GPU that DALI decodes on, or None for the CPU.
    """
    if chosen == "stored":
        return partial(map, take_stored if device_id is None else take_stored_as_pool)
    if chosen == "dali":
        from fastcell.loading.decode_dali import DaliDecoding  # loads DALI

        return DaliDecoding(reader, cells, batch, threads, device_id)
    return ThreadDecoding(reader, cells, threads)
