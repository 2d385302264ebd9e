"""Count the rows of a large table by the numbers in several columns, in little memory."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_PART = 1 << 20  # rows that are looked at together


def count_codes(*columns: tuple[np.ndarray, int]) -> npt.NDArray[np.int64]:
    """Count rows by the numbers in some columns.

    Args:
        columns: for each column (N,) integers from -1 to n - 1, and n.

    Returns:
        (n + 1, ...) int64, one axis for each column; the last place of an axis counts the rows with -1.

    Examples:
        >>> count_codes((np.array([0, 1, 1, -1]), 2)).tolist()
        [1, 2, 1]
    """
    shape = tuple(num + 1 for _, num in columns)
    counts = np.zeros(int(np.prod(shape)), np.int64)
    for begin in range(0, len(columns[0][0]), _PART):
        parts = tuple(codes[begin : begin + _PART].astype(np.int64) % (num + 1) for codes, num in columns)
        counts += np.bincount(np.ravel_multi_index(parts, shape), minlength=len(counts))
    return counts.reshape(shape)
