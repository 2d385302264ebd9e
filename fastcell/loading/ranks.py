"""Division of the rows of a view among ranks and steps, by arithmetic alone.

Every row belongs to exactly one rank, and every rank takes the same number of steps. If a rank runs out of rows, its
last batches are padded with cells of weight 0.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from fastcell.errors import invalid

_PART = 1 << 20  # rows that are looked at together


@dataclass(frozen=True)
class Share:
    """Part of an epoch for one rank.

    Attributes:
        start: first row of the view for this rank.
        stop: one past its last row; may equal `start` if there are more ranks than rows.
        batch: cells per step on this rank.
        steps: number of steps, the same on all ranks.
        rank: index of this rank.
        num_ranks: number of ranks.
    """

    start: int
    stop: int
    batch: int
    steps: int
    rank: int
    num_ranks: int

    def __len__(self) -> int:
        return self.stop - self.start

    def num_real(self, step: int) -> int:
        """Return the number of cells of batch `step` that count; they come first, followed by padding."""
        return min(max(len(self) - step * self.batch, 0), self.batch)

    def num_real_of_all(self, step: int, num_rows: int) -> int:
        """Return the number of cells that count in batch `step` of all ranks together.

        Args:
            step: number of the batch.
            num_rows: rows of the view over all ranks, which `training_share` has cut.
        """
        edges = [num_rows * rank // self.num_ranks for rank in range(self.num_ranks + 1)]
        sizes = (stop - start for start, stop in itertools.pairwise(edges))
        return sum(min(max(size - step * self.batch, 0), self.batch) for size in sizes)

    def num_real_of_chunks(self, step: int, num_rows: int) -> int:
        """Return the same number for a view that `evaluation_share` has cut into chunks."""
        begins = ((rank * self.steps + step) * self.batch for rank in range(self.num_ranks))
        return sum(min(max(num_rows - begin, 0), self.batch) for begin in begins)

    def whole_batches(self, cells: int) -> int:
        """Return a number of cells rounded down to whole batches, at least one batch."""
        return max(cells // self.batch, 1) * self.batch

    def positions(self, step: int) -> np.ndarray:
        """Return the positions of the batch's cells in the epoch over all ranks, (batch,) int64, all different."""
        return (step * self.num_ranks + self.rank) * self.batch + np.arange(self.batch, dtype=np.int64)


def training_share(num_rows: int, batch_size: int, rank: int = 0, num_ranks: int = 1) -> Share:
    """Return one rank's part of the rows, cut into contiguous parts whose sizes differ by at most one.

    Args:
        num_rows: rows of the view, repeats counted.
        batch_size: cells per batch over all ranks.
        rank: 0 to num_ranks - 1.
        num_ranks: number of ranks.

    Raises:
        ArgumentError: `batch_size` is not a positive multiple of the number of ranks.
    """
    if batch_size < 1 or batch_size % num_ranks:
        raise invalid(
            "batch_size",
            f"a positive multiple of the number of processes ({num_ranks}), which share it",
            batch_size,
            f"Take {max(batch_size // num_ranks, 1) * num_ranks}",
        )
    batch = batch_size // num_ranks
    start, stop = num_rows * rank // num_ranks, num_rows * (rank + 1) // num_ranks
    largest = -(-num_rows // num_ranks)
    return Share(start, stop, batch, -(-largest // batch), rank, num_ranks)


def evaluation_share(num_rows: int, chunk: int, rank: int = 0, num_ranks: int = 1) -> Share:
    """Return one rank's part of the rows: consecutive whole chunks of fixed size, so results do not depend on ranks.

    Args:
        num_rows: rows of the view.
        chunk: cells per step on each rank.
        rank: 0 to num_ranks - 1.
        num_ranks: number of ranks.

    Raises:
        ArgumentError: `chunk` is not positive.
    """
    if chunk < 1:
        raise invalid("eval_batch_size", "positive", chunk, "256 suits most machines")
    chunks = -(-num_rows // chunk)
    steps = -(-chunks // num_ranks)
    start, stop = (min(edge * steps * chunk, num_rows) for edge in (rank, rank + 1))
    return Share(start, stop, chunk, steps, rank, num_ranks)


def chunks_left(rows: np.ndarray, done: np.ndarray, chunk: int) -> np.ndarray:
    """Return the rows of the evaluation chunks that must still be run, i.e. that have a row which is not done.

    Args:
        rows: (n,) int64, rows of the view.
        done: (m,) int64, rows that need not be run again, in increasing order.
        chunk: rows per chunk.

    Returns:
        (n,) bool, True for the rows of these chunks. If all rows are done, True for the last chunk, because a run needs
        at least one.
    """
    if not len(done):
        return np.ones(len(rows), bool)
    step, left = max(_PART // chunk, 1) * chunk, [np.empty(0, bool)]
    for begin in range(0, len(rows), step):
        part = rows[begin : begin + step]
        near = done[slice(*np.searchsorted(done, (part.min(), part.max() + 1)))]
        left.append(np.logical_or.reduceat(~np.isin(part, near), np.arange(0, len(part), chunk)))
    chunks = np.concatenate(left)
    chunks[-1] |= not chunks.any()
    return np.repeat(chunks, chunk)[: len(rows)]
