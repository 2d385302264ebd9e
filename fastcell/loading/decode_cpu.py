"""Decode the stored bytes of cells to pixels on the CPU.

Threads decode grey JPEG with `fastcell.ops.jpeg`, one batch per call, and everything else with
`fastcell.dataset.decode`: PNG, colour images, 16-bit cells, which need the grey-level window, and NumPy and TIFF files,
of which DALI does not support all variants. Pixels of blocks are used as they are stored in the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np

from fastcell.dataset.corrupt_cells import blank_cell
from fastcell.dataset.decode import ENCODINGS, decode
from fastcell.dataset.manifest import Manifest
from fastcell.dataset.shard_reader import Stored
from fastcell.errors import BadCell
from fastcell.loading.ragged_cells import PixelViews, RaggedCells
from fastcell.loading.stores.reading import Piece, PieceReader
from fastcell.ops.cpu.compiled_loops import is_compiled
from fastcell.ops.cpu.jpeg.decode import decode_range
from fastcell.ops.jpeg import decode_jpegs

MOST_SINGLE = 20_000
"""Cells that a command decodes one by one before it compiles the loops for JPEG, which takes seconds."""


class CellDecoder:
    """Decoder of the cells of one data set; it may be called from any number of threads.

    Args:
        manifest: manifest of the data set.
        depth: bits per grey level of the returned pixels, 8 or 16.

    Attributes:
        depth: as given.
        encodings: (N,) int8, for every row of the manifest its index in `fastcell.dataset.decode.ENCODINGS`, or -1.
    """

    def __init__(self, manifest: Manifest, depth: int) -> None:
        self.depth = depth
        self._heights, self._widths = manifest.column("height"), manifest.column("width")
        levels = manifest.info.window
        self._window = None if levels is None else (levels[0], levels[1])
        self.encodings = manifest.encoding_codes
        self._single, self._in_loops = 0, False

    def _takes_loops(self, num: int) -> bool:
        """Return whether `num` further cells are to be decoded in compiled loops; the pixels are the same without."""
        if not self._in_loops:
            self._in_loops = self._single >= MOST_SINGLE or is_compiled(decode_range)
            self._single += num
        return self._in_loops

    def decode_into(
        self,
        pixels: np.ndarray,
        starts: np.ndarray,
        stored: Stored,
        taken: np.ndarray,
        heights: np.ndarray,
        widths: np.ndarray,
        slots: np.ndarray,
    ) -> dict[int, str]:
        """Decode selected cells of a batch of B cells into an array.

        Args:
            pixels: uint8 or uint16, one dimension, written.
            starts: (B,) int64, first pixel of each cell in `pixels`.
            stored: encoded bytes of the cells.
            taken: (B,) int64, index of each cell in `stored`; -1 for a blank cell.
            heights, widths: (B,) int32, size of each cell [px].
            slots: (n,) int64, which of the B cells to decode.

        Returns:
            Reason for each cell that cannot be decoded, by cell_id. The pixels of these cells are undefined.
        """
        found: dict[int, str] = {}
        is_done = np.zeros(len(slots), bool)
        if self.depth == 8 and self._takes_loops(len(slots)):
            real = np.flatnonzero(taken[slots] >= 0)
            some = slots[real]
            places = taken[some]
            is_done[real] = decode_jpegs(
                stored.buffer,
                stored.starts[places],
                stored.sizes[places],
                heights[some],
                widths[some],
                pixels,
                starts[some],
            )
        for slot in slots[~is_done].tolist():
            place, height, width = int(taken[slot]), int(heights[slot]), int(widths[slot])
            to = pixels[starts[slot] : starts[slot] + height * width].reshape(height, width)
            decoded = self.decode(stored, place) if place >= 0 else blank_cell(height, width, self.depth)[:, :, 0]
            if isinstance(decoded, str):
                found[int(stored.cell_ids[place])] = decoded
            else:
                to[:] = decoded
        return found

    def decode(self, stored: Stored, place: int) -> np.ndarray | str:
        """Return the (H, W) pixels of the cell at index `place` of `stored`, or the reason why it cannot be decoded."""
        cell_id = int(stored.cell_ids[place])
        try:
            data, encoding = stored.bytes_of(place).tobytes(), ENCODINGS[self.encodings[cell_id]]
            pixels = decode(data, encoding, self._window, self.depth).pixels
        except BadCell as bad:
            return f"cannot be decoded any more: {bad.reason}"
        sides = int(self._heights[cell_id]), int(self._widths[cell_id])
        return pixels if pixels.shape == sides else other_sides(*pixels.shape)


def other_sides(height: int, width: int) -> str:
    """Return the reason for a cell whose decoded size differs from the manifest."""
    return f"is {height} x {width} pixels, but the manifest states another size"


class ThreadDecoding:
    """Decoder of pieces that uses threads.

    Args:
        reader: source of the pieces.
        decoder: decoder of the same data set.
        threads: number of threads that share a piece, >= 1.
    """

    def __init__(self, reader: PieceReader, decoder: CellDecoder, threads: int) -> None:
        self._reader, self._decoder, self._threads = reader, decoder, threads

    def __call__(self, pieces: Iterator[Piece]) -> Iterator[RaggedCells]:
        """Decode pieces one by one; the threads end with the iterator."""
        with ThreadPoolExecutor(self._threads, "fastcell-decode") as pool:
            for piece in pieces:
                yield self.decode(piece, pool)

    def decode(self, piece: Piece, pool: ThreadPoolExecutor | None = None) -> RaggedCells:
        """Decode one piece, in the threads of a pool or in the calling thread."""
        depth = self._decoder.depth
        while True:
            sizes = piece.heights.astype(np.int64) * piece.widths
            starts = np.cumsum(sizes) - sizes
            pixels = np.empty(int(sizes.sum()), np.uint8 if depth == 8 else np.uint16)
            decode_part = partial(
                self._decoder.decode_into, pixels, starts, piece.stored, piece.places, piece.heights, piece.widths
            )
            slots = np.array_split(np.arange(len(piece.cell_ids)), 1 if pool is None else self._threads)
            parts = pool.map(decode_part, slots) if pool is not None and len(slots) > 1 else map(decode_part, slots)
            found = {cell_id: reason for part in parts for cell_id, reason in part.items()}
            if not found:
                break
            self._reader.corrupt_cells.add(found)
            piece = self._reader.again(piece)
        addresses = pixels.ctypes.data + starts * pixels.itemsize
        cells = PixelViews(pixels, starts, piece.heights, piece.widths)
        columns = (piece.cell_ids, piece.heights, piece.widths)
        return RaggedCells(*columns, cells, addresses, depth, good=piece.good_unless_all)


def take_stored(piece: Piece) -> RaggedCells:
    """Return the cells of a piece whose stored bytes are uint8 pixels, without a copy."""
    is_blank = piece.places < 0
    starts = np.where(is_blank, 0, piece.of(piece.stored.starts))
    buffer = piece.stored.buffer
    addresses = buffer.ctypes.data + starts
    pixels: list[Any] | PixelViews = PixelViews(buffer, starts, piece.heights, piece.widths)
    if is_blank.any():
        sides = zip(is_blank.tolist(), piece.heights.tolist(), piece.widths.tolist(), strict=True)
        pixels = [
            blank_cell(height, width, 8) if blank else pixels[slot] for slot, (blank, height, width) in enumerate(sides)
        ]
        addresses = np.array([cell.ctypes.data for cell in pixels], np.int64)
    columns = (piece.cell_ids, piece.heights, piece.widths)
    return RaggedCells(*columns, pixels, addresses, good=piece.good_unless_all)


def take_stored_as_pool(piece: Piece) -> RaggedCells:
    """Return the cells of `take_stored` with their buffer, which a GPU can read, as the pool that they lie in.

    The transform then gets an offset for each cell, and no cell is copied on the host. Blank cells lie in no buffer, so
    that a piece with one of them is copied.
    """
    import torch  # decoding itself needs no torch

    cells = take_stored(piece)
    if (piece.places >= 0).all():
        cells.pool, cells.offsets = torch.from_numpy(piece.stored.buffer), piece.of(piece.stored.starts)
    return cells
