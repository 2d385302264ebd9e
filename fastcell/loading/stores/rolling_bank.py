"""A bank smaller than the data: a rolling window of decoded cells, out of which batches are drawn.

An epoch's cells arrive in the order of its shards and are cut into panes of equal bytes. The window holds `PANES` of
them. A pane is dealt out evenly over the turns that follow its arrival: turn t takes one of PANES - 1 portions of each
of the PANES - 1 panes before it, mixed, while pane t arrives in the place of the one that is used up. So every batch is
drawn from the whole window, every cell comes once, and the order is known from (seed, epoch) before a byte is read.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from fastcell.dataset.corrupt_cells import CorruptCells
from fastcell.dataset.views import View
from fastcell.errors import ArgumentError, invalid
from fastcell.loading.prefetch import Prefetcher
from fastcell.loading.ragged_cells import RaggedCells
from fastcell.loading.ranks import Share
from fastcell.loading.stores.pixel_pool import PoolWriter, empty_pool, pool_cells
from fastcell.loading.stores.placement import size_text
from fastcell.loading.stores.stream import CellReader

PANES = 8

_STREAM = 8  # of the random generators


@dataclass(frozen=True)
class Window:
    """The order of one epoch through the window.

    Attributes:
        order: (n,) int64, which of the arriving cells comes at each place.
        pane: (n,) int64, the pane of each arriving cell.
        start: (n,) int64, where it lies in its pane [px].
    """

    order: np.ndarray
    pane: np.ndarray
    start: np.ndarray

    def used_up(self) -> np.ndarray:
        """(panes,) int64, the place in the order behind which a pane and all before it are not needed any more."""
        last = np.zeros(int(self.pane[-1]) + 1, np.int64)
        np.maximum.at(last, self.pane[self.order], np.arange(len(self.order)))
        return np.maximum.accumulate(last)


def plan_window(sizes: np.ndarray, pane_pixels: int, seed: int, epoch: int) -> Window:
    """Deal the cells of an epoch out.

    Args:
        sizes: (n,) int64, pixels of the cells as they arrive.
        pane_pixels: that a pane holds.
        seed, epoch: of the order.

    Raises:
        ArgumentError: a cell is larger than a pane.
    """
    if len(sizes) and sizes.max() > pane_pixels:
        raise _too_small(f"panes of a cell of {sizes.max():,} pixels", pane_pixels)
    ends = np.cumsum(sizes)
    pane, start = np.empty(len(sizes), np.int64), np.empty(len(sizes), np.int64)
    portions: dict[int, list[np.ndarray]] = {}
    begin = number = 0
    while begin < len(sizes):
        before = ends[begin] - sizes[begin]
        stop = int(np.searchsorted(ends, before + pane_pixels, side="right"))
        pane[begin:stop] = number
        start[begin:stop] = ends[begin:stop] - sizes[begin:stop] - before
        rng = np.random.default_rng([seed, epoch, _STREAM, 0, number])
        for later, portion in enumerate(np.array_split(begin + rng.permutation(stop - begin), PANES - 1)):
            portions.setdefault(number + 1 + later, []).append(portion)
        begin, number = stop, number + 1
    turns = [
        np.random.default_rng([seed, epoch, _STREAM, 1, turn]).permutation(np.concatenate(portions[turn]))
        for turn in sorted(portions)
    ]
    return Window(np.concatenate(turns), pane, start)


def mixing(places: np.ndarray, batch: int, most: int = 256) -> float:
    """How far batches are from uniform draws of the epoch: 1 for a uniform draw, larger the less is mixed.

    The Kolmogorov-Smirnov distance between a batch's places in the order of arrival and the even distribution, mean
    over batches, divided by what a uniform draw without replacement gives (0.8687 sqrt(1 - B / n) / sqrt(B) on average;
    Kolmogorov 1933, with the finite-population factor).

    Args:
        places: (n,) in the order of training, place of each cell in the order of arrival.
        batch: B.
        most: batches that are looked at, spread over the epoch.
    """
    whole = len(places) // batch
    if whole < 2:
        return 1.0
    chosen = np.unique(np.linspace(0, whole - 1, min(most, whole)).astype(np.int64))
    shares = np.sort(places[: whole * batch].reshape(whole, batch)[chosen], axis=1) / len(places)
    steps = np.arange(batch) / batch
    distance = np.maximum(np.abs(shares - steps), np.abs(shares - steps - 1 / batch)).max(axis=1)
    expected = 0.8687 * np.sqrt((1 - batch / len(places)) / batch)
    return float(distance.mean() / expected)


class _Running:
    """What the two sides of one iteration share.

    Attributes:
        stop: the iteration is over.
        freed: one item per pane that is used up; what the GPU must have passed before another takes its place.
        loading: the thread that fills the window.
    """

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.freed: queue.SimpleQueue[torch.cuda.Event | None] = queue.SimpleQueue()
        self.loading: Prefetcher[Any] | None = None

    def end(self) -> None:
        """End the thread and wait for it. Twice does no harm."""
        self.stop.set()
        if self.loading is not None:
            self.loading.close()


class RollingReader:
    """Cells of one rank's share, drawn from a rolling window; takes the place of a `CellReader`.

    Args:
        view: which cells; rows in stored order, repeats allowed.
        share: which of its rows and in how many steps.
        window_bytes: of pixels in memory.
        seed: of the order.
        memory: ``host`` or ``gpu``: where the window lies.
        device: that draws from it.
        decode_on_gpu: let DALI decode on the device.
        decoder, depth, threads, losses: as for `CellReader`.

    Raises:
        ArgumentError: the window is too small for the batches.
    """

    def __init__(
        self,
        view: View,
        share: Share,
        *,
        window_bytes: int,
        seed: int = 0,
        memory: str = "host",
        device: torch.device | None = None,
        decode_on_gpu: bool = False,
        decoder: str = "auto",
        depth: int = 8,
        threads: int = 1,
        losses: CorruptCells | None = None,
    ) -> None:
        self.share, self.seed, self.depth = share, seed, depth
        self._device = device or torch.device("cpu")
        device_id = self._device.index or 0 if decode_on_gpu and self._device.type == "cuda" else None
        options: dict[str, Any] = {"threads": threads, "device_id": device_id, "decoder": decoder}
        options |= {"depth": depth, "losses": losses}
        self._reader = CellReader(view, share, shuffle=True, mix=False, seed=seed, **options)
        self._heights, self._widths = (view.manifest.column(name).astype(np.int32) for name in ("height", "width"))
        self._sizes = self._heights.astype(np.int64) * self._widths
        item = depth // 8
        self.pane_pixels = window_bytes // item // PANES
        if memory not in ("host", "gpu"):
            raise invalid("memory", "host or gpu", memory, "Pinned memory would be written while a GPU reads it")
        self._pool = empty_pool(PANES * self.pane_pixels, depth, memory, self._device)
        self._lock, self._running = threading.Lock(), _Running()
        self.plan(0)  # what cannot be shows here

    def close(self) -> None:
        """Stop the iteration that is under way."""
        self._running.end()

    def plan(self, epoch: int) -> Window:
        """The order of an epoch.

        Raises:
            ArgumentError: a batch would need a pane whose place is still in use.
        """
        window = plan_window(self._sizes[self._reader.rows_in_order(epoch)], self.pane_pixels, self.seed, epoch)
        begins = np.arange(0, len(window.order), self.share.batch)
        newest = np.maximum.reduceat(window.pane[window.order], begins)
        late = newest >= PANES  # comes in the place of another, which must not be needed from this batch on
        if (window.used_up()[newest[late] - PANES] >= begins[late]).any():
            raise _too_small(f"{PANES} panes of a batch of {self.share.batch} cells each", self.pane_pixels)
        return window

    def mixing(self, epoch: int = 0) -> float:
        """How far an epoch's batches are from uniform draws of this rank's cells (see `mixing`)."""
        return mixing(self.plan(epoch).order, self.share.batch)

    def epoch(self, epoch: int, first: int = 0) -> Iterator[RaggedCells]:
        """Read one epoch: `share.steps` batches of `share.batch` cells, padded behind the share's last.

        There is one window: an iteration that begins ends the one before it.

        Args:
            epoch: number.
            first: step to begin with: the batches from there on are those of the whole epoch.

        Raises:
            DataError: cells are lost and `losses` does not let that pass; shard and key are named.
        """
        window, rows = self.plan(epoch), self._reader.rows_in_order(epoch)
        batch, padding = self.share.batch, self._padding(window)
        oldest = int(window.pane[np.concatenate([window.order[first * batch :], padding])].min())
        offsets = window.start + window.pane % PANES * self.pane_pixels
        arrived = int(np.searchsorted(window.pane, oldest))
        good = np.ones(len(rows), bool)
        pieces, where = self._reader.in_order(epoch, arrived), (window.pane, offsets, arrived, self._pool, self._device)
        with self._lock:
            self._running.end()
            mine = self._running = _Running()
            on_gpu = self._device.type == "cuda"
            ready = torch.cuda.current_stream(self._device).record_event() if on_gpu else None
            loading = Prefetcher(
                lambda: _load(pieces, *where, good, ready, mine), len(window.used_up()) + 1, on_stop=mine.stop.set
            )
            mine.loading = loading
            if self._pool.is_cuda:
                self._pool.record_stream(torch.cuda.current_stream(self._device))
        there, free, used_up = oldest - 1, oldest, window.used_up()
        while used_up[free] < first * batch:
            mine.freed.put(None)
            free += 1
        try:
            for step in range(first, self.share.steps):
                drawn = window.order[step * batch : (step + 1) * batch][: max(len(self.share) - step * batch, 0)]
                chosen = np.concatenate([drawn, np.resize(padding, batch - len(drawn))])
                while there < window.pane[chosen].max() and not mine.stop.is_set():
                    there, event = next(loading, (there, None))
                    if event is not None:
                        torch.cuda.current_stream(self._device).wait_event(event)
                if mine.stop.is_set():
                    raise RuntimeError("another iteration over this rolling window has begun, or it was closed")
                yield self._cells(chosen, rows, offsets, good)
                while free < len(used_up) and used_up[free] < (step + 1) * batch:
                    mine.freed.put(torch.cuda.current_stream(self._device).record_event() if on_gpu else None)
                    free += 1
        finally:
            mine.end()

    def _padding(self, window: Window) -> np.ndarray:
        """(batch,) cells that fill up the last batches, where they are not whole: a batch norm sees them.

        They are drawn just before, and of the panes that stay to the end.
        """
        batch, order = self.share.batch, window.order
        whole = len(self.share) // batch * batch
        if whole == self.share.steps * batch:
            return order[:0]
        before = order[:whole][::-1] if whole else order
        before = before[window.pane[before] > window.pane[-1] - PANES]
        return np.resize(before if len(before) else order[-1:], batch)

    def _cells(self, chosen: np.ndarray, rows: np.ndarray, offsets: np.ndarray, good: np.ndarray) -> RaggedCells:
        kept = good[chosen]
        if not kept.all() and kept.any():  # the first good cell stands in
            chosen = np.where(kept, chosen, chosen[np.argmax(kept)])
        ids = rows[chosen]
        cells = pool_cells(self._pool, ids, offsets[chosen], self._heights[ids], self._widths[ids])
        return cells if kept.all() else replace(cells, good=kept)


def _load(
    pieces: Iterator[RaggedCells],
    pane: np.ndarray,
    offsets: np.ndarray,
    arrived: int,
    pool: torch.Tensor,
    device: torch.device,
    good: np.ndarray,
    ready: torch.cuda.Event | None,
    running: _Running,
) -> Iterator[tuple[int, torch.cuda.Event | None]]:
    """Runs in a thread: copies the panes, from that of cell `arrived` on, into their places as these become free."""
    writer = PoolWriter(pool, device)
    if ready is not None:
        writer.wait_for(ready)  # the epoch before this one has read the window until then
    current = oldest = int(pane[arrived])
    at = arrived
    event: torch.cuda.Event | None = None
    try:
        for cells in pieces:
            if cells.good is not None:
                good[at : at + len(cells)] = cells.good
            begin = 0
            while begin < len(cells):
                number = int(pane[at + begin])
                end = min(len(cells), int(np.searchsorted(pane, number, side="right")) - at)
                if number != current:
                    yield current, event
                    current = number
                    if number >= oldest + PANES and not _wait_until_free(running, writer):
                        return
                event = writer.write(cells.part(begin, end), int(offsets[at + begin]))
                begin = end
            at += len(cells)
            if running.stop.is_set():
                return
        yield current, event
    finally:
        writer.finish()


def _wait_until_free(running: _Running, writer: PoolWriter) -> bool:
    """Wait for the oldest pane to be used up; False where nobody will use it any more."""
    while not running.stop.is_set():
        try:
            event = running.freed.get(timeout=0.05)
        except queue.Empty:
            continue
        if event is not None:
            writer.wait_for(event)
        return True
    return False


def _too_small(what: str, pane_pixels: int) -> ArgumentError:
    return ArgumentError(
        f"bank_gib must be enough for {what}, got a window of {size_text(PANES * pane_pixels)}. "
        "Raise it, or take --data.store stream."
    )
