"""Subsets of the cells of a large data set, in two bits for each cell."""

from __future__ import annotations

import numpy as np

_PART = 1 << 20  # cells that are packed together, a multiple of four
_SHIFTS = np.array([0, 2, 4, 6], np.uint8)


class SubsetCodes:
    """Subset of each cell, as (N,) int8 would hold it: an index from 0 to 2, or -1 for none.

    Args:
        codes: (N,) int8; packed and not kept.
    """

    def __init__(self, codes: np.ndarray) -> None:
        self._num_cells = len(codes)
        self._packed = np.empty(-(-len(codes) // 4), np.uint8)
        for begin in range(0, len(codes), _PART):
            part = (codes[begin : begin + _PART] + 1).astype(np.uint8)
            first, second, third, fourth = np.pad(part, (0, -len(part) % 4)).reshape(-1, 4).T
            packed = first | second << 2 | third << 4 | fourth << 6
            self._packed[begin // 4 : begin // 4 + len(packed)] = packed

    def __len__(self) -> int:
        return self._num_cells

    def part(self, begin: int, end: int) -> np.ndarray:
        """Return the subsets of the cells `begin` to `end`, exclusive, (n,) int8."""
        end = min(end, self._num_cells)
        fours = self._packed[begin // 4 : -(-end // 4), None] >> _SHIFTS & 3
        return fours.ravel()[begin % 4 : begin % 4 + end - begin].astype(np.int8) - np.int8(1)

    def whole(self) -> np.ndarray:
        """Return the subsets of all cells, (N,) int8."""
        codes = np.empty(self._num_cells, np.int8)
        for begin in range(0, self._num_cells, _PART):
            codes[begin : begin + _PART] = self.part(begin, begin + _PART)
        return codes
