"""Stored bytes of cells, read ahead of their decoding in a thread and compared with the manifest.

Stored bytes are compared with the manifest's hash in the first epoch, and again in a shard that has changed, before any
decoder sees them: a decoder of damaged bytes may give anything, or end the process. A cell that fails goes to
`fastcell.dataset.corrupt_cells` with all others of its shard that do.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from fastcell.dataset.cell_hashes import hashes_of, wrong_bytes
from fastcell.dataset.corrupt_cells import CorruptCells, stand_in
from fastcell.dataset.integrity import CHANGED, REASONS, check_stored_bytes
from fastcell.dataset.manifest import Manifest
from fastcell.dataset.shard_reader import ShardFiles, Stamp, Stored
from fastcell.loading.prefetch import Prefetcher


class Piece(NamedTuple):
    """Cells to be decoded together, with stand-ins for corrupt ones.

    Attributes:
        wanted: (b,) int64, cell_ids that were asked for.
        cell_ids: (b,) int64, of the cells that are taken: another one for a corrupt cell, itself for a blank one.
        heights, widths: (b,) int32, of the cells that are taken.
        places: (b,) int64, place in `stored` of the cell that is taken; -1 for a blank one.
        good: (b,) bool, whether it is the wanted cell.
        stored: where the bytes are.
        blank: a blank cell stands in for every corrupt one, not the first good cell.
    """

    wanted: np.ndarray
    cell_ids: np.ndarray
    heights: np.ndarray
    widths: np.ndarray
    places: np.ndarray
    good: np.ndarray
    stored: Stored
    blank: bool

    def of(self, column: np.ndarray) -> np.ndarray:
        """(b,) values of a column of `stored` for the cells that are taken, anything for the blank ones."""
        return column[self.places] if len(column) else np.zeros(len(self.places), column.dtype)

    @property
    def good_unless_all(self) -> np.ndarray | None:
        """`good`, or None where all are."""
        return None if self.good.all() else self.good


class PieceReader:
    """Reads stored bytes of cells of one data set and keeps account of the corrupt ones.

    Args:
        manifest: of the data set.
        corrupt_cells: that corrupt cells are added to.
        raw: the stored bytes are pixels, as many as the manifest's sides ask for.

    Attributes:
        checked: (N,) bool, for every row of the manifest whether its stored bytes were compared with the hash.
        hashes: (N, 16) uint8, the manifest's hashes.
    """

    def __init__(self, manifest: Manifest, corrupt_cells: CorruptCells, raw: bool) -> None:
        self.manifest, self.corrupt_cells, self._raw = manifest, corrupt_cells, raw
        self._heights, self._widths = (manifest.column(name).astype(np.int32) for name in ("height", "width"))
        self._raw_sizes_hold = manifest.column("bytes") == self._heights.astype(np.int64) * self._widths
        self.hashes, self.checked = hashes_of(manifest), np.zeros(len(manifest), bool)
        self._stamps: dict[int, Stamp | None] = {}

    def pieces(self, order: np.ndarray, edges: np.ndarray, at_once: int, blank: bool = False) -> Iterator[Piece]:
        """Read cells in an order, span by span, each span in the order of the file, two spans ahead.

        Args:
            order: (n,) int64, cell_ids.
            edges: (p + 1,) int64, where the pieces begin in it, and the end of the last.
            at_once: pieces in a span.
            blank: a blank cell stands in for every corrupt one.

        Raises:
            DataError: cells are corrupt and `corrupt_cells` does not let that pass; shard and key are named.
        """
        spans = [edges[begin : begin + at_once + 1] for begin in range(0, len(edges) - 1, at_once)]
        needed = (np.unique(order[span[0] : span[-1]]) for span in spans)
        files = ShardFiles(self.manifest, self._stamps)
        reading = Prefetcher(lambda: (self._read(files, cell_ids) for cell_ids in needed), 2)
        try:
            for span, stored in zip(spans, reading, strict=True):
                for begin, end in itertools.pairwise(span):
                    yield self.piece(order[begin:end], stored, blank)
        finally:
            reading.close()
            files.close()

    def piece(self, wanted: np.ndarray, stored: Stored, blank: bool) -> Piece:
        """The cells (b,) int64 out of bytes that were read, with stand-ins for those that are corrupt by now."""
        places, ids = np.searchsorted(stored.cell_ids, wanted), wanted
        good = ~self.corrupt_cells.is_corrupt[wanted]
        if not good.all():
            some = good.any() and not blank
            places = stand_in(places, good) if some else np.where(good, places, -1)
            ids = stored.cell_ids[places] if some else wanted
        return Piece(wanted, ids, self._heights[ids], self._widths[ids], places, good, stored, blank)

    def again(self, piece: Piece) -> Piece:
        """A piece with stand-ins for the cells that have turned out to be corrupt since it was made."""
        return self.piece(piece.wanted, piece.stored, piece.blank)

    def check_shards(self, cell_ids: list[int]) -> dict[int, str]:
        """Look at all cells of the shards that these corrupt ones are in, whoever reads them; reasons by cell_id."""
        shards = np.unique(self.manifest.shard_index[cell_ids]).tolist()
        rows = np.concatenate([np.arange(rows.start, rows.stop) for rows in map(self._rows_of, shards)])
        rows = rows[~self.corrupt_cells.is_corrupt[rows]]
        codes = check_stored_bytes(self.manifest, rows)
        self.checked[rows[codes == 0]] = True
        return {int(row): REASONS[code] for row, code in zip(rows[codes > 0], codes[codes > 0], strict=True)}

    def _read(self, files: ShardFiles, cell_ids: np.ndarray) -> Stored:
        """Runs in the reading thread."""
        shards = np.unique(self.manifest.shard_index[cell_ids])
        for number in files.changed(shards):
            self.checked[self._rows_of(number)] = False
        stored = files.read(cell_ids[~self.corrupt_cells.is_corrupt[cell_ids]])
        found = self._verify(stored)
        if found:
            self.corrupt_cells.add(found | self.check_shards(list(found)))
        return stored

    def _verify(self, stored: Stored) -> dict[int, str]:
        """Reasons of cells that could not be read or are not what the manifest says."""
        reasons = dict(stored.reasons)
        todo = ~self.checked[stored.cell_ids]
        if reasons:
            todo &= ~np.isin(stored.cell_ids, list(reasons))
        places = np.flatnonzero(todo)
        if len(places):
            wrong = wrong_bytes(self.hashes, stored, places)
            reasons.update(dict.fromkeys(stored.cell_ids[places[wrong]].tolist(), REASONS[CHANGED]))
            if self._raw:
                odd = stored.cell_ids[places[~wrong & ~self._raw_sizes_hold[stored.cell_ids[places]]]]
                reasons.update(dict.fromkeys(odd.tolist(), "stored bytes do not fit the sides in the manifest"))
            self.checked[stored.cell_ids[places[~wrong]]] = True
        return reasons

    def _rows_of(self, shard: int) -> slice:
        """The rows of the manifest that a shard has: those of each stand side by side, in the order of the shards."""
        begin, end = np.searchsorted(self.manifest.shard_index, (shard, shard + 1))
        return slice(int(begin), int(end))
