"""Reader of the stored bytes of cells: prefetches them in a thread and compares them with the manifest.

Stored bytes are compared with the manifest's hash in the first epoch, and again if a shard has changed, before any
decoder gets them: a decoder may return anything for damaged bytes, or crash the process. A cell that fails is reported
to `fastcell.dataset.corrupt_cells`, together with all other failing cells of its shard.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from fastcell.dataset.cell_hashes import hashes_of, wrong_bytes
from fastcell.dataset.corrupt_cells import CorruptCells, stand_in
from fastcell.dataset.integrity import CHANGED, REASONS, check_stored_bytes
from fastcell.dataset.manifest import Manifest
from fastcell.dataset.shard_reader import ShardFiles, Stamp, Stored
from fastcell.loading.prefetch import Prefetcher
from fastcell.loading.stores.downloads import downloads_ahead, shards_by_range
from fastcell.system.own_memory import own_zeros


class Piece(NamedTuple):
    """Cells to be decoded together, with stand-ins for corrupt ones.

    Attributes:
        wanted: (b,) int64, requested cell_ids.
        cell_ids: (b,) int64, cell_ids that are used: another cell for a corrupt one, the same one if it is blank.
        heights, widths: (b,) int32, size of the cells that are used [px].
        places: (b,) int64, index in `stored` of the cell that is used; -1 for a blank cell.
        good: (b,) bool, True if the requested cell is used.
        stored: the stored bytes.
        blank: use a blank cell instead of every corrupt one, not the first good cell.
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
        """Return (b,) values of a column of `stored` for the cells that are used; undefined for blank cells."""
        return column[self.places] if len(column) else np.zeros(len(self.places), column.dtype)

    @property
    def good_unless_all(self) -> np.ndarray | None:
        """Return `good`, or None if all are good."""
        return None if self.good.all() else self.good


class PieceReader:
    """Reader of the stored bytes of one data set that records corrupt cells.

    Args:
        manifest: manifest of the data set.
        corrupt_cells: collection that corrupt cells are added to.
        raw: the stored bytes are pixels, so their number must match the size in the manifest.
        threads: threads that share the hashing of the stored bytes; one thread hashes about 1 GB/s.
        allocate: memory to read into, as for `ShardFiles`.

    Attributes:
        checked: (N,) bool, True for every row of the manifest whose stored bytes were compared with the hash.
        hashes: (N, 16) uint8, hashes of the manifest.
    """

    def __init__(
        self,
        manifest: Manifest,
        corrupt_cells: CorruptCells,
        raw: bool,
        threads: int = 1,
        allocate: Callable[[int], np.ndarray] | None = None,
    ) -> None:
        self.manifest, self.corrupt_cells, self._raw = manifest, corrupt_cells, raw
        self._threads, self._allocate = threads, allocate
        self._heights, self._widths = manifest.column("height"), manifest.column("width")
        self._bytes = manifest.column("bytes")
        self.hashes, self.checked = hashes_of(manifest), own_zeros(len(manifest), bool)
        self._stamps: dict[int, Stamp | None] = {}

    def pieces(self, order: np.ndarray, edges: np.ndarray, at_once: int, blank: bool = False) -> Iterator[Piece]:
        """Read cells in a given order, span by span, each span in file order, with one span prefetched.

        Args:
            order: (n,) int64, cell_ids.
            edges: (p + 1,) int64, start of each piece in `order` and end of the last.
            at_once: number of pieces in a span.
            blank: use a blank cell instead of every corrupt one.

        Raises:
            DataError: cells are corrupt and `corrupt_cells` does not allow it; the message names shard and key.
        """
        spans = [edges[begin : begin + at_once + 1] for begin in range(0, len(edges) - 1, at_once)]
        cut = [(order[span[0] : span[-1]], (span - span[0]).tolist()) for span in spans]
        return self._pieces(lambda: iter(cut), shards_by_range(self.manifest, [order]), blank)

    def pieces_of(
        self,
        spans: Callable[[], Iterator[np.ndarray]],
        piece_cells: int,
        parts: Iterator[np.ndarray],
        blank: bool = False,
    ) -> Iterator[Piece]:
        """Read spans of cells, cut into pieces, each span in file order, with one span prefetched.

        Args:
            spans: function that returns an iterator of (n,) int64 cell_ids, the same ones at every call.
            piece_cells: number of cells of a piece; the last one of a span has the remaining cells.
            parts: (m,) int64 cell_ids, those of all spans in any order.
            blank: use a blank cell instead of every corrupt one.

        Raises:
            DataError: cells are corrupt and `corrupt_cells` does not allow it; the message names shard and key.
        """

        def cut() -> Iterator[tuple[np.ndarray, list[int]]]:
            for cells in spans():
                yield cells, [*range(0, len(cells), piece_cells), len(cells)]

        return self._pieces(cut, shards_by_range(self.manifest, parts), blank)

    def _pieces(
        self, cut: Callable[[], Iterator[tuple[np.ndarray, list[int]]]], by_range: frozenset[int], blank: bool
    ) -> Iterator[Piece]:
        """Read spans, given with the edges of their pieces."""
        files = ShardFiles(self.manifest, self._stamps, by_range, self._allocate)
        later = (np.unique(self.manifest.shards_of(cells)) for cells, _ in cut())
        with downloads_ahead(self.manifest, later, by_range) as reached:

            def read() -> Iterator[tuple[np.ndarray, list[int], Stored]]:
                for cells, edges in cut():
                    yield cells, edges, self._read(files, np.unique(cells), reached)

            reading = Prefetcher(read, 1)
            try:
                for cells, edges, stored in reading:
                    for begin, end in itertools.pairwise(edges):
                        yield self.piece(cells[begin:end], stored, blank)
            finally:
                reading.close()
                files.close()

    def piece(self, wanted: np.ndarray, stored: Stored, blank: bool) -> Piece:
        """Return the cells (b,) int64 from bytes already read, with stand-ins for those now known to be corrupt."""
        places, ids = np.searchsorted(stored.cell_ids, wanted), wanted
        good = ~self.corrupt_cells.is_corrupt[wanted]
        if not good.all():
            some = good.any() and not blank
            places = stand_in(places, good) if some else np.where(good, places, -1)
            ids = stored.cell_ids[places] if some else wanted
        return Piece(wanted, ids, self._heights[ids], self._widths[ids], places, good, stored, blank)

    def again(self, piece: Piece) -> Piece:
        """Return a piece again, with stand-ins for cells that were found to be corrupt after it had been made."""
        return self.piece(piece.wanted, piece.stored, piece.blank)

    def check_shards(self, cell_ids: list[int]) -> dict[int, str]:
        """Check all cells in the shards of corrupt cells, whichever rank reads them; return reasons by cell_id."""
        shards = np.unique(self.manifest.shards_of(np.array(cell_ids))).tolist()
        rows = np.concatenate([np.arange(rows.start, rows.stop) for rows in map(self.manifest.rows_of, shards)])
        rows = rows[~self.corrupt_cells.is_corrupt[rows]]
        codes = check_stored_bytes(self.manifest, rows)
        self.checked[rows[codes == 0]] = True
        return {int(row): REASONS[code] for row, code in zip(rows[codes > 0], codes[codes > 0], strict=True)}

    def _read(self, files: ShardFiles, cell_ids: np.ndarray, reached: Callable[[np.ndarray], object]) -> Stored:
        """Read and verify cells; runs in the reading thread."""
        shards = np.unique(self.manifest.shards_of(cell_ids))
        reached(shards)
        for number in files.changed(shards):
            self.checked[self.manifest.rows_of(number)] = False
        stored = files.read(cell_ids[~self.corrupt_cells.is_corrupt[cell_ids]])
        found = self._verify(stored)
        if found and files.fetch_again(self.manifest.shards_of(np.array(list(found)))):
            return self._read(files, cell_ids, reached)
        if found:
            self.corrupt_cells.add(found | self.check_shards(list(found)))
        return stored

    def _verify(self, stored: Stored) -> dict[int, str]:
        """Return reasons for cells that could not be read or that differ from the manifest."""
        reasons = dict(stored.reasons)
        todo = ~self.checked[stored.cell_ids]
        if reasons:
            todo &= ~np.isin(stored.cell_ids, list(reasons))
        places = np.flatnonzero(todo)
        if len(places):
            wrong = wrong_bytes(self.hashes, stored, places, self._threads)
            reasons.update(dict.fromkeys(stored.cell_ids[places[wrong]].tolist(), REASONS[CHANGED]))
            if self._raw:
                odd = stored.cell_ids[places[~wrong]]
                odd = odd[self._bytes[odd] != self._heights[odd].astype(np.int64) * self._widths[odd]]
                reason = "stored bytes do not fit the height and width in the manifest"
                reasons.update(dict.fromkeys(odd.tolist(), reason))
            self.checked[stored.cell_ids[places[~wrong]]] = True
        return reasons
