"""Labels of the cells of a data set, looked up from numbers of a byte or two for each cell."""

from __future__ import annotations

import numpy as np


class CellLabels:
    """Labels by cell_id, as an array of int64 would hold them.

    Args:
        codes: (N,) signed integers, index into the data set's classes, -1 for a cell without a class.
        numbers: (K + 1,) int64, label of each class of the data set, and of a cell without a class as the last entry.
    """

    def __init__(self, codes: np.ndarray, numbers: np.ndarray) -> None:
        self._codes, self._numbers = codes, numbers

    def __len__(self) -> int:
        return len(self._codes)

    def __getitem__(self, cell_ids: np.ndarray | slice) -> np.ndarray:
        """Return the labels of cells, int64."""
        return self._numbers[self._codes[cell_ids]]  # type: ignore[no-any-return]
