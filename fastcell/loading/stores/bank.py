"""The bank: decoded ragged cells kept in memory. It is filled once, while the first epoch already uses it."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from fastcell.dataset.corrupt_cells import CorruptCells
from fastcell.dataset.views import View
from fastcell.loading.prefetch import Prefetcher
from fastcell.loading.ragged_cells import RaggedCells
from fastcell.loading.ranks import evaluation_share
from fastcell.loading.stores.pixel_pool import PoolWriter, empty_pool
from fastcell.loading.stores.stream import CellReader
from fastcell.ops.transform import CellPool

_READ_BATCH = 256
_NONE = np.empty(0, np.int64)


@dataclass(frozen=True)
class Filled:
    """Progress report of the filling thread: cells of a part that are available once the stream has passed `event`.

    `corrupt` holds the indices within the part of corrupt cells, which are stored as blank cells.
    """

    part: int
    num_cells: int
    event: torch.cuda.Event | None
    corrupt: np.ndarray


class CellBank:
    """All cells of some rows, decoded, each once, in one contiguous pool of memory.

    Filling begins with the first `wait` and continues in a thread, alternating between the parts. The
    thread ends with the bank.

    Args:
        view: the rows, in fill order; repeats of a cell are adjacent and share its pixels.
        edges: (P + 1,) first row of each part of the view and the end of the last; this bank holds all of them.
        memory: location of the pool: ``host``, ``pinned`` or ``gpu``.
        device: device that reads from the bank.
        depth: bits per grey level, 8 or 16.
        decode_on_gpu: let DALI decode on the device; else on the CPU.
        decoder: as for `CellReader`.
        threads: threads of the decoder.
        corrupt_cells: collection that corrupt cells are added to; the pool holds a blank cell of equal size for each.

    Attributes:
        pool: the cells; columns on `device`.
        cell_ids: (M,) int32, row of the manifest for each cell of the pool.
        slots: (n,) int32, cell of the pool for each row of the view.
        is_good: (M,) bool, False for cells of the pool that were found to be corrupt; valid for cells already filled.
    """

    def __init__(
        self,
        view: View,
        edges: np.ndarray,
        *,
        memory: str = "host",
        device: torch.device | None = None,
        depth: int = 8,
        decode_on_gpu: bool = False,
        decoder: str = "auto",
        threads: int = 1,
        corrupt_cells: CorruptCells | None = None,
    ) -> None:
        device = device or torch.device("cpu")
        parts = [view.part(int(begin), int(end)) for begin, end in itertools.pairwise(edges)]
        firsts = [np.diff(rows, prepend=-1) != 0 for rows in parts]
        cells = [rows[first] for rows, first in zip(parts, firsts, strict=True)]
        starts = np.concatenate([[0], np.cumsum([len(ids) for ids in cells])]).astype(np.int64)
        pairs = zip(firsts, starts, strict=False)
        self.slots = np.concatenate([start + np.cumsum(first) - 1 for first, start in pairs]).astype(np.int32)
        self.cell_ids = np.concatenate(cells).astype(np.int32)
        self._starts, self._there = starts, np.zeros(len(cells), np.int64)
        self.is_good, self.all_good = np.ones(len(self.cell_ids), bool), True

        manifest = view.manifest
        heights = manifest.column("height")[self.cell_ids]
        widths = manifest.column("width")[self.cell_ids]
        ends = np.cumsum(heights.astype(np.int64) * widths)
        offsets = np.concatenate([[0], ends[:-1]]).astype(np.int64)
        pixels = empty_pool(int(ends[-1]) if len(ends) else 0, depth, memory, device)

        offset, height, width = (torch.from_numpy(values).to(device) for values in (offsets, heights, widths))
        self.pool = CellPool(pixels, offset, height, width)

        device_id = device.index or 0 if decode_on_gpu and device.type == "cuda" else None
        options: dict[str, Any] = {
            "threads": max(1, threads // len(cells)),
            "corrupt_cells": corrupt_cells,
            "device_id": device_id,
            "decoder": decoder,
            "depth": depth,
        }
        readers = [
            CellReader(View(manifest, ids), evaluation_share(len(ids), _READ_BATCH), **options)
            for ids in cells
            if len(ids)
        ]
        numbers = [part for part, ids in enumerate(cells) if len(ids)]
        begins = [int(offsets[starts[part]]) for part in numbers]
        self._lock = threading.Lock()
        self._event: torch.cuda.Event | None = None
        self._filling: Prefetcher[Filled] | None = None
        self._error: Exception | None = None
        self._fill: Callable[[], Iterator[Filled]] | None = lambda: _fill(
            readers, numbers, begins, PoolWriter(pixels, device)
        )
        self._num_pieces = len(self.cell_ids) + 1  # an upper limit on the pieces: the thread never waits for a consumer

    @property
    def num_bytes(self) -> int:
        """Size of all pixels [bytes]."""
        return self.pool.pixels.numel() * self.pool.pixels.element_size()

    @property
    def is_full(self) -> bool:
        """True if every cell is known to be available."""
        return bool((self._there == np.diff(self._starts)).all())

    def wait(self, slots: np.ndarray, on_host: bool = False) -> None:
        """Wait until the given cells are in the pool. For copies to the GPU, its current stream waits, not the caller.

        Args:
            slots: int64, any shape, cells of the pool.
            on_host: the caller itself reads a pool in host memory, so the caller waits for the copies as well.

        Raises:
            DataError: cells are corrupt and `corrupt_cells` does not allow it; the message names shard and key.
        """
        if not self.is_full:
            with self._lock:
                for part, (start, stop) in enumerate(itertools.pairwise(self._starts)):
                    mine = slots[(slots >= start) & (slots < stop)]
                    self._advance(part, int(mine.max() - start) + 1 if mine.size else 0)
        if self._event is not None and on_host and not self.pool.pixels.is_cuda:
            self._event.synchronize()
        elif self._event is not None:
            torch.cuda.current_stream(self.pool.offset.device).wait_event(self._event)

    def _advance(self, part: int, num_cells: int) -> None:
        while self._there[part] < num_cells:
            if self._error is not None:
                raise self._error
            if self._filling is None:
                assert self._fill is not None
                fill, self._fill = self._fill, None  # the readers are freed when the thread has ended
                self._filling = Prefetcher(fill, self._num_pieces)
            try:
                filled = next(self._filling)
            except StopIteration:
                raise RuntimeError("the bank was closed before it was full") from None
            except Exception as error:
                self._error = error
                raise
            if len(filled.corrupt):
                self.is_good[self._starts[filled.part] + filled.corrupt], self.all_good = False, False
            self._event = filled.event  # set before the count, which others read without the lock
            self._there[filled.part] = filled.num_cells

    def fill(self) -> None:
        """Wait until every cell is available."""
        self.wait(np.arange(len(self.cell_ids)))

    def close(self) -> None:
        """Stop filling. Cells that are available stay until the bank is dropped."""
        if self._filling is not None:
            self._filling.close()


def _fill(readers: list[CellReader], parts: list[int], begins: list[int], writer: PoolWriter) -> Iterator[Filled]:
    """Fill one piece of each part in turn, in the filling thread; a reference to the bank would keep it alive."""
    done = [0] * len(readers)
    places = list(begins)
    streams: list[Iterator[RaggedCells] | None] = [reader.in_order() for reader in readers]
    try:
        while any(streams):
            for number, stream in enumerate(streams):
                cells = None if stream is None else next(stream, None)
                if cells is None:
                    streams[number] = None
                    continue
                event = writer.write(cells, places[number])
                places[number] += int(cells.num_bytes.sum()) // (cells.depth // 8)
                corrupt = done[number] + np.flatnonzero(~cells.good) if cells.good is not None else _NONE
                done[number] += len(cells)
                yield Filled(parts[number], done[number], event, corrupt)
    finally:
        writer.finish()
