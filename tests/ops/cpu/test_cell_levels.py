"""Sums and border medians of a compiled loop."""

import numpy as np

from fastcell.ops.border import border_median
from fastcell.ops.cpu.cell_levels import measure_levels


def test_cells_of_all_shapes_are_measured():
    rng = np.random.default_rng(0)
    sides = [(height, width) for height in (1, 2, 3, 4, 31) for width in (1, 2, 3, 4, 50)]
    cells = [rng.integers(0, 256, side, dtype=np.uint8) for side in sides] + [np.full((5, 6), 255, np.uint8)]
    heights, widths = (np.array([cell.shape[axis] for cell in cells], np.int32) for axis in (0, 1))
    areas = heights.astype(np.int64) * widths
    sums, medians = np.empty(len(cells), np.int64), np.empty(len(cells))
    flat = np.concatenate([cell.ravel() for cell in cells])
    measure_levels(flat, np.cumsum(areas) - areas, heights, widths, sums, medians)
    assert sums.tolist() == [int(cell.sum()) for cell in cells]
    assert medians.tolist() == [border_median(cell) for cell in cells]
