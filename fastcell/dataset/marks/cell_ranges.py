"""Cell_ids as short text: ``0-5,9`` for cells 0 to 5 and cell 9."""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

_RANGES = re.compile(r"(\d{1,18}(-\d{1,18})?(,\d{1,18}(-\d{1,18})?)*)?", re.ASCII)


def write_ranges(cell_ids: npt.NDArray[np.int64]) -> str:
    """Return cell_ids (n,), in any order and with repeats, as ranges in ascending order.

    Examples:
        >>> write_ranges(np.array([9, 1, 2, 0]))
        '0-2,9'
    """
    ids = np.unique(cell_ids)
    if not len(ids):
        return ""
    breaks = np.flatnonzero(np.diff(ids) != 1)
    firsts, lasts = ids[np.append(0, breaks + 1)].tolist(), ids[np.append(breaks, len(ids) - 1)].tolist()
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in zip(firsts, lasts, strict=True))


def read_ranges(text: str, num_cells: int) -> npt.NDArray[np.int64]:
    """Return the cell_ids in a text of `write_ranges`, in ascending order without repeats.

    Args:
        text: one or more ranges.
        num_cells: number of cells of the data set.

    Raises:
        ValueError: the text has another form, or names a cell that the data set does not have.
    """
    if not text or not _RANGES.fullmatch(text):
        raise ValueError(f"cells must be ranges such as 0-5,9, got {text[:60]!r}")
    pairs = [part.partition("-") for part in text.split(",")]
    firsts = np.array([int(first) for first, _, _ in pairs], np.int64)
    lasts = np.array([int(last or first) for first, _, last in pairs], np.int64)
    if (lasts < firsts).any() or lasts.max() >= num_cells:
        raise ValueError(f"cells must be below {num_cells:,} in ascending ranges, got {text[:60]!r}")
    counts = lasts - firsts + 1
    if counts.sum() > num_cells:
        raise ValueError("a cell must be named once")
    starts = np.repeat(firsts - (np.cumsum(counts) - counts), counts)
    ids = starts + np.arange(int(counts.sum()))
    return np.unique(ids)
