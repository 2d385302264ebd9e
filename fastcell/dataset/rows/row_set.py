"""Sets of rows of a large table, in a bit for each row of the table, or in a byte if rows repeat."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

_BLOCK = 4096  # rows of the table between two known counts: 8 bytes each
MASK_ROWS = _BLOCK


class RowSet:
    """Rows of a table in ascending order, each one as often as it counts.

    Args:
        counts: (N,) bool or unsigned integers: how often each row of the table is in the set. Integers are kept, not
            copied.
    """

    def __init__(self, counts: np.ndarray) -> None:
        is_mask = counts.dtype == bool
        self._num_rows = len(counts)
        self._bits = np.packbits(counts) if is_mask else None
        self._counts = np.empty(0, np.uint8) if is_mask else counts
        self._ends = np.cumsum(_sums(counts))

    @classmethod
    def of_masks(cls, masks: Iterable[np.ndarray]) -> RowSet:
        """Return the set of the rows that are True in masks of adjacent rows.

        Args:
            masks: (n,) bool each; n is a multiple of `MASK_ROWS` in all masks but the last.
        """
        made = cls(np.empty(0, bool))
        bits, sums = [made._bits], [np.empty(0, np.int64)]
        for mask in masks:
            made._num_rows += len(mask)
            bits.append(np.packbits(mask))
            sums.append(_sums(mask))
        made._bits, made._ends = np.concatenate(bits), np.cumsum(np.concatenate([*sums, [0]]))  # type: ignore[arg-type]
        return made

    def __len__(self) -> int:
        return int(self._ends[-1])

    def part(self, begin: int, stop: int) -> np.ndarray:
        """Return the rows from place `begin` to place `stop`, exclusive, as (n,) int64.

        Args:
            begin: 0 to the length of the set.
            stop: `begin` to any number; the set may end before it.
        """
        stop = min(stop, len(self))
        if stop <= begin:
            return np.empty(0, np.int64)
        first, last = np.searchsorted(self._ends, begin, "right"), np.searchsorted(self._ends, stop, "left")
        start, end = int(first) * _BLOCK, min((int(last) + 1) * _BLOCK, self._num_rows)
        before = int(self._ends[first - 1]) if first else 0
        if self._bits is not None:
            rows = np.flatnonzero(np.unpackbits(self._bits[start // 8 : -(-end // 8)], count=end - start)) + start
        else:
            rows = np.repeat(np.arange(start, end), self._counts[start:end])
        return rows[begin - before : stop - before]

    def distinct(self, begin: int, end: int) -> np.ndarray:
        """Return which rows of the table from `begin` to `end`, exclusive, are in the set, as (n,) bool."""
        if self._bits is None:
            return self._counts[begin:end] > 0  # type: ignore[no-any-return]
        start = begin // 8 * 8
        bits = np.unpackbits(self._bits[start // 8 : -(-end // 8)], count=end - start)
        return bits[begin - start :].view(bool)

    def places_of(self, rows: np.ndarray) -> np.ndarray:
        """Return how many rows of the set are below each of (m,) rows of the table, (m,) int64."""
        blocks = np.minimum(rows // _BLOCK, len(self._ends) - 1)
        before = np.append(0, self._ends)[blocks]
        for place, (block, row) in enumerate(zip(blocks.tolist(), rows.tolist(), strict=True)):
            before[place] += self._sum(block * _BLOCK, row)
        return before  # type: ignore[no-any-return]

    def _sum(self, begin: int, end: int) -> int:
        """Return the number of rows from a multiple of 8 to `end`, both of the table."""
        if self._bits is None:
            return int(self._counts[begin:end].sum(dtype=np.int64))
        return int(np.count_nonzero(np.unpackbits(self._bits[begin // 8 : -(-end // 8)], count=end - begin)))


def _sums(counts: np.ndarray) -> np.ndarray:
    """Return the sum of each block of (n,) counts, int64; the last block may be shorter."""
    whole = len(counts) // _BLOCK * _BLOCK
    sums = counts[:whole].reshape(-1, _BLOCK).sum(axis=1, dtype=np.int64)
    return np.append(sums, counts[whole:].sum(dtype=np.int64)) if whole < len(counts) or not whole else sums
