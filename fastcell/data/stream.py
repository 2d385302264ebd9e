"""Stage 1 of the stream: records of the shards in, ragged grey cells with their ids out, batch by batch.

Order. A rank's rows are cut once from the stored order of the view, and its index files (one line per row) are written
once, into a folder of this process that goes away with the reader. An epoch permutes the order of the shards by
(seed, epoch) and mixes cells in a buffer of `initial_fill` behind them, which on top of pack's global seeded order
makes an epoch random; no index is written again. So the same rank sees the same cells in every epoch, in another order.
In the block layout the records are blocks, read in their order, and the buffer is ours.

Cells of every encoding that DALI decodes as `fastcell.data.decode` does come from DALI's decoder. 16-bit cells, which
need the window, and NumPy and TIFF files, whose variants DALI does not all know, are read by DALI and decoded by
`fastcell.data.decode` in threads.
"""

from __future__ import annotations

import resource
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from fastcell.data import _dali
from fastcell.data.blocks import read_block
from fastcell.data.culprit import bad_cell_error
from fastcell.data.decode import ENCODINGS, BadCell, decode
from fastcell.data.index_files import write_index_files
from fastcell.data.ranks import Share
from fastcell.data.views import View
from fastcell.errors import DataError, invalid

#: Cells that are mixed behind the shards where nothing else is asked for.
DEFAULT_INITIAL_FILL = 8192

_DALI_ENCODINGS = ("jpg", "png")
_MAX_RECORD_BYTES = 1 << 16
_OTHER_FILES = 512
_CHANGED = "The shard is not as it was packed: pack the data again, or restore the file from a copy."


@dataclass
class Cells:
    """A batch of ragged cells.

    Attributes:
        cell_ids: (B,) int64.
        heights: (B,) int32.
        widths: (B,) int32.
        pixels: B samples (H, W, 1): DALI's tensor list, on the CPU or the GPU, or a sequence of arrays.
        addresses: (B,) int64, where each cell's pixels begin, or None on the GPU. `pixels` keeps them alive.
        depth: bits of a grey level: 8 for uint8, 16 for uint16 where 65535 is grey level 255.
        pool: one dimension, where cells of a bank lie, and
        offsets: (B,) int64, first pixel of each in it; None for cells that just pass through.
    """

    cell_ids: np.ndarray
    heights: np.ndarray
    widths: np.ndarray
    pixels: Any
    addresses: np.ndarray | None
    depth: int = 8
    pool: torch.Tensor | None = None
    offsets: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.cell_ids)

    @property
    def num_bytes(self) -> np.ndarray:
        """(B,) int64, size of each cell's pixels."""
        return self.heights.astype(np.int64) * self.widths * (self.depth // 8)

    def part(self, begin: int, end: int) -> Cells:
        """The cells from `begin` up to `end`, without a copy."""
        if begin == 0 and end == len(self):
            return self
        keep = slice(begin, end)
        pixels = [self.pixels[slot] for slot in range(begin, end)]
        addresses = None if self.addresses is None else self.addresses[keep]
        return Cells(self.cell_ids[keep], self.heights[keep], self.widths[keep], pixels, addresses, self.depth)


class CellReader:
    """Reads one rank's share of a view, epoch by epoch.

    Args:
        view: which cells; rows in stored order, repeats allowed.
        share: which of its rows and in how many steps (`fastcell.data.ranks`).
        shuffle: another order in every epoch; else the stored order.
        seed: of the order.
        initial_fill: cells in the shuffle buffer; 0 takes 8,192. It never exceeds the share.
        mmap: map the tars into memory: 5 instead of 13 us a cell, for local disks on which no tar shrinks meanwhile.
        threads: of the decoder, >= 1.
        device_id: GPU that decodes, or None for the CPU.
        depth: bits of a grey level in the cells to give, 8 or 16.
        mix: with `shuffle`: mix the cells in the buffer; else the shards alone change places.

    Raises:
        ArgumentError: 16 bits asked of blocks, which store 8.
        DataError: a tar is missing or is not the one that was packed.
    """

    def __init__(
        self,
        view: View,
        share: Share,
        *,
        shuffle: bool = False,
        seed: int = 0,
        initial_fill: int = 0,
        mmap: bool = False,
        threads: int = 1,
        device_id: int | None = None,
        depth: int = 8,
        mix: bool = True,
    ) -> None:
        self.manifest = view.manifest
        self.share = share
        self.depth = depth
        self.shuffle, self.seed, self.mmap, self.threads, self.device_id = shuffle, seed, mmap, threads, device_id
        self.rows = view.rows[share.start : share.stop]
        if len(self.rows) == 0:  # more ranks than rows: read a cell to pad with
            self.rows = view.rows[:1]
        self.window = min(initial_fill or DEFAULT_INITIAL_FILL, len(self.rows)) if shuffle and mix else None
        levels = self.manifest.info.window
        self._grey_window = None if levels is None else (levels[0], levels[1])
        self._heights = self.manifest.column("height").astype(np.int32)
        self._widths = self.manifest.column("width").astype(np.int32)
        folder = tempfile.mkdtemp(prefix="fastcell-index-")
        self._cleanup = weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self._index(Path(folder))

    def _index(self, folder: Path) -> None:
        files = write_index_files(self.manifest, self.rows, folder)
        self._files = [(str(file.shard_path), str(file.index_path)) for file in files]
        self._rows_of_file = np.split(self.rows, np.cumsum([file.num for file in files])[:-1])
        column = self.manifest.table.column("encoding")
        self._encodings = pc.index_in(column, value_set=pa.array(ENCODINGS)).to_numpy().astype(np.int8)
        plain = np.isin(self._encodings[self.rows], [ENCODINGS.index(name) for name in _DALI_ENCODINGS])
        deep = self.manifest.column("depth")[self.rows] > 8
        self.decoded_by_dali = bool(plain.all() and not deep.any()) and self.depth == 8
        self._record_bytes = int(min(np.quantile(self.manifest.column("bytes")[self.rows], 0.99), _MAX_RECORD_BYTES))

    @property
    def num_files(self) -> int:
        """Tars that an epoch holds open."""
        return len(self._files)

    def close(self) -> None:
        """Remove the index files; no epoch can be read any more."""
        self._cleanup()

    def epoch(self, epoch: int) -> Iterator[Cells]:
        """Read one epoch: `share.steps` batches of `share.batch` cells.

        The first `len(share)` cells are the share's rows, each as often as it stands there; what follows is padding.

        Raises:
            DataError: a cell cannot be decoded, or a shard is not as the manifest has it; shard and key are named.
        """
        pipeline = self._reading_pipeline(epoch, self.share.batch, self.decoded_by_dali, self.window)
        seen: list[np.ndarray] = []
        with ThreadPoolExecutor(self.threads, "fastcell-decode") as pool:
            for _ in range(self.share.steps):
                data, ids = self._run(pipeline, seen)
                yield self._decoded(data, ids) if self.decoded_by_dali else self._decode(data, ids, pool)
                seen.append(ids)

    def rows_in_order(self, epoch: int = 0) -> np.ndarray:
        """(n,) int64, the rows as an epoch without mixing reads them."""
        return np.concatenate([self._rows_of_file[number] for number in self._order_of_files(epoch)])

    def in_order(self, epoch: int = 0) -> Iterator[Cells]:
        """Read an epoch without mixing: the cells of `rows_in_order` in pieces of any size, each once, no padding."""
        for step, cells in enumerate(self.epoch(epoch)):
            yield cells.part(0, self.share.num_real(step))

    def _order_of_files(self, epoch: int) -> np.ndarray:
        number = len(self._files)
        return np.random.default_rng([self.seed, epoch, 0]).permutation(number) if self.shuffle else np.arange(number)

    def _reading_pipeline(self, epoch: int, batch_size: int, decode: bool, window: int | None) -> Any:
        allow_open_files(len(self._files))
        files = [self._files[number] for number in self._order_of_files(epoch)]
        seeds = np.random.SeedSequence([self.seed, epoch, 1, self.share.rank]).generate_state(1)
        try:
            return _dali.reading_pipeline(
                files,
                batch_size=batch_size,
                threads=self.threads,
                device_id=self.device_id if decode else None,
                decode=decode,
                window=window,
                seed=int(seeds[0] >> 1),
                mmap=self.mmap,
                record_bytes=self._record_bytes,
            )
        except RuntimeError as error:
            raise bad_cell_error(self.manifest, self.rows, error, False, None) from None

    def _run(self, pipeline: Any, seen: list[np.ndarray]) -> tuple[Any, np.ndarray]:
        """One run of the pipeline; a failure is turned into the error that names the cell."""
        try:
            data, digits = pipeline.run()
            return data, _dali.record_numbers(digits)
        except RuntimeError as error:
            unseen = self.rows[~np.isin(self.rows, np.concatenate(seen))] if seen else self.rows
            raise bad_cell_error(self.manifest, unseen, error, self.decoded_by_dali, self.device_id) from None

    def _decoded(self, pixels: Any, ids: np.ndarray) -> Cells:
        heights, widths = _dali.sides(pixels)
        self._check_sides(ids, heights, widths)
        addresses = _dali.pixel_addresses(pixels) if self.device_id is None else None
        return Cells(ids, heights, widths, pixels, addresses)

    def _decode(self, stored: Any, ids: np.ndarray, pool: ThreadPoolExecutor) -> Cells:
        def work(part: np.ndarray) -> list[np.ndarray]:
            return [self._decode_one(stored[slot], ids[slot]) for slot in part]

        parts = np.array_split(np.arange(len(ids)), self.threads)
        arrays = [pixels for done in pool.map(work, parts) for pixels in done]
        heights, widths = (np.array([pixels.shape[axis] for pixels in arrays], np.int32) for axis in (0, 1))
        self._check_sides(ids, heights, widths)
        addresses = np.array([pixels.ctypes.data for pixels in arrays], np.int64)
        return Cells(ids, heights, widths, arrays, addresses, self.depth)

    def _decode_one(self, stored: Any, cell_id: int) -> np.ndarray:
        try:
            encoding = ENCODINGS[self._encodings[cell_id]]
            return decode(np.asarray(stored).tobytes(), encoding, self._grey_window, self.depth).pixels[:, :, None]
        except BadCell as bad:
            raise bad_cell_error(self.manifest, np.array([cell_id]), bad, False, None) from None

    def _check_sides(self, ids: np.ndarray, heights: np.ndarray, widths: np.ndarray) -> None:
        """An address without the manifest's size behind it is one that must not be read."""
        wrong = (heights != self._heights[ids]) | (widths != self._widths[ids])
        if wrong.any():
            slot = int(np.argmax(wrong))
            row = self.manifest.table.slice(int(ids[slot]), 1).to_pylist()[0]
            raise DataError(
                f"is {heights[slot]} x {widths[slot]} pixels, the manifest says {row['height']} x {row['width']}. "
                + _CHANGED,
                row["shard"],
                row["key"],
            )


class BlockReader(CellReader):
    """The same for the block layout: DALI reads blocks, a window of ours mixes the cells of several."""

    def _index(self, folder: Path) -> None:
        if self.depth != 8:
            raise invalid("depth", "8 for cells in blocks, which are stored so", self.depth, "Pack with --layout cell")
        blocks = self.manifest.blocks()
        self._first = blocks.column("first_cell").to_numpy()
        self._num_cells = blocks.column("num_cells").to_numpy()
        numbers = np.searchsorted(self._first, np.unique(self.rows), side="right") - 1
        self._blocks = np.unique(numbers)
        files = write_index_files(self.manifest, self._blocks, folder)
        self._files = [(str(file.shard_path), str(file.index_path)) for file in files]
        edges = np.searchsorted(self.rows, self._first[self._blocks])[np.cumsum([file.num for file in files])[:-1]]
        self._rows_of_file = np.split(self.rows, edges)
        self.decoded_by_dali = False
        self._record_bytes = int(min(blocks.column("bytes").to_numpy()[self._blocks].max(), 1 << 24))

    def epoch(self, epoch: int) -> Iterator[Cells]:
        pipeline = self._reading_pipeline(epoch, 1, False, None)
        rng = np.random.default_rng([self.seed, epoch, 2, self.share.rank]) if self.window is not None else None
        seen: list[np.ndarray] = []
        batch, pool, left = self.share.batch, _Window(rng), len(self._blocks)
        last: Cells | None = None
        for _ in range(self.share.steps):
            while left and len(pool) < max(self.window or 0, batch):
                data, numbers = self._run(pipeline, seen)
                pool.add(*self._read_block(np.asarray(data[0]), int(numbers[0])))
                left -= 1
            last = pool.draw(min(batch, len(pool)), batch, last)
            yield last
            seen.append(last.cell_ids)

    def in_order(self, epoch: int = 0) -> Iterator[Cells]:
        pipeline = self._reading_pipeline(epoch, 1, False, None)
        seen: list[np.ndarray] = []
        for _ in range(len(self._blocks)):
            data, numbers = self._run(pipeline, seen)
            payload, ids, addresses, heights, widths = self._read_block(np.asarray(data[0]), int(numbers[0]))
            table = np.stack([ids, addresses, heights, widths, np.zeros_like(ids)])
            yield Cells(ids, heights, widths, _BlockPixels(table, {0: payload}), addresses)
            seen.append(ids)

    def _read_block(self, payload: np.ndarray, number: int) -> tuple[np.ndarray, ...]:
        """Payload, then id, address, height and width of the wanted cells of one block."""
        first = int(self._first[number])
        try:
            cells = read_block(payload)
            if len(cells.heights) != self._num_cells[number]:
                raise DataError(
                    f"block {number} holds {len(cells.heights)} cells, not {self._num_cells[number]}. {_CHANGED}"
                )
        except DataError as error:
            raise DataError(str(error), self.manifest.column("shard")[first]) from None
        begin, end = np.searchsorted(self.rows, (first, first + len(cells.heights)))
        local = self.rows[begin:end] - first
        ids, heights, widths = self.rows[begin:end], cells.heights[local], cells.widths[local]
        self._check_sides(ids, heights, widths)
        return payload, ids, cells.offsets[local] + cells.pixels.ctypes.data, heights, widths


class _Window:
    """Cells of several blocks, waiting to be drawn: at random, or first in first out without `rng`."""

    def __init__(self, rng: np.random.Generator | None) -> None:
        self._rng = rng
        self._payloads: dict[int, np.ndarray] = {}
        self._added = 0
        # id, address, height, width, number of the payload
        self._table = np.empty((5, 0), np.int64)

    def __len__(self) -> int:
        return self._table.shape[1]

    def add(
        self, payload: np.ndarray, ids: np.ndarray, addresses: np.ndarray, heights: np.ndarray, widths: np.ndarray
    ) -> None:
        serial = np.full(len(ids), self._added)
        self._payloads[self._added] = payload
        self._added += 1
        self._table = np.concatenate([self._table, np.stack([ids, addresses, heights, widths, serial])], axis=1)

    def draw(self, count: int, size: int, filler: Cells | None) -> Cells:
        """Take `count` cells out and fill up to `size` with those of the batch before, which a batch norm sees too."""
        if count == 0:
            assert filler is not None
            return filler
        chosen = np.arange(count) if self._rng is None else self._rng.choice(len(self), count, replace=False)
        drawn = self._table[:, chosen]
        payloads = {serial: self._payloads[serial] for serial in np.unique(drawn[4]).tolist()}
        if count < size and filler is not None:
            drawn = np.concatenate([drawn, filler.pixels.table[:, : size - count]], axis=1)
            payloads |= filler.pixels.payloads
        drawn = drawn[:, np.resize(np.arange(drawn.shape[1]), size)]
        self._table = np.delete(self._table, chosen, axis=1)
        pixels = _BlockPixels(drawn, payloads)
        waiting = set(np.unique(self._table[4]).tolist())
        self._payloads = {serial: payload for serial, payload in self._payloads.items() if serial in waiting}
        ids, addresses = drawn[0], drawn[1]
        return Cells(ids, drawn[2].astype(np.int32), drawn[3].astype(np.int32), pixels, addresses)


class _BlockPixels(Sequence[np.ndarray]):
    """Cells inside of the blocks that hold them, cut out when asked for."""

    def __init__(self, table: np.ndarray, payloads: dict[int, np.ndarray]) -> None:
        self.table, self.payloads = table, payloads

    def __len__(self) -> int:
        return self.table.shape[1]

    def __getitem__(self, slot: Any) -> Any:
        _, address, height, width, serial = self.table[:, slot].tolist()
        payload = self.payloads[serial]
        begin = address - payload.ctypes.data
        return payload[begin : begin + height * width].reshape(height, width, 1)


def allow_open_files(num_shards: int) -> None:
    """Raise the process's limit of open files where that many shards need it: DALI holds them all open.

    Args:
        num_shards: read at once; twice that is asked for, since validation runs in the middle of training.

    Raises:
        ArgumentError: the system's hard limit is too low.
    """
    wanted = 2 * num_shards + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise invalid(
            "the limit of open files",
            f"{wanted} for {num_shards} shards",
            hard,
            f"Raise it with `ulimit -n {wanted}`, or pack the data into fewer shards",
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def open_reader(view: View, share: Share, **options: Any) -> CellReader:
    """The reader that the layout of the data set needs; arguments as for `CellReader`."""
    kind = BlockReader if view.manifest.info.layout == "block" else CellReader
    return kind(view, share, **options)
