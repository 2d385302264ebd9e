"""Cells of files that are not packed: read in the order in which ``fastcell pack`` would store them.

Nothing is written. Cells that `pack` would quarantine are rejected with the same reason. At most a few thousand decoded
cells are in memory at a time.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from fastcell.dataset.decode import decode_levels
from fastcell.dataset.decoder_messages import DecoderMessages
from fastcell.dataset.grey_window import Window
from fastcell.dataset.open_files import look_again
from fastcell.packing.option_effects import check_listing_options
from fastcell.packing.pack import SourceRecords
from fastcell.packing.quarantine import quarantine_table, rejected_cells
from fastcell.packing.records import CellTable, Record, check_levels
from fastcell.packing.shard_layout import cell_shards, choose_shard_cells
from fastcell.packing.unify_names import unify_names
from fastcell.sources.base import Listing, Source, SourceItem
from fastcell.sources.image_folder import ImageFiles, ImageFolder, find_images
from fastcell.sources.registry import ReadOptions, open_source
from fastcell.system.text import one_name
from fastcell.system.worker_processes import run_tasks

PIECE_CELLS = 256
"""Number of cells in a task of a worker process."""

_PIECES_AHEAD = 16  # more would let workers fill the memory where the network is slower than they are
_ONE_PROCESS_CELLS = 4_000  # starting workers takes longer than decoding this many cells


class SourceChunk(NamedTuple):
    """Decoded cells of a source.

    Attributes:
        cells: n arrays (H, W) uint8, or uint16 with raw grey levels if the run uses 16 bits.
        numbers: (n,) int64, index of each cell in the order of reading.
        bad: rows of `QUARANTINE_SCHEMA` for unusable cells of the chunk.
        bad_numbers: indices of the unusable cells in the order of reading.
        end: index after the last cell of the chunk.
    """

    cells: list[np.ndarray]
    numbers: np.ndarray
    bad: pa.Table
    bad_numbers: np.ndarray
    end: int


@dataclass(frozen=True)
class SourceCells:
    """The cells of one source.

    Attributes:
        source: reader of the files.
        order: cells of the source in the order of reading.
        listing: result of the scan.
        window: grey levels (low, high) of 16-bit cells that become black and white; None if there must be none.
        um_per_px: micrometres per pixel of cells for which the source gives no value; NaN if unknown.
        depth: bits per grey level that the run keeps.
        in_given_order: whether the order is that of a list of files.
    """

    source: Source
    order: Sequence[SourceItem]
    listing: Listing
    window: Window = None
    um_per_px: float = math.nan
    depth: int = 8
    in_given_order: bool = False

    def __len__(self) -> int:
        return len(self.order)

    @property
    def rejected(self) -> pa.Table:
        """Rows of `QUARANTINE_SCHEMA` for the cells that the scan rejected."""
        return rejected_cells(self.listing)

    def keys(self, numbers: np.ndarray) -> list[str]:
        """Return the keys of cells by index."""
        return [str(one_name(self.order[number].key)) for number in numbers.tolist()]

    def groups(self, numbers: np.ndarray) -> list[str | None]:
        """Return the groups of cells by index; None for a cell without a group."""
        return [one_name(self.order[number].group) for number in numbers.tolist()]

    def pitches(self, numbers: np.ndarray) -> np.ndarray:
        """Return the micrometres per pixel of cells by index, (n,) float32, NaN if unknown."""
        found = np.array([self.order[number].um_per_px for number in numbers.tolist()], np.float32)
        return np.where(np.isnan(found), np.float32(self.um_per_px), found)

    def stamp(self, begin: int, end: int) -> str:
        """Return a text that changes if the files of the cells from `begin` to `end` (exclusive) change."""
        return SourceRecords(self.source).stamp([("", list(self.order[begin:end]))])

    def digest(self) -> str:
        """Return a hash of the list of cells, their order and the reading options."""
        digest = blake2b(repr((self.window, self.um_per_px, self.depth)).encode(), digest_size=16)
        for item in self.order:
            digest.update(f"{item.key}\0{item.group}\0{item.um_per_px}\n".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()

    def chunks(self, size: int, begin: int = 0, jobs: int | None = None) -> Iterator[SourceChunk]:
        """Read the cells and yield `size` usable ones at a time; the last chunk may be smaller, or empty.

        Args:
            size: cells of a chunk.
            begin: index of the first cell.
            jobs: number of worker processes that decode; None for one per CPU, or for no process if there are few
                cells.

        Raises:
            ArgumentError: a 16-bit cell is found and there is no window.
        """
        cells: list[np.ndarray] = []
        numbers: list[int] = []
        bad: list[pa.Table] = [quarantine_table([])]
        bad_numbers: list[int] = []

        def chunk(end: int) -> SourceChunk:
            made = SourceChunk(list(cells), np.array(numbers, np.int64), pa.concat_tables(bad), _ints(bad_numbers), end)
            for filled in (cells, numbers, bad_numbers):
                filled.clear()
            del bad[1:]
            return made

        for number, cell in self._decoded(begin, jobs):
            if isinstance(cell, pa.Table):
                bad.append(cell)
                bad_numbers.append(number)
                continue
            cells.append(cell)
            numbers.append(number)
            if len(cells) == size:
                yield chunk(number + 1)
        yield chunk(len(self.order))

    def _decoded(self, begin: int, jobs: int | None) -> Iterator[tuple[int, np.ndarray | pa.Table]]:
        """Yield index and pixels of each cell, or a quarantine row if it is unusable."""
        records = SourceRecords(self.source, um_per_px=self.um_per_px)
        few = len(self.order) - begin <= _ONE_PROCESS_CELLS
        starts = range(begin, len(self.order), PIECE_CELLS)
        for first in range(0, len(starts), _PIECES_AHEAD):
            some = starts[first : first + _PIECES_AHEAD]
            pieces = [
                _Piece(records, list(self.order[start : start + PIECE_CELLS]), self.window, self.depth)
                for start in some
            ]
            for start, decoded in zip(some, run_tasks(_decode_piece, pieces, jobs, few), strict=True):
                rows = iter(range(decoded.quarantine.num_rows))
                for place, cell in enumerate(decoded.cells):
                    yield start + place, decoded.quarantine.slice(next(rows), 1) if cell is None else cell


@dataclass(frozen=True)
class _Piece:
    records: SourceRecords
    items: list[SourceItem]
    window: Window
    depth: int


class _DecodedPiece(NamedTuple):
    cells: list[np.ndarray | None]
    quarantine: pa.Table


def _decode_piece(piece: _Piece) -> _DecodedPiece:
    """Decode cells. Runs in a worker process."""
    look_again()
    table = CellTable(piece.records.source.name, piece.window)
    cells: list[np.ndarray | None] = []
    with DecoderMessages() as messages:
        for record in piece.records.records(piece.items):
            decoded = table.decode(record, messages)
            if decoded is None:
                cells.append(None)
            else:
                cells.append(decoded.pixels if piece.depth == 8 else _raw_levels(record, decoded.pixels.shape))
    table.rows()  # raises if there were 16-bit cells without a window
    return _DecodedPiece(cells, table.quarantine())


def _raw_levels(record: Record, shape: tuple[int, ...]) -> np.ndarray:
    if isinstance(record.data, np.ndarray):
        return record.data.reshape(shape)
    assert isinstance(record.data, bytes)
    return decode_levels(record.data)[0]


def open_cells(
    what: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    read: ReadOptions | None = None,
    window: Window = None,
    um_per_px: float | None = None,
    depth: int = 8,
    any_layout: bool = False,
) -> SourceCells:
    """Open files of cells that are not packed.

    Args:
        what: folder of images, file of many cells, folder of such files, one image file, or a list of image files.
        read: reading options of `pack`; for a list of files only the channel.
        window: grey levels (low, high) of 16-bit cells that become black and white.
        um_per_px: micrometres per pixel of cells for which the source gives no value.
        depth: bits per grey level that the run keeps.
        any_layout: read a folder of images also if its paths do not name a class in the same place; else a pattern is
            needed, as for `pack`.

    Raises:
        ArgumentError: an argument breaks its rule or has no effect on these cells, or the path is not a source.
        DataError: the files cannot be read.
    """
    check_levels(window, um_per_px)
    given = [what] if isinstance(what, str | os.PathLike) else list(what)
    pitch = math.nan if um_per_px is None else um_per_px
    if not isinstance(what, str | os.PathLike) or ImageFiles.is_one(Path(what)):
        source: Source = ImageFiles(tuple(str(path) for path in given), read.channel if read else None)
        listing = source.scan()
        return SourceCells(source, listing.items, listing, window, pitch, depth, in_given_order=True)
    source = open_source(what, None if read is None else read.pattern, read)
    if isinstance(source, ImageFolder) and source.pattern is None:
        source = replace(source, pattern=_pattern_of(source.root, any_layout))
    listing = unify_names(source.scan())
    check_listing_options(listing, um_per_px, None)
    shards = cell_shards(listing.items, choose_shard_cells(len(listing.items)), 0, listing.runs)
    order = [item for blocks in shards for _, items in blocks for item in items]
    return SourceCells(source, order, listing, window, pitch, depth)


def _pattern_of(folder: Path, any_layout: bool) -> str | None:
    """Return the pattern of unlabelled images, directly in a folder or at any depth; None for that of `pack`."""
    keys, _ = find_images(folder)
    depths = {key.count("/") for key in keys}
    if depths == {0}:
        return "{name}"
    return "**/{name}" if any_layout and depths and depths != {1} else None


def _ints(values: list[int]) -> np.ndarray:
    return np.array(values, np.int64)
