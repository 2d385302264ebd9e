"""Micro-batches: cells wait in a queue, and a free worker takes as many of them as the latency target allows.

A worker never waits for a batch to fill up: at a low rate cells run one by one, at a higher rate cells accumulate while
the previous batch runs. The size limit adapts to the measured time: it grows by at most a factor of 2 while full
batches take less than half of the latency target, and shrinks if they take longer. The limit is half of the target
because a cell that arrives just after the start of a batch waits for this batch and for its own.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np

from fastcell.live.cell_block import CellBlock
from fastcell.live.live_classifier import LiveAnswers
from fastcell.live.live_metrics import LiveMetrics
from fastcell.live.protocol import Frames

WhenFull = Literal["wait", "drop"]
"""Reaction to cells that find the queue full: the sender waits, or the cells are dropped."""
MOST_CELLS = 256
"""Maximum number of cells in a micro-batch."""

_FULL_S = 0.001
_GROWTH = 2.0

Classify = Callable[[Sequence[np.ndarray] | np.ndarray, np.ndarray | None], LiveAnswers]


class _Piece(NamedTuple):
    block: CellBlock
    begin: int
    end: int


class MicroBatches:
    """Queue of cells and the threads that classify them.

    Args:
        classify: function that returns answers for cells and micrometres per pixel; called by several threads.
        num_classes: K.
        metrics: counts of the server.
        most_waiting: maximum number of waiting cells.
        max_latency_s: target for the time from arrival to answer [s].
        batch: best batch size of the network.
        workers: number of threads.
    """

    def __init__(
        self,
        classify: Classify,
        num_classes: int,
        metrics: LiveMetrics,
        *,
        most_waiting: int,
        max_latency_s: float,
        batch: int = 1,
        workers: int = 1,
    ) -> None:
        self.num_classes, self.most_waiting = num_classes, most_waiting
        self._classify, self._metrics = classify, metrics
        self._max_latency_s, self._batch = max_latency_s, batch
        self._queue: deque[CellBlock] = deque()
        self._waiting = 0
        self._changed = threading.Condition()
        self._closed = False
        self._most = float(min(max(batch, 1), MOST_CELLS))
        self._threads = [threading.Thread(target=self._work, name=f"cells {n}", daemon=True) for n in range(workers)]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """Number of cells in the queue."""
        return self._waiting

    @property
    def room(self) -> int:
        """Number of further cells for which the queue has room."""
        return max(0, self.most_waiting - self._waiting)

    def reserve(self, num: int, whole: bool = False) -> int:
        """Reserve room in the queue for up to `num` cells, and return the number; then `submit` them.

        Args:
            num: number of cells.
            whole: reserve room for all cells or for none.
        """
        with self._changed:
            room = min(num, self.room)
            if whole and room < num:
                return 0
            self._waiting += room
            return room

    def submit(self, block: CellBlock) -> None:
        """Put cells into the queue after reserving room for them."""
        with self._changed:
            self._queue.append(block)
            self._changed.notify()

    def answer(self, frames: Frames, when_full: WhenFull) -> list[CellBlock] | None:
        """Classify frames and return them in blocks. The calling thread waits.

        Returns:
            The blocks; None if the queue has no room for all of them and `when_full` is ``drop``.
        """
        whole = threading.Semaphore(0)
        blocks: list[CellBlock] = []
        begin, arrived, num = 0, time.perf_counter(), len(frames)
        self._metrics.count(received=num)
        room = self.reserve(num, whole=when_full == "drop")
        if when_full == "drop" and room < num:
            self._metrics.count(dropped=num)
            return None
        while begin < num:
            size = min(room, MOST_CELLS)
            if size:
                part = frames.part(begin, begin + size)
                blocks.append(CellBlock(part, self.num_classes, arrived, lambda block: whole.release()))
                self.submit(blocks[-1])
                begin, room = begin + size, room - size
            else:
                time.sleep(_FULL_S)
                room = self.reserve(num - begin)
        for _ in blocks:
            whole.acquire()
        self._metrics.add_answers(blocks)
        return blocks

    def close(self) -> None:
        """Classify the waiting cells, then end the threads."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def most_cells(self) -> int:
        """Return the size limit of the next batch."""
        most = int(self._most)
        return most - most % self._batch if most > self._batch else max(most, 1)

    def _follow(self, num: int, seconds: float) -> None:
        """Adapt the size limit after a batch of `num` cells."""
        factor = self._max_latency_s / 2 / max(seconds, 1e-9)
        if factor < 1:
            self._most = max(1.0, min(self._most, num * factor))
        elif num >= self.most_cells():
            self._most = min(float(MOST_CELLS), self._most * min(_GROWTH, factor))

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._queue:
                    if self._closed:
                        return
                    self._changed.wait()
                pieces = self._take(self.most_cells())
                if self._queue:
                    self._changed.notify()
            if pieces:
                self._answer(pieces)

    def _take(self, most: int) -> list[_Piece]:
        pieces: list[_Piece] = []
        while self._queue and most:
            block = self._queue[0]
            begin, end = block.taken, min(len(block.frames), block.taken + most)
            block.taken = end
            self._waiting -= end - begin
            if end == len(block.frames):
                self._queue.popleft()
            if not block.abandoned:
                pieces.append(_Piece(block, begin, end))
                most -= end - begin
        return pieces

    def _answer(self, pieces: list[_Piece]) -> None:
        begun = time.perf_counter()
        cells, pitch = _joined(pieces)
        found = self._classify(cells, pitch)
        now = time.perf_counter()
        self._follow(len(cells), now - begun)
        first = 0
        for piece in pieces:
            _fill(piece, found, slice(first, first + piece.end - piece.begin), now, self._waiting)
            first += piece.end - piece.begin
        finished = []
        with self._changed:
            for block, begin, end in pieces:
                block.left -= end - begin
                if not block.left:
                    finished.append(block)
        self._metrics.count(batches=1)
        for block in finished:
            block.done(block)


def _joined(pieces: list[_Piece]) -> tuple[Sequence[np.ndarray] | np.ndarray, np.ndarray | None]:
    """Return the cells of pieces, as one array if they have one size, and their micrometres per pixel."""
    parts = [piece.block.frames.cells[piece.begin : piece.end] for piece in pieces]
    pitch = np.concatenate([piece.block.frames.um_per_px[piece.begin : piece.end] for piece in pieces])
    known = None if np.isnan(pitch).all() else pitch
    if len(parts) == 1:
        return parts[0], known
    arrays = [part for part in parts if isinstance(part, np.ndarray)]
    if len(arrays) == len(parts) and len({(part.shape[1:], part.dtype) for part in arrays}) == 1:
        return np.concatenate(arrays), known
    return [cell for part in parts for cell in part], known


def _fill(piece: _Piece, found: LiveAnswers, some: slice, now: float, waiting: int) -> None:
    answers = piece.block.answers[piece.begin : piece.end]
    answers["status"], answers["flags"] = found.status[some], found.flags[some]
    answers["class"], answers["p"] = found.classes[some], found.probabilities[some]
    answers["unlike_score"] = found.unlike.scores[some]
    answers["spent_us"] = min(int((now - piece.block.arrived) * 1e6), 0xFFFFFFFF)
    answers["queue"] = waiting
    piece.block.unlike_off[piece.begin : piece.end] = found.unlike.off[some]
