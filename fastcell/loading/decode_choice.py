"""Who decodes stored cells: DALI, threads, or nobody where the stored bytes are the pixels.

DALI decodes on a GPU, and where it is asked for, JPEG and PNG cells of 8 bits. Threads decode everything else. Pixels
of blocks are taken as they lie in the file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Literal, get_args

import numpy as np

from fastcell.dataset.decode import ENCODINGS
from fastcell.dataset.manifest import Manifest
from fastcell.errors import invalid
from fastcell.loading.decode_cpu import CellDecoder, ThreadDecoding, take_stored
from fastcell.loading.decode_dali import DaliDecoding
from fastcell.loading.ragged_cells import RaggedCells
from fastcell.loading.stores.reading import Piece, PieceReader

DecoderName = Literal["auto", "dali", "threads"]

DECODERS: tuple[DecoderName, ...] = get_args(DecoderName)

Decoding = Callable[[Iterator[Piece]], Iterator[RaggedCells]]
"""Decodes pieces of stored cells, in their order."""

_DALI_ENCODINGS = ("jpg", "png")


def preferred_decoder(decoder: str, transform: str) -> str:
    """Return `decoder`, or ``dali`` if nothing is asked for beside DALI's own transform.

    Args:
        decoder: ``auto``, ``dali`` or ``threads``.
        transform: ``auto``, ``fused`` or ``dali``, as asked for.
    """
    return "dali" if decoder == "auto" and transform == "dali" else decoder


def choose_decoding(
    decoder: str, manifest: Manifest, rows: np.ndarray, cells: CellDecoder, device_id: int | None
) -> str:
    """Choose who decodes the cells of one rank.

    Args:
        decoder: ``dali``, ``threads``, or ``auto`` for DALI on a GPU and threads on a CPU. Threads decode all of the
            rows if there is a cell among them that DALI cannot decode.
        manifest: of the data set.
        rows: (n,) int64 cell_ids.
        cells: their encodings, and the depth to give.
        device_id: GPU that DALI decodes on, or None for the CPU.

    Returns:
        ``stored`` (the bytes are the pixels), ``dali`` or ``threads``.

    Raises:
        ArgumentError: a decoder of another name.
    """
    if decoder not in DECODERS:
        raise invalid("decoder", f"one of {', '.join(DECODERS)}", decoder, "Leave it at auto")
    encodings = cells.encodings[rows]
    if manifest.info.layout == "block" and (encodings == ENCODINGS.index("raw")).all():
        return "stored"
    if decoder == "threads" or (decoder == "auto" and device_id is None):
        return "threads"
    plain = np.isin(encodings, [ENCODINGS.index(name) for name in _DALI_ENCODINGS])
    deep = manifest.column("depth")[rows] > 8
    return "dali" if plain.all() and not deep.any() and cells.depth == 8 else "threads"


def make_decoding(
    chosen: str, reader: PieceReader, cells: CellDecoder, batch: int, threads: int, device_id: int | None
) -> Decoding:
    """Make what decodes the pieces of a reader.

    Args:
        chosen: from `choose_decoding`.
        reader: that the pieces come from.
        cells: decoder of the same data set.
        batch: most cells in a piece.
        threads: of the decoder, >= 1.
        device_id: GPU that DALI decodes on, or None for the CPU.
    """
    if chosen == "stored":
        return partial(map, take_stored)
    if chosen == "dali":
        return DaliDecoding(reader, cells, batch, threads, device_id)
    return ThreadDecoding(reader, cells, threads)
