"""Compiled loops that measure the sharpness of a cell, on its original pixels and on the grid."""

from __future__ import annotations

import numpy as np
from numba import njit

from fastcell.ops.cpu.compiled_loops import ALLOCATING
from fastcell.quality.loops.grid import BIN, SIDE, bin_of, level_at


@njit(**ALLOCATING)
def laplacian_variance(source, height, width):  # type: ignore[no-untyped-def]
    """Return the variance of the 4-neighbour Laplacian over the inner pixels; 0 if there are none."""
    if height < 3 or width < 3:
        return 0.0
    total, squares = 0.0, 0.0
    for y in range(1, height - 1):
        above = source[(y - 1) * width : y * width]
        line = source[y * width : (y + 1) * width]
        below = source[(y + 1) * width : (y + 2) * width]
        part, part_squares = np.int64(0), np.int64(0)
        for x in range(1, width - 1):
            value = (
                np.int32(above[x]) + np.int32(below[x]) + np.int32(line[x - 1]) + np.int32(line[x + 1])
                - np.int32(4) * np.int32(line[x])
            )  # fmt: skip
            part += value
            part_squares += value * value
        total += part
        squares += part_squares
    num = float(height - 2) * (width - 2)
    mean = total / num
    return max(squares / num - mean * mean, 0.0)


@njit(**ALLOCATING)
def sharpness(grid, contrast, counts):  # type: ignore[no-untyped-def]
    """Return the 99.5 % quantile of the gradient as a share of the contrast, per grid line."""
    counts[:] = 0
    for y in range(1, SIDE - 1):
        above, line, below = grid[y - 1], grid[y], grid[y + 1]
        for x in range(1, SIDE - 1):
            down, across = below[x] - above[x], line[x + 1] - line[x - 1]
            counts[bin_of(np.float32(0.5) * np.sqrt(down * down + across * across))] += 1
    steep = (level_at(counts, int(0.995 * (SIDE - 2) ** 2)) + 0.5) * BIN
    return steep / max(contrast, 1.0)
