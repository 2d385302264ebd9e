"""Stage 1 of the stream: stored bytes of the shards in, ragged grey cells with their ids out, batch by batch.

Order. A rank's rows are cut once from the stored order of the view. An epoch permutes the order of their shards by
(seed, epoch) and mixes the rows in windows behind them, which on top of pack's global seeded order makes an epoch
random. A window is read in the order of the file, while the one before it is decoded. So the same rank sees the same
cells in every epoch, in another order, any batch of which can be computed without those before it.

Decoding. On a GPU, and where it is asked for, JPEG and PNG cells of 8 bits come from DALI's decoder. Else threads
decode: grey JPEG by `fastcell.ops.jpeg`, a batch in a call, and the rest by `fastcell.dataset.decode`: PNG, colour,
16-bit cells, which need the window of grey levels, and NumPy and TIFF files, whose variants DALI does not all know.
Pixels of blocks are taken as they lie in the file.

Bad cells. Stored bytes are compared with the manifest's hash in the first epoch, and again in a shard that has changed,
before any decoder sees them: a decoder of damaged bytes may give anything, or end the process. A cell that fails goes
to `fastcell.dataset.corrupt_cells` with all others of its shard that do, and the first good cell of its batch takes its
place.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import cv2
import numpy as np

from fastcell.dataset.cell_hashes import hashes_of, wrong_bytes
from fastcell.dataset.corrupt_cells import CorruptCells
from fastcell.dataset.decode import ENCODINGS
from fastcell.dataset.integrity import CHANGED, REASONS, check_cells
from fastcell.dataset.shard_reader import ShardFiles, Stamp, Stored
from fastcell.dataset.views import View
from fastcell.errors import DataError, invalid
from fastcell.loading import decode_dali
from fastcell.loading.decode_cpu import CellDecoder, blank_cell, other_sides
from fastcell.loading.decode_dali import DaliDecoder
from fastcell.loading.prefetch import Prefetcher
from fastcell.loading.ragged_cells import RaggedCells
from fastcell.loading.ranks import Share

DECODERS = ("auto", "dali", "threads")

#: Cells that are mixed behind the shards where nothing else is asked for.
DEFAULT_INITIAL_FILL = 8192

_IN_ORDER = 2048  # cells of a window that is not mixed
_MOST_BYTES = 1 << 28  # of a window
_DALI_ENCODINGS = ("jpg", "png")


class Piece(NamedTuple):
    """Cells to be decoded together.

    Attributes:
        cell_ids: (b,) int64, wanted.
        taken: (b,) int64, place in `stored` of the cell that is taken, another one for a lost cell; -1 for a blank one.
        good: (b,) bool, whether it is the wanted cell.
        stored: where the bytes are.
    """

    cell_ids: np.ndarray
    taken: np.ndarray
    good: np.ndarray
    stored: Stored

    def of(self, column: np.ndarray) -> np.ndarray:
        """(b,) values of a column of `stored` for the cells that are taken, anything for the blank ones."""
        return column[self.taken] if len(column) else np.zeros(len(self.taken), column.dtype)


class CellReader:
    """Reads one rank's share of a view, epoch by epoch.

    Args:
        view: which cells; rows in stored order, repeats allowed.
        share: which of its rows and in how many steps (`fastcell.loading.ranks`).
        shuffle: another order in every epoch; else the stored order.
        seed: of the order.
        initial_fill: cells in a window of mixed cells; 0 takes 8,192.
        threads: of the decoder, >= 1.
        device_id: GPU that DALI decodes on, or None for the CPU.
        depth: bits of a grey level in the cells to give, 8 or 16.
        decoder: ``dali`` or ``threads``, see above; ``auto`` takes DALI on a GPU and threads on a CPU. Threads decode
            all of a share in which there is a cell that DALI cannot.
        mix: with `shuffle`: mix the cells in windows; else the shards alone change places.
        losses: that lost cells are added to, shared with other readers of the data set; None for its own, which ends
            the run at the first.

    Attributes:
        checked: (N,) bool, for every row of the manifest whether its stored bytes were compared with the hash.

    Raises:
        ArgumentError: 16 bits asked of blocks, which store 8, or a decoder of another name.
    """

    def __init__(
        self,
        view: View,
        share: Share,
        *,
        shuffle: bool = False,
        seed: int = 0,
        initial_fill: int = 0,
        threads: int = 1,
        device_id: int | None = None,
        depth: int = 8,
        decoder: str = "auto",
        mix: bool = True,
        losses: CorruptCells | None = None,
    ) -> None:
        self.manifest = manifest = view.manifest
        if manifest.info.layout == "block" and depth != 8:
            raise invalid("depth", "8 for cells in blocks, which are stored so", depth, "Pack with --layout cell")
        if decoder not in DECODERS:
            raise invalid("decoder", f"one of {', '.join(DECODERS)}", decoder, "Leave it at auto")
        self.share, self.depth = share, depth
        self.shuffle, self.seed, self.threads, self.device_id = shuffle, seed, threads, device_id
        self.losses = CorruptCells(manifest, "error") if losses is None else losses
        self.rows = view.rows[share.start : share.stop]
        if len(self.rows) == 0:  # more ranks than rows: read a cell to pad with
            self.rows = view.rows[:1]
        self._heights, self._widths = (manifest.column(name).astype(np.int32) for name in ("height", "width"))
        sizes = manifest.column("bytes")
        self._raw_sizes_hold = sizes == self._heights.astype(np.int64) * self._widths
        most = max(1, int(_MOST_BYTES // max(1.0, float(sizes[self.rows].mean()))))
        self.window = min(initial_fill or DEFAULT_INITIAL_FILL, most) if shuffle and mix else None
        self._at_once = self._whole_batches(min(_IN_ORDER, most))
        self._cell_decoder = CellDecoder(manifest, depth)
        self._way = self._choose_way(decoder == "dali" or (decoder == "auto" and device_id is not None))
        self._hashes, self.checked = hashes_of(manifest), np.zeros(len(manifest), bool)
        self._idle: DaliDecoder | None = None
        self._stamps: dict[int, Stamp | None] = {}

    def epoch(self, epoch: int, first: int = 0) -> Iterator[RaggedCells]:
        """Read one epoch: `share.steps` batches of `share.batch` cells.

        The first `len(share)` cells are the share's rows, each as often as it stands there; behind them comes padding
        by the cells drawn just before: a batch norm sees it too.

        Args:
            epoch: number.
            first: step to begin with: the batches from there on are those of the whole epoch.

        Raises:
            DataError: cells are lost and `losses` does not let that pass; shard and key are named.
        """
        share = self.share
        order = self._mixed(self.rows_in_order(epoch), epoch)
        whole = len(order) // share.batch * share.batch
        padding = order[:whole][::-1] if whole else order
        order = np.concatenate([order, np.resize(padding, max(share.steps * share.batch - len(order), 0))])
        edges = np.arange(first, share.steps + 1) * share.batch
        yield from self._cells(order, edges, self._whole_batches(self.window or self._at_once))

    def rows_in_order(self, epoch: int = 0) -> np.ndarray:
        """(n,) int64, the rows as an epoch without mixing reads them: shard by shard."""
        if not self.shuffle:
            return self.rows
        shard = self.manifest.shard_index[self.rows]
        starts = np.flatnonzero(np.diff(shard, prepend=-1))
        parts = np.split(self.rows, starts[1:])
        order = np.random.default_rng([self.seed, epoch, 0]).permutation(len(parts))
        return np.concatenate([parts[number] for number in order])

    def in_order(self, epoch: int = 0, first: int = 0) -> Iterator[RaggedCells]:
        """Read an epoch without mixing: the cells of `rows_in_order` from place `first` on, in pieces of any size, each
        once, no padding. A blank one of its size stands in for a lost cell."""
        order = self.rows_in_order(epoch)
        edges = np.append(np.arange(first, len(order), self.share.batch), len(order))
        yield from self._cells(order, edges, self._at_once, blank=True)

    # -- order

    def _mixed(self, order: np.ndarray, epoch: int) -> np.ndarray:
        if self.window is None:
            return order
        rng = np.random.default_rng([self.seed, epoch, 1, self.share.rank])
        order = np.roll(order, rng.integers(len(order)))  # else few shards would give the same windows again and again
        at_once = self._whole_batches(self.window)
        return np.concatenate(
            [rng.permutation(order[begin : begin + at_once]) for begin in range(0, len(order), at_once)]
        )

    def _whole_batches(self, cells: int) -> int:
        return max(cells // self.share.batch, 1) * self.share.batch

    # -- from rows to cells

    def _choose_way(self, by_dali: bool) -> str:
        encodings = self._cell_decoder.encodings[self.rows]
        if self.manifest.info.layout == "block" and (encodings == ENCODINGS.index("raw")).all():
            return "raw"
        plain = np.isin(encodings, [ENCODINGS.index(name) for name in _DALI_ENCODINGS])
        deep = self.manifest.column("depth")[self.rows] > 8
        return "dali" if by_dali and plain.all() and not deep.any() and self.depth == 8 else "threads"

    def _cells(self, order: np.ndarray, edges: np.ndarray, at_once: int, blank: bool = False) -> Iterator[RaggedCells]:
        pieces = self._pieces(order, edges, at_once, blank)
        if self._way == "raw":
            yield from map(self._as_stored, pieces)
        elif self._way == "dali":
            yield from self._by_dali(pieces, blank)
        else:
            with ThreadPoolExecutor(self.threads, "fastcell-decode") as pool:
                for piece in pieces:
                    yield self._by_threads(piece, pool, blank)

    def _pieces(self, order: np.ndarray, edges: np.ndarray, at_once: int, blank: bool) -> Iterator[Piece]:
        """The cells between the edges, in windows that a thread reads ahead."""
        step = max(1, at_once // self.share.batch)
        windows = [edges[begin : begin + step + 1] for begin in range(0, len(edges) - 1, step)]
        needed = (np.unique(order[window[0] : window[-1]]) for window in windows)
        files = ShardFiles(self.manifest, self._stamps)
        reading = Prefetcher(lambda: (self._read(files, cell_ids) for cell_ids in needed), 2)
        try:
            for window, stored in zip(windows, reading, strict=True):
                for begin, end in itertools.pairwise(window):
                    yield self._piece(order[begin:end], stored, blank)
        finally:
            reading.close()
            files.close()

    def _piece(self, cell_ids: np.ndarray, stored: Stored, blank: bool) -> Piece:
        taken = np.searchsorted(stored.cell_ids, cell_ids)
        good = ~self.losses.is_lost[cell_ids]
        if not good.all():
            taken = taken.copy()
            taken[~good] = taken[np.argmax(good)] if good.any() and not blank else -1
        return Piece(cell_ids, taken, good, stored)

    def _read(self, files: ShardFiles, cell_ids: np.ndarray) -> Stored:
        """Runs in the reading thread."""
        shards = np.unique(self.manifest.shard_index[cell_ids])
        for number in files.changed(shards):
            self.checked[self._rows_of(number)] = False
        stored = files.read(cell_ids[~self.losses.is_lost[cell_ids]])
        found = self._verify(stored)
        if found:
            self.losses.add(found | self._verify_shards(list(found)))
        return stored

    def _verify(self, stored: Stored) -> dict[int, str]:
        """Reasons of cells that could not be read or are not what the manifest says."""
        reasons = dict(stored.reasons)
        todo = ~self.checked[stored.cell_ids]
        if reasons:
            todo &= ~np.isin(stored.cell_ids, list(reasons))
        places = np.flatnonzero(todo)
        if len(places):
            wrong = wrong_bytes(self._hashes, stored, places)
            reasons.update(dict.fromkeys(stored.cell_ids[places[wrong]].tolist(), REASONS[CHANGED]))
            if self._way == "raw":
                odd = stored.cell_ids[places[~wrong & ~self._raw_sizes_hold[stored.cell_ids[places]]]]
                reasons.update(dict.fromkeys(odd.tolist(), "stored bytes do not fit the sides in the manifest"))
            self.checked[stored.cell_ids[places[~wrong]]] = True
        return reasons

    def _rows_of(self, shard: int) -> slice:
        """The rows of the manifest that a shard has: those of each stand side by side, in the order of the shards."""
        begin, end = np.searchsorted(self.manifest.shard_index, (shard, shard + 1))
        return slice(int(begin), int(end))

    def _verify_shards(self, cell_ids: list[int]) -> dict[int, str]:
        """Look at all cells of the shards that these lost ones are in, whoever reads them."""
        shards = np.unique(self.manifest.shard_index[cell_ids]).tolist()
        rows = np.concatenate([np.arange(rows.start, rows.stop) for rows in map(self._rows_of, shards)])
        rows = rows[~self.losses.is_lost[rows]]
        codes = check_cells(self.manifest, rows)
        self.checked[rows[codes == 0]] = True
        return {int(row): REASONS[code] for row, code in zip(rows[codes > 0], codes[codes > 0], strict=True)}

    # -- ways of decoding

    def _as_stored(self, piece: Piece) -> RaggedCells:
        ids, heights, widths = self._identity(piece)
        starts = np.where(piece.taken < 0, 0, piece.of(piece.stored.starts))
        buffer = piece.stored.buffer
        addresses = buffer.ctypes.data + starts
        pixels: list[Any] | _StoredPixels = _StoredPixels(buffer, starts, heights, widths)
        if (piece.taken < 0).any():
            sides = zip(piece.taken.tolist(), heights.tolist(), widths.tolist(), strict=True)
            pixels = [
                pixels[slot] if side[0] >= 0 else blank_cell(side[1], side[2], 8) for slot, side in enumerate(sides)
            ]
            addresses = np.array([cell.ctypes.data for cell in pixels], np.int64)
        return RaggedCells(ids, heights, widths, pixels, addresses, good=_unless_all(piece.good))

    def _by_dali(self, pieces: Iterator[Piece], blank: bool) -> Iterator[RaggedCells]:
        decoder, self._idle = self._idle or DaliDecoder(self.share.batch, self.threads, self.device_id), None
        waiting: deque[Piece] = deque()
        try:
            for piece in pieces:
                self._feed(decoder, piece)
                waiting.append(piece)
                if len(waiting) == 2:
                    yield self._take(decoder, waiting, blank)
            while waiting:
                yield self._take(decoder, waiting, blank)
        finally:
            decoder.forget()
            self._idle = decoder

    def _feed(self, decoder: DaliDecoder, piece: Piece) -> None:
        buffer, starts = piece.stored.buffer, piece.of(piece.stored.starts)
        ends = starts + piece.of(piece.stored.sizes)
        images = [buffer[start:end] for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]
        for slot in np.flatnonzero(piece.taken < 0).tolist():
            cell = piece.cell_ids[slot]
            images[slot] = _blank_png(int(self._heights[cell]), int(self._widths[cell]))
        decoder.feed(images)

    def _take(self, decoder: DaliDecoder, waiting: deque[Piece], blank: bool) -> RaggedCells:
        """The cells of the first piece that waits, which leaves; bad ones among them have been replaced."""
        while True:
            try:
                pixels = decoder.take()
                sides = decode_dali.sides_of(pixels)
                found = self._of_other_sides(waiting[0], *sides)
            except RuntimeError as error:
                found = self._undecodable(waiting, error)
            if not found:
                piece = waiting.popleft()
                addresses = decode_dali.pixel_addresses(pixels) if self.device_id is None else None
                return RaggedCells(self._identity(piece)[0], *sides, pixels, addresses, good=_unless_all(piece.good))
            self.losses.add(found)
            decoder.forget()
            for _ in range(len(waiting)):
                piece = waiting.popleft()
                waiting.append(self._piece(piece.cell_ids, piece.stored, blank))
                self._feed(decoder, waiting[-1])

    def _by_threads(self, piece: Piece, pool: ThreadPoolExecutor, blank: bool) -> RaggedCells:
        while True:
            ids, heights, widths = self._identity(piece)
            sizes = heights.astype(np.int64) * widths
            starts = np.cumsum(sizes) - sizes
            pixels = np.empty(int(sizes.sum()), np.uint8 if self.depth == 8 else np.uint16)
            decode_part = partial(
                self._cell_decoder.decode_into, pixels, starts, piece.stored, piece.taken, heights, widths
            )
            slots = np.array_split(np.arange(len(ids)), self.threads)
            parts = pool.map(decode_part, slots) if self.threads > 1 else map(decode_part, slots)
            found = {cell_id: reason for part in parts for cell_id, reason in part.items()}
            if not found:
                break
            self.losses.add(found)
            piece = self._piece(piece.cell_ids, piece.stored, blank)
        addresses = pixels.ctypes.data + starts * pixels.itemsize
        cells = _StoredPixels(pixels, starts, heights, widths)
        return RaggedCells(ids, heights, widths, cells, addresses, self.depth, good=_unless_all(piece.good))

    def _identity(self, piece: Piece) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Ids, heights and widths of the cells that are taken."""
        ids = piece.cell_ids
        if not piece.good.all():
            ids = np.where(piece.taken < 0, ids, piece.of(piece.stored.cell_ids))
        return ids, self._heights[ids], self._widths[ids]

    # -- what DALI cannot decode

    def _of_other_sides(self, piece: Piece, heights: np.ndarray, widths: np.ndarray) -> dict[int, str]:
        """An address without the manifest's size behind it is one that must not be read."""
        ids, wanted_heights, wanted_widths = self._identity(piece)
        wrong = np.flatnonzero((heights != wanted_heights) | (widths != wanted_widths))
        return {int(ids[slot]): other_sides(int(heights[slot]), int(widths[slot])) for slot in wrong.tolist()}

    def _undecodable(self, waiting: Sequence[Piece], error: Exception) -> dict[int, str]:
        """The cells that stopped DALI, whose message does not always name them.

        Raises:
            DataError: there is none.
        """
        found: dict[int, str] = {}
        alone = DaliDecoder(1, 1, self.device_id)
        for piece in waiting:
            places = np.unique(piece.taken[piece.taken >= 0])
            wrong = wrong_bytes(self._hashes, piece.stored, places)
            found |= dict.fromkeys(piece.stored.cell_ids[places[wrong]].tolist(), REASONS[CHANGED])
            for place in places[~wrong].tolist():
                cell_id, decoded = int(piece.stored.cell_ids[place]), self._cell_decoder.decode(piece.stored, place)
                if isinstance(decoded, str):
                    found[cell_id] = decoded
                elif not _decodes(alone, piece.stored.bytes_of(place)):
                    found[cell_id] = "DALI cannot decode it; saved as PNG it could"
        if not found:
            raise DataError(
                f"reading {self.manifest.path} failed, though every cell is as it was packed: {_first_line(error)}. "
                "Look at the machine (memory, disk); `fastcell doctor` prints what is installed."
            ) from None
        return found | self._verify_shards(list(found))


class _StoredPixels(Sequence[np.ndarray]):
    """Cells inside of one piece of memory, cut out when asked for."""

    def __init__(self, buffer: np.ndarray, starts: np.ndarray, heights: np.ndarray, widths: np.ndarray) -> None:
        self._buffer, self._starts, self._heights, self._widths = buffer, starts, heights, widths

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, slot: Any) -> Any:
        if slot >= len(self):
            raise IndexError(slot)
        begin, height, width = (int(column[slot]) for column in (self._starts, self._heights, self._widths))
        return self._buffer[begin : begin + height * width].reshape(height, width, 1)


def _blank_png(height: int, width: int) -> np.ndarray:
    return np.ascontiguousarray(cv2.imencode(".png", blank_cell(height, width, 8))[1]).reshape(-1)


def _unless_all(good: np.ndarray) -> np.ndarray | None:
    return None if good.all() else good


def _decodes(decoder: DaliDecoder, image: np.ndarray) -> bool:
    try:
        decoder.feed([image])
        decoder.take()
    except RuntimeError:
        return False
    return True


def _first_line(error: Exception) -> str:
    """The line of DALI's message that says most."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if "rror" in line and not line.startswith(("Error in", "Error when", "Current"))]
    return (telling or lines or [type(error).__name__])[0][:300].rstrip(".")
