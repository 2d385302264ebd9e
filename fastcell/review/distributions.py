"""Distributions of the cells of a view for the page: histograms, and points of a scatter plot."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastcell.review.cell_columns import CellColumns

MOST_POINTS = 100_000
MOST_NAMES = 200
_BINS = 48


def histogram(columns: CellColumns, name: str, rows: npt.NDArray[np.int32]) -> dict[str, Any]:
    """Return the distribution of a column over all cells and over a selection.

    Args:
        columns: columns of the data set.
        name: column.
        rows: (n,) cell_ids of the selection.

    Returns:
        For a category ``names``, ``all`` and ``view``, most frequent first; for numbers ``low``, ``high``, ``all`` and
        ``view``: counts in bins of equal width from the 0.1 % to the 99.9 % quantile; values outside count in the outer
        bins.

    Raises:
        ArgumentError: there is no such column.
    """
    if name in columns.category_names():
        found = columns.category(name)
        counts = [np.bincount(codes, minlength=len(found.names)) for codes in (found.codes, found.codes[rows])]
        order = np.argsort(-counts[0], kind="stable")
        order = order[counts[0][order] > 0][:MOST_NAMES]
        names = [found.names[code] for code in order.tolist()]
        return {"names": names, "all": counts[0][order].tolist(), "view": counts[1][order].tolist()}
    values = columns.numbers(name)
    known = values[np.isfinite(values)]
    if not len(known):
        return {"low": 0.0, "high": 1.0, "all": [0] * _BINS, "view": [0] * _BINS}
    sample = known if len(known) <= MOST_POINTS else known[:: len(known) // MOST_POINTS]
    low, high = (float(value) for value in np.quantile(sample, [0.001, 0.999]))
    if not high > low:
        low, high = low - 0.5, high + 0.5
    of_view = values[rows]
    counts = [_counts(part, low, high) for part in (known, of_view[np.isfinite(of_view)])]
    return {"low": low, "high": high, "all": counts[0].tolist(), "view": counts[1].tolist()}


def scatter(columns: CellColumns, names: tuple[str, str], rows: npt.NDArray[np.int32]) -> bytes:
    """Return points of a scatter plot: at most 100,000 cells of a view, evenly spread over it.

    Args:
        columns: columns of the data set.
        names: columns of x and y.
        rows: (n,) cell_ids.

    Returns:
        Little endian: m as uint32, then m float32 of x, m float32 of y, m int32 cell_ids, m int16 classes (index into
        the names of the column class, 0 for none).

    Raises:
        ArgumentError: there is no such column.
    """
    x, y = (columns.numbers(name) for name in names)
    chosen = rows if len(rows) <= MOST_POINTS else rows[np.linspace(0, len(rows) - 1, MOST_POINTS).astype(np.int64)]
    chosen = chosen[np.isfinite(x[chosen]) & np.isfinite(y[chosen])]
    codes = columns.category("class").codes[chosen]
    parts = [np.array([len(chosen)], "<u4"), x[chosen].astype("<f4"), y[chosen].astype("<f4")]
    parts += [chosen.astype("<i4"), codes.astype("<i2")]
    return b"".join(part.tobytes() for part in parts)


def _counts(values: npt.NDArray[np.float32], low: float, high: float) -> npt.NDArray[np.int64]:
    places = ((values - np.float32(low)) * np.float32(_BINS / (high - low))).clip(0, _BINS - 1).astype(np.int64)
    return np.bincount(places, minlength=_BINS)
